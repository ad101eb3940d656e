# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Resolves paths as another process sees them, below its own root and mounts. Nothing is opened for reading.

The service user controls that view. The kernel resolves links inside its root (openat2(2)), so that none leads out of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
import typing as t

from .._fs.filesystem import Mount, parse_mountinfo

_OPENAT2 = 437  # the same number on all architectures, openat2(2)
_NO_MAGIC_LINKS, _IN_ROOT = 0x02, 0x10
_FLAGS = os.O_PATH | os.O_CLOEXEC
_MOUNTINFO_AT_MOST = 1 << 22  # bytes
_PATH_AT_MOST = 4096

_libc = ctypes.CDLL(None, use_errno=True)

Inode = tuple[int, int]


class Binding(t.NamedTuple):
    """How a process sees a directory. ``reached``: it is the expected one, by device and inode. ``mount``: its mount, if mounted."""

    reached: bool
    mount: Mount | None


class View:
    """A process's view of the file system. A context manager."""

    def __init__(self, pid: int) -> None:
        """Open the root of a process. Raises OSError if the process has ended or may not be inspected."""
        self.pid = pid
        self._root = os.open(f"/proc/{pid}/root", _FLAGS | os.O_DIRECTORY)

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_raised: object) -> None:
        os.close(self._root)

    @property
    def root(self) -> Inode:
        """The process's root directory."""
        return inode_of(self._root)

    def inode(self, path: str) -> Inode | None:
        """Return device and inode of ``path``; None if it does not exist."""
        try:
            with self.opened(path) as found:
                return inode_of(found)
        except (OSError, ValueError):
            return None

    def mounts(self) -> dict[int, Mount]:
        """Return the process's mounts by mount ID. Raises OSError if it has ended."""
        with open(f"/proc/{self.pid}/mountinfo", "rb") as file:
            return parse_mountinfo(os.fsdecode(file.read(_MOUNTINFO_AT_MOST)))

    def mount_at(self, path: str) -> Mount | None:
        """Return the mount with the mount point ``path``, links resolved; None if ``path`` is not a mount point."""
        try:
            with self.opened(path) as found, self.opened(f"{path}/..") as above:
                number = _mount_number(found)
                return self.mounts().get(number) if number != _mount_number(above) else None
        except (OSError, ValueError):
            return None

    @contextlib.contextmanager
    def opened(self, path: str) -> t.Iterator[int]:
        """Open ``path`` with O_PATH. Raises OSError."""
        if len(os.fsencode(path)) >= _PATH_AT_MOST:
            raise OSError(errno.ENAMETOOLONG, "the path is too long")
        found = _open_in_root(self._root, path)
        try:
            yield found
        finally:
            os.close(found)


def binding_of(pid: int, directory: str, place: int) -> Binding:
    """Return whether ``directory``, as the process ``pid`` sees it, is the open directory ``place``, and its mount if it is one."""
    try:
        with View(pid) as view:
            return Binding(view.inode(directory) == inode_of(place), view.mount_at(directory))
    except OSError:
        return Binding(False, None)


def inode_of(descriptor: int) -> Inode:
    """Return device and inode of an open file."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _open_in_root(root: int, path: str) -> int:
    how = struct.pack("=QQQ", _FLAGS, 0, _NO_MAGIC_LINKS | _IN_ROOT)
    name = os.fsencode(path)
    if b"\0" in name:
        raise OSError(errno.EINVAL, "the path contains a null byte")
    found = int(_libc.syscall(ctypes.c_long(_OPENAT2), root, name or b".", how, ctypes.c_size_t(len(how))))
    if found >= 0:
        return found
    number = ctypes.get_errno()
    if number not in (errno.ENOSYS, errno.EPERM):  # older kernels, and seccomp filters of containers
        raise OSError(number, os.strerror(number))
    return _walk(root, path)


def _walk(root: int, path: str) -> int:
    """Resolve a path without openat2. Symbolic links in it are an error."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    here = os.open(".", _FLAGS | os.O_DIRECTORY, dir_fd=root)
    for part in parts:
        try:
            below = os.open(part, _FLAGS | os.O_NOFOLLOW, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here


def _mount_number(descriptor: int) -> int:
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))
