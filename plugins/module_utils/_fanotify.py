# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Opens of files as the kernel reports them with the process that did it: fanotify(7), which needs CAP_SYS_ADMIN of the host itself.

The kernel passes an open file with each event. It is closed again at once; nothing is ever read from it. It is an open all the same: a
lease (fcntl(2), F_SETLEASE) on a file of an account is broken by it; no library of the table takes any.
"""

from __future__ import annotations

import ctypes
import os
import struct
import typing as t

_CLASS_NOTIFICATION, _CLOSE_ON_EXEC, _NONBLOCK, _UNLIMITED_MARKS = 0x0, 0x1, 0x2, 0x20
_MARK_ADD, _MARK_DONT_FOLLOW = 0x1, 0x4
_OPEN, _QUEUE_OVERFLOW, _EVENT_ON_CHILD = 0x20, 0x4000, 0x08000000
_METADATA = struct.Struct("=IBBHQii")  # length, version, reserved, length of this, mask, descriptor, PID
_VERSION = 3
_NO_FILE = -1
# The kernel opens a file for each event of a block, and a process may have 1024 of them.
_BLOCK = _METADATA.size * 128
# O_NONBLOCK: neither a pipe nor a lease that the service user laid there makes root wait.
_OPEN_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | getattr(os, "O_LARGEFILE", 0)

_libc = ctypes.CDLL(None, use_errno=True)
_UNSIGNED_64 = ctypes.c_uint64


class Opened(t.NamedTuple):
    """A file was opened by the process ``pid`` (0: one that cannot be seen from here), by the name ``path`` in that process's mounts."""

    pid: int
    path: str


def has_fanotify() -> bool:
    """Whether this process may be told who opens a file: containers often may not, in one of the two calls or in both."""
    try:
        queue = fanotify_new()
    except OSError:
        return False
    try:
        root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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
    """Return a queue of events that reading never waits for, fanotify_init(2). Raises OSError where it cannot be had."""
    flags = _CLASS_NOTIFICATION | _CLOSE_ON_EXEC | _NONBLOCK | _UNLIMITED_MARKS
    return _checked(_call("fanotify_init")(flags, _OPEN_FLAGS))


def fanotify_add(queue: int, directory: int, name: str | None = None) -> None:
    """Report opens of the files in an open directory, or of its entry ``name`` alone, fanotify_mark(2)."""
    flags = _MARK_ADD | _MARK_DONT_FOLLOW
    mask = _OPEN | (_EVENT_ON_CHILD if name is None else 0)
    target = os.fsencode("." if name is None else name)
    _checked(_call("fanotify_mark")(queue, flags, _UNSIGNED_64(mask), directory, target))


def read_opened(queue: int) -> tuple[list[Opened], bool]:
    """Return the next events, none where there are none, and whether some were lost."""
    try:
        block = os.read(queue, _BLOCK)
    except BlockingIOError:
        return [], False
    except OSError:
        return [], True  # a file that could not be opened for its event, which is gone then
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
