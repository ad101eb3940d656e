# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Find processes that use accounts if the named unit does not exist on a host: started manually, by cron, by PM2.

Used only then, to say what to do. Processes are reported by PID and command, and by their unit if they have one.
"""

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from .._core.errors import SessionsError
from .._fs.fdopen import opened_directory
from .._fs.patterns import paths_matching
from .._layouts.layout import Layout
from .._layouts.registry import LAYOUTS, names_of_any
from .._proc.control_groups import group_of, unit_in
from .._proc.open_files import command_of
from .._proc.procfs import NOT_OF_THE_BACKEND, environment_of, stat_of

_SECONDS = 5.0
_FOUND_AT_MOST, _VALUES_AT_MOST = 5, 200
_SHELLS = ("bash", "sh", "dash", "zsh", "fish", "sshd", "sudo", "su", "sftp-server")


class Loose(t.NamedTuple):
    """A process that uses accounts: the directory of the accounts, and its unit, '' if it has none."""

    pid: int
    command: str
    directory: str
    unit: str


def what_to_do(named: t.Iterable[str], layout: Layout | None) -> str:
    """Return which processes use accounts in the directories ``named`` or in default directories, and what to do; '' if none."""
    found = loose_backends(named, layout)
    units = sorted({process.unit for process in found if process.unit})
    if units:
        first = next(process for process in found if process.unit)
        return f"; {', '.join(units)} uses accounts in {first.directory} (PID {first.pid}, {first.command}): set 'unit' to that unit"
    if not found:
        return ""
    shown = ", ".join(f"PID {process.pid} ({process.command}) in {process.directory}" for process in found)
    return (
        f"; accounts are used by {shown}, which no unit runs: create one (ExecStart=, WorkingDirectory=, User=, Restart=on-failure), stop "
        "what starts it now (nohup, cron, screen, pm2), start the unit and set 'unit' to it; or stop it, and migrate "
        "the accounts by session_migrate with 'src' and without 'unit'"
    )


def loose_backends(named: t.Iterable[str], layout: Layout | None) -> list[Loose]:
    """Return processes that use accounts, except this process and its ancestors; takes a few seconds at most."""
    deadline, own, roots = time.monotonic() + _SECONDS, _line(os.getpid()), [os.path.realpath(path) for path in named]
    found: list[Loose] = []
    known: dict[str, bool] = {}
    for name in os.listdir("/proc"):
        if len(found) >= _FOUND_AT_MOST or time.monotonic() > deadline:
            break
        if not name.isdecimal() or int(name) in own:
            continue
        pid, command = int(name), command_of(int(name))
        if command in _SHELLS:
            continue
        for place in _places(pid, roots, layout):
            if place not in known:
                known[place] = _holds_account(place, layout)
            if known[place]:
                found.append(Loose(pid, command, place, unit_in(group_of(pid))))
                break
    return sorted(found)


def _places(pid: int, roots: t.Collection[str], layout: Layout | None) -> t.Iterator[str]:
    """Yield the directories in which a process may keep accounts: those in its environment, and defaults of libraries."""
    try:
        working = os.readlink(f"/proc/{pid}/cwd")
        items = environment_of(pid)[:_VALUES_AT_MOST]
    except (OSError, SessionsError):
        return  # it ended, is a kernel thread, or is not accessible
    for name, value in items:
        if value.startswith("/") and name not in NOT_OF_THE_BACKEND and os.path.normpath(value) != working:
            yield os.path.normpath(value)
    if working in ("/", "/root") or working.startswith("/proc/"):
        return
    yield from (root for root in roots if root == working or root.startswith(f"{working}/"))
    names = [name for each in ((layout,) if layout else LAYOUTS.values()) for name in each.legacy_names]
    yield from (f"{working}/{name}" for name in names if "*" not in name)
    with contextlib.suppress(OSError, SessionsError), opened_directory(working) as directory:
        for name in paths_matching(directory, [name for name in names if "*" in name]):
            yield f"{working}/{name}"


def _holds_account(place: str, layout: Layout | None) -> bool:
    try:
        with opened_directory(place) as root:
            return next(names_of_any(root, layout), None) is not None
    except (OSError, SessionsError):
        return False


def _line(pid: int) -> set[int]:
    """Return a process and all its ancestors."""
    found: set[int] = set()
    while pid > 1 and pid not in found:
        found.add(pid)
        try:
            pid = stat_of(pid).parent
        except OSError:
            break
    return found
