# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Copies, compares and removes directory trees by descriptor, never by path name.

The source may belong to somebody who changes it while root reads it: no component is ever followed through a link, and only regular
files and directories are taken (see _copy.py for the files).
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import stat
import typing as t

from ._copy import (
    UNSETTLED,
    Record,
    Rules,
    Seen,
    UnfitTree,
    copied_already,
    copy_until_settled,
    digest_of,
    dress,
    record_of,
    require_open,
    require_own,
    require_time,
)
from ._kernel import creating_as
from ._limits import DEPTH, NAMES
from ._paths import READ_FLAGS

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_SPECIAL_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
_FOLDER: tuple[int, ...] = ()

Test = t.Callable[[str], t.Any]
Fit = t.Callable[[os.stat_result, Rules], None]
Item = t.TypeVar("Item")

# What a pass copied: per directory (its relative path with a slash behind it, empty for the top) its names, and per name the record
# of the source file, or nothing for a directory.
Index = dict[str, dict[str, tuple[int, ...]]]


@dataclasses.dataclass
class Tally:
    """What a pass over a tree found and did.

    ``bytes`` and ``newest_ns`` leave out what a pass knew already. ``unsettled``: files that kept changing. ``left_out``: links, sockets
    and the like. ``unwatched``: what a watch on the directory tells nothing about: directories in it, files with another name elsewhere.
    ``damaged``: accounts with a database that SQLite finds damaged each time.
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
        """Take in the figures of another pass."""
        for field in dataclasses.fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            setattr(self, field.name, max(mine, theirs) if field.name == "newest_ns" else mine + theirs)


def bring_up_to_date(source: int, target: int, rules: Rules, index: Index) -> tuple[Index, Tally]:
    """Make the open directory ``target`` equal to ``source`` and return the new index.

    ``index`` is that of the pass before (empty for a first one): a file whose record still fits is not read again. What the source no
    longer has is removed from the target. Raises UnfitTree, OSError (full disk, I/O error).
    """
    copying = _Pass(rules, index, os.fstat(source).st_dev)
    with creating_as(rules.uid, rules.gid):
        copying.directory(source, target, "", 0)
    return copying.fresh, copying.tally


def bring_names(source: int, target: int, names: t.Iterable[str], rules: Rules) -> tuple[set[str], Tally]:
    """Do as bring_up_to_date with some of the entries of ``source``, whatever they are by now, and with the directory itself.

    The index of the pass before does not fit the target any more. Return also the names of what kept changing.
    """
    status = os.fstat(source)
    require_open(status, rules)
    copying = _Pass(rules, {}, status.st_dev)
    with creating_as(rules.uid, rules.gid):
        left = {name for name in names if not copying.anew(source, target, name)}
        dress(target, status, rules)
    return left, copying.tally


def has_links(directory: int, names: t.Iterable[str]) -> bool:
    """Whether one of the entries ``names`` of an open directory has another name, too: what is written by one is seen by the other."""
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            if os.stat(name, dir_fd=directory, follow_symlinks=False).st_nlink > 1:
                return True
    return False


def bring_entry(source: int, target: int, name: str, rules: Rules, index: Index) -> tuple[Index, Tally]:
    """Do as bring_up_to_date with one entry, a file or a directory; links are left out. ``target`` holds nothing else."""
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


def measure(directory: int, is_volatile: Test, is_cache: Test | None = None) -> Tally:
    """Count files, bytes and the newest change time below an open directory, reading names and times only."""
    tally = Tally()
    for _name, status in files_below(directory, is_volatile, is_cache):
        tally.files += 1
        tally.bytes += status.st_size
        tally.newest_ns = max(tally.newest_ns, status.st_mtime_ns)
    return tally


def require_fit(source: int, rules: Rules, fit: Fit = require_own) -> None:
    """Raise UnfitTree for what bring_up_to_date would raise it for, from names, owners and modes alone; nothing is copied.

    ``fit`` is what a file has to pass: with ``require_may_change_hands`` this raises what hand_over would raise.
    """
    _require_fit(source, "", 0, os.fstat(source).st_dev, rules, Names(), fit)


def require_entry_fit(directory: int, name: str, rules: Rules, fit: Fit = require_own) -> None:
    """Do as require_fit with one entry, a file or a directory, of an open directory."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        below = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
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
            "it holds a file that has a second name elsewhere, which must not change hands; use the engine 'native'"
        )


