# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Reads what a process says about itself in /proc: bounded in size and in time, for the process decides about both.

Its arguments and its environment are its own memory. It can say that they are anywhere and of any size, prctl(2) PR_SET_MM_MAP, and what
is there may be a file of a filesystem of its own user, which never answers.
"""

from __future__ import annotations

import os
import re
import threading
import typing as t

from ._errors import SessionsError
from ._limits import PROC_BYTES, PROC_SECONDS

_BLOCK = 1 << 16
# Variables that systemd and shells set, systemd.exec(5): where a user lives is not where sessions are kept.
NOT_OF_THE_BACKEND = frozenset(("HOME", "LOGNAME", "OLDPWD", "PATH", "PWD", "SHELL", "USER"))
_DATABASE = re.compile(r"(?:file|sqlite3?):([^?]*)(?:\?.*)?", re.DOTALL)


class Stat(t.NamedTuple):
    """``state``: a letter, see proc_pid_stat(5). ``parent``: the number of the process that started it."""

    state: str
    parent: int


def environment_of(pid: int) -> list[tuple[str, str]]:
    """Return the variables that a process was started with. Values may be secrets: they are compared and tried, never shown.

    Raises OSError, and SessionsError when they cannot be read in time.
    """
    items = (item.partition("=") for item in os.fsdecode(process_file(pid, "environ")).split("\0"))
    return [(name, value) for name, mark, value in items if mark]


def named_paths(value: str) -> t.Iterator[str]:
    """Yield the paths that the value of a variable may mean: itself, and the directory of the database that a data source name names."""
    yield value
    database = _DATABASE.fullmatch(value)
    if database:
        yield os.path.dirname(re.sub("^//+", "/", database[1])) or "."


def stat_of(pid: int, thread: int = 0) -> Stat:
    """Return what the kernel says of a process, or of one of its threads. Raises OSError when it is gone."""
    path = f"/proc/{pid}/task/{thread}/stat" if thread else f"/proc/{pid}/stat"
    with open(path, "rb") as file:
        fields = file.read(_BLOCK).rpartition(b")")[2].split()  # what is before may be any name
    return Stat(fields[0].decode("ascii"), int(fields[1]))


def process_file(pid: int, name: str) -> bytes:
    """Return what ``/proc/<pid>/<name>`` holds, up to a limit. Raises OSError, and SessionsError when it cannot be read in time."""
    outcome: list[bytes | OSError] = []

    def read() -> None:
        try:
            outcome.append(_read(f"/proc/{pid}/{name}"))
        except OSError as error:
            outcome.append(error)

    # A thread can be left behind: where it waits in the kernel it ends with this process.
    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    reading.join(PROC_SECONDS)
    if not outcome:
        raise SessionsError(
            f"the process {pid} does not let its {name} be read within {PROC_SECONDS:g} seconds; nothing was changed, "
            "see what it is and stop it (kill -KILL), then run again"
        )
    found = outcome[0]
    if isinstance(found, OSError):
        raise found
    return found


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        blocks, left = [], PROC_BYTES
        while left > 0 and (block := os.read(descriptor, min(_BLOCK, left))):
            blocks.append(block)
            left -= len(block)
        return b"".join(blocks)
    finally:
        os.close(descriptor)
