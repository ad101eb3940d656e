# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""System calls that Python does not offer: renameat2, syncfs, setfsuid, inotify, and which mount a descriptor belongs to."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import typing as t

_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_PR_GET_SECUREBITS, _PR_SET_SECUREBITS = 27, 28
_SECBIT_NO_SETUID_FIXUP = 1 << 2
_libc = ctypes.CDLL(None, use_errno=True)


def rename_new(source: int, name: str, target: int, new_name: str) -> None:
    """Rename between two open directories; raise FileExistsError when the new name is taken, whatever takes it."""
    if _renameat2(source, name, target, new_name, _RENAME_NOREPLACE):
        return
    # Filesystems without the flag (FUSE, some NFS): an empty directory made first is the claim, for rename(2) replaces a
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


def exchange(source: int, name: str, target: int, other_name: str) -> bool:
    """Swap two entries in one step; return False, having done nothing, where the filesystem cannot."""
    return _renameat2(source, name, target, other_name, _RENAME_EXCHANGE)


def sync_filesystem(descriptor: int) -> None:
    """Make everything written to the filesystem of ``descriptor`` durable, syncfs(2); raises OSError for a write that failed.

    One call for a whole batch: an fsync per file was measured about 50 times dearer.
    """
    _checked(_libc.syncfs(descriptor))


def process_control(option: int, value: int) -> None:
    """Set an attribute of this process, prctl(2)."""
    _checked(_libc.prctl(option, value, 0, 0, 0))


def inotify_new() -> int:
    """Return a queue of events that reading never waits for, inotify_init1(2)."""
    return _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def inotify_add(queue: int, directory: int, mask: int) -> int:
    """Let ``queue`` hear of what happens in an open directory and return the number of that watch, inotify_add_watch(2)."""
    # There is no call that takes a descriptor; this way leads to the very directory, whatever its name leads to by now.
    return _checked(_libc.inotify_add_watch(queue, f"/proc/self/fd/{directory}".encode(), mask))


@contextlib.contextmanager
def creating_as(uid: int, gid: int) -> t.Iterator[None]:
    """Let what this process makes meanwhile belong to ``uid`` and ``gid`` from the start, with exactly the mode that is asked for.

    A saving, never a promise (containers may forbid it): two changes less per file, each of which the filesystem would have to write down.
    Root keeps all its rights, capabilities(7): securebits leave them alone when the filesystem user id changes.
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
    """Whether rename(2) works between two open directories: same filesystem and same mount of it."""
    return os.fstat(one).st_dev == os.fstat(other).st_dev and _mount_of(one) == _mount_of(other)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _mount_of(descriptor: int) -> str:
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        return next(line.split()[1] for line in file if line.startswith("mnt_id:"))


def _renameat2(source: int, name: str, target: int, new_name: str, flags: int) -> bool:
    """Return False when kernel, C library or filesystem do not know the flag; raise OSError for every other failure."""
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