def _require_fit(directory: int, place: str, depth: int, device: int, rules: Rules, names: Names, fit: Fit) -> None:
    status = os.fstat(directory)
    require_depth_and_device(status, depth, device)
    require_open(status, rules)
    for name in _names_in(directory, names):
        if rules.is_volatile(name) or (rules.is_cache and rules.is_cache(place + name)):
            continue
        with contextlib.suppress(
            FileNotFoundError, NotADirectoryError
        ):  # a live backend removed it since it was listed
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                fit(found, rules)
            elif stat.S_ISDIR(found.st_mode):
                below = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
                try:
                    _require_fit(below, f"{place}{name}/", depth + 1, device, rules, names, fit)
                finally:
                    os.close(below)


def same_content(one: int, other: int, is_volatile: Test, is_cache: Test | None = None) -> bool:
    """Whether two open directories hold the same names with the same bytes."""
    left = {name: status.st_size for name, status in files_below(one, is_volatile, is_cache)}
    right = {name: status.st_size for name, status in files_below(other, is_volatile, is_cache)}
    return left == right and all(_digest_below(one, name) == _digest_below(other, name) for name in left)


def files_below(directory: int, is_volatile: Test, is_cache: Test | None) -> t.Iterator[tuple[str, os.stat_result]]:
    """Yield relative path and status of each regular file below an open directory, but for names and paths that are left out."""
    return _files(directory, is_volatile, is_cache, "", 0, Names())


def hand_over_entry(directory: int, name: str, rules: Rules) -> Tally:
    """Do as hand_over with one entry, a file or a directory, of an open directory."""
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISDIR(found.st_mode):
        below = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
        try:
            return hand_over(below, rules)
        finally:
            os.close(below)
    require_own(found, rules)
    _hand_over_file(directory, name, rules)
    return Tally(files=1, bytes=found.st_size)


def hand_over(directory: int, rules: Rules) -> Tally:
    """Give a whole tree to ``rules.uid`` and ``rules.gid`` in place. Raises UnfitTree for a file that also has another name elsewhere."""
    tally = Tally()
    _hand_over(directory, rules, tally, 0, os.fstat(directory).st_dev, Names())
    return tally


