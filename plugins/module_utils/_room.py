# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Keeps the disk that accounts are copied to from running full: that truncates the credentials of a running backend."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ._filesystem import filesystem_of

RESERVE = 1.1  # of what the copies need
_KEPT = 20  # this part of what was free is never taken, whatever grows while it is copied
_LOOK_EVERY = 16 << 20  # bytes
_INODE = 4096  # bytes that a file counts for beyond its size

# Where a file takes as much of the disk as its copy will: nothing is compressed, and no two files share anything.
_PLAIN = frozenset(("ext2", "ext3", "ext4", "tmpfs"))


@dataclasses.dataclass
class Room:
    """What has to stay free, and how much was taken since somebody looked whether it does."""

    kept: tuple[int, int]
    taken: int = _LOOK_EVERY

    def is_left(self, directory: int, size: int) -> bool:
        """Whether a file of ``size`` bytes, which is about to be made in an open directory, leaves free what has to stay free."""
        self.taken += size + _INODE
        if self.taken < _LOOK_EVERY:
            return True
        self.taken = 0
        disk, (size_kept, files_kept) = os.fstatvfs(directory), self.kept
        free = disk.f_bavail * disk.f_frsize - size
        return free >= size_kept and not (disk.f_files and disk.f_favail <= files_kept)


def kept_free(directory: int) -> tuple[int, int]:
    """Say how many bytes and inodes have to stay free on the disk of an open directory, of those that are free now."""
    disk = os.fstatvfs(directory)
    return disk.f_bavail * disk.f_frsize // _KEPT, disk.f_favail // _KEPT


def has_room(disk: os.statvfs_result, size: int, files: int) -> bool:
    """Whether copies of so many bytes and files leave some of a disk free."""
    free = disk.f_bavail * disk.f_frsize
    return size * RESERVE <= free and not (disk.f_files and files * RESERVE > disk.f_favail)


def has_room_for_all(target: int, sources: t.Iterable[int]) -> bool:
    """Whether the disk has room even for all that the filesystems of the open directories ``sources`` hold, which is known at once.

    That is not all where a file has several names, each of which is copied: Room notices.
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
