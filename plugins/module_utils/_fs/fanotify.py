# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Events of opened files with the PID of the process that opened them: fanotify(7), which needs CAP_SYS_ADMIN of the host itself.

The kernel passes an open file with each event. It is closed immediately and never read. Still, this open breaks a lease (fcntl(2),
F_SETLEASE) on a file of an account; no supported library uses leases.
"""

from __future__ import annotations

import ctypes
import os
import struct
import typing as t

from .fdopen import DirFd

_CLASS_NOTIFICATION, _CLOSE_ON_EXEC, _NONBLOCK, _UNLIMITED_MARKS = 0x0, 0x1, 0x2, 0x20
_MARK_ADD, _MARK_DONT_FOLLOW = 0x1, 0x4
_OPEN, _QUEUE_OVERFLOW, _EVENT_ON_CHILD = 0x20, 0x4000, 0x08000000
_METADATA = struct.Struct("=IBBHQii")  # length, version, reserved, length of this, mask, descriptor, PID
_VERSION = 3
_NO_FILE = -1
# The kernel opens a file for each event of a block, and a process may have 1024 open files.
_BLOCK = _METADATA.size * 128
# O_NONBLOCK: root must not block on a pipe or lease that the service user created.
_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | getattr(os, "O_LARGEFILE", 0)

_libc = ctypes.CDLL(None, use_errno=True)
_UNSIGNED_64 = ctypes.c_uint64


class Opened(t.NamedTuple):
    """A file was opened by the process ``pid`` (0: outside this PID namespace) under the name ``path`` in that process's mounts."""

    pid: int
    path: str


def has_fanotify() -> bool:
    """Return whether this process may watch opens: containers often lack the permission for one or both system calls."""
    try:
        queue = fanotify_new()
    except OSError:
        return False
    try:
        root = DirFd(os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        try:
            fanotify_add(queue, root)
        finally:
            os.close(root)
    except OSError:
        return False
    finally:
        os.close(queue)
    return True


def fanotify_new() -> int:
    """Return a nonblocking queue of events, fanotify_init(2). Raises OSError if that is not permitted."""
    flags = _CLASS_NOTIFICATION | _CLOSE_ON_EXEC | _NONBLOCK | _UNLIMITED_MARKS
    return _checked(_call("fanotify_init")(flags, _OPEN_FLAGS))


def fanotify_add(queue: int, directory: DirFd, name: str | None = None) -> None:
    """Report opens of the files in an open directory, or only of its entry ``name``, fanotify_mark(2)."""
    flags = _MARK_ADD | _MARK_DONT_FOLLOW
    mask = _OPEN | (_EVENT_ON_CHILD if name is None else 0)
    target = os.fsencode("." if name is None else name)
    _checked(_call("fanotify_mark")(queue, flags, _UNSIGNED_64(mask), directory, target))


def read_opened(queue: int) -> tuple[list[Opened], bool]:
    """Return the pending events, possibly none, and whether some were lost."""
    try:
        block = os.read(queue, _BLOCK)
    except BlockingIOError:
        return [], False
    except OSError:
        return [], True  # the file of an event could not be opened, and that event is lost
    found, lost, place = [], False, 0
    while place + _METADATA.size <= len(block):
        length, version, _reserved, _metadata, mask, descriptor, pid = _METADATA.unpack_from(block, place)
        place += max(length, _METADATA.size)
        if version != _VERSION or mask & _QUEUE_OVERFLOW or descriptor == _NO_FILE:
            lost = True
            continue
        try:
            found.append(Opened(pid, os.readlink(f"/proc/self/fd/{descriptor}")))
        except OSError:
            found.append(Opened(pid, ""))
        finally:
            os.close(descriptor)
    return found, lost


def _call(name: str) -> t.Any:
    try:
        return getattr(_libc, name)
    except AttributeError as error:
        raise OSError(f"the C library has no {name}") from error


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
