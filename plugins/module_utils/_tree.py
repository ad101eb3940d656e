# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Copies, compares and removes directory trees by descriptor, never by path name.

The source may belong to somebody who changes it while root reads it. So: no component is ever followed through a link, only regular
files and directories are taken, a file is taken only if it belongs to the account (or everybody may read it anyway), nothing with
set-id bits is made, and a file that changed while it was read does not count as copied.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import stat
import time
import typing as t

from ._errors import SessionsError

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_SOURCE = (
    os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
)  # O_NONBLOCK: opening a FIFO must not hang root
_OPEN_TARGET = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 1 << 18
_DEEPEST = 64  # descriptors are held per level; real sessions are at most 9 levels deep
_READS_AT_MOST = 3
_KEPT_ATTRIBUTES = ("user.", "system.posix_acl_")

# Filesystems before Linux 6.13 stamp with the timer tick (4 ms at most), some network ones with whole seconds: a file written again
# within that grain looks untouched, the "racily clean" case of git.
_GRAIN_FINE = 20_000_000
_GRAIN_COARSE = 2_000_000_000

# Per relative name: inode, size, mtime_ns, ctime_ns of the source file when its copy was made.
Index = dict[str, list[int]]


class UnfitTree(SessionsError):
    """The tree holds something that must not be copied as it is; the text names what, never where."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """How to copy: who owns the copy, whose files may be taken, which names are left out, whether copies are read back."""

    uid: int
    gid: int
    owners: frozenset[int]
    is_volatile: t.Callable[[str], bool]
    checksum: bool


@dataclasses.dataclass
class Tally:
    """What a pass over a tree found and did. ``unsettled``: files that kept changing. ``left_out``: links, sockets and the like."""

    files: int = 0
    bytes: int = 0
    copied: int = 0
    removed: int = 0
    unsettled: int = 0
    left_out: int = 0
    newest_ns: int = 0

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
    tally, fresh = Tally(), Index()
    _bring_directory(source, target, rules, index, fresh, tally, "", 0, os.fstat(source).st_dev)
    return fresh, tally


def bring_entry(source: int, target: int, name: str, rules: Rules) -> Tally:
    """Make one entry (a file or a directory) of the open directory ``target`` equal to that of ``source``; links are left out."""
    tally = Tally()
    found = os.stat(name, dir_fd=source, follow_symlinks=False)
    there = set(os.listdir(target))
    if stat.S_ISDIR(found.st_mode):
        _bring_folder(source, target, rules, {}, {}, tally, "", 0, found.st_dev, name, there)
    elif stat.S_ISREG(found.st_mode):
        _bring_file(source, target, rules, {}, {}, tally, name, name, found, there)
    else:
        tally.left_out += 1
    return tally


def measure(directory: int, is_volatile: t.Callable[[str], bool]) -> Tally:
    """Count files, bytes and the newest change time below an open directory, reading names and times only."""
    tally = Tally()
    for _name, status in _files(directory, is_volatile, "", 0):
        tally.files += 1
        tally.bytes += status.st_size
        tally.newest_ns = max(tally.newest_ns, status.st_mtime_ns)
    return tally


def same_content(one: int, other: int, is_volatile: t.Callable[[str], bool]) -> bool:
    """Whether two open directories hold the same names with the same bytes."""
    left = {name: status.st_size for name, status in _files(one, is_volatile, "", 0)}
    right = {name: status.st_size for name, status in _files(other, is_volatile, "", 0)}
    return left == right and all(_digest_below(one, name) == _digest_below(other, name) for name in left)


def hand_over(directory: int, rules: Rules) -> Tally:
    """Give a whole tree to ``rules.uid`` and ``rules.gid`` in place. Raises UnfitTree for a file that also has another name elsewhere."""
    tally = Tally()
    _hand_over(directory, rules, tally, 0, os.fstat(directory).st_dev)
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
    below = os.open(name, _OPEN_DIRECTORY, dir_fd=parent)
    try:
        for entry in os.listdir(below):
            remove_tree(below, entry)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=parent)


def _bring_directory(
    source: int,
    target: int,
    rules: Rules,
    index: Index,
    fresh: Index,
    tally: Tally,
    prefix: str,
    depth: int,
    device: int,
) -> None:
    status = os.fstat(source)
    _require_depth_and_device(status, depth, device)
    there = set(os.listdir(target))
    with os.scandir(source) as entries:
        for entry in entries:
            if rules.is_volatile(entry.name):
                continue
            try:
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    _bring_folder(source, target, rules, index, fresh, tally, prefix, depth, device, entry.name, there)
                elif stat.S_ISREG(found.st_mode):
                    _bring_file(
                        source, target, rules, index, fresh, tally, prefix + entry.name, entry.name, found, there
                    )
                else:
                    tally.left_out += 1
                    continue
            except FileNotFoundError:
                continue  # a live backend removed it since it was listed; the name is removed from the target below
            there.discard(entry.name)
    for name in there:
        remove_tree(target, name)
        tally.removed += 1
    _dress(target, status, rules)


def _bring_folder(
    source: int,
    target: int,
    rules: Rules,
    index: Index,
    fresh: Index,
    tally: Tally,
    prefix: str,
    depth: int,
    device: int,
    name: str,
    there: set[str],
) -> None:
    below = os.open(name, _OPEN_DIRECTORY, dir_fd=source)
    try:
        if name not in there:
            os.mkdir(name, 0o700, dir_fd=target)
        copy = _open_folder(target, name)
        try:
            _bring_directory(below, copy, rules, index, fresh, tally, f"{prefix}{name}/", depth + 1, device)
        finally:
            os.close(copy)
    finally:
        os.close(below)


def _open_folder(target: int, name: str) -> int:
    try:
        return os.open(name, _OPEN_DIRECTORY, dir_fd=target)
    except NotADirectoryError:  # it was a file when the pass before copied it
        os.unlink(name, dir_fd=target)
        os.mkdir(name, 0o700, dir_fd=target)
        return os.open(name, _OPEN_DIRECTORY, dir_fd=target)


def _bring_file(
    source: int,
    target: int,
    rules: Rules,
    index: Index,
    fresh: Index,
    tally: Tally,
    relative: str,
    name: str,
    found: os.stat_result,
    there: set[str],
) -> None:
    tally.files += 1
    tally.bytes += found.st_size
    tally.newest_ns = max(tally.newest_ns, found.st_mtime_ns)
    if name in there and index.get(relative) == _record(found):
        fresh[relative] = index[relative]
        return
    if name in there and not index and _is_copy_of(source, target, name, found, rules):
        fresh[relative] = _record(found)
        return
    if name in there:
        remove_tree(target, name)
    record = _copy_until_settled(source, target, name, rules)
    tally.copied += 1
    if record is None:
        tally.unsettled += 1
    else:
        fresh[relative] = record


def _copy_until_settled(source: int, target: int, name: str, rules: Rules) -> list[int] | None:
    """Copy one file; return its record, or None when it kept changing (the copy is then whatever was read last)."""
    for attempt in range(_READS_AT_MOST):
        if attempt:
            os.unlink(name, dir_fd=target)
        record = _copy_file(source, target, name, rules)
        if record is not None:
            return record
    return None


def _copy_file(source: int, target: int, name: str, rules: Rules) -> list[int] | None:
    reading = os.open(name, _OPEN_SOURCE, dir_fd=source)
    try:
        before = os.fstat(reading)
        if not stat.S_ISREG(before.st_mode):
            raise UnfitTree("a file became something else while it was copied")
        require_own(before, rules)
        writing = os.open(name, _OPEN_TARGET, 0o600, dir_fd=target)
        try:
            digest = _pour(reading, writing, before)
            _keep_attributes(reading, writing)
            _dress(writing, before, rules)
        finally:
            os.close(writing)
        if rules.checksum and _digest(target, name) != digest:
            raise OSError(errno.EIO, "what was read back is not what was written")
        after = os.fstat(reading)
    finally:
        os.close(reading)
    if _record(before) != _record(after) or _is_racy(after):
        return None
    return _record(after)


def require_own(status: os.stat_result, rules: Rules) -> None:
    """Raise UnfitTree unless the file belongs to the account, or everybody may read it: copying it must disclose nothing.

    A user can move or hard-link a file of root into his own tree (rename(2) asks only for rights on the directories).
    """
    if status.st_uid not in rules.owners and not status.st_mode & stat.S_IROTH:
        raise UnfitTree("it holds a private file of another user; give the file to the backend's user or remove it")


def _pour(reading: int, writing: int, status: os.stat_result) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    if status.st_blocks * 512 < status.st_size:
        _pour_sparse(reading, writing, status.st_size, digest.update)
        return digest.digest()
    while True:
        block = os.read(reading, _BLOCK)
        if not block:
            return digest.digest()
        digest.update(block)
        _write_all(writing, block)


def _pour_sparse(reading: int, writing: int, size: int, update: t.Callable[[bytes], None]) -> None:
    """Copy the data of a file with holes, leaving the holes; ``update`` sees all bytes, the zeros of the holes as well."""
    os.ftruncate(writing, size)
    position = 0
    while position < size:
        try:
            data = os.lseek(reading, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            data = size  # ENXIO: nothing but a hole up to the end, lseek(2)
        _update_zeros(data - position, update)
        if data >= size:
            return
        position = os.lseek(reading, data, os.SEEK_HOLE)
        os.lseek(reading, data, os.SEEK_SET)
        os.lseek(writing, data, os.SEEK_SET)
        while data < position:
            block = os.read(reading, min(_BLOCK, position - data))
            if not block:
                return
            update(block)
            _write_all(writing, block)
            data += len(block)


def _update_zeros(length: int, update: t.Callable[[bytes], None]) -> None:
    while length > 0:
        update(bytes(min(_BLOCK, length)))
        length -= _BLOCK


def _write_all(writing: int, block: bytes) -> None:
    while block:
        block = block[os.write(writing, block) :]


def _keep_attributes(reading: int, writing: int) -> None:
    """Carry ACLs and the user's attributes over; security.* of a tree that we do not trust stays behind."""
    try:
        names = os.listxattr(reading)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            return
        raise
    for name in names:
        if name.startswith(_KEPT_ATTRIBUTES):
            os.setxattr(writing, name, os.getxattr(reading, name))


