# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""System calls that Python does not offer: renameat2, syncfs, setfsuid, inotify, and the mount of a descriptor."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import typing as t

if t.TYPE_CHECKING:
    from .fdopen import DirFd

_RENAME_NOREPLACE = 1
_PR_GET_SECUREBITS, _PR_SET_SECUREBITS = 27, 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_libc = ctypes.CDLL(None, use_errno=True)


def rename_new(source: DirFd, name: str, target: DirFd, new_name: str) -> None:
    """Rename between two open directories; raise FileExistsError if the new name exists."""
    if _renameat2(source, name, target, new_name, _RENAME_NOREPLACE):
        return
    # Filesystems without the flag (FUSE, some NFS): a new empty directory reserves the name, because rename(2) replaces a
    # directory only by a directory and only while it is empty; for a file, link(2) never replaces.
    if stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
        os.mkdir(new_name, 0o700, dir_fd=target)
        try:
            os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
        except OSError:
            os.rmdir(new_name, dir_fd=target)
            raise
        return
    os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    os.unlink(name, dir_fd=source)


def sync_filesystem(descriptor: int) -> None:
    """Make everything written to the filesystem of ``descriptor`` durable, syncfs(2); raises OSError if a write failed.

    One call for a whole batch: an fsync per file took about 50 times longer.
    """
    _checked(_libc.syncfs(descriptor))


def process_control(option: int, value: int) -> None:
    """Set an attribute of this process, prctl(2)."""
    _checked(_libc.prctl(option, value, 0, 0, 0))


def inotify_new() -> int:
    """Return a nonblocking queue of events, inotify_init1(2)."""
    return _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def inotify_add(queue: int, descriptor: int, mask: int) -> int:
    """Add a watch of an open file or directory to ``queue`` and return its number, inotify_add_watch(2)."""
    # No such call takes a descriptor; this path leads to the open one itself, wherever its name leads now.
    return _checked(_libc.inotify_add_watch(queue, f"/proc/self/fd/{descriptor}".encode(), mask))


@contextlib.contextmanager
def creating_as(uid: int, gid: int) -> t.Iterator[None]:
    """Create files with owner ``uid`` and ``gid`` and with exactly the requested mode within the body.

    An optimisation without a guarantee (containers may forbid it): it saves two metadata changes per file.
    Root keeps its privileges: securebits preserve capabilities when the filesystem user ID changes, capabilities(7).
    """
    umask = os.umask(0)
    bits = _libc.prctl(_PR_GET_SECUREBITS, 0, 0, 0, 0)
    if os.geteuid() != 0 or bits < 0 or _libc.prctl(_PR_SET_SECUREBITS, bits | _SECBIT_NO_SETUID_FIXUP, 0, 0, 0) != 0:
        try:
            yield
        finally:
            os.umask(umask)
        return
    group, user = _libc.setfsgid(gid), _libc.setfsuid(uid)
    try:
        yield
    finally:
        _libc.setfsuid(user)
        _libc.setfsgid(group)
        _libc.prctl(_PR_SET_SECUREBITS, bits, 0, 0, 0)
        os.umask(umask)


def same_mount(one: int, other: int) -> bool:
    """Return whether rename(2) works between two open directories: same filesystem and same mount of it."""
    return os.fstat(one).st_dev == os.fstat(other).st_dev and _mount_of(one) == _mount_of(other)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _mount_of(descriptor: int) -> str:
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        return next(line.split()[1] for line in file if line.startswith("mnt_id:"))


def _renameat2(source: DirFd, name: str, target: DirFd, new_name: str, flags: int) -> bool:
    """Return False if kernel, C library or filesystem do not support the flag; raise OSError for any other failure."""
    try:
        call = _libc.renameat2  # glibc 2.28 and newer, musl 1.2.6 and newer
    except AttributeError:
        return False
    if call(source, os.fsencode(name), target, os.fsencode(new_name), flags) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
        return False
    raise OSError(number, os.strerror(number))
