# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""How a backend finds the directory of its accounts: by an absolute path, a relative one, or a name that is written into the program.

Values of variables may be secrets: they are compared, and only names of variables are returned.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from .._proc.procfs import NOT_OF_THE_BACKEND, named_paths
from .._systemd.bindings import placed_bindings
from .._systemd.effective import Sources, effective_in, environment_names, variable_history, winning
from .._systemd.unit import Unit, process_environment
from .._usage.dotenv import dotenv_in
from .._usage.process_paths import environment_of_process, processes_to_ask, working_directories
from .facts import Overridden

ABSOLUTE, DEFAULT = "absolute", "default"
_VALUE_AT_MOST = 4096  # characters: PATH_MAX


def named_by(unit: Unit, sources: Sources, path: str) -> str:
    """Return how the backend finds ``path`` (a real path); see Place."""
    if any(os.path.realpath(one.binding.source) == path for one in placed_bindings(sources)):
        return ABSOLUTE
    homes = [os.path.realpath(directory) for directory in working_directories(unit)]
    relative = ""
    for name, value, home in _values(unit, sources):
        for named in named_paths(value):
            if _leads(named, path, home, homes):
                if named.startswith("/"):
                    return ABSOLUTE
                relative = relative or name
    return relative or (DEFAULT if any(_is_below(path, home) for home in homes) else "")


def overridden(sources: Sources, path: str) -> t.Iterator[Overridden]:
    """Yield the variables that one file sets to ``path`` and a later definition to something else."""
    for name in _names(sources):
        history = variable_history(sources, name)
        last = winning(history)
        if last is not None and last.value != path and any(place.value == path for place in history):
            yield Overridden(name, last.source, last.line)


def outdated(unit: Unit, sources: Sources, path: str) -> tuple[str, ...]:
    """Return the variables that lead to ``path`` at the next start, and that the running process does not have like that."""
    names = _leading(sources, path)
    if not unit.main_pid or not names:
        return ()
    has = process_environment(unit.main_pid, names)
    return tuple(name for name in names if has.get(name) != path) if os.path.exists(f"/proc/{unit.main_pid}") else ()


def contradicting_dotenv(
    unit: Unit, sources: Sources, path: str, places: t.Collection[str]
) -> t.Iterator[tuple[str, str]]:
    """Yield ``.env`` files and the variable in them that leads elsewhere: one that the unit sets to ``path``, or to one of ``places``."""
    names = [name for name in _names(sources) if any(place.value == path for place in variable_history(sources, name))]
    for directory in dict.fromkeys(os.path.realpath(found) for found in working_directories(unit)):
        for name, value in dotenv_in(directory):
            real = _real(value, directory)
            if real != os.path.realpath(path) and (name in names or real in places):
                yield f"{directory}/.env", name


def _names(sources: Sources) -> tuple[str, ...]:
    return environment_names(sources, [placed.setting for placed in sources.settings])


def _leading(sources: Sources, path: str) -> tuple[str, ...]:
    return tuple(name for name in _names(sources) if effective_in(sources, name).value == path)


def _values(unit: Unit, sources: Sources) -> t.Iterator[tuple[str, str, str]]:
    """Yield each variable of the running processes, or of the next start, with its value and the working directory."""
    pids = processes_to_ask(unit)
    for pid in pids:
        with contextlib.suppress(OSError):
            home = os.readlink(f"/proc/{pid}/cwd")
            yield from (
                (name, value, home)
                for name, value in environment_of_process(pid).items()
                if name not in NOT_OF_THE_BACKEND
            )
    home = next(iter(working_directories(unit)), "/")
    for name in _names(sources) if not pids else ():
        yield name, effective_in(sources, name).value or "", home


def _leads(value: str, path: str, home: str, homes: t.Collection[str]) -> bool:
    """Return whether a value names ``path``, or a directory above it that is not one of the program itself."""
    real = _real(value, home)
    if real == path:
        return True
    return _is_below(path, real) and not any(known == real or _is_below(known, real) for known in homes)


def _real(value: str, home: str) -> str:
    if not value or len(value) > _VALUE_AT_MOST or "\0" in value:
        return "/"
    return os.path.realpath(os.path.join(home, value))


def _is_below(path: str, directory: str) -> bool:
    return directory != "/" and path.startswith(f"{directory}/")