def _dress(descriptor: int, like: os.stat_result, rules: Rules) -> None:
    """Set owner, mode (never set-id or sticky bits) and times. Owner first: chown(2) clears mode bits."""
    if os.geteuid() == 0:
        os.fchown(descriptor, rules.uid, rules.gid)
    os.fchmod(descriptor, stat.S_IMODE(like.st_mode) & 0o777)
    os.utime(descriptor, ns=(like.st_atime_ns, like.st_mtime_ns))


def _is_copy_of(source: int, target: int, name: str, found: os.stat_result, rules: Rules) -> bool:
    """Whether the target's file, made by another engine, is a faithful copy; it is then given its owner and mode."""
    copy = os.open(name, _OPEN_SOURCE, dir_fd=target)
    try:
        status = os.fstat(copy)
        if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != (
            found.st_size,
            found.st_mtime_ns,
        ):
            return False
        require_own(found, rules)
        if _is_racy(found) or (rules.checksum and _digest(source, name) != _digest(target, name)):
            return False
        reading = os.open(name, _OPEN_SOURCE, dir_fd=source)
        try:
            _keep_attributes(reading, copy)
        finally:
            os.close(reading)
        _dress(copy, found, rules)
        return True
    finally:
        os.close(copy)


def _digest_below(directory: int, relative: str) -> bytes | None:
    here = os.open(".", _OPEN_DIRECTORY, dir_fd=directory)
    try:
        *folders, name = relative.split("/")
        for folder in folders:
            below = os.open(folder, _OPEN_DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        return _digest(here, name)
    except FileNotFoundError:
        return None
    finally:
        os.close(here)


def _digest(directory: int, name: str) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    descriptor = os.open(name, _OPEN_SOURCE, dir_fd=directory)
    try:
        while True:
            block = os.read(descriptor, _BLOCK)
            if not block:
                return digest.digest()
            digest.update(block)
    finally:
        os.close(descriptor)


def _files(
    directory: int, is_volatile: t.Callable[[str], bool], prefix: str, depth: int
) -> t.Iterator[tuple[str, os.stat_result]]:
    """Yield relative name and status of each regular file below an open directory."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if is_volatile(entry.name):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield prefix + entry.name, status
            elif stat.S_ISDIR(status.st_mode) and depth < _DEEPEST:
                yield from _files_below(directory, entry.name, is_volatile, prefix, depth)


def _files_below(
    directory: int, name: str, is_volatile: t.Callable[[str], bool], prefix: str, depth: int
) -> t.Iterator[tuple[str, os.stat_result]]:
    try:
        below = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
    except OSError:
        return  # gone or swapped since it was listed
    try:
        yield from _files(below, is_volatile, f"{prefix}{name}/", depth + 1)
    finally:
        os.close(below)


def _hand_over(directory: int, rules: Rules, tally: Tally, depth: int, device: int) -> None:
    status = os.fstat(directory)
    _require_depth_and_device(status, depth, device)
    for name in os.listdir(directory):
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            below = os.open(name, _OPEN_DIRECTORY, dir_fd=directory)
            try:
                _hand_over(below, rules, tally, depth + 1, device)
            finally:
                os.close(below)
        elif stat.S_ISREG(found.st_mode) and not rules.is_volatile(name):
            _hand_over_file(directory, name, rules, tally)
        else:
            os.unlink(name, dir_fd=directory)  # locks, sockets, links: nothing of an account is in them
            tally.left_out += 1
    _dress(directory, status, rules)


def _hand_over_file(directory: int, name: str, rules: Rules, tally: Tally) -> None:
    descriptor = os.open(name, _OPEN_SOURCE, dir_fd=directory)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnfitTree("a file became something else while it was handed over")
        tally.files += 1
        tally.bytes += status.st_size
        require_own(status, rules)
        if (status.st_uid, status.st_gid) != (rules.uid, rules.gid) and status.st_nlink > 1:
            raise UnfitTree(
                "it holds a file that has a second name elsewhere, which must not change hands; use the engine 'native'"
            )
        _dress(descriptor, status, rules)
    finally:
        os.close(descriptor)


def _require_depth_and_device(status: os.stat_result, depth: int, device: int) -> None:
    if depth > _DEEPEST:
        raise UnfitTree(
            f"its directories are nested more than {_DEEPEST} levels deep, which no library makes; see what it is"
        )
    if status.st_dev != device:
        raise UnfitTree("another filesystem is mounted inside it; unmount it first")


def _record(status: os.stat_result) -> list[int]:
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _is_racy(status: os.stat_result) -> bool:
    grain = _GRAIN_COARSE if status.st_ctime_ns % 1_000_000_000 == 0 else _GRAIN_FINE
    return abs(time.time_ns() - status.st_ctime_ns) < grain
