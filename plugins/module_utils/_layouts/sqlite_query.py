# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Reads the devices from a copy of a whatsmeow store and checks it for damage, in a jail (see chroot_worker.py).

The copy is as large as the store when copying begins, on a disk with a reserve. The query is limited in time, even for a crafted store.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import tempfile
import time
import types
import typing as t

from .._core.limits import ALL_STORES_SECONDS, SLOW_STORES_SECONDS, STORE_BYTES
from .._fs.copy_file import pour
from .._fs.fdopen import READ_FLAGS, DirFd
from .._fs.free_space import SpaceReserve, kept_free
from .._proc.chroot_worker import PastLimit, in_jail, jail_user, seconds_for
from .baileys import device_fingerprint

_SUFFIXES = ("", "-wal", "-journal")
_TABLE = "whatsmeow_device"
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# Words in errors of SQLite that concern only the copy, not the store.
_PASSING = ("full", "I/O", "unable to open", "locked")


class Allowance:
    """The time limit for all queries of one run: a thousand crafted stores must not take a thousand times the limit of one.

    The time that stores take beyond one second each is limited to ``slow`` seconds in total. After that each store has one second, and
    after ``in_all`` seconds no further store is queried.
    """

    def __init__(self, slow: float, in_all: float) -> None:
        self._slow = slow
        self._in_all = in_all

    def seconds(self, each: float) -> float:
        """Return how long the next store may take, at most ``each`` seconds."""
        return max(min(each, 1.0 + self._slow, self._in_all), 0.0)

    def spend(self, seconds: float) -> None:
        """Subtract the time that a store took."""
        self._in_all -= seconds
        self._slow = max(self._slow - max(seconds - 1.0, 0.0), 0.0)


_allowance = Allowance(SLOW_STORES_SECONDS, ALL_STORES_SECONDS)


def answer_of_copy(directory: DirFd, name: str, library: types.ModuleType) -> str | None:
    """Copy a store with its log files and query the copy with SQLite; None if there is no answer in time.

    Otherwise the answer is one word: store (followed by the digests of its devices), empty, other, damaged or late. Raises OSError if the
    store cannot be copied.
    """
    with tempfile.TemporaryDirectory(prefix="whatsapp-ops-") as private:
        inside = os.path.join(private, "jail")
        os.mkdir(inside, 0o700)
        jail = DirFd(os.open(inside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        try:
            room = SpaceReserve(kept_free(jail))
            size = sum(_copied(directory, name + suffix, jail, f"store{suffix}", room) for suffix in _SUFFIXES)
            return _ask_jailed(jail, size, library)
        finally:
            os.close(jail)


def _copied(directory: DirFd, name: str, jail: DirFd, new_name: str, room: SpaceReserve) -> int:
    """Copy one file into the jail, up to its size when copying begins, and return that size."""
    try:
        source = os.open(name, READ_FLAGS, dir_fd=directory)
    except FileNotFoundError:
        return 0
    with os.fdopen(source, "rb", buffering=0):
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a regular file")
        if status.st_size > STORE_BYTES or not room.is_left(jail, status.st_size):
            raise OSError("there is not enough space for it")
        target = os.open(new_name, _NEW_FILE, 0o600, dir_fd=jail)
        try:
            pour(source, target, status, checksum=False, until=math.inf)
            _give(target)
        finally:
            os.close(target)
    return status.st_size


def _ask_jailed(jail: DirFd, size: int, library: types.ModuleType) -> str | None:
    """Run the query as the unprivileged user of the jail, in a directory that contains only the copy."""
    _give(jail)
    begun = time.monotonic()
    try:
        return in_jail(jail, lambda: _answer(library), size=size, seconds=_allowance.seconds(seconds_for(size)))
    except PastLimit:
        return None
    finally:
        _allowance.spend(time.monotonic() - begun)


def _give(descriptor: int) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, *jail_user())


def _answer(library: types.ModuleType) -> str:
    """Return the answer of answer_of_copy. Runs in the jail."""
    try:
        with contextlib.closing(library.connect("store", isolation_level=None)) as store:
            return _answer_of(store)
    except library.OperationalError as error:
        return "late" if any(word in str(error) for word in _PASSING) else "damaged"
    except library.DatabaseError:
        return "damaged"


def _answer_of(store: t.Any) -> str:
    for pragma in ("trusted_schema=OFF", "temp_store=MEMORY", "locking_mode=EXCLUSIVE"):
        store.execute(f"PRAGMA {pragma}")
    tables = [name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if store.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        return "damaged"
    if _TABLE not in tables:
        return "other" if tables else "empty"
    devices = store.execute(f"SELECT jid FROM {_TABLE} LIMIT 100000")
    return " ".join(["store", *(device_fingerprint(str(jid)) for (jid,) in devices)])
