# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Read from the processes of a unit which paths its backend was started with. Values may be secrets: they are tried, never shown."""

from __future__ import annotations

import os
import typing as t

from .._core.query_cache import cached_query
from .._proc.control_groups import processes_of
from .._proc.procfs import NOT_OF_THE_BACKEND, environment_of, named_paths
from .._systemd.effective import effective_in, environment_names, read_sources
from .._systemd.unit import Unit

# A browser has dozens of processes, a process manager one or two per program.
_PROCESSES_AT_MOST = 200


def working_directories(unit: Unit) -> list[str]:
    """Return the directories that a relative path may refer to, likely ones first."""
    # A process manager runs each of its programs in a separate directory.
    found = [*_main_directories(unit), *map(_working_directory, processes_to_ask(unit)[1:])]
    return [directory for directory in dict.fromkeys(found) if directory.startswith("/")]


def _main_directories(unit: Unit) -> list[str]:
    """Return the working directories of the running main process, whose release may have been replaced, and of the next one."""
    home = unit.working_directory
    if not home.startswith("/"):  # '~': the home directory of the unit's user
        home = os.path.expanduser(f"~{unit.properties['User'] or 'root'}")
    return [*map(_working_directory, processes_to_ask(unit)[:1]), home]


def processes_to_ask(unit: Unit) -> tuple[int, ...]:
    """Return the PIDs of a unit, the main process first, up to a limit."""
    return _processes(unit.main_pid, unit.properties["ControlGroup"])


@cached_query
def _processes(main_pid: int, group: str) -> tuple[int, ...]:
    pids = processes_of((group,)).pids
    return tuple(dict.fromkeys((main_pid, *pids) if main_pid else pids))[:_PROCESSES_AT_MOST]


def _working_directory(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""  # it has ended


def _environment_of(unit: Unit) -> set[str]:
    """Return the values, absolute or relative, of the variables of the running or the next backend. Try them, never show them."""
    pids = processes_to_ask(unit)
    if pids:
        items = environment_of_process(pids[0])
    else:
        sources = read_sources(unit.name)
        names = environment_names(sources, [placed.setting for placed in sources.settings])
        items = {name: effective_in(sources, name).value or "" for name in names}
    return _values_of(items)


def _values_of(items: t.Mapping[str, str]) -> set[str]:
    named = (value for name, value in items.items() if value and name not in NOT_OF_THE_BACKEND)
    return {path for value in named for path in named_paths(value)}


@cached_query
def environment_of_process(pid: int) -> t.Mapping[str, str]:
    """Return the environment that a process was started with; empty if it has ended. Values may be secrets: try them, never show them."""
    try:
        return dict(environment_of(pid))
    except OSError:
        return {}
