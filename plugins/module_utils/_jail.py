# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Has work on files that nobody vouches for done by a process that has given up root and sees one directory only.

A library that takes path names (SQLite, say) can then not be led to any other file, and what a crafted file makes it do harms nobody.
"""

from __future__ import annotations

import os
import typing as t

from ._workers import end_with


def in_jail(directory: int, uid: int, gid: int, work: t.Callable[[], str]) -> str | None:
    """Return what ``work`` answers as ``uid`` and ``gid``, with the open ``directory`` for its root; None when it failed or was killed.

    Who is not root does the work as what he is, in that directory. Import beforehand what ``work`` needs: a jail has nothing to import.
    """
    reading, writing = os.pipe()
    parent = os.getpid()
    try:
        child = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if child == 0:
        try:
            _lock_up(directory, uid, gid, writing)
            end_with(parent)  # last, because changing users forgets it
            os.write(writing, b"+" + os.fsencode(work()))
        finally:  # never back into the caller's code, whatever happens
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    return os.fsdecode(answer[1:]) if answer.startswith(b"+") else None


def _lock_up(directory: int, uid: int, gid: int, kept: int) -> None:
    """Leave the process nothing but the directory and the open file ``kept``: an open directory of root leads out of every jail."""
    os.fchdir(directory)
    opened = [int(name) for name in os.listdir("/proc/self/fd")]
    for descriptor in opened:
        if descriptor > 2 and descriptor != kept:
            _close(descriptor)
    if os.geteuid() == 0:
        os.chroot(".")
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:
        pass  # it was the one that listed the others
