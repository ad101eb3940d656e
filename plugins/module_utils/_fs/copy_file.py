# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Copy one file by descriptor from a tree that its owner may be changing.

Only a regular file is copied, and only if it belongs to the account or is world-readable. Set-ID bits are dropped. A file that changed
while it was read does not count as copied.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import math
import os
import stat
import time
import typing as t

from .._core.errors import SessionsError
from .fdopen import READ_FLAGS, DirFd, open_regular
from .free_space import SpaceReserve

_OPEN_TARGET = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 1 << 18
_READS_AT_MOST = 3
_NOT_READ_BACK = "the data read back differs from the data written"
_PRIVATE = {False: "private ", True: ""}
_KEPT_ATTRIBUTES = ("user.", "system.posix_acl_")

# Filesystems before Linux 6.13 use timestamps of timer tick resolution (4 ms at most), some network filesystems whole seconds: a file that
# is rewritten within that resolution looks unchanged, the "racily clean" case of git.
_GRAIN_FINE = 20_000_000
_GRAIN_COARSE = 2_000_000_000

# Inode, size, mtime_ns and ctime_ns of a source file at the time of its copy.
Record = tuple[int, int, int, int]
UNSETTLED: Record = (0, 0, 0, 0)  # matches no file


class UnfitTree(SessionsError):
    """The tree contains something that must not be copied; the message names the kind, never the path."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """How to copy: owner of the copies, allowed owners of the sources, names to skip, and whether copies are read back.

    ``is_cache``: matches further paths to skip, relative to the top of the tree; None for none. ``room``: the space that must stay free on
    the target. ``strict``: nothing of other owners is copied, not even world-readable files. ``until``: the monotonic time by which
    copying has to be finished.
    """

    uid: int
    gid: int
    owners: frozenset[int]
    is_volatile: t.Callable[[str], t.Any]
    checksum: bool
    is_cache: t.Callable[[str], t.Any] | None = None
    room: SpaceReserve | None = None
    strict: bool = False
    until: float = math.inf


@dataclasses.dataclass
class Seen:
    """Observations while copying files from one directory to another.

    ``fitting``: modes with which new files got the right owner and mode at creation, so that no further check is needed. ``linked``:
    number of files with more than one hard link.
    """

    fitting: set[int] = dataclasses.field(default_factory=set)
    linked: int = 0


def copy_until_settled(source: DirFd, target: DirFd, name: str, rules: Rules, seen: Seen | None = None) -> Record:
    """Copy one file; return its record, or UNSETTLED if it kept changing (the copy then has the content that was read last)."""
    seen = seen or Seen()
    for attempt in range(_READS_AT_MOST):
        if attempt:
            os.unlink(name, dir_fd=target)
        record = _copy(source, target, name, rules, seen)
        if record is not None:
            return record
    return UNSETTLED


def copied_already(source: DirFd, target: DirFd, name: str, rules: Rules) -> Record | None:
    """Return the record of a source file if the target, made by another engine, is a faithful copy; add what that engine omitted."""
    found = os.stat(name, dir_fd=source, follow_symlinks=False)
    return record_of(found) if _is_copy(source, target, name, found, rules) else None


def _is_copy(source: DirFd, target: DirFd, name: str, found: os.stat_result, rules: Rules) -> bool:
    copy = os.open(name, READ_FLAGS, dir_fd=target)
    try:
        status = os.fstat(copy)
        if not stat.S_ISREG(status.st_mode) or (status.st_size, status.st_mtime_ns) != (
            found.st_size,
            found.st_mtime_ns,
        ):
            return False
        require_own(found, rules)
        if _is_racy(found) or (rules.checksum and digest_of(source, name) != digest_of(target, name)):
            return False
        reading = open_regular(source, name)
        try:
            _keep_attributes(reading, copy)
        finally:
            os.close(reading)
        apply_metadata(copy, found, rules)
        return True
    finally:
        os.close(copy)


def record_of(status: os.stat_result) -> Record:
    """Return the values that reveal a change of the file."""
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def require_own(status: os.stat_result, rules: Rules) -> None:
    """Raise UnfitTree unless the file belongs to the account or is world-readable: a copy must not disclose anything.

    A user can move or hard-link a file of root into a tree of the user (rename(2) only checks permissions of directories).
    """
    if status.st_uid not in rules.owners and (rules.strict or not status.st_mode & stat.S_IROTH):
        raise UnfitTree(
            f"it holds a {_PRIVATE[rules.strict]}file of another user; give it to the backend's user or remove it"
        )


def require_open(status: os.stat_result, rules: Rules) -> None:
    """Raise UnfitTree unless the directory belongs to the account or is accessible to everyone.

    A closed directory protects world-readable files in it: they must not be copied out of it.
    """
    closed = status.st_mode & (stat.S_IROTH | stat.S_IXOTH) != stat.S_IROTH | stat.S_IXOTH
    if status.st_uid not in rules.owners and (rules.strict or closed):
        raise UnfitTree(
            f"it holds a {_PRIVATE[rules.strict]}directory of another user; give it to the backend's user or remove it"
        )


def apply_metadata(descriptor: int, like: os.stat_result, rules: Rules) -> bool:
    """Apply owner, mode (without set-ID and sticky bits) and times where they differ; return whether owner and mode were right already.

    The owner comes first because chown(2) clears mode bits.
    """
    status, mode = os.fstat(descriptor), _plain_mode(like)
    foreign = (status.st_uid, status.st_gid) != (rules.uid, rules.gid) and os.geteuid() == 0
    fits = not foreign and stat.S_IMODE(status.st_mode) == mode
    if foreign:
        os.fchown(descriptor, rules.uid, rules.gid)
    if not fits:
        os.fchmod(descriptor, mode)
    os.utime(descriptor, ns=(like.st_atime_ns, like.st_mtime_ns))
    return fits


def _plain_mode(status: os.stat_result) -> int:
    return stat.S_IMODE(status.st_mode) & 0o777


def digest_of(directory: DirFd, name: str) -> bytes:
    """Return the digest of a regular file in an open directory. Raises OSError for anything else."""
    descriptor = open_regular(directory, name)
    try:
        digest, size = hashlib.blake2b(digest_size=16), os.fstat(descriptor).st_size
        left = size + 1  # one byte more, so that the digest differs if the file grew
        while left > 0:
            block = os.read(descriptor, min(_block_for(size), left))
            if not block:
                break
            digest.update(block)
            left -= len(block)
        return digest.digest()
    finally:
        os.close(descriptor)


def _copy(source: DirFd, target: DirFd, name: str, rules: Rules, seen: Seen) -> Record | None:
    reading = os.open(name, READ_FLAGS, dir_fd=source)
    try:
        before = os.fstat(reading)
        if not stat.S_ISREG(before.st_mode):
            raise UnfitTree("a file was replaced by something else while it was copied")
        require_own(before, rules)
        if rules.room and not rules.room.is_left(target, before.st_size):
            raise UnfitTree("copying it would fill up the disk; free space")
        writing = os.open(name, _OPEN_TARGET, _plain_mode(before), dir_fd=target)
        try:
            poured = pour(reading, writing, before, checksum=rules.checksum, until=rules.until)
            _finish(reading, writing, before, rules, seen.fitting)
        finally:
            os.close(writing)
        after = os.fstat(reading)
    finally:
        os.close(reading)
    seen.linked += after.st_nlink > 1
    record = record_of(after)
    return None if record != record_of(before) or poured != after.st_size or _is_racy(after) else record


def _finish(reading: int, writing: int, like: os.stat_result, rules: Rules, fitting: set[int]) -> None:
    """Apply attributes, owner, mode and times to a new copy."""
    if _keep_attributes(reading, writing):
        apply_metadata(writing, like, rules)  # an ACL changes the mode
    elif (mode := _plain_mode(like)) in fitting:
        os.utime(writing, ns=(like.st_atime_ns, like.st_mtime_ns))
    elif apply_metadata(writing, like, rules):
        fitting.add(mode)


def pour(reading: int, writing: int, status: os.stat_result, *, checksum: bool, until: float) -> int:
    """Copy as many bytes as ``status`` announces and return their number: one more than that if the file grew.

    Without the limit a file that grows faster than it is read would be copied forever, and a sparse file may be larger than any disk.
    """
    # The common case: one block, no digest needed.
    if status.st_size < _BLOCK and status.st_blocks * 512 >= status.st_size:
        block = os.read(reading, _block_for(status.st_size))
        _write_all(writing, block)
        if checksum and os.pread(writing, len(block) + 1, 0) != block:
            raise OSError(errno.EIO, _NOT_READ_BACK)
        return len(block)
    if status.st_blocks * 512 < status.st_size:
        return _pour_sparse(reading, writing, status.st_size, checksum, until)
    digest = hashlib.blake2b(digest_size=16)
    size = _pour_dense(reading, writing, status.st_size, digest.update, until)
    if checksum and _read_back(writing, until) != digest.digest():
        raise OSError(errno.EIO, _NOT_READ_BACK)
    return size


def require_time(until: float) -> None:
    """Raise UnfitTree if the deadline has passed."""
    if time.monotonic() > until:
        raise UnfitTree(
            "copying it takes longer than a backend may be down; see what writes so much to it, reduce its size and run again"
        )


def _block_for(size: int) -> int:
    """Return the size for read(2): one byte more than expected, so that growth is noticed.

    Less than a whole block for a small file: Python allocates a buffer of the requested size, and one that large is mapped and unmapped
    each time.
    """
    return min(_BLOCK, size + 1)


def _pour_dense(reading: int, writing: int, expected: int, update: t.Callable[[bytes], None], until: float) -> int:
    size = 0
    while size <= expected:
        require_time(until)
        block = os.read(reading, min(_BLOCK, expected + 1 - size))
        if not block:
            break
        update(block)
        _write_all(writing, block)
        size += len(block)
    return size


def _pour_sparse(reading: int, writing: int, size: int, checksum: bool, until: float) -> int:
    """Copy the data of a sparse file without reading its holes, which may be larger than any disk."""
    os.ftruncate(writing, size)
    position = 0
    while position < size:
        try:
            data = os.lseek(reading, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # ENXIO: only a hole up to the end, lseek(2)
        position = min(os.lseek(reading, data, os.SEEK_HOLE), size)
        while data < position:
            require_time(until)
            block = os.pread(reading, min(_BLOCK, position - data), data)
            if not block:
                return data
            os.lseek(writing, data, os.SEEK_SET)
            _write_all(writing, block)
            if checksum and os.pread(writing, len(block), data) != block:
                raise OSError(errno.EIO, _NOT_READ_BACK)
            data += len(block)
    return size


def _write_all(writing: int, block: bytes) -> None:
    while block:
        block = block[os.write(writing, block) :]


def _read_back(writing: int, until: float) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    position = 0
    while True:
        require_time(until)
        block = os.pread(writing, _BLOCK, position)
        digest.update(block)
        position += len(block)
        if len(block) < _BLOCK:
            return digest.digest()


def _keep_attributes(reading: int, writing: int) -> bool:
    """Copy ACLs and user attributes and return whether there are any; security.* of an untrusted tree is not copied."""
    try:
        names = os.listxattr(reading)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            return False
        raise
    kept = False
    for name in names:
        if name.startswith(_KEPT_ATTRIBUTES):
            os.setxattr(writing, name, os.getxattr(reading, name))
            kept = True
    return kept


def _is_racy(status: os.stat_result) -> bool:
    grain = _GRAIN_COARSE if status.st_ctime_ns % 1_000_000_000 == 0 else _GRAIN_FINE
    return abs(time.time_ns() - status.st_ctime_ns) < grain
