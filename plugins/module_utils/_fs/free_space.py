# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Keeps the disk that accounts are copied to from filling up, which would truncate the credentials of a running backend."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from .filesystem import filesystem_of

if t.TYPE_CHECKING:
    from .fdopen import DirFd

RESERVE = 1.1  # factor applied to what the copies need
_KEPT = 20  # one part in so many of the free space is never used, even if files grow while they are copied
_LOOK_EVERY = 16 << 20  # bytes
_INODE = 4096  # bytes that a file is charged beyond its size

# Filesystems on which a file occupies as much as its copy will: without compression or shared extents.
_PLAIN = frozenset(("ext2", "ext3", "ext4", "tmpfs"))


@dataclasses.dataclass
class SpaceReserve:
    """The space to keep free, in bytes and inodes, and the bytes used since the disk was last checked."""

    kept: tuple[int, int]
    taken: int = _LOOK_EVERY

    def is_left(self, directory: DirFd, size: int) -> bool:
        """Whether a new file of ``size`` bytes in an open directory leaves enough space free."""
        self.taken += size + _INODE
        if self.taken < _LOOK_EVERY:
            return True
        self.taken = 0
        disk, (size_kept, files_kept) = os.fstatvfs(directory), self.kept
        free = disk.f_bavail * disk.f_frsize - size
        return free >= size_kept and not (disk.f_files and disk.f_favail <= files_kept)


def kept_free(directory: DirFd) -> tuple[int, int]:
    """Return how many of the free bytes and inodes must stay free on the disk of an open directory."""
    disk = os.fstatvfs(directory)
    return disk.f_bavail * disk.f_frsize // _KEPT, disk.f_favail // _KEPT


def has_room(disk: os.statvfs_result, size: int, files: int) -> bool:
    """Whether copies of ``size`` bytes and ``files`` files fit on a disk with a reserve."""
    free = disk.f_bavail * disk.f_frsize
    return size * RESERVE <= free and not (disk.f_files and files * RESERVE > disk.f_favail)


def has_room_for_all(target: DirFd, sources: t.Iterable[int]) -> bool:
    """Whether the disk has room for everything on the filesystems of the open directories ``sources``, which takes no measuring.

    Files with several hard links need more, because each name is copied; SpaceReserve notices that.
    """
    seen: dict[int, os.statvfs_result] = {}
    disk = os.fstatvfs(target)
    for source in sources:
        device = os.fstat(source).st_dev
        if device not in seen:
            seen[device] = held = os.fstatvfs(source)
            plain = filesystem_of(source).type in _PLAIN
            if not plain or not held.f_files or held.f_frsize < disk.f_frsize:
                return False
    size = sum((held.f_blocks - held.f_bfree) * held.f_frsize for held in seen.values())
    return has_room(disk, size, sum(held.f_files - held.f_ffree for held in seen.values()))
