# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Copies SQLite databases consistently: committed data is in the database and in its ``-wal``, and only both together are one state.

The files of a database are copied by descriptor into a separate directory in the staging area. Once the backend is stopped, SQLite's
backup combines them into one file in a jail (see chroot_worker.py), so that root neither follows paths of a user nor parses crafted files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
import types
import typing as t

from .._core.errors import SessionsError
from .._core.limits import JAIL_MEMORY, STORE_BYTES
from .._core.masking import account_key
from .._fs.copy_file import UNSETTLED, Record, Rules, UnfitTree, copy_until_settled, digest_of, pour, record_of
from .._fs.copy_tree import remove_tree
from .._fs.fdopen import DirFd, open_private, opened_parent, status_below, status_of
from .._fs.patterns import name_matcher
from .._fs.walk_tree import Tally, files_below
from .._proc.chroot_worker import PastLimit, in_jail, jail_user, seconds_for
from .layout import Layout
from .sqlite_pages import store_digest

# Suffixes of the files of a database. The `-shm` of a `-wal` is only an index that SQLite recreates.
_SUFFIXES = ("", "-wal", "-journal")
_RAW, _WHOLE, _TRIAL = "raw", "whole", ".trial"
_SOUND, _DAMAGED, _FAILED = "sound", "damaged", "failed"
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

# By database (its relative path in the account) and suffix: the record of the copied file.
Records = dict[str, dict[str, tuple[int, ...]]]


class DamagedStore(UnfitTree):
    """SQLite cannot read the database, or finds it damaged."""


def store_patterns(layout: Layout) -> tuple[str, ...]:
    """Return the name patterns of databases and of the files that SQLite keeps with them."""
    return tuple(pattern + suffix for pattern in layout.databases for suffix in (*_SUFFIXES, "-shm"))


def is_beside_store(layout: Layout, name: str) -> bool:
    """Whether a file of that name is not a database itself, but a file that SQLite keeps with one."""
    return name_matcher(store_patterns(layout))(name) is not None and layout.database_matcher(name) is None


def store_names(directory: DirFd, layout: Layout) -> list[str]:
    """Return the databases in an open account as sorted relative paths."""
    is_database, is_cache = layout.database_matcher, layout.cache_matcher
    names = (name for name, _status in files_below(directory, layout.volatile_matcher, is_cache))
    return sorted(name for name in names if is_database(name.rpartition("/")[2]))


def measure_stores(directory: DirFd, layout: Layout) -> Tally:
    """Return the files and bytes needed to copy the databases of an open account: the staged files, and the file combined from them."""
    tally = Tally()
    if not layout.databases:
        return tally
    belongs = name_matcher(store_patterns(layout))
    for name, status in files_below(directory, layout.volatile_matcher, layout.cache_matcher):
        if belongs(name.rpartition("/")[2]):
            tally.files += 2
            tally.bytes += 2 * status.st_size
    return tally


def require_sqlite() -> None:
    """Raise SessionsError if this Python cannot read SQLite databases."""
    _library()


def bring_stores(
    source: DirFd, scratch: DirFd, names: t.Collection[str], rules: Rules, known: Records
) -> tuple[Records, Tally]:
    """Update the copies of the databases ``names`` of an open account in the open directory ``scratch``.

    As with sync_tree in copy_tree.py, ``known`` is the result of the previous pass, and files that keep changing count as unsettled.
    """
    fresh: Records = {}
    tally = Tally()
    for name in names:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # its directory was removed meanwhile
            brought = _bring_store(source, scratch, name, rules, known.get(name, {}), tally)
            if "" in brought:
                fresh[name] = brought
    for slot in set(os.listdir(scratch)).difference(map(account_key, fresh)):
        remove_tree(scratch, slot)
    return fresh, tally


def try_stores(
    scratch: DirFd, names: t.Iterable[str], rules: Rules, may_be_damaged: t.Callable[[str], bool] = lambda name: False
) -> bool:
    """Let SQLite check a trial copy of each staged database while its backend still runs. Return whether none is damaged, except those
    that ``may_be_damaged``.

    A copy of a database that is being written may be inconsistent, so one bad result proves nothing. Raises UnfitTree if a check exceeds
    its limits: a crafted schema can make it run for days, which must be detected before the backend is stopped.
    """
    sound = True
    for name in names:
        slot = open_private(scratch, account_key(name), called="the staging area of databases")
        try:
            damaged = _try(slot, name.rpartition("/")[2], rules) == _DAMAGED
            sound = sound and (not damaged or may_be_damaged(name))
        finally:
            os.close(slot)
    return sound


