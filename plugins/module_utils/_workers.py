# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Spreads work over processes by fork(2): no threads (the interpreter lock), no semaphores (containers without /dev/shm)."""

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

from ._errors import SessionsError

_PR_SET_PDEATHSIG = 1
_NUMBER = 4  # bytes of an item's number
_BLOCK = 1 << 16
Item = t.TypeVar("Item")


def spread(work: t.Callable[[Item], t.Any], items: t.Sequence[Item]) -> list[t.Any]:
    """Return ``work(item)`` for each item, in order, done by as many processes as there are CPUs. Results must be JSON values.

    Whoever is free takes the next item, so that one large account does not hold up the others. The first SessionsError or OSError of
    any process is raised here, once all have ended.
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
        # Whoever hears of the error takes back what was done: nobody may go on doing it meanwhile.
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
    if len(results) < len(items):  # a pipe that loses what it takes has been seen only under injected errors
        raise SessionsError("not every account reached a copying process; nothing was published, run again")
    return [results[number] for number in range(len(items))]


@contextlib.contextmanager
def meanwhile(work: t.Callable[[], t.Any], pause: float) -> t.Iterator[None]:
    """Do ``work`` in a process beside this one, again and again with ``pause`` seconds between, until the body is done.

    It is a help, so what goes wrong in it stays there: the body, or what comes after it, has to find that out itself.
    """
    parent = os.getpid()
    pid = os.fork()
    if not pid:
        try:
            end_with(parent)
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
    """Put the numbers of all items where the workers take them, then say that this was all."""
    with giving, contextlib.suppress(BrokenPipeError):  # when all workers ended early, their replies say why
        for item in range(number):
            giving.write(item.to_bytes(_NUMBER, "big"))


def _taken(taking: int, items: t.Sequence[Item]) -> t.Iterator[tuple[int, Item]]:
    """Yield items, with their numbers, until none is left. A read this short from a pipe is never split, pipe(7)."""
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
        giving.close()  # or the end of the items would never be seen
        end_with(parent)
        gc.disable()  # the index of an account is thousands of tuples that nothing refers back to: looking for cycles finds none
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(_reply(work, _taken(taking, items))).encode())
    finally:
        os._exit(0)


def end_with(parent: int) -> None:
    """End this process with its parent: nobody else would hear the result, and the parent's lock must not outlive it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it ended before we asked to be told


def _reply(work: t.Callable[[Item], t.Any], numbered: t.Iterator[tuple[int, Item]]) -> dict[str, t.Any]:
    try:
        return {"results": {number: work(item) for number, item in numbered}}
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
