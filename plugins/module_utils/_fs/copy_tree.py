# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Copies, compares and removes directory trees by descriptor, never by path name.

The owner of the source may change it while root reads it: links are never followed, and only regular files and directories are copied
(see copy_file.py for the files).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import stat
import typing as t

from .._core import progress
from .._core.limits import DEPTH, NAMES
from .copy_file import (
    UNSETTLED,
    Record,
    Rules,
    Seen,
    UnfitTree,
    apply_metadata,
    copied_already,
    copy_until_settled,
    digest_of,
    record_of,
    require_open,
    require_own,
    require_time,
)
from .fdopen import READ_FLAGS, DirFd
from .syscalls import creating_as

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
_FOLDER: tuple[int, ...] = ()

Test = t.Callable[[str], t.Any]
Fit = t.Callable[[os.stat_result, Rules], None]
Item = t.TypeVar("Item")

# What a pass copied: by directory (its relative path with a trailing slash, empty for the top) and name, the record of the source file,
# or an empty tuple for a directory.
Index = dict[str, dict[str, tuple[int, ...]]]


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


def has_links(directory: DirFd, names: t.Iterable[str]) -> bool:
    """Whether one of the entries ``names`` of an open directory has other hard links, through which it could be written unseen."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            if os.stat(name, dir_fd=directory, follow_symlinks=False).st_nlink > 1:
                return True
    return False


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


def measure(directory: DirFd, is_volatile: Test, is_cache: Test | None = None) -> Tally:
    """Return files, bytes and the newest mtime below an open directory, from names and status only."""
    tally = Tally()
    for _name, status in files_below(directory, is_volatile, is_cache):
        tally.files += 1
        tally.bytes += status.st_size
        tally.newest_ns = max(tally.newest_ns, status.st_mtime_ns)
    return tally


def require_fit(source: DirFd, rules: Rules, fit: Fit = require_own) -> None:
    """Raise UnfitTree if sync_tree would, from names, owners and modes only; nothing is copied.

    ``fit``: the check for each file; with ``require_may_change_hands`` this raises what chown_tree would raise.
    """
    _require_fit(source, "", 0, os.fstat(source).st_dev, rules, Names(), fit)


def require_entry_fit(directory: DirFd, name: str, rules: Rules, fit: Fit = require_own) -> None:
    """Like require_fit, for one entry, a file or a directory, of an open directory."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        below = DirFd(os.open(name, _OPEN_DIRECTORY, dir_fd=directory))
        try:
            require_fit(below, rules, fit)
        finally:
            os.close(below)
    elif stat.S_ISREG(status.st_mode):
        fit(status, rules)


def require_may_change_hands(status: os.stat_result, rules: Rules) -> None:
    """Raise UnfitTree unless the file may be given to ``rules.uid`` and ``rules.gid`` where it is."""
    require_own(status, rules)
    if (status.st_uid, status.st_gid) != (rules.uid, rules.gid) and status.st_nlink > 1:
        raise UnfitTree(
            "it contains a file with another hard link, so its owner must not be changed; use the engine 'native'"
        )


def _require_fit(directory: DirFd, place: str, depth: int, device: int, rules: Rules, names: Names, fit: Fit) -> None:
    status = os.fstat(directory)
    require_depth_and_device(status, depth, device)
    require_open(status, rules)
    for name in _names_in(directory, names):
        if rules.is_volatile(name) or (rules.is_cache and rules.is_cache(place + name)):
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # a running backend removed it meanwhile
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                fit(found, rules)
            elif stat.S_ISDIR(found.st_mode):
                below = DirFd(os.open(name, _OPEN_DIRECTORY, dir_fd=directory))
                try:
                    _require_fit(below, f"{place}{name}/", depth + 1, device, rules, names, fit)
                finally:
                    os.close(below)


def same_content(one: DirFd, other: DirFd, is_volatile: Test, is_cache: Test | None = None) -> bool:
    """Whether two open directories contain the same files with the same content."""
    left = {name: status.st_size for name, status in files_below(one, is_volatile, is_cache)}
    right = {name: status.st_size for name, status in files_below(other, is_volatile, is_cache)}
    return left == right and all(_digest_below(one, name) == _digest_below(other, name) for name in left)


def files_below(directory: DirFd, is_volatile: Test, is_cache: Test | None) -> t.Iterator[tuple[str, os.stat_result]]:
    """Yield relative path and status of each regular file below an open directory, except volatile names and caches."""
    return _files(directory, is_volatile, is_cache, "", 0, Names())


def hand_over_entry(directory: DirFd, name: str, rules: Rules) -> Tally:
    """Like chown_tree, for one entry, a file or a directory, of an open directory."""
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode):
        below = DirFd(os.open(name, _OPEN_DIRECTORY, dir_fd=directory))
        try:
            return chown_tree(below, rules)
        finally:
            os.close(below)
    require_own(found, rules)
    _hand_over_file(directory, name, rules)
    return Tally(files=1, bytes=found.st_size)


