# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Compare a directory tree with what was recorded of it when it was copied, from names and status only. Never opens a file.

One status per file, and no list of the tree: this is all that a backup does with an account that has not changed.
"""

from __future__ import annotations

import itertools
import os
import stat
import typing as t

from .._core.limits import DEPTH
from .copy_tree import Index
from .fdopen import OPEN_DIRECTORY, DirFd
from .walk_tree import Names, Test


class Difference(t.NamedTuple):
    """How a tree differs from its copy: whether all files are the ``same``, and the ``files`` and ``bytes`` that are new or changed."""

    same: bool = True
    files: int = 0
    bytes: int = 0

    def and_also(self, other: Difference) -> Difference:
        """Return the difference of both."""
        return Difference(self.same and other.same, self.files + other.files, self.bytes + other.bytes)


def difference(
    directory: DirFd, copied: Index, is_left_out: Test, is_cache: Test | None, place: str = ""
) -> Difference:
    """Compare the files below an open directory with the index of their copy, which was made with the same patterns.

    ``place``: the key of the directory in the index. A file is the same if inode, size, mtime and ctime are equal. Directories alone do
    not count. Raises UnfitTree for too many names, OSError.
    """
    comparison = _Comparison(copied, is_left_out, is_cache)
    comparison.directory(directory, place, 0)
    recorded = sum(map(bool, itertools.chain.from_iterable(held.values() for held in copied.values())))
    return Difference(comparison.kept == recorded and not comparison.files, comparison.files, comparison.bytes)


class _Comparison:
    """``kept``: the number of files that are as recorded; ``files`` and ``bytes``: of the others."""

    def __init__(self, copied: Index, is_left_out: Test, is_cache: Test | None) -> None:
        self._copied, self._is_left_out, self._is_cache, self._names = copied, is_left_out, is_cache, Names()
        self.kept = self.files = self.bytes = 0

    def directory(self, directory: DirFd, place: str, depth: int) -> None:
        """Compare one directory and those below it. ``place``: its key in the index."""
        recorded, folders, kept = self._copied.get(place, {}), [], 0
        with os.scandir(directory) as entries:
            for entry in self._names.counted(entries):
                name = entry.name
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if recorded.get(name) == (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns):
                    kept += 1
                elif self._is_left_out(name) or (self._is_cache and self._is_cache(place + name)):
                    continue
                elif stat.S_ISREG(found.st_mode):
                    self.files += 1
                    self.bytes += found.st_size
                elif stat.S_ISDIR(found.st_mode) and depth < DEPTH:
                    folders.append(name)
        self.kept += kept
        for name in folders:
            self._folder(directory, name, f"{place}{name}/", depth + 1)

    def _folder(self, directory: DirFd, name: str, place: str, depth: int) -> None:
        try:
            below = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=directory))
        except OSError:
            return  # it was removed or replaced meanwhile
        try:
            self.directory(below, place, depth)
        finally:
            os.close(below)
