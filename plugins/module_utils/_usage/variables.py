# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Check whether variables of a unit have the right values: in its files, as systemd reads them, and in the running process.

For a program that does not read a variable, the path may be mounted where it looks for its accounts: then the mount counts.
"""

from __future__ import annotations

import os
import typing as t

from .._containers.detect import container_of
from .._containers.service import read_service
from .._core.errors import SessionsError
from .._systemd.bindings import are_bound, placed_bindings
from .._systemd.effective import Effective, Sources, effective_in, environment_names, sources_now
from .._systemd.unit import Unit, process_environment, unit_name

if t.TYPE_CHECKING:
    from .._containers.recognise import Container


class Params(t.NamedTuple):
    """The unit, and the variables that it should have."""

    unit: str
    values: t.Mapping[str, str]


class Variable(t.NamedTuple):
    """One variable: whether the next start sets it to the wanted value, the file and line that decide, and whether the process has it.

    ``file`` is empty if nothing sets it; ``running`` is None if no process is running. ``attached_by``: how the next start provides the
    wanted value: ``variable`` (possibly another one than ``name``), ``bind``, ``volume`` (of a container), or empty.
    """

    name: str
    as_wanted: bool
    file: str
    line: int
    running: bool | None
    attached_by: str = ""


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the typed parameters."""
    return Params(unit_name(options["unit"]), {str(name): str(value) for name, value in options["values"].items()})


def observe(params: Params) -> tuple[Variable, ...]:
    """Read the unit's files, the environment of its main process, and the mounts of its processes."""
    unit = read_service(params.unit)
    container = container_of(unit)
    if container:
        return _mounted(container, unit, params)
    sources = sources_now(unit.name)
    return tuple(_observed(unit, sources, name, wanted) for name, wanted in sorted(params.values.items()))


def _observed(unit: Unit, sources: Sources, name: str, wanted: str) -> Variable:
    decides = effective_in(sources, name)
    bound = [one for one in placed_bindings(sources) if one.binding.source == wanted != one.binding.directory]
    first = next((one for one in bound if _leads_there(unit, decides.value, wanted, one.binding.directory)), None)
    if first is not None:
        running = are_bound(unit, (first.binding,)) if unit.active else None
        return Variable(name, True, first.file, first.line, running, "bind")
    if decides.value != wanted:
        name, decides = _other_variable(sources, name, wanted) or (name, decides)
    has = process_environment(unit.main_pid, (name,)) if unit.main_pid else None
    running = None if has is None else has.get(name) == wanted
    is_set = decides.value == wanted
    return Variable(name, is_set, decides.source, decides.line, running, "variable" if is_set else "")


def _leads_there(unit: Unit, value: str | None, wanted: str, bound: str) -> bool:
    """Return whether a program that reads the variable uses the same directory as one that does not."""
    if value is None or value == wanted:
        return True
    return os.path.realpath(os.path.join(unit.working_directory, value)) == os.path.realpath(bound)


def _other_variable(sources: Sources, name: str, wanted: str) -> tuple[str, Effective] | None:
    """Return another variable with the wanted path: the variable that the program reads may have any name."""
    if not wanted.startswith("/"):
        return None
    for other in environment_names(sources, [placed.setting for placed in sources.settings]):
        decides = effective_in(sources, other)
        if decides.value == wanted:
            return other, decides
    return None


def _mounted(container: Container, unit: Unit, params: Params) -> tuple[Variable, ...]:
    """A container does not read variables of its unit: it must mount the paths, now and after its next start."""
    from .._containers.handling import handling_of

    for path in params.values.values():
        if handling_of(container, path, None).root:
            raise SessionsError(
                f"the running container of {unit.name} does not mount {path} and keeps its accounts in storage that is deleted with it; "
                "nothing was changed: run the role persist, which migrates them there"
            )
    running = True if unit.active else None
    return tuple(Variable(name, True, "", 0, running, "volume") for name in sorted(params.values))
