# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Gives everything below a directory the right owner and mode, even while the owner changes it.

Works on descriptors that pin the inspected entry. Never follows a symbolic link, opens a device or FIFO, or touches a file with a second
hard link (it may belong to another user). Never crosses into another filesystem, and never reports a name: only counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import typing as t

from .._core.errors import SessionsError
from .._core.names import is_area
from .fdopen import DirFd
from .modes import Mode, directory_bits, file_bits
from .users import Identity

_DEPTH_AT_MOST = 100  # one descriptor is open per level; real layouts have at most a dozen
# O_PATH has no side effects on devices and does not wait for a FIFO, open(2).
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Wanted(t.NamedTuple):
    """The requested owner, and the mode of directories; files get the same mode without execute bits."""

    identity: Identity
    mode: Mode


@dataclasses.dataclass
class OwnershipTally:
    """Numbers of entries with a wrong owner or mode, and of entries that are left unchanged because changing them is not safe."""

    owners: int = 0
    modes: int = 0
    hard_links: int = 0
    special: int = 0
    other_filesystems: int = 0

    @property
    def wrong(self) -> int:
        """Number of corrections needed; an entry can need two."""
        return self.owners + self.modes

    @property
    def left(self) -> int:
        """Number of entries that are left unchanged."""
        return self.hard_links + self.special + self.other_filesystems


Change = t.Callable[[int, Identity, int], None]


def survey(directory: DirFd, wanted: Wanted) -> OwnershipTally:
    """Count what needs correction below the open ``directory``, which is not counted itself. Reads only; raises OSError."""
    return _walked(directory, wanted, _leave)


def repair(directory: DirFd, wanted: Wanted) -> OwnershipTally:
    """Correct owners and modes below the open ``directory``, deepest first; return what was corrected and what was left unchanged.

    Raises OSError for an entry that this process may not change. Show only its ``strerror``: its text contains a file name.
    """
    return _walked(directory, wanted, _correct)


def _walked(directory: DirFd, wanted: Wanted, change: Change) -> OwnershipTally:
    walk = _Walk(wanted, change)
    walk.below(directory, 0)
    return walk.tally


class _Walk:
    """Visits one tree: counts what is wrong, and passes it to ``change``."""

    def __init__(self, wanted: Wanted, change: Change) -> None:
        self.wanted, self.change = wanted, change
        self.tally = OwnershipTally()

    def below(self, directory: DirFd, depth: int) -> None:
        """Visit every entry below ``directory``, subdirectories after their content, so that ownership is handed over last."""
        if depth > _DEPTH_AT_MOST:
            raise SessionsError(
                f"directories are nested more than {_DEPTH_AT_MOST} levels deep, which no layout does; check what they contain"
            )
        device = os.fstat(directory).st_dev
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if depth or not _is_not_sessions(entry)]
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # the backend removed it meanwhile
                entry = os.open(name, _LOOK, dir_fd=directory)
                try:
                    self._visit(entry, device, depth)
                finally:
                    os.close(entry)

    def _visit(self, entry: int, device: int, depth: int) -> None:
        status = os.fstat(entry)
        if status.st_dev != device:
            self.tally.other_filesystems += 1
        elif stat.S_ISDIR(status.st_mode):
            self._descend(entry, depth)
            self._settle(entry, status, directory_bits(self.wanted.mode, stat.S_IMODE(status.st_mode)))
        elif stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            self._settle(entry, status, file_bits(self.wanted.mode, stat.S_IMODE(status.st_mode)))
        elif stat.S_ISREG(status.st_mode):
            self.tally.hard_links += 1
        elif not stat.S_ISLNK(status.st_mode):
            # The owner of a link does not matter, because the owner of its directory can replace it.
            self.tally.special += 1

    def _descend(self, entry: int, depth: int) -> None:
        below = DirFd(os.open(".", _ENTER, dir_fd=entry))
        try:
            self.below(below, depth + 1)
        finally:
            os.close(below)

    def _settle(self, entry: int, status: os.stat_result, bits: int) -> None:
        """Count what is wrong with one entry, and pass it to ``change`` if anything is."""
        identity = self.wanted.identity
        wrong_owner = (status.st_uid, status.st_gid) != (identity.uid, identity.gid)
        wrong_mode = stat.S_IMODE(status.st_mode) != bits
        if wrong_owner or wrong_mode:
            self.change(entry, identity, bits)
        self.tally.owners += wrong_owner
        self.tally.modes += wrong_mode


def _leave(_entry: int, _identity: Identity, _bits: int) -> None:
    """Change nothing."""


def _correct(entry: int, identity: Identity, bits: int) -> None:
    """Change exactly the open entry. fchown(2) rejects an O_PATH descriptor, but its name in /proc leads to this entry only."""
    pinned = f"/proc/self/fd/{entry}"
    status = os.stat(pinned)
    if (status.st_uid, status.st_gid) != (identity.uid, identity.gid):
        os.chown(pinned, identity.uid, identity.gid)  # clears set-id bits, so the mode comes after it
    if stat.S_IMODE(os.stat(pinned).st_mode) != bits:
        os.chmod(pinned, bits)


def _is_not_sessions(entry: os.DirEntry[str]) -> bool:
    """Whether a top-level entry is not the backend's: this collection's area, or lost+found of mkfs; both belong to root."""
    return (is_area(entry.name) or entry.name == "lost+found") and entry.stat(follow_symlinks=False).st_uid == 0
