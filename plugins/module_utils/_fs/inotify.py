# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Records which files were touched since they were copied, so that the last pass, during which the backend is down, checks only these.

inotify(7) reports writes at once, except through mapped memory and, on some kernels, through io_uring. But a file that was open for
writing is reported again when it is closed, and a process that has ended has closed everything. So once all writers are stopped, every
change in a flat directory has been reported. The exceptions are files with other hard links (writes through another name are reported
only for its directory), filesystems with other writers (network, FUSE, layers of an overlay), and an overflow of the kernel's queue.
Accounts to which one of these may apply are left out of the result, and must be checked completely.
"""

from __future__ import annotations

import contextlib
import os
import struct
import typing as t

from .._core.errors import SessionsError
from .filesystem import filesystem_of
from .syscalls import inotify_add, inotify_new

if t.TYPE_CHECKING:
    from .fdopen import DirFd

_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED, _CREATE, _DELETE = 0x40 | 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _UNMOUNT, _OVERFLOW, _IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
_ONLY_DIRECTORIES, _ON_DIRECTORY = 0x01000000, 0x40000000
_WANTED = _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED | _CREATE | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLY_DIRECTORIES
_GONE = _DELETE_SELF | _MOVE_SELF | _UNMOUNT | _IGNORED
_HEAD = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_BLOCK = 1 << 16

# Filesystems on which every write passes through this kernel and the watched directory.
_TELLING = frozenset(("btrfs", "ext2", "ext3", "ext4", "f2fs", "tmpfs", "xfs"))


class Touched(t.NamedTuple):
    """The touched names in the directory of an account, and device and inode of that directory."""

    names: frozenset[str]
    folder: tuple[int, int]


class Watch:
    """Watches the directories of accounts, without their subdirectories."""

    def __init__(self) -> None:
        self._queue = inotify_new()
        self._accounts: dict[int, str] = {}
        self._folders: dict[str, tuple[int, int]] = {}
        self._types: dict[int, str] = {}
        self._names: dict[str, set[str]] = {}

    def add(self, account: str, directory: DirFd) -> None:
        """Watch the open directory of an account, unless its filesystem or a limit of the kernel prevents it."""
        status = os.fstat(directory)
        with contextlib.suppress(OSError, SessionsError):
            if status.st_dev not in self._types:
                self._types[status.st_dev] = filesystem_of(directory).type
            if self._types[status.st_dev] in _TELLING:
                self._accounts[inotify_add(self._queue, directory, _WANTED)] = account
                self._folders[account] = (status.st_dev, status.st_ino)

    def begin(self) -> None:
        """Discard all events until now, because all accounts are about to be copied."""
        self.read()
        self._names = {account: set() for account in self._accounts.values()}

    def invalidate(self, accounts: t.Iterable[str]) -> None:
        """Leave ``accounts`` out of the result, because they contain entries that no watch covers."""
        for account in accounts:
            self._names.pop(account, None)

    def read(self) -> None:
        """Process pending events, before the kernel's queue overflows."""
        while block := self._block():
            place = 0
            while place < len(block):
                watch, mask, _cookie, length = _HEAD.unpack_from(block, place)
                place += _HEAD.size + length
                self._note(watch, mask, block[place - length : place].rstrip(b"\0"))

    def touched(self) -> dict[str, Touched]:
        """Return what was touched since ``begin``, for each account with reliable events."""
        self.read()
        return {name: Touched(frozenset(names), self._folders[name]) for name, names in self._names.items()}

    def close(self) -> None:
        """Stop watching."""
        os.close(self._queue)

    def _block(self) -> bytes:
        try:
            return os.read(self._queue, _BLOCK)
        except BlockingIOError:
            return b""

    def _note(self, watch: int, mask: int, name: bytes) -> None:
        account = self._accounts.get(watch, "")
        if mask & _OVERFLOW:
            self._names.clear()
        elif mask & _GONE:
            self._names.pop(self._accounts.pop(watch, ""), None)
        elif not name or mask & _ON_DIRECTORY:  # the account's directory itself, or a subdirectory
            self._names.pop(account, None)
        elif account in self._names:
            self._names[account].add(os.fsdecode(name))