def put_stores(scratch: DirFd, target: DirFd, names: t.Collection[str], rules: Rules) -> None:
    """Combine the staged files of each database into one file at its path in the open directory ``target``. Consumes the staged files.

    Raises DamagedStore for a damaged database, OSError if the disk is full.
    """
    for name in names:
        slot = open_private(scratch, account_key(name), called="the staging area of databases")
        try:
            _rebuild(slot, name.rpartition("/")[2], rules)
            _place(slot, target, name)
        finally:
            os.close(slot)
        remove_tree(scratch, account_key(name))


def put_store(source: DirFd, scratch: DirFd, target: DirFd, name: str, rules: Rules, layout: Layout) -> None:
    """Like put_stores for one database of the open account ``source``, or copy it unchanged if it is damaged and not needed."""
    try:
        put_stores(scratch, target, [name], rules)
    except DamagedStore:
        if not may_be_damaged(source, layout)(name):
            raise
        put_as_it_is(source, target, name, rules)


def records_of_store(directory: DirFd, name: str) -> dict[str, tuple[int, ...]]:
    """Return by suffix the records of the files of one database of an open account."""
    with opened_parent(directory, name) as (parent, last):
        return _records(parent, last)


def may_be_damaged(directory: DirFd, layout: Layout) -> t.Callable[[str], bool]:
    """Return the test whether the program can do without a database (relative path) of an open account."""
    if layout.opens is None:
        return lambda name: False
    opened = frozenset(layout.opens(directory))
    return lambda name: name not in opened


def put_as_it_is(source: DirFd, target: DirFd, name: str, rules: Rules) -> None:
    """Copy the files of something that is not a database, or of a damaged database that the program can do without, unchanged.

    Raises UnfitTree if a process still writes to them.
    """
    with opened_parent(source, name) as (parent, last), opened_parent(target, name) as (placed, _last):
        for suffix in _SUFFIXES:
            remove_tree(placed, last + suffix)
            if status_of(parent, last + suffix) is None:
                continue
            if copy_until_settled(parent, placed, last + suffix, rules) == UNSETTLED:
                raise UnfitTree(
                    "a process still writes to a file of a database; find that process (fuser, lsof) and stop it"
                )


def same_stores(one: DirFd, other: DirFd, layout: Layout) -> bool:
    """Whether two open accounts have the same databases with the same content, in whichever of its files SQLite keeps it."""
    names = store_names(one, layout)
    return names == store_names(other, layout) and all(_same_store(one, other, name) for name in names)


def _same_store(one: DirFd, other: DirFd, name: str) -> bool:
    left = store_digest(one, name)
    return left == store_digest(other, name) if left is not None else _same_files(one, other, name)


def _same_files(one: DirFd, other: DirFd, name: str) -> bool:
    """Whether the files of two databases that cannot be compared by content are equal."""
    for path in (name + suffix for suffix in _SUFFIXES):
        statuses = status_below(one, path), status_below(other, path)
        if not all(statuses):
            if any(statuses):
                return False
        elif not all(status and stat.S_ISREG(status.st_mode) and status.st_size <= STORE_BYTES for status in statuses):
            return False  # a crafted sparse file could take practically forever to read
        elif _digest_below(one, path) != _digest_below(other, path):
            return False
    return True


def _digest_below(directory: DirFd, path: str) -> bytes:
    with opened_parent(directory, path) as (parent, name):
        return digest_of(parent, name)


def _bring_store(
    source: DirFd, scratch: DirFd, name: str, rules: Rules, known: t.Mapping[str, tuple[int, ...]], tally: Tally
) -> dict[str, tuple[int, ...]]:
    slot = open_private(scratch, account_key(name), called="the staging area of databases")
    try:
        with opened_parent(source, name) as (parent, last):
            brought = {
                suffix: record
                if record == known.get(suffix)
                else _bring_file(parent, slot, last + suffix, rules, tally)
                for suffix, record in _records(parent, last).items()
            }
            tally.files += len(brought)
            for suffix in set(_SUFFIXES).difference(brought):
                remove_tree(slot, last + suffix)
            # The files of a database are a consistent state only if none changed meanwhile.
            if brought != _records(parent, last):
                tally.unsettled += 1
            return brought
    finally:
        os.close(slot)


