# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Reads files of a process in /proc, with limits for size and time, because the process controls both.

Its arguments and environment are in its own memory. With prctl(2) PR_SET_MM_MAP it can set them to any address and size, which may be
mapped from a FUSE filesystem of its own user that never answers.
"""

from __future__ import annotations

import os
import re
import threading
import typing as t

from .._core.errors import SessionsError
from .._core.limits import PROC_BYTES, PROC_SECONDS

_BLOCK = 1 << 16
# Variables that systemd and shells set, systemd.exec(5): they do not name sessions.
NOT_OF_THE_BACKEND = frozenset(("HOME", "LOGNAME", "OLDPWD", "PATH", "PWD", "SHELL", "USER"))
_DATABASE = re.compile(r"(?:file|sqlite3?):([^?]*)(?:\?.*)?", re.DOTALL)


class Stat(t.NamedTuple):
    """State of a process. ``state``: a letter, see proc_pid_stat(5). ``parent``: the PID of its parent."""

    state: str
    parent: int


def environment_of(pid: int) -> list[tuple[str, str]]:
    """Return the variables that a process was started with. Values may be secrets: compare or try them, never show them.

    Raises OSError, and SessionsError if they cannot be read in time.
    """
    items = (item.partition("=") for item in os.fsdecode(process_file(pid, "environ")).split("\0"))
    return [(name, value) for name, mark, value in items if mark]


def named_paths(value: str) -> t.Iterator[str]:
    """Yield the paths that the value of a variable may refer to: itself, and the directory of the database in a data source name."""
    yield value
    database = _DATABASE.fullmatch(value)
    if database:
        yield os.path.dirname(re.sub("^//+", "/", database[1])) or "."


def stat_of(pid: int, thread: int = 0) -> Stat:
    """Return the state of a process, or of one of its threads. Raises OSError if it has ended."""
    path = f"/proc/{pid}/task/{thread}/stat" if thread else f"/proc/{pid}/stat"
    with open(path, "rb") as file:
        # The name before the last parenthesis may contain any characters.
        fields = file.read(_BLOCK).rpartition(b")")[2].split()
    return Stat(fields[0].decode("ascii"), int(fields[1]))


def process_file(pid: int, name: str) -> bytes:
    """Return the content of ``/proc/<pid>/<name>``, up to a limit. Raises OSError, and SessionsError if it cannot be read in time."""
    outcome: list[bytes | OSError] = []

    def read() -> None:
        try:
            outcome.append(_read(f"/proc/{pid}/{name}"))
        except OSError as error:
            outcome.append(error)

    # A thread that blocks in the kernel can be abandoned: it ends with this process.
    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    reading.join(PROC_SECONDS)
    if not outcome:
        raise SessionsError(
            f"the {name} of process {pid} could not be read within {PROC_SECONDS:g} seconds; nothing was changed: "
            "check what this process is, stop it (kill -KILL) and run again"
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
