# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Finds processes outside the unit that use a directory at the moment. Read from /proc; reports only PIDs and command names."""

from __future__ import annotations

import dataclasses
import os
import time
import typing as t

from .._core.errors import SessionsError
from .._core.limits import HOLDERS_SECONDS
from .control_groups import group_of, unit_in
from .procfs import NOT_OF_THE_BACKEND, environment_of

_NAMED_AT_MOST = 5
_LONGEST_PATH = 4096


@dataclasses.dataclass(frozen=True)
class Holder:
    """A process outside the unit that uses the directory.

    ``how``: ``writing``, ``inside`` (its working directory), ``copy`` (a second backend) or ``named`` (a process of another service with
    the directory in its environment). ``unit``: its service, '' if none.
    """

    pid: int
    command: str
    how: str
    unit: str = ""


def holders(directories: t.Sequence[str], control_group: str, main_pid: int) -> tuple[Holder, ...]:
    """Return the processes outside the unit's control group that use one of ``directories`` (real paths).

    Libraries such as Baileys open their files only for moments. So a process that runs the same program in the same working directory
    as the unit's main process counts as well: it is a backend that was started by hand.
    """
    program, until = _program(main_pid), time.monotonic() + HOLDERS_SECONDS
    found = []
    for pid in _others(control_group):
        how = _how(pid, directories, program, until)
        if how:
            found.append(Holder(pid, command_of(pid), how, unit_in(group_of(pid))))
    return tuple(found)


def named(found: t.Sequence[Holder]) -> str:
    """Return the holders as text for messages: other units first, each once."""
    units = list(dict.fromkeys(holder.unit for holder in found if holder.unit))
    first = {unit: next(holder for holder in found if holder.unit == unit) for unit in units}
    others = [f"PID {holder.pid} ({holder.command})" for holder in found if not holder.unit]
    return ", ".join(
        [*(f"{unit} (PID {first[unit].pid}, {first[unit].command})" for unit in units), *others][:_NAMED_AT_MOST]
    )


def _others(control_group: str) -> t.Iterator[int]:
    mine = {os.getpid(), os.getppid()}
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) not in mine and not _belongs(int(name), control_group):
            yield int(name)


def _belongs(pid: int, control_group: str) -> bool:
    try:
        with open(f"/proc/{pid}/cgroup", encoding="ascii", errors="replace") as file:
            groups = [line.rstrip("\n").split(":", 2)[2] for line in file]
    except OSError:
        return True  # it has ended, so there is nothing to report
    return bool(control_group) and any(
        group.endswith(control_group) or f"{control_group}/" in group for group in groups
    )


def _how(pid: int, directories: t.Sequence[str], program: tuple[str, str] | None, until: float) -> str:
    where = _link(pid, "cwd")
    if any(_is_below(where, directory) for directory in directories):
        return "inside"
    if program is not None and (_link(pid, "exe"), where) == program:
        return "copy"
    if unit_in(group_of(pid)) and _is_led_to(pid, directories, until):
        return "named"
    return "writing" if _written(pid, directories, until) else ""


def _is_led_to(pid: int, directories: t.Sequence[str], until: float) -> bool:
    """Whether a variable of a process is a path in one of ``directories``: its library may open files only for moments."""
    try:
        values = [value for name, value in environment_of(pid) if name not in NOT_OF_THE_BACKEND]
    except OSError:
        return False
    paths = (value for value in values if value.startswith("/") and len(value) < _LONGEST_PATH)
    real = (os.path.realpath(path) for path in paths if time.monotonic() < until)
    return any(_is_below(path, directory) for path in real for directory in directories)


def _written(pid: int, directories: t.Sequence[str], until: float) -> bool:
    """Whether a process has a file below ``directories`` open for writing. Readers (a backup, this collection) do no harm."""
    try:
        with os.scandir(f"/proc/{pid}/fd") as numbers:
            for number in numbers:
                if time.monotonic() > until:
                    raise SessionsError(
                        f"the open files of all processes could not be checked within {HOLDERS_SECONDS:g} seconds, because "
                        f"PID {pid} ({command_of(pid)}) has too many; nothing was changed: stop it and run again"
                    )
                opened = _link(pid, f"fd/{number.name}")
                inside = any(_is_below(opened, directory) for directory in directories)
                if inside and _flags(pid, number.name) & os.O_ACCMODE != os.O_RDONLY:
                    return True
    except OSError:
        pass  # it has ended
    return False


def _flags(pid: int, number: str) -> int:
    try:
        with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as file:
            return next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
    except (OSError, StopIteration):
        return os.O_RDONLY  # it was closed meanwhile


def _program(pid: int) -> tuple[str, str] | None:
    program = (_link(pid, "exe"), _link(pid, "cwd")) if pid else ("", "")
    return program if all(program) and program[1] != "/" else None


def _link(pid: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return ""


def command_of(pid: int) -> str:
    """Return the command name of a process, ``?`` if it has ended."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            command = file.read().rstrip("\n")
    except OSError:
        return "?"
    # A process can choose its name freely.
    return "".join(character if character.isprintable() else "?" for character in command)


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory}/")