def chown_tree(directory: DirFd, rules: Rules) -> Tally:
    """Give a whole tree to ``rules.uid`` and ``rules.gid`` in place. Raises UnfitTree for a file with other hard links."""
    tally = Tally()
    _hand_over(directory, rules, tally, 0, os.fstat(directory).st_dev, Names())
    return tally


def remove_tree(parent: DirFd, name: str) -> None:
    """Remove ``name`` and everything below it from the open directory ``parent``, if it exists."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass  # unlink(2) of a directory: EISDIR on Linux, EPERM by POSIX
    top = DirFd(os.open(name, _OPEN_DIRECTORY, dir_fd=parent))
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
    below = DirFd(os.open(name, _OPEN_DIRECTORY, dir_fd=parent))
    try:
        for entry in os.listdir(below):
            _remove(below, entry, top, levels - 1)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=parent)


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
        below = DirFd(os.open(name, _OPEN_DIRECTORY, dir_fd=source))
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
            return DirFd(os.open(name, _OPEN_DIRECTORY, dir_fd=target))
        except NotADirectoryError:  # it was a file in the previous pass
            os.unlink(name, dir_fd=target)
    os.mkdir(name, 0o700, dir_fd=target)
    return DirFd(os.open(name, _OPEN_DIRECTORY, dir_fd=target))


def _digest_below(directory: DirFd, relative: str) -> bytes | None:
    here = DirFd(os.open(".", _OPEN_DIRECTORY, dir_fd=directory))
    try:
        *folders, name = relative.split("/")
        for folder in folders:
            below = DirFd(os.open(folder, _OPEN_DIRECTORY, dir_fd=here))
            os.close(here)
            here = below
        return digest_of(here, name)
    except FileNotFoundError:
        return None
    finally:
        os.close(here)


def _files(
    directory: DirFd, is_volatile: Test, is_cache: Test | None, prefix: str, depth: int, names: Names
) -> t.Iterator[tuple[str, os.stat_result]]:
    with os.scandir(directory) as entries:
        for entry in names.counted(entries):
            if is_volatile(entry.name) or (is_cache and is_cache(prefix + entry.name)):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield prefix + entry.name, status
            elif stat.S_ISDIR(status.st_mode) and depth < DEPTH:
                yield from _files_in(directory, entry.name, is_volatile, is_cache, prefix, depth, names)


def _files_in(
    directory: DirFd, name: str, is_volatile: Test, is_cache: Test | None, prefix: str, depth: int, names: Names
) -> t.Iterator[tuple[str, os.stat_result]]:
    try:
        below = DirFd(os.open(name, _OPEN_DIRECTORY, dir_fd=directory))
    except OSError:
        return  # it was removed or replaced meanwhile
    try:
        yield from _files(below, is_volatile, is_cache, f"{prefix}{name}/", depth + 1, names)
    finally:
        os.close(below)


def _hand_over(directory: DirFd, rules: Rules, tally: Tally, depth: int, device: int, names: Names) -> None:
    status = os.fstat(directory)
    require_depth_and_device(status, depth, device)
    require_open(status, rules)
    for name in _names_in(directory, names):
        require_time(rules.until)
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            below = DirFd(os.open(name, _OPEN_DIRECTORY, dir_fd=directory))
            try:
                _hand_over(below, rules, tally, depth + 1, device, names)
            finally:
                os.close(below)
        elif stat.S_ISREG(found.st_mode) and not rules.is_volatile(name):
            tally.files += 1
            tally.bytes += found.st_size
            require_own(found, rules)
            if (found.st_uid, found.st_gid) != (rules.uid, rules.gid) or found.st_mode & _SPECIAL_BITS:
                _hand_over_file(directory, name, rules)
        else:
            os.unlink(name, dir_fd=directory)  # locks, sockets and links are no part of an account
            tally.left_out += 1
    apply_metadata(directory, status, rules)


def _names_in(directory: DirFd, names: Names) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in names.counted(entries)]


def _hand_over_file(directory: DirFd, name: str, rules: Rules) -> None:
    descriptor = os.open(name, READ_FLAGS, dir_fd=directory)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnfitTree("a file was replaced while its owner was being changed; find out what replaces it")
        require_may_change_hands(status, rules)
        if os.geteuid() == 0:
            os.fchown(descriptor, rules.uid, rules.gid)
        if (
            status.st_mode & _SPECIAL_BITS
        ):  # neither call changes the mtime, so the rest of apply_metadata is not needed
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & 0o777)
    finally:
        os.close(descriptor)


def require_depth_and_device(status: os.stat_result, depth: int, device: int) -> None:
    if depth > DEPTH:
        raise UnfitTree(
            f"its directories are nested more than {DEPTH} levels deep, deeper than any library creates; check what they contain"
        )
    if status.st_dev != device:
        raise UnfitTree("another filesystem is mounted inside it; unmount it first")
