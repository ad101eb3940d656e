# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""A bounded look at the names in an account: how many files there are, and what modes and owners some of them have. Opens no file."""

from __future__ import annotations

import os
import stat
import typing as t

from .._core.limits import DEPTH
from .._fs.fdopen import OPEN_DIRECTORY, DirFd
from .._fs.patterns import name_matcher
from .._layouts.layout import Layout
from .facts import Scan

# Names of key files, of layouts that keep each key in a file. Browsers create files without content all the time.
_KEYS = ("*.json",)


def scanned(account: DirFd, layout: Layout, *, files: int, statuses: int, reachable: bool) -> Scan:
    """Count the files of an open account up to ``files``, and read the status of at most ``statuses`` of them, evenly spread.

    ``reachable``: whether other users can enter the directory above. Symbolic links are not followed.
    """
    is_key = name_matcher(() if layout.locks or layout.databases else _KEYS)
    look = _Look(os.fstat(account).st_uid, is_key, layout.volatile_matcher, files, statuses)
    look.into(account, reachable, 0)
    return Scan(look.files, look.looked_at, look.open, look.foreign, look.empty)


class _Look:
    """The counts so far."""

    def __init__(
        self,
        owner: int,
        is_key: t.Callable[[str], t.Any],
        is_volatile: t.Callable[[str], t.Any],
        most: int,
        statuses: int,
    ) -> None:
        self.owner, self.is_key, self.is_volatile = owner, is_key, is_volatile
        self.most, self.statuses = most, statuses
        self.files = self.looked_at = self.open = self.foreign = self.empty = 0

    def into(self, directory: DirFd, reachable: bool, level: int) -> None:
        """Count what is in an open directory and below it."""
        reachable = reachable and bool(os.fstat(directory).st_mode & stat.S_IXOTH)
        folders, files = self._listed(directory)
        self.files += len(files)
        for entry in _spread(files, self.statuses - self.looked_at):
            self._note(entry, reachable)
        for folder in folders if level < DEPTH else ():
            if self.files >= self.most:
                return
            try:
                below = DirFd(os.open(folder.name, OPEN_DIRECTORY, dir_fd=directory))
            except OSError:
                continue  # gone or replaced since it was listed
            try:
                self._note_owner(os.fstat(below))
                self.into(below, reachable, level + 1)
            finally:
                os.close(below)

    def _listed(self, directory: DirFd) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
        """Return the folders and the files in a directory, as far as files are still to be counted."""
        folders: list[os.DirEntry[str]] = []
        files: list[os.DirEntry[str]] = []
        room = self.most - self.files
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry)
                elif len(files) < room:
                    files.append(entry)
                else:
                    break
        return folders, files

    def _note(self, entry: os.DirEntry[str], reachable: bool) -> None:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return  # the key was used since it was listed
        self.looked_at += 1
        self._note_owner(status)
        if not stat.S_ISREG(status.st_mode):
            return
        self.open += reachable and bool(status.st_mode & stat.S_IROTH)
        if not status.st_size:
            self.empty += bool(self.is_key(entry.name)) and not self.is_volatile(entry.name)

    def _note_owner(self, status: os.stat_result) -> None:
        self.foreign += status.st_uid != self.owner


def _spread(entries: t.Sequence[os.DirEntry[str]], most: int) -> t.Sequence[os.DirEntry[str]]:
    """Return at most ``most`` entries, evenly spread: some filesystems list old files first, others by no order at all."""
    if most <= 0:
        return ()
    return entries[:: -(-len(entries) // most) or 1]