def _records(parent: DirFd, name: str) -> dict[str, tuple[int, ...]]:
    found = {suffix: status_of(parent, name + suffix) for suffix in _SUFFIXES}
    if any(status and not stat.S_ISREG(status.st_mode) for status in found.values()):
        raise UnfitTree("a file of a database is not a regular file; remove it")
    return {suffix: record_of(status) for suffix, status in found.items() if status}


def _bring_file(parent: DirFd, slot: DirFd, name: str, rules: Rules, tally: Tally) -> Record:
    remove_tree(slot, name)
    try:
        copied = copy_until_settled(parent, slot, name, rules)
    except FileNotFoundError:
        copied = UNSETTLED  # closing the last connection has removed the -wal
    tally.copied += 1
    tally.bytes += copied[1]
    tally.newest_ns = max(tally.newest_ns, copied[2])
    return copied


def _try(slot: DirFd, name: str, rules: Rules) -> str | None:
    """Let SQLite check a trial copy of the staged files in a jail, and return its verdict."""
    library = _library()
    remove_tree(slot, _TRIAL)
    trial = open_private(slot, _TRIAL, called="the staging area of databases")
    try:
        size = sum(_copy_raw(slot, name + suffix, trial, _RAW + suffix, rules) for suffix in _SUFFIXES)
        return _jailed(trial, size, rules, lambda: _tried(library))
    finally:
        os.close(trial)
        remove_tree(slot, _TRIAL)


def _copy_raw(slot: DirFd, name: str, trial: DirFd, new_name: str, rules: Rules) -> int:
    """Copy a staged file, which only this collection writes to, for the jail's user; return its size, 0 if it does not exist."""
    status = status_of(slot, name)
    if status is None:
        return 0
    if rules.room and not rules.room.is_left(trial, status.st_size):
        raise UnfitTree("checking a copy of its database would almost fill the disk; free space")
    reading = os.open(name, _OPEN_FILE, dir_fd=slot)
    try:
        writing = os.open(new_name, _NEW_FILE, 0o600, dir_fd=trial)
        try:
            _give(writing)
            pour(reading, writing, status, checksum=False, until=rules.until)
        finally:
            os.close(writing)
    finally:
        os.close(reading)
    return status.st_size


def _rebuild(slot: DirFd, name: str, rules: Rules) -> None:
    """Combine the staged files into one. The jail is a directory of the jail's user, below one that only root can enter."""
    library = _library()
    remove_tree(slot, _WHOLE)
    os.close(os.open(_WHOLE, _NEW_FILE, 0o600, dir_fd=slot))
    statuses = [status for suffix in _SUFFIXES if (status := _hand_in(slot, name + suffix, _RAW + suffix))]
    if os.geteuid() == 0:
        os.chown(_WHOLE, *jail_user(), dir_fd=slot, follow_symlinks=False)
    answer = _jailed(slot, sum(status.st_size for status in statuses), rules, lambda: _made_whole(library))
    if answer == _DAMAGED:
        raise DamagedStore("a database is damaged; restore a backup of it, or move it away")
    if answer != _SOUND:
        raise OSError(errno.EIO, "SQLite could not write a copy of its database, because the disk may be full")
    _dress(slot, statuses, rules)


def _jailed(directory: DirFd, size: int, rules: Rules, work: t.Callable[[], str]) -> str | None:
    """Do ``work`` in a jail with files of ``size`` bytes. Raises UnfitTree if it exceeds its limits of time or memory."""
    seconds = min(seconds_for(size), max(rules.until - time.monotonic(), 0.0))
    if os.geteuid() == 0:
        os.fchown(directory, *jail_user())
    try:
        return in_jail(directory, work, size=size, seconds=seconds)
    except PastLimit:
        raise UnfitTree(
            f"a database could not be checked within {seconds:.0f} seconds and {JAIL_MEMORY >> 20} MiB of memory; "
            "restore a backup of it, or move it away"
        ) from None
    finally:
        if os.geteuid() == 0:
            os.fchown(directory, 0, 0)


