# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Distributes work over processes with fork(2): no threads (the interpreter lock), no semaphores (containers without /dev/shm)."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import signal
import sys
import time
import typing as t

from .._core.errors import SessionsError

_PR_SET_PDEATHSIG = 1
_NUMBER = 4  # bytes of an item's number
_BLOCK = 1 << 16
Item = t.TypeVar("Item")


def parallel_map(work: t.Callable[[Item], t.Any], items: t.Sequence[Item]) -> list[t.Any]:
    """Return ``work(item)`` for each item, in order, computed by as many processes as there are CPUs. Results must be JSON values.

    A free process takes the next item, so that one large account does not delay the others. Raises the first SessionsError or OSError of
    any process once all have ended.
    """
    workers = min(len(os.sched_getaffinity(0)), len(items))
    if workers < 2:
        return [work(item) for item in items]
    begun: list[tuple[int, int]] = []
    taking, giving_end = os.pipe()
    giving = os.fdopen(giving_end, "wb", buffering=0)
    try:
        try:
            for _number in range(workers):
                begun.append(_begin(work, items, taking, giving))
        finally:
            os.close(taking)
        _give_out(giving, len(items))
        replies = [_reply_from(pipe) for _pid, pipe in begun]
    except BaseException:
        # The caller undoes the work after an error, so no process may continue with it.
        for pid, _pipe in begun:
            os.kill(pid, signal.SIGKILL)
        raise
    finally:
        giving.close()
        for pid, pipe in begun:
            os.close(pipe)
            os.waitpid(pid, 0)
    for reply in replies:
        _raise_error(reply)
    results = {int(number): result for reply in replies for number, result in reply["results"].items()}
    if len(results) < len(items):  # a pipe that loses data has been observed only with injected errors
        raise SessionsError("not every account reached a copying process; nothing was published: run again")
    return [results[number] for number in range(len(items))]


@contextlib.contextmanager
def in_background(work: t.Callable[[], t.Any], pause: float) -> t.Iterator[None]:
    """Repeat ``work`` in a second process, with ``pause`` seconds in between, until the body ends.

    Errors of that process are ignored: the body, or the code after it, must detect them itself.
    """
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        try:
            die_with_parent(parent)
            while True:
                time.sleep(pause)
                work()
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _give_out(giving: t.IO[bytes], number: int) -> None:
    """Write the numbers of all items to the pipe that the workers read from, and close it."""
    with giving, contextlib.suppress(BrokenPipeError):  # if all workers ended early, their replies contain the error
        for item in range(number):
            giving.write(item.to_bytes(_NUMBER, "big"))


def _taken(taking: int, items: t.Sequence[Item]) -> t.Iterator[tuple[int, Item]]:
    """Yield items with their numbers until none is left. Such short reads from a pipe are never split, pipe(7)."""
    while number := os.read(taking, _NUMBER):
        yield int.from_bytes(number, "big"), items[int.from_bytes(number, "big")]


def _begin(
    work: t.Callable[[Item], t.Any], items: t.Sequence[Item], taking: int, giving: t.IO[bytes]
) -> tuple[int, int]:
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
        giving.close()  # otherwise the workers would never see the end of the items
        die_with_parent(parent)
        gc.disable()  # the index of an account is thousands of tuples without reference cycles, so collecting is a waste
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(_reply(work, _taken(taking, items))).encode())
    finally:
        os._exit(0)


def die_with_parent(parent: int) -> None:
    """End this process with its parent: no other process would get the result, and the parent's lock must not outlive the parent."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # the parent ended before prctl(2) was called


def _reply(work: t.Callable[[Item], t.Any], numbered: t.Iterator[tuple[int, Item]]) -> dict[str, t.Any]:
    try:
        return {"results": {number: work(item) for number, item in numbered}}
    except SessionsError as error:
        return {"refused": str(error)}
    except OSError as error:
        return {"errno": error.errno or 0, "text": error.strerror or str(error)}
    except (
        Exception
    ) as error:  # a bug of this collection: report only its type, because its text might quote a file name
        return {
            "refused": f"a copying process failed with {type(error).__name__}; nothing was published: please report this"
        }


def _reply_from(pipe: int) -> dict[str, t.Any]:
    content = b""
    while block := os.read(pipe, _BLOCK):
        content += block
    try:
        reply: dict[str, t.Any] = json.loads(content)
    except ValueError:  # the reply is missing or incomplete
        return {"refused": "a copying process was killed; nothing was published: run again"}
    return reply


def _raise_error(reply: t.Mapping[str, t.Any]) -> None:
    if "refused" in reply:
        raise SessionsError(reply["refused"])
    if "errno" in reply:
        raise OSError(reply["errno"], reply["text"])
