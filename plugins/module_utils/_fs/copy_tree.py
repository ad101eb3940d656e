# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Copies and removes directory trees by descriptor, never by path name.

The owner of the source may change it while root reads it: links are never followed, and only regular files and directories are copied
(see copy_file.py for the files).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import typing as t

from .._core import progress
from .._core.limits import DEPTH
from .copy_file import (
    UNSETTLED,
    Record,
    Rules,
    Seen,
    apply_metadata,
    copied_already,
    copy_until_settled,
    record_of,
    require_open,
    require_time,
)
from .fdopen import OPEN_DIRECTORY, DirFd
from .syscalls import creating_as
from .walk_tree import Names, Tally, require_depth_and_device

_FOLDER: tuple[int, ...] = ()

# What a pass copied: by directory (its relative path with a trailing slash, empty for the top) and name, the record of the source file,
# or an empty tuple for a directory.
Index = dict[str, dict[str, tuple[int, ...]]]


def sync_tree(source: DirFd, target: DirFd, rules: Rules, index: Index) -> tuple[Index, Tally]:
    """Make the open directory ``target`` equal to ``source`` and return the new index.

    ``index``: of the previous pass, empty for the first one. A file that still matches its record is not read again. Entries that the
    source no longer has are removed from the target. Raises UnfitTree, OSError (full disk, I/O error).
    """
    copying = _Pass(rules, index, os.fstat(source).st_dev)
    with creating_as(rules.uid, rules.gid):
        copying.directory(source, target, "", 0)
    return copying.fresh, copying.tally


def sync_entries(source: DirFd, target: DirFd, names: t.Iterable[str], rules: Rules) -> tuple[set[str], Tally]:
    """Like sync_tree, for some of the entries of ``source`` and the directory itself. Returns the names that kept changing.

    The index of the previous pass does not match the target afterwards.
    """
    status = os.fstat(source)
    require_open(status, rules)
    copying = _Pass(rules, {}, status.st_dev)
    with creating_as(rules.uid, rules.gid):
        left = {name for name in names if not copying.anew(source, target, name)}
        apply_metadata(target, status, rules)
    return left, copying.tally


def bring_entry(source: DirFd, target: DirFd, name: str, rules: Rules, index: Index) -> tuple[Index, Tally]:
    """Like sync_tree, for one entry, a file or a directory; links are left out. ``target`` contains nothing else."""
    found = os.stat(name, dir_fd=source, follow_symlinks=False)
    copying = _Pass(rules, index, found.st_dev)
    there = set(os.listdir(target))
    if stat.S_ISDIR(found.st_mode):
        copying.folder(source, target, name, name in there, f"{name}/", 0)
    elif not stat.S_ISREG(found.st_mode):
        copying.tally.left_out += 1
    elif index.get("", {}).get(name) == record_of(found):
        return index, Tally(files=1)
    else:
        copying.fresh[""] = {name: copying.file(source, target, name, name in there)}
    return copying.fresh, copying.tally


def remove_tree(parent: DirFd, name: str) -> None:
    """Remove ``name`` and everything below it from the open directory ``parent``, if it exists."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass  # unlink(2) of a directory: EISDIR on Linux, EPERM by POSIX
    top = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=parent))
    try:
        while left := os.listdir(top):  # _remove moves entries that are too deep to the top
            for entry in left:
                _remove(top, entry, top, DEPTH)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _remove(parent: DirFd, name: str, top: DirFd, levels: int) -> None:
    """Remove an entry and everything below it; directories below ``levels`` are moved to ``top``, as each level needs a descriptor."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except (IsADirectoryError, PermissionError):
        pass
    if not levels:
        os.rename(name, secrets.token_hex(16), src_dir_fd=parent, dst_dir_fd=top)
        return
    below = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=parent))
    try:
        for entry in os.listdir(below):
            _remove(below, entry, top, levels - 1)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=parent)


