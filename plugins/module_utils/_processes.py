# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Who works on a directory right now, outside the unit that is meant to: read from /proc, named by PID and command name only."""

from __future__ import annotations

import dataclasses
import os
import typing as t


@dataclasses.dataclass(frozen=True)
class Holder:
    """A process outside the unit, and how it holds the directory: ``writing``, ``inside`` (its cwd) or ``copy`` (a second backend)."""

    pid: int
    command: str
    how: str


def holders(directories: t.Sequence[str], control_group: str, main_pid: int) -> tuple[Holder, ...]:
    """Return the processes that hold one of ``directories`` (real paths) and are not of the unit's control group.

    Libraries like Baileys open their files only for moments. So a process that runs the same program in the same working directory as
    the unit's main process counts, too: a backend somebody started by hand.
    """
    program = _program(main_pid)
    found = []
    for pid in _others(control_group):
        how = _how(pid, directories, program)
        if how:
            found.append(Holder(pid, _command(pid), how))
    return tuple(found)


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


def _how(pid: int, directories: t.Sequence[str], program: tuple[str, str] | None) -> str:
    where = _link(pid, "cwd")
    if any(_is_below(where, directory) for directory in directories):
        return "inside"
    if program is not None and (_link(pid, "exe"), where) == program:
        return "copy"
    if any(_is_below(opened, directory) for opened in _written(pid) for directory in directories):
        return "writing"
    return ""


def _written(pid: int) -> t.Iterator[str]:
    """Yield what a process has open for writing: who only reads (a backup, a look by this collection) tears nothing."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for number in numbers:
        if _flags(pid, number) & os.O_ACCMODE != os.O_RDONLY:
            yield _link(pid, f"fd/{number}")


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


def _command(pid: int) -> str:
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