def _hand_in(slot: DirFd, name: str, new_name: str) -> os.stat_result | None:
    """Give a staged file to the jail's user under its name in the jail; return its former status, None if it does not exist."""
    status = status_of(slot, name)
    if status is None:
        return None
    os.rename(name, new_name, src_dir_fd=slot, dst_dir_fd=slot)
    descriptor = os.open(new_name, _OPEN_FILE, dir_fd=slot)
    try:
        _give(descriptor)
    finally:
        os.close(descriptor)
    return status


def _give(descriptor: int) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, *jail_user())
    os.fchmod(descriptor, stat.S_IRUSR | stat.S_IWUSR)


def _made_whole(library: types.ModuleType) -> str:
    """Combine the files into one and return the verdict. Runs in the jail.

    Leaves its connections open: closing the last one would first write the -wal into the database.
    """
    try:
        raw = _opened_raw(library)
        if raw.execute("PRAGMA page_count").fetchone() == (0,):
            return _SOUND  # a program creates an empty file before it fills it; the combined file is empty as well
        whole = library.connect(_WHOLE, isolation_level=None)
        # No need for durability: an incomplete copy is made again, and all copies are synced later.
        for pragma in ("journal_mode=OFF", "synchronous=OFF"):
            whole.execute(f"PRAGMA {pragma}")
        raw.backup(whole)
        whole.close()
        return _verdict(library.connect(f"file:{_WHOLE}?immutable=1", uri=True))
    except library.OperationalError:
        return _FAILED
    except library.DatabaseError:
        return _DAMAGED


def _tried(library: types.ModuleType) -> str:
    """Return the verdict on a copy that may be inconsistent, because its program was writing. Runs in the jail."""
    try:
        return _verdict(_opened_raw(library))
    except library.DatabaseError:
        return _DAMAGED


def _opened_raw(library: types.ModuleType) -> t.Any:
    raw = library.connect(_RAW, isolation_level=None)
    raw.execute("PRAGMA locking_mode=EXCLUSIVE")  # then it needs no -shm
    raw.execute(
        "SELECT count(*) FROM sqlite_master"
    ).fetchone()  # raises the right error; a failed backup does not in older Pythons
    return raw


def _verdict(database: t.Any) -> str:
    # A progress handler would not limit this, because one step of a crafted schema may take days. The limits of the jail do.
    database.execute("PRAGMA temp_store=MEMORY")
    return _SOUND if database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",) else _DAMAGED


def _dress(slot: DirFd, statuses: t.Sequence[os.stat_result], rules: Rules) -> None:
    """Give the combined file its owner, the mode of the database, and the mtime of the newest of its files."""
    newest = max(status.st_mtime_ns for status in statuses)
    descriptor = os.open(_WHOLE, _OPEN_FILE, dir_fd=slot)
    try:
        made = os.fstat(descriptor)
        if not stat.S_ISREG(made.st_mode) or made.st_nlink != 1:
            raise UnfitTree("the copy of its database was tampered with; check which processes run as its user")
        if os.geteuid() == 0:
            os.fchown(descriptor, rules.uid, rules.gid)
        os.fchmod(descriptor, stat.S_IMODE(statuses[0].st_mode) & 0o777)
        os.utime(descriptor, ns=(newest, newest))
    finally:
        os.close(descriptor)


def _place(slot: DirFd, target: DirFd, name: str) -> None:
    with opened_parent(target, name) as (parent, last):
        status = os.fstat(parent)
        os.rename(_WHOLE, last, src_dir_fd=slot, dst_dir_fd=parent)
        os.utime(parent, ns=(status.st_atime_ns, status.st_mtime_ns))


def _library() -> types.ModuleType:
    try:
        import sqlite3  # imported late: few runs need it, and some systems package it separately
    except ImportError as error:
        raise SessionsError(
            "these accounts are kept in SQLite databases, but this host's Python has no module sqlite3; "
            "nothing was changed: install it (python3, not python3-minimal, on Debian) and run again"
        ) from error
    return sqlite3
