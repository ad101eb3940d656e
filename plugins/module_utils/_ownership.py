# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Gives everything below a directory the right owner and mode, although the owner may be changing it at the same time.

Works on descriptors that pin what was looked at. Never follows a link, never opens a device or FIFO, never touches a file that
has a second name (it may be anybody's file, linked in), never crosses into another filesystem, and never tells a name: only counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import typing as t

from ._errors import SessionsError
from ._identity import Identity
from ._layouts import is_area
from ._mode import Mode, directory_bits, file_bits

_DEPTH_AT_MOST = 100  # one descriptor is open per level; real layouts have at most a dozen
# O_PATH opens nothing: a device is not started, a FIFO not waited for, open(2).
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Wanted(t.NamedTuple):
    """Who everything below belongs to, and the mode of its directories; files get it without execute bits."""

    identity: Identity
    mode: Mode


@dataclasses.dataclass
class Tally:
    """How many entries have (or had) another owner or mode, and how many stay as they are because touching them is not safe."""

    owners: int = 0
    modes: int = 0
    hard_links: int = 0
    special: int = 0
    other_filesystems: int = 0

    @property
    def wrong(self) -> int:
        """Number of corrections that are needed; an entry can need two."""
        return self.owners + self.modes

    @property
    def left(self) -> int:
        """Number of entries that are not touched."""
        return self.hard_links + self.special + self.other_filesystems


Change = t.Callable[[int, Identity, int], None]


def survey(directory: int, wanted: Wanted) -> Tally:
    """Count what is to be corrected below the open ``directory`` (itself not counted). Reads only; raises OSError."""
    return _walked(directory, wanted, _leave)


def repair(directory: int, wanted: Wanted) -> Tally:
    """Correct owners and modes below the open ``directory``, deepest first; return what was corrected and what was left.

    Raises OSError for an entry that this process may not change; only its ``strerror`` may be shown, its text holds a name.
    """
    return _walked(directory, wanted, _correct)


def _walked(directory: int, wanted: Wanted, change: Change) -> Tally:
    tally = Tally()
    _walk(directory, wanted, tally, change, 0)
    return tally


def _walk(directory: int, wanted: Wanted, tally: Tally, change: Change, depth: int) -> None:
    """Visit every entry below ``directory``, subdirectories after what is in them: ownership is handed over last."""
    if depth > _DEPTH_AT_MOST:
        raise SessionsError(
            f"directories are nested more than {_DEPTH_AT_MOST} deep, which no layout does; see what is there"
        )
    device = os.fstat(directory).st_dev
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries if depth or not _is_not_sessions(entry)]
    for name in names:
        with contextlib.suppress(FileNotFoundError):  # the backend removed it while we looked
            _visit(directory, name, device, wanted, tally, change, depth)


def _visit(directory: int, name: str, device: int, wanted: Wanted, tally: Tally, change: Change, depth: int) -> None:
    entry = os.open(name, _LOOK, dir_fd=directory)
    try:
        status = os.fstat(entry)
        if status.st_dev != device:
            tally.other_filesystems += 1
        elif stat.S_ISDIR(status.st_mode):
            _descend(entry, wanted, tally, change, depth)
            _settle(
                entry, status, wanted.identity, directory_bits(wanted.mode, stat.S_IMODE(status.st_mode)), tally, change
            )
        elif stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            _settle(entry, status, wanted.identity, file_bits(wanted.mode, stat.S_IMODE(status.st_mode)), tally, change)
        elif stat.S_ISREG(status.st_mode):
            tally.hard_links += 1
        elif not stat.S_ISLNK(
            status.st_mode
        ):  # who owns a link does not matter: the owner of its directory can replace it
            tally.special += 1
    finally:
        os.close(entry)


def _descend(entry: int, wanted: Wanted, tally: Tally, change: Change, depth: int) -> None:
    below = os.open(".", _ENTER, dir_fd=entry)
    try:
        _walk(below, wanted, tally, change, depth + 1)
    finally:
        os.close(below)


def _settle(entry: int, status: os.stat_result, identity: Identity, bits: int, tally: Tally, change: Change) -> None:
    """Count what is wrong with one entry, and hand it to ``change`` when anything is."""
    wrong_owner = (status.st_uid, status.st_gid) != (identity.uid, identity.gid)
    wrong_mode = stat.S_IMODE(status.st_mode) != bits
    if wrong_owner or wrong_mode:
        change(entry, identity, bits)
    tally.owners += wrong_owner
    tally.modes += wrong_mode


def _leave(_entry: int, _identity: Identity, _bits: int) -> None:
    """Change nothing."""


def _correct(entry: int, identity: Identity, bits: int) -> None:
    """Change the very entry that is open. fchown(2) refuses such a descriptor; its name in /proc leads to it and to nothing else."""
    pinned = f"/proc/self/fd/{entry}"
    status = os.stat(pinned)
    if (status.st_uid, status.st_gid) != (identity.uid, identity.gid):
        os.chown(pinned, identity.uid, identity.gid)  # clears set-id bits, so the mode comes after it
    if stat.S_IMODE(os.stat(pinned).st_mode) != bits:
        os.chmod(pinned, bits)


def _is_not_sessions(entry: os.DirEntry[str]) -> bool:
    """Whether an entry at the top is none of the backend's: our own area, or what mkfs made; both belong to root."""
    return (is_area(entry.name) or entry.name == "lost+found") and entry.stat(follow_symlinks=False).st_uid == 0
