# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Run a function in a child process that may never answer: limited in time and size, killed and reaped by its parent.

The child works on data of another user, or as another user, who can stop it with a signal. So every wait has a deadline, and the child is
ended with SIGKILL, which also ends a stopped process.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import time
import typing as t

from .._core.limits import ANSWER_BYTES, REAP_SECONDS
from .._fs.syscalls import process_control
from .pool import die_with_parent

_BLOCK = 1 << 16
_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38


class PastLimit(Exception):
    """The child process did not answer in time, or its answer was too long. The process has been killed."""


def answer_of(
    prepare: t.Callable[[int], None], work: t.Callable[[], bytes], *, seconds: float, at_most: int = ANSWER_BYTES
) -> bytes | None:
    """Return the answer of ``work`` from a child process; None if it failed or another process killed it.

    ``prepare`` is called first in the child with the descriptor that has to stay open. Raises PastLimit.
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
            prepare(writing)
            die_with_parent(parent)  # after the last change of user, which resets this setting
            _write_all(writing, b"+" + work())
        except MemoryError:
            _write_all(writing, b"-")
        finally:  # the child must never return into the caller's code
            os._exit(0)
    os.close(writing)
    try:
        answer = _read(reading, time.monotonic() + seconds, at_most + 1)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        _reap(child)
    if answer.startswith(b"-"):
        raise PastLimit
    return answer[1:] if answer.startswith(b"+") else None


def limit(what: t.Mapping[int, int]) -> None:
    """Set resource limits of this process (resource(3)) without raising a hard limit."""
    for number, most in {**what, resource.RLIMIT_CORE: 0}.items():
        _soft, hard = resource.getrlimit(number)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(number, (most, most))


def harden() -> None:
    """Keep programs started by this process from gaining privileges, and other processes of its user from tracing it, prctl(2)."""
    process_control(_PR_SET_NO_NEW_PRIVS, 1)
    process_control(_PR_SET_DUMPABLE, 0)


def leave_open(kept: int) -> None:
    """Close all descriptors except ``kept``: the output that Ansible reads from this process, and open directories of root."""
    nothing = os.open("/dev/null", os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with contextlib.suppress(OSError):  # the descriptor of the listing itself, closed already
                os.close(int(name))


def _write_all(writing: int, content: bytes) -> None:
    while content:
        content = content[os.write(writing, content) :]


def _read(reading: int, deadline: float, at_most: int) -> bytes:
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    blocks: list[bytes] = []
    left = at_most
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0 or not poll.poll(remaining * 1000):
            raise PastLimit
        block = os.read(reading, _BLOCK)
        if not block:
            return b"".join(blocks)
        left -= len(block)
        if left < 0:
            raise PastLimit
        blocks.append(block)


def _reap(child: int) -> None:
    deadline, pause = time.monotonic() + REAP_SECONDS, 0.0002
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        # A killed process may be blocked by a disk that does not respond: then it cannot be reaped.
        if time.monotonic() > deadline:
            raise PastLimit
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
