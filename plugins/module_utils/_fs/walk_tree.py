# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Walks directory trees by descriptor, never by path name: lists, measures and compares their files. Changes nothing.

The owner of a tree may change it while root reads it: links are never followed, and what is read has a limit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import typing as t

from .._core.limits import DEPTH, NAMES
from .copy_file import UnfitTree, digest_of
from .fdopen import OPEN_DIRECTORY, DirFd

Test = t.Callable[[str], t.Any]
Item = t.TypeVar("Item")


@dataclasses.dataclass
class Tally:
    """What a pass over a tree found and did.

    ``bytes`` and ``newest_ns`` do not include unchanged files. ``unsettled``: files that kept changing. ``left_out``: links, sockets
    and the like. ``unwatched``: entries that a watch on the directory does not cover: directories, and files with other hard links.
    ``damaged``: accounts with a database that SQLite finds damaged in every trial.
    """

    files: int = 0
    bytes: int = 0
    copied: int = 0
    removed: int = 0
    unsettled: int = 0
    left_out: int = 0
    newest_ns: int = 0
    unwatched: int = 0
    damaged: int = 0

    def add(self, other: Tally) -> None:
        """Add the figures of another pass."""
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            setattr(self, field.name, max(mine, theirs) if field.name == "newest_ns" else mine + theirs)


def has_links(directory: DirFd, names: t.Iterable[str]) -> bool:
    """Whether one of the entries ``names`` of an open directory has other hard links, through which it could be written unseen."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            if os.stat(name, dir_fd=directory, follow_symlinks=False).st_nlink > 1:
                return True
    return False


def measure(directory: DirFd, is_volatile: Test, is_cache: Test | None = None) -> Tally:
    """Return files, bytes and the newest mtime below an open directory, from names and status only."""
    tally = Tally()
    for _name, status in files_below(directory, is_volatile, is_cache):
        tally.files += 1
        tally.bytes += status.st_size
        tally.newest_ns = max(tally.newest_ns, status.st_mtime_ns)
    return tally


def same_content(one: DirFd, other: DirFd, is_volatile: Test, is_cache: Test | None = None) -> bool:
    """Whether two open directories contain the same files with the same content."""
    left = {name: status.st_size for name, status in files_below(one, is_volatile, is_cache)}
    right = {name: status.st_size for name, status in files_below(other, is_volatile, is_cache)}
    return left == right and all(_digest_below(one, name) == _digest_below(other, name) for name in left)


def files_below(directory: DirFd, is_volatile: Test, is_cache: Test | None) -> t.Iterator[tuple[str, os.stat_result]]:
    """Yield relative path and status of each regular file below an open directory, except volatile names and caches."""
    return _Walk(is_volatile, is_cache).files(directory, "", 0)


class Names:
    """Counts the names of a tree: a user can create names faster than they are read, so that reading them would never end."""

    def __init__(self) -> None:
        self._left = NAMES

    def counted(self, entries: t.Iterable[Item]) -> t.Iterator[Item]:
        """Yield the entries of one more directory. Raises UnfitTree once there are too many in all."""
        for entry in entries:
            self._left -= 1
            if self._left < 0:
                raise UnfitTree(
                    f"it contains more than {NAMES} files and directories, more than any library creates; find out what creates them and "
                    "remove them"
                )
            yield entry


def names_below(directory: DirFd, names: Names) -> list[str]:
    """Return the names in one directory of a tree, counted by ``names``."""
    with os.scandir(directory) as entries:
        return [entry.name for entry in names.counted(entries)]


def require_depth_and_device(status: os.stat_result, depth: int, device: int) -> None:
    """Raise UnfitTree for a directory that lies too deep in its tree, or on another filesystem."""
    if depth > DEPTH:
        raise UnfitTree(
            f"its directories are nested more than {DEPTH} levels deep, deeper than any library creates; check what they contain"
        )
    if status.st_dev != device:
        raise UnfitTree("another filesystem is mounted inside it; unmount it first")


class _Walk:
    """Walks the regular files of one tree."""

    def __init__(self, is_volatile: Test, is_cache: Test | None) -> None:
        self.is_volatile, self.is_cache = is_volatile, is_cache
        self.names = Names()

    def files(self, directory: DirFd, prefix: str, depth: int) -> t.Iterator[tuple[str, os.stat_result]]:
        """Yield the files below an open directory; ``prefix``: its relative path, with a slash at the end."""
        with os.scandir(directory) as entries:
            for entry in self.names.counted(entries):
                if self.is_volatile(entry.name) or (self.is_cache and self.is_cache(prefix + entry.name)):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode):
                    yield prefix + entry.name, status
                elif stat.S_ISDIR(status.st_mode) and depth < DEPTH:
                    yield from self._files_in(directory, entry.name, prefix, depth)

    def _files_in(self, directory: DirFd, name: str, prefix: str, depth: int) -> t.Iterator[tuple[str, os.stat_result]]:
        try:
            below = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=directory))
        except OSError:
            return  # it was removed or replaced meanwhile
        try:
            yield from self.files(below, f"{prefix}{name}/", depth + 1)
        finally:
            os.close(below)


def _digest_below(directory: DirFd, relative: str) -> bytes | None:
    here = DirFd(os.open(".", OPEN_DIRECTORY, dir_fd=directory))
    try:
        *folders, name = relative.split("/")
        for folder in folders:
            below = DirFd(os.open(folder, OPEN_DIRECTORY, dir_fd=here))
            os.close(here)
            here = below
        return digest_of(here, name)
    except FileNotFoundError:
        return None
    finally:
        os.close(here)
