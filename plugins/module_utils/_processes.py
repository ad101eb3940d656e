# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Who works on a directory right now, outside the unit that is meant to: read from /proc, named by PID and command name only."""

from __future__ import annotations

import dataclasses
import os
import time
import typing as t

from ._control_groups import group_of, unit_in
from ._errors import SessionsError
from ._limits import HOLDERS_SECONDS
from ._proc import NOT_OF_THE_BACKEND, environment_of

_NAMED_AT_MOST = 5
_LONGEST_PATH = 4096


@dataclasses.dataclass(frozen=True)
class Holder:
    """A process outside the unit, and how it holds the directory: ``writing``, ``inside`` (its cwd), ``copy`` (a second backend) or
    ``named`` (its environment leads there, and it is of another service). ``unit``: its service, '' where it has none.
    """

    pid: int
    command: str
    how: str
    unit: str = ""


def holders(directories: t.Sequence[str], control_group: str, main_pid: int) -> tuple[Holder, ...]:
    """Return the processes that hold one of ``directories`` (real paths) and are not of the unit's control group.

    Libraries like Baileys open their files only for moments. So a process that runs the same program in the same working directory as
    the unit's main process counts, too: a backend somebody started by hand.
    """
    program, until = _program(main_pid), time.monotonic() + HOLDERS_SECONDS
    found = []
    for pid in _others(control_group):
        how = _how(pid, directories, program, until)
        if how:
            found.append(Holder(pid, command_of(pid), how, unit_in(group_of(pid))))
    return tuple(found)


def named(found: t.Sequence[Holder]) -> str:
    """Name holders for people: other units first, each once."""
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
        return True  # it ended: nothing to report
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
    """Whether a variable of a process is the path of one of ``directories``, or leads into it: libraries open files for moments only."""
    try:
        values = [value for name, value in environment_of(pid) if name not in NOT_OF_THE_BACKEND]
    except OSError:
        return False
    paths = (value for value in values if value.startswith("/") and len(value) < _LONGEST_PATH)
    real = (os.path.realpath(path) for path in paths if time.monotonic() < until)
    return any(_is_below(path, directory) for path in real for directory in directories)


def _written(pid: int, directories: t.Sequence[str], until: float) -> bool:
    """Whether a process has something below ``directories`` open for writing: who only reads (a backup, a look by this collection) tears
    nothing.
    """
    try:
        with os.scandir(f"/proc/{pid}/fd") as numbers:
            for number in numbers:
                if time.monotonic() > until:
                    raise SessionsError(
                        f"the open files of all processes cannot be looked through within {HOLDERS_SECONDS:g} seconds, "
                        f"PID {pid} ({command_of(pid)}) has too many; nothing was changed, stop it and run again"
                    )
                opened = _link(pid, f"fd/{number.name}")
                inside = any(_is_below(opened, directory) for directory in directories)
                if inside and _flags(pid, number.name) & os.O_ACCMODE != os.O_RDONLY:
                    return True
    except OSError:
        pass  # it ended
    return False


def _flags(pid: int, number: str) -> int:
    try:
        with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii") as file:
            return next(int(line.split()[1], 8) for line in file if line.startswith("flags:"))
    except (OSError, StopIteration):
        return os.O_RDONLY  # closed since it was listed


def _program(pid: int) -> tuple[str, str] | None:
    program = (_link(pid, "exe"), _link(pid, "cwd")) if pid else ("", "")
    return program if all(program) and program[1] != "/" else None


def _link(pid: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return ""


def command_of(pid: int) -> str:
    """Return the name of a process's command, ``?`` where it ended."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            command = file.read().rstrip("\n")
    except OSError:
        return "?"
    return "".join(
        character if character.isprintable() else "?" for character in command
    )  # anybody may call himself anything


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory}/")