def remove_tree(parent: int, name: str) -> None:
    """Remove ``name`` and all below it from the open directory ``parent``; nothing happens when it is not there."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        pass  # unlink(2) of a directory: EISDIR on Linux, EPERM by POSIX
    top = os.open(name, _OPEN_DIRECTORY, dir_fd=parent)
    try:
        while left := os.listdir(top):  # what lay too deep is here by now
            for entry in left:
                _remove(top, entry, top, DEPTH)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _remove(parent: int, name: str, top: int, levels: int) -> None:
    """Remove an entry and all below it; what is deeper than ``levels`` is moved to ``top``, for each level takes a descriptor."""
    try:
        os.unlink(name, dir_fd=parent)
        return
    except (IsADirectoryError, PermissionError):
        pass
    if not levels:
        os.rename(name, secrets.token_hex(16), src_dir_fd=parent, dst_dir_fd=top)
        return
    below = os.open(name, _OPEN_DIRECTORY, dir_fd=parent)
    try:
        for entry in os.listdir(below):
            _remove(below, entry, top, levels - 1)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=parent)


class Names:
    """Counts the names of a tree: names can be made faster than they are read, so that reading them would never end."""

    def __init__(self) -> None:
        self._left = NAMES

    def counted(self, entries: t.Iterable[Item]) -> t.Iterator[Item]:
        """Yield the entries of one more directory. Raises UnfitTree once there are too many in all."""
        for entry in entries:
            self._left -= 1
            if self._left < 0:
                raise UnfitTree(
                    f"it holds more than {NAMES} files and directories, which no library makes; see what does and remove them"
                )
            yield entry


class _Pass:
    """One pass over a tree: the index of the pass before, the new one, and what was found and done."""

    def __init__(self, rules: Rules, index: Index, device: int) -> None:
        self.rules = rules
        self.index = index
        self.device = device
        self.fresh: Index = {}
        self.tally = Tally()
        self.names = Names()

    def directory(self, source: int, target: int, place: str, depth: int) -> None:
        """Bring one directory up to date; ``place`` is its key in the index."""
        status = os.fstat(source)
        require_depth_and_device(status, depth, self.device)
        require_open(status, self.rules)
        known = self.index.get(place)
        # Without an index the target may hold what a killed pass or another engine left. With one it holds what the index says.
        there = set(os.listdir(target)) if known is None else set(known)
        for name in there.difference(self._entries(source, target, place, depth, known or {}, there)):
            remove_tree(target, name)
            self.tally.removed += 1
        dress(target, status, self.rules)

    def _entries(
        self, source: int, target: int, place: str, depth: int, known: t.Mapping[str, tuple[int, ...]], there: set[str]
    ) -> t.Collection[str]:
        """Bring each entry of a directory up to date and return the names that are there now."""
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
                fresh.pop(name, None)  # a live backend removed it since it was listed
        self.tally.unwatched += seen.linked
        return fresh

    def _changed(
        self, source: int, place: str, known: t.Mapping[str, tuple[int, ...]], fresh: dict[str, tuple[int, ...]]
    ) -> list[os.DirEntry[str]]:
        """Enter the files that are as they were into ``fresh`` and return the other entries.

        Nothing here may be slow: in the last pass the backend is down, and nearly every file is as it was. So there is one stat(2)
        for each, its fields are compared right here, and only names that are not known are matched against patterns.
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

    def folder(self, source: int, target: int, name: str, exists: bool, place: str, depth: int) -> None:
        """Bring the directory ``name`` up to date; ``exists``: something of that name is in the target."""
        self.tally.unwatched += 1
        below = os.open(name, _OPEN_DIRECTORY, dir_fd=source)
        try:
            copy = _open_or_make(target, name, exists)
            try:
                self.directory(below, copy, place, depth)
            finally:
                os.close(copy)
        finally:
            os.close(below)

    def anew(self, source: int, target: int, name: str) -> bool:
        """Copy the entry ``name`` of the top again, or remove the copy; return whether that is done for good."""
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

    def file(self, source: int, target: int, name: str, exists: bool, seen: Seen | None = None) -> Record:
        """Copy the file ``name`` unless another engine did it well; ``exists``: something of that name is in the target.

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
        _inode, size, written, _changed = record
        self.tally.bytes += size
        self.tally.newest_ns = max(self.tally.newest_ns, written)
        return record


def _open_or_make(target: int, name: str, exists: bool) -> int:
    if exists:
        try:
            return os.open(name, _OPEN_DIRECTORY, dir_fd=target)
        except NotADirectoryError:  # it was a file when the pass before copied it
            os.unlink(name, dir_fd=target)
    os.mkdir(name, 0o700, dir_fd=target)
    return os.open(name, _OPEN_DIRECTORY, dir_fd=target)


def _digest_below(directory: int, relative: str) -> bytes | None:
    here = os.open(".", _OPEN_DIRECTORY, dir_fd=directory)
    try:
        *folders, name = relative.split("/")
        for folder in folders:
            below = os.open(folder, _OPEN_DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        return digest_of(here, name)
    except FileNotFoundError:
        return None
    finally:
        os.close(here)


def _files(
    directory: int, is_volatile: Test, is_cache: Test | None, prefix: str, depth: int, names: Names
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
    directory: int, name: str, is_volatile: Test, is_cache: Test | None, prefix: str, depth: int, names: Names
) -> t.Iterator[tuple[str, os.stat_result]]:
    try:
        below = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
    except OSError:
        return  # gone or swapped since it was listed
    try:
        yield from _files(below, is_volatile, is_cache, f"{prefix}{name}/", depth + 1, names)
    finally:
        os.close(below)


def _hand_over(directory: int, rules: Rules, tally: Tally, depth: int, device: int, names: Names) -> None:
    status = os.fstat(directory)
    require_depth_and_device(status, depth, device)
    require_open(status, rules)
    for name in _names_in(directory, names):
        require_time(rules.until)
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            below = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
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
            os.unlink(name, dir_fd=directory)  # locks, sockets, links: nothing of an account is in them
            tally.left_out += 1
    dress(directory, status, rules)


def _names_in(directory: int, names: Names) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in names.counted(entries)]


def _hand_over_file(directory: int, name: str, rules: Rules) -> None:
    descriptor = os.open(name, READ_FLAGS, dir_fd=directory)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnfitTree("a file became something else while it was handed over")
        require_may_change_hands(status, rules)
        if os.geteuid() == 0:
            os.fchown(descriptor, rules.uid, rules.gid)
        if status.st_mode & _SPECIAL_BITS:  # neither call changes times, so nothing else of dress() is needed
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & 0o777)
    finally:
        os.close(descriptor)


def require_depth_and_device(status: os.stat_result, depth: int, device: int) -> None:
    if depth > DEPTH:
        raise UnfitTree(
            f"its directories are nested more than {DEPTH} levels deep, which no library makes; see what it is"
        )
    if status.st_dev != device:
        raise UnfitTree("another filesystem is mounted inside it; unmount it first")