class _Pass:
    """One pass over a tree: the index of the previous pass, the new one, and the figures."""

    def __init__(self, rules: Rules, index: Index, device: int) -> None:
        self.rules = rules
        self.index = index
        self.device = device
        self.fresh: Index = {}
        self.tally = Tally()
        self.names = Names()

    def directory(self, source: DirFd, target: DirFd, place: str, depth: int) -> None:
        """Update one directory; ``place``: its key in the index."""
        status = os.fstat(source)
        require_depth_and_device(status, depth, self.device)
        require_open(status, self.rules)
        known = self.index.get(place)
        # Without an index, the target may contain leftovers of a killed pass or another engine. With one, it contains what the index says.
        there = set(os.listdir(target)) if known is None else set(known)
        for name in there.difference(self._entries(source, target, place, depth, known or {}, there)):
            remove_tree(target, name)
            self.tally.removed += 1
        apply_metadata(target, status, self.rules)

    def _entries(
        self,
        source: DirFd,
        target: DirFd,
        place: str,
        depth: int,
        known: t.Mapping[str, tuple[int, ...]],
        there: set[str],
    ) -> t.Collection[str]:
        """Update each entry of a directory and return the current names."""
        fresh = self.fresh.setdefault(place, {})
        seen = Seen()
        for entry in self._changed(source, place, known, fresh):
            name = entry.name
            try:
                if entry.is_file(follow_symlinks=False):
                    fresh[name] = self.file(source, target, name, name in there, seen)
                elif entry.is_dir(follow_symlinks=False):
                    fresh[name] = _FOLDER
                    self.folder(source, target, name, name in there, f"{place}{name}/", depth + 1)
                else:
                    self.tally.left_out += 1
            except FileNotFoundError:
                fresh.pop(name, None)  # a running backend removed it meanwhile
        self.tally.unwatched += seen.linked
        return fresh

    def _changed(
        self, source: DirFd, place: str, known: t.Mapping[str, tuple[int, ...]], fresh: dict[str, tuple[int, ...]]
    ) -> list[os.DirEntry[str]]:
        """Enter unchanged files into ``fresh`` and return the other entries.

        This must be fast: the backend is down during the last pass, and nearly every file is unchanged. So there is one stat(2) per file,
        its fields are compared inline, and only unknown names are matched against patterns.
        """
        changed, is_volatile, is_cache, linked = [], self.rules.is_volatile, self.rules.is_cache, 0
        with os.scandir(source) as entries:
            for entry in self.names.counted(entries):
                name = entry.name
                record = known.get(name)
                if record:
                    try:
                        found = os.stat(name, dir_fd=source, follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    if record == (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns):
                        fresh[name] = record
                        linked += found.st_nlink > 1
                        continue
                if not is_volatile(name) and not (is_cache and is_cache(place + name)):
                    changed.append(entry)
        self.tally.files += len(fresh)
        self.tally.unwatched += linked
        return changed

    def folder(self, source: DirFd, target: DirFd, name: str, exists: bool, place: str, depth: int) -> None:
        """Update the directory ``name``; ``exists``: the target has an entry of that name."""
        self.tally.unwatched += 1
        below = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=source))
        try:
            copy = _open_or_make(target, name, exists)
            try:
                self.directory(below, copy, place, depth)
            finally:
                os.close(copy)
        finally:
            os.close(below)

    def anew(self, source: DirFd, target: DirFd, name: str) -> bool:
        """Copy the top-level entry ``name`` again, or remove its copy; return whether it is settled."""
        if self.rules.is_volatile(name) or (self.rules.is_cache and self.rules.is_cache(name)):
            return True
        unsettled = self.tally.unsettled
        remove_tree(target, name)
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                self.file(source, target, name, False)
            elif stat.S_ISDIR(found.st_mode):
                self.folder(source, target, name, False, f"{name}/", 1)
        return self.tally.unsettled == unsettled

    def file(self, source: DirFd, target: DirFd, name: str, exists: bool, seen: Seen | None = None) -> Record:
        """Copy the file ``name`` unless another engine has copied it correctly. ``exists``: the target has an entry of that name.
        ``seen``: what was seen in this directory.
        """
        require_time(self.rules.until)
        record = copied_already(source, target, name, self.rules) if exists and not self.index else None
        if record is None:
            if exists:
                remove_tree(target, name)
            record = copy_until_settled(source, target, name, self.rules, seen)
            self.tally.copied += 1
            self.tally.unsettled += record is UNSETTLED
        self.tally.files += 1
        progress.advance(files=1)
        _inode, size, written, _changed = record
        self.tally.bytes += size
        self.tally.newest_ns = max(self.tally.newest_ns, written)
        return record


def _open_or_make(target: DirFd, name: str, exists: bool) -> DirFd:
    if exists:
        try:
            return DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=target))
        except NotADirectoryError:  # it was a file in the previous pass
            os.unlink(name, dir_fd=target)
    os.mkdir(name, 0o700, dir_fd=target)
    return DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=target))
