# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Spreads work over processes by fork(2): no threads (the interpreter lock), no semaphores (containers without /dev/shm)."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import typing as t

from ._errors import SessionsError

_PR_SET_PDEATHSIG = 1
_BLOCK = 1 << 16
Item = t.TypeVar("Item")


def spread(work: t.Callable[[Item], t.Any], items: t.Sequence[Item]) -> list[t.Any]:
    """Return ``work(item)`` for each item, in order, done by as many processes as there are CPUs. Results must be JSON values.

    The first SessionsError or OSError of any process is raised here, once all have ended.
    """
    workers = min(len(os.sched_getaffinity(0)), len(items))
    if workers < 2:
        return [work(item) for item in items]
    begun: list[tuple[int, int]] = []
    try:
        for number in range(workers):
            begun.append(_begin(work, items[number::workers]))
        replies = [_reply_from(pipe) for _pid, pipe in begun]
    except BaseException:
        # Whoever hears of the error takes back what was done: nobody may go on doing it meanwhile.
        for pid, _pipe in begun:
            os.kill(pid, signal.SIGKILL)
        raise
    finally:
        for pid, pipe in begun:
            os.close(pipe)
            os.waitpid(pid, 0)
    for reply in replies:
        _raise_error(reply)
    return [replies[number % workers]["results"][number // workers] for number in range(len(items))]


def _begin(work: t.Callable[[Item], t.Any], items: t.Sequence[Item]) -> tuple[int, int]:
    reading, writing = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    try:
        pid = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if pid:
        os.close(writing)
        return pid, reading
    try:
        os.close(reading)
        # Without its parent nobody would hear the result, and the parent's lock must not outlive it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            return -1, -1  # it ended before we asked to be told; "finally" ends us
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(_reply(work, items)).encode())
    finally:
        os._exit(0)


def _reply(work: t.Callable[[Item], t.Any], items: t.Sequence[Item]) -> dict[str, t.Any]:
    try:
        return {"results": [work(item) for item in items]}
    except SessionsError as error:
        return {"refused": str(error)}
    except OSError as error:
        return {"errno": error.errno or 0, "text": error.strerror or str(error)}
    except Exception as error:  # a defect of ours: its kind is told, its text might quote a file name
        return {
            "refused": f"a copying process ended with {type(error).__name__}; nothing was published, please report this"
        }


def _reply_from(pipe: int) -> dict[str, t.Any]:
    content = b""
    while block := os.read(pipe, _BLOCK):
        content += block
    try:
        reply: dict[str, t.Any] = json.loads(content)
    except ValueError:  # nothing, or not all of it
        return {"refused": "a copying process was killed; nothing was published, run again"}
    return reply


def _raise_error(reply: t.Mapping[str, t.Any]) -> None:
    if "refused" in reply:
        raise SessionsError(reply["refused"])
    if "errno" in reply:
        raise OSError(reply["errno"], reply["text"])
