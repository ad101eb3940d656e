# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The restore drill: restores the newest copy to a private directory, judges every account in it, and removes it. Counts only.

What is restored is never published, and never seen by any backend.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import typing as t

from .._accounts import info
from .._backup.store import ROOT, Snapshot, newest_sound, snapshots
from .._core import names as core_names
from .._core.errors import SessionsError
from .._fs.fdopen import OPEN_DIRECTORY, DirFd, names_in, opened_below, opened_directory
from .._layouts.layout import LINKED
from . import repository as restic

_PREFIX = "drill-"


class Outcome(t.NamedTuple):
    """What the drill found: accounts with a sound snapshot in the copy, those that were sound when restored, and files of these."""

    accounts: int
    sound: int
    files: int
    bytes: int


def drilled(repository: restic.Repository, copy: restic.Copy, store: str, layout: t.Mapping[str, t.Any]) -> Outcome:
    """Restore ``copy`` and judge it. Raises SessionsError if it contains no snapshots."""
    with _private_directory() as target:
        restic.restore(repository, copy, target)
        place = f"{target}{store}"
        try:
            with opened_directory(place) as restored:
                newest = newest_sound(snapshots(restored)).values()
        except (FileNotFoundError, NotADirectoryError):
            newest = {}.values()
        if not newest:
            raise SessionsError(
                "the newest off-host copy contains no sound snapshot, so no account can be restored from it; "
                "save snapshots, copy them and run the drill again"
            )
        measured = [_measured(f"{place}/{one.name}/{ROOT}") for one in newest]
        sound = [
            _is_sound(one, f"{place}/{one.name}/{ROOT}", layout) and found[0] == one.files
            for one, found in zip(newest, measured)
        ]
    return Outcome(
        len(sound), sum(sound), sum(files for files, _size in measured), sum(size for _files, size in measured)
    )


@contextlib.contextmanager
def _private_directory() -> t.Iterator[str]:
    """Create a directory of root, and remove it and those of drills that were killed. A drill holds the lock of its directory."""
    os.makedirs(core_names.HOME, mode=0o700, exist_ok=True)
    with opened_directory(core_names.HOME) as home:
        fcntl.flock(home, fcntl.LOCK_EX)  # held for a moment: meanwhile no directory of a drill is without its lock
        left = [name for name in names_in(home) if name.startswith(_PREFIX) and _is_abandoned(home, name)]
        target = tempfile.mkdtemp(prefix=_PREFIX, dir=core_names.HOME)
        lock = os.open(target, OPEN_DIRECTORY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        for name in left:
            shutil.rmtree(f"{core_names.HOME}/{name}", ignore_errors=True)
        yield target
    finally:
        shutil.rmtree(target, ignore_errors=True)
        os.close(lock)


def _is_abandoned(home: DirFd, name: str) -> bool:
    """Whether no drill holds the lock of a directory, because it was killed."""
    with contextlib.suppress(OSError), opened_below(home, name) as directory:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _is_sound(snapshot: Snapshot, path: str, layout: t.Mapping[str, t.Any]) -> bool:
    """Whether the restored account is linked, as its layout judges it."""
    found = info.observe(info.read_params({"layout": snapshot.layout, **layout, "path": path}))
    return any(account.name == snapshot.account and account.state in LINKED for account in found.accounts)


def _measured(path: str) -> tuple[int, int]:
    """Return the number of files below ``path`` and their bytes. Only root can write there."""
    files = [
        status
        for folder, _folders, names in os.walk(path)
        for name in names
        if stat.S_ISREG((status := os.lstat(f"{folder}/{name}")).st_mode)
    ]
    return len(files), sum(status.st_size for status in files)
