# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Find the filesystem of an open directory, whether it survives a restart, and how much space it has.

Asks the kernel by descriptor (the mount ID in fdinfo) instead of comparing paths, because mounts can hide each other.
"""

from __future__ import annotations

import os
import re
import typing as t

from .._core.errors import SessionsError

UNKNOWN = "unknown"

# Filesystems that lose their content at a restart of the host or container, and their description in messages.
_TYPES_WITHOUT_A_DISK = {
    "aufs": "the writable layer of a container",
    "devtmpfs": "memory",
    "overlay": "the writable layer of a container",
    "ramfs": "memory",
    "rootfs": "memory",
    "tmpfs": "memory",
}
# Emptied at boot or by systemd-tmpfiles (tmpfiles.d(5)) on any filesystem.
_EMPTIED = ("/dev/shm", "/run", "/tmp", "/var/run", "/var/tmp")
# Mount points of the operating system itself: none of them is a volume for sessions.
_MOUNTS_OF_THE_SYSTEM = frozenset(("/", "/boot", "/etc", "/root", "/usr", "/var", "/var/lib"))
_ESCAPE = re.compile(r"\\([0-7]{3})")


class Mount(t.NamedTuple):
    """One line of mountinfo: the mount ID, the mount point, and the type of the filesystem."""

    number: int
    mount_point: str
    type: str


class Filesystem(t.NamedTuple):
    """The filesystem of one directory. Bytes and inodes are those available to users other than root.

    ``free_inodes`` is None if the filesystem creates inodes as needed (btrfs).
    """

    type: str
    mount_point: str
    read_only: bool
    free_bytes: int
    free_inodes: int | None


def filesystem_of(descriptor: int) -> Filesystem:
    """Return the filesystem of an open directory; ``type`` is ``unknown`` if a chroot hides the mount."""
    numbers = os.fstatvfs(descriptor)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
            number = next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))
        with open("/proc/self/mountinfo", "rb") as file:
            mounts = parse_mountinfo(os.fsdecode(file.read()))
    except FileNotFoundError as error:
        raise SessionsError(
            "/proc is not mounted on this host, so filesystems cannot be identified; mount it and run again"
        ) from error
    mount = mounts.get(number, Mount(number, "/", UNKNOWN))
    return Filesystem(
        type=mount.type,
        mount_point=mount.mount_point,
        read_only=bool(numbers.f_flag & os.ST_RDONLY),
        free_bytes=numbers.f_bavail * numbers.f_frsize,
        free_inodes=numbers.f_favail if numbers.f_files else None,
    )


def parse_mountinfo(text: str) -> dict[int, Mount]:
    """Parse ``/proc/self/mountinfo``, proc_pid_mountinfo(5), into mounts by ID; malformed lines are skipped."""
    mounts = (_parse_line(line) for line in text.split("\n"))
    return {mount.number: mount for mount in mounts if mount}


def why_ephemeral(filesystem: Filesystem, path: str) -> str | None:
    """Return why data at ``path`` does not last ("it is on tmpfs, which is memory"), or None if it does. Pure."""
    for directory in _EMPTIED:
        if path == directory or path.startswith(f"{directory}/"):
            return f"it is below {directory}, which is emptied when the host restarts or by age"
    kind = _TYPES_WITHOUT_A_DISK.get(filesystem.type)
    return f"it is on {filesystem.type}, which is {kind}, mounted at {filesystem.mount_point}" if kind else None


def is_own_mount(filesystem: Filesystem) -> bool:
    """Return whether the filesystem is mounted for data instead of the operating system. Pure."""
    return filesystem.mount_point not in _MOUNTS_OF_THE_SYSTEM


def _parse_line(line: str) -> Mount | None:
    # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
    left, mark, right = line.partition(" - ")
    before, after = left.split(" "), right.split(" ")
    if not mark or len(before) < 6 or not before[0].isdecimal() or not after[0]:
        return None
    return Mount(int(before[0]), _unescaped(before[4]), after[0])


def _unescaped(field: str) -> str:
    """Decode the kernel's octal escapes of space, tab, newline and backslash; one escape may be a single byte of a character."""
    raw = _ESCAPE.sub(
        lambda found: chr(0xDC00 + int(found[1], 8)) if int(found[1], 8) > 127 else chr(int(found[1], 8)), field
    )
    return os.fsdecode(os.fsencode(raw))
