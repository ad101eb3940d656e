# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Copies one file from a tree that its owner may be changing, by descriptor.

Only a regular file is taken, and only one that belongs to the account or that everybody may read anyway. Set-id bits are dropped. A
file that changed while it was read does not count as copied.
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

from ._errors import SessionsError
from ._paths import READ_FLAGS, open_regular
from ._room import Room

_OPEN_TARGET = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 1 << 18
_READS_AT_MOST = 3
_NOT_READ_BACK = "what was read back is not what was written"
_PRIVATE = {False: "private ", True: ""}
_KEPT_ATTRIBUTES = ("user.", "system.posix_acl_")

# Filesystems before Linux 6.13 stamp with the timer tick (4 ms at most), some network ones with whole seconds: a file written again
# within that grain looks untouched, the "racily clean" case of git.
_GRAIN_FINE = 20_000_000
_GRAIN_COARSE = 2_000_000_000

# Inode, size, mtime_ns and ctime_ns of a source file when its copy was made.
Record = tuple[int, int, int, int]
UNSETTLED: Record = (0, 0, 0, 0)  # fits no file


class UnfitTree(SessionsError):
    """The tree holds something that must not be copied as it is; the text names what, never where."""


@dataclasses.dataclass(frozen=True)
class Rules:
    """How to copy: who owns the copy, whose files may be taken, which names are left out, whether copies are read back.

    ``is_cache``: which paths, relative to the top of the tree, are left out as well; None where none is. ``room``: what must stay free
    where copies are made. ``strict``: nothing of other owners is taken, not even what everybody may read. ``until``: the monotonic time
    at which copying has to be done.
    """

    uid: int
    gid: int
    owners: frozenset[int]
    is_volatile: t.Callable[[str], t.Any]
    checksum: bool
    is_cache: t.Callable[[str], t.Any] | None = None
    room: Room | None = None
    strict: bool = False
    until: float = math.inf


@dataclasses.dataclass
class Seen:
    """What was seen while files were copied from one directory to another.

    ``fitting``: modes with which new files got the right owner and mode at once, so that nobody has to look again. ``linked``: how many
    files have another name as well.
    """

    fitting: set[int] = dataclasses.field(default_factory=set)
    linked: int = 0


def copy_until_settled(source: int, target: int, name: str, rules: Rules, seen: Seen | None = None) -> Record:
    """Copy one file; return its record, or UNSETTLED when it kept changing (the copy is then whatever was read last)."""
    seen = seen or Seen()
    for attempt in range(_READS_AT_MOST):
        if attempt:
            os.unlink(name, dir_fd=target)
        record = _copy(source, target, name, rules, seen)
        if record is not None:
            return record
    return UNSETTLED


def copied_already(source: int, target: int, name: str, rules: Rules) -> Record | None:
    """Return the record of a source file that the target, made by another engine, is a faithful copy of; what that left out is added."""
    found = os.stat(name, dir_fd=source, follow_symlinks=False)
    return record_of(found) if _is_copy(source, target, name, found, rules) else None


def _is_copy(source: int, target: int, name: str, found: os.stat_result, rules: Rules) -> bool:
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
        dress(copy, found, rules)
        return True
    finally:
        os.close(copy)


def record_of(status: os.stat_result) -> Record:
    """Return what tells whether a file was changed."""
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def require_own(status: os.stat_result, rules: Rules) -> None:
    """Raise UnfitTree unless the file belongs to the account, or everybody may read it: copying it must disclose nothing.

    A user can move or hard-link a file of root into his own tree (rename(2) asks only for rights on the directories).
    """
    if status.st_uid not in rules.owners and (rules.strict or not status.st_mode & stat.S_IROTH):
        raise UnfitTree(
            f"it holds a {_PRIVATE[rules.strict]}file of another user; give it to the backend's user or remove it"
        )


def require_open(status: os.stat_result, rules: Rules) -> None:
    """Raise UnfitTree unless the directory belongs to the account, or everybody may look into it.

    A directory that is closed protects files that are not: they must not be taken out of it.
    """
    closed = status.st_mode & (stat.S_IROTH | stat.S_IXOTH) != stat.S_IROTH | stat.S_IXOTH
    if status.st_uid not in rules.owners and (rules.strict or closed):
        raise UnfitTree(
            f"it holds a {_PRIVATE[rules.strict]}directory of another user; give it to the backend's user or remove it"
        )


def dress(descriptor: int, like: os.stat_result, rules: Rules) -> bool:
    """Set owner, mode (never set-id or sticky bits) and times, where they are not so yet; return whether owner and mode were.

    Owner first: chown(2) clears mode bits.
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


def digest_of(directory: int, name: str) -> bytes:
    """Digest a regular file of an open directory. Raises OSError for anything else."""
    descriptor = open_regular(directory, name)
    try:
        digest, size = hashlib.blake2b(digest_size=16), os.fstat(descriptor).st_size
        left = size + 1  # of a file that grows one byte more, so that it differs
        while left > 0:
            block = os.read(descriptor, min(_block_for(size), left))
            if not block:
                break
            digest.update(block)
            left -= len(block)
        return digest.digest()
    finally:
        os.close(descriptor)


def _copy(source: int, target: int, name: str, rules: Rules, seen: Seen) -> Record | None:
    reading = os.open(name, READ_FLAGS, dir_fd=source)
    try:
        before = os.fstat(reading)
        if not stat.S_ISREG(before.st_mode):
            raise UnfitTree("a file became something else while it was copied")
        require_own(before, rules)
        if rules.room and not rules.room.is_left(target, before.st_size):
            raise UnfitTree("copying it would leave next to nothing free on the disk; free space")
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
    """Give a new copy its attributes, owner, mode and times."""
    if _keep_attributes(reading, writing):
        dress(writing, like, rules)  # an ACL changes the mode
    elif (mode := _plain_mode(like)) in fitting:
        os.utime(writing, ns=(like.st_atime_ns, like.st_mtime_ns))
    elif dress(writing, like, rules):
        fitting.add(mode)


def pour(reading: int, writing: int, status: os.stat_result, *, checksum: bool, until: float) -> int:
    """Copy as much content as ``status`` says that there is, and return how many bytes that were: more than that when the file grew.

    A file that grows faster than it is read would never end otherwise, and one of holes alone may claim to be larger than any disk.
    """
    if status.st_size < _BLOCK and status.st_blocks * 512 >= status.st_size:  # nearly every file: one block, no digest
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
    """Raise UnfitTree when the time is over."""
    if time.monotonic() > until:
        raise UnfitTree(
            "copying it takes longer than a backend may be down; see what writes so much to it, make it smaller and run again"
        )


def _block_for(size: int) -> int:
    """How much to ask read(2) for: one byte more than there should be shows that a file grew.

    Never a whole block for a small file: Python makes a buffer of what is asked for, and one that large is mapped and unmapped each time.
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
    """Copy the data of a file with holes, leaving the holes, which are never read: they may be larger than any disk."""
    os.ftruncate(writing, size)
    position = 0
    while position < size:
        try:
            data = os.lseek(reading, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # ENXIO: nothing but a hole up to the end, lseek(2)
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
    """Carry ACLs and the user's attributes over and return whether there are any; security.* of a tree not trusted stays behind."""
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
