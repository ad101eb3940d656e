# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Whether variables of a unit are what they should be: in its files, as systemd reads them, and in the running process."""

from __future__ import annotations

import typing as t

from ._effective import effective_in, read_sources
from ._unit import process_environment, read_unit, unit_name


class Params(t.NamedTuple):
    """The unit, and the variables that it should have."""

    unit: str
    values: t.Mapping[str, str]


class Variable(t.NamedTuple):
    """One variable: does the next start give it the wanted value, which file and line decides, and does the process have it?

    ``file`` is empty where nothing sets it; ``running`` is None where no process runs.
    """

    name: str
    as_wanted: bool
    file: str
    line: int
    running: bool | None


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Make the typed parameters."""
    return Params(unit_name(options["unit"]), {str(name): str(value) for name, value in options["values"].items()})


def observe(params: Params) -> tuple[Variable, ...]:
    """Read the unit's files and the environment of its main process."""
    unit = read_unit(params.unit)
    sources = read_sources(unit.name)
    has = process_environment(unit.main_pid, params.values) if unit.main_pid else None
    found = []
    for name, wanted in sorted(params.values.items()):
        decides = effective_in(sources, name)
        running = None if has is None else has.get(name) == wanted
        found.append(Variable(name, decides.value == wanted, decides.source, decides.line, running))
    return tuple(found)
