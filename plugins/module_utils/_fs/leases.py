# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Find out whether a file is open for writing, by whatever process, container or mount sees it. Never keeps a lease, fcntl(2).

The list of a process's descriptors in /proc is not enough: open(2) with O_TRUNC empties the file before the descriptor exists, and may then
wait for the disk. The kernel grants a read lease only if no process has the file open for writing or is about to.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import typing as t

from .fdopen import READ_FLAGS, DirFd


@contextlib.contextmanager
def leases_allowed() -> t.Iterator[None]:
    """Survive that a writer comes while a lease is held for a moment: the writer waits for its end, and this process gets a signal."""
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGIO, before)


def has_writer(directory: DirFd, name: str) -> bool:
    """Whether a file of an open directory is open for writing; also False if it is gone, or on a filesystem without leases.

    Used within leases_allowed.
    """
    try:
        descriptor = os.open(name, READ_FLAGS, dir_fd=directory)
    except OSError:
        return False
    try:
        # Fails for anything but a regular file. The lease ends with the descriptor.
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    finally:
        os.close(descriptor)
    return False
