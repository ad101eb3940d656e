# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Determine what the next start of a unit will use, and the file and line that decide it. Reads only.

``systemctl show -p Environment`` is not sufficient: environment files override it and are not shown. The precedence is systemd's
(systemd.exec(5), "Environment Variables in Spawned Processes"): the manager's environment, ``Environment=``, ``EnvironmentFile=``, and
``UnsetEnvironment=`` last. The values may be secrets: the caller decides what to report.
"""

from __future__ import annotations

import dataclasses
import glob
import itertools
import re
import typing as t

from .._core.errors import SessionsError
from .._core.limits import ENVIRONMENT_FILES
from .._core.query_cache import cached_query
from .._proc.command import run, run_checked
from . import environment_file, specifiers
from .load_path import Overlay, UnitName, name_parts, read_linked, unit_files
from .option_types import accumulates, canonical_options, same_value
from .unit import Unit, systemd_runs
from .unit_file import Setting, environment_items, is_variable, parse, words

MANAGER = "systemctl show-environment"


class Effective(t.NamedTuple):
    """The value of a variable at the next start (None: not set), and where it is defined (empty: nowhere)."""

    value: str | None
    source: str
    line: int


class Assignment(t.NamedTuple):
    """One definition of a variable or option; ``value`` is None if it is unset or reset. ``wins``: it takes effect."""

    name: str
    value: str | None
    source: str
    line: int
    wins: bool = False


class Placed(t.NamedTuple):
    """A setting and its file."""

    setting: Setting
    file: str


class EnvironmentFile(t.NamedTuple):
    """A file named by ``EnvironmentFile=`` (in ``declared``), and its variables. ``found`` is false if it does not exist."""

    path: str
    declared: Placed
    optional: bool
    found: bool
    assignments: tuple[environment_file.FileAssignment, ...]


class Sources(t.NamedTuple):
    """All configuration of a unit, read once: its settings in systemd's order, and its environment files."""

    name: UnitName
    files: tuple[str, ...]
    settings: tuple[Placed, ...]
    environment_files: tuple[EnvironmentFile, ...]


def effective_in(sources: Sources, name: str) -> Effective:
    """Return the value that the next start of a unit will have for the environment variable ``name``, from its configuration.

    Specifiers are expanded if their value is known.
    """
    winner = winning(variable_history(sources, name))
    if winner is not None:
        return Effective(winner.value, winner.source, winner.line)
    inherited = _manager_environment().get(name)
    return Effective(inherited, MANAGER if inherited is not None else "", 0)


@cached_query
def sources_now(name: str) -> Sources:
    """Like read_sources, with all files as they are on disk."""
    return read_sources(name)


def read_sources(name: str, overlay: Overlay | None = None) -> Sources:
    """Read the configuration of the unit ``name`` from the files on disk; ``overlay``: future contents of some of them.

    Raises SessionsError if no file of such a unit exists.
    """
    parts = name_parts(name)
    files = unit_files(name, overlay)
    settings = tuple(
        Placed(dataclasses.replace(setting, option=option), file.path)
        for file in files
        for setting in parse(file.text)
        for option in canonical_options(setting.option)
    )
    found = tuple(_read_environment_files(parts, settings, overlay))
    return Sources(parts, tuple(file.path for file in files), settings, found)


def variable_history(sources: Sources, name: str) -> tuple[Assignment, ...]:
    """Return all definitions of the variable ``name``, in increasing precedence."""
    history: list[Assignment] = []
    for placed in _execution_settings(sources, "Environment"):
        if placed.setting.value:
            items = environment_items(placed.setting.value)
            history.extend(
                Assignment(name, specifiers.expand(value, sources.name), placed.file, placed.setting.line)
                for variable, value in items
                if variable == name
            )
        elif history:
            history.append(Assignment(name, None, placed.file, placed.setting.line))
    for file in sources.environment_files:
        history.extend(
            Assignment(name, found.value, file.path, found.line) for found in file.assignments if found.name == name
        )
    for placed in _since_reset(_execution_settings(sources, "UnsetEnvironment")):
        unset = {specifiers.expand(word, sources.name) for word in words(placed.setting.value)}
        if history and history[-1].value is not None and unset & {name, f"{name}={history[-1].value}"}:
            history.append(Assignment(name, None, placed.file, placed.setting.line))
    return _with_winner(history)


def option_history(sources: Sources, section: str, option: str) -> tuple[Assignment, ...]:
    """Return all definitions of ``option`` in ``section``, in increasing precedence; a reset has the value None. Pure.

    For an option that accumulates, each definition since the last reset takes effect.
    """
    settings = [
        placed for placed in sources.settings if (placed.setting.section, placed.setting.option) == (section, option)
    ]
    return _with_winner(
        [Assignment(option, placed.setting.value or None, placed.file, placed.setting.line) for placed in settings]
    )


def winning(history: t.Sequence[Assignment]) -> Assignment | None:
    """Return the definition that takes effect, or None if there is none."""
    return history[-1] if history else None


def environment_names(sources: Sources, settings: t.Iterable[Setting]) -> tuple[str, ...]:
    """Return the variables that ``settings`` set or unset, directly or in an environment file that they name. Pure."""
    names: dict[str, None] = {}
    for setting in settings:
        if setting.section != execution_section(sources.name):
            continue
        if setting.option == "Environment":
            names.update((name, None) for name, _value in environment_items(setting.value))
        elif setting.option == "UnsetEnvironment":
            names.update((word.partition("=")[0], None) for word in words(setting.value))
        elif setting.option == "EnvironmentFile":
            for file in sources.environment_files:
                if file.declared.setting.value == setting.value:
                    names.update((found.name, None) for found in file.assignments)
    return tuple(names)


def effective_settings(sources: Sources, settings: t.Iterable[Setting]) -> dict[str, dict[str, t.Any]]:
    """Return section -> option -> effective value for the options of ``settings``; the variables of Environment by name."""
    result: dict[str, dict[str, t.Any]] = {}
    for setting in settings:
        options = result.setdefault(setting.section, {})
        if setting.option == "Environment" and setting.section == execution_section(sources.name):
            variables = options.setdefault("Environment", {})
            variables.update(
                (name, _value_of(variable_history(sources, name))) for name, _text in environment_items(setting.value)
            )
            continue
        for option in canonical_options(setting.option):
            history = option_history(sources, setting.section, option)
            options[option] = list(_accumulated(history)) if accumulates(option) else _value_of(history)
    return result


def shadowed(
    sources: Sources, own_path: str, settings: t.Iterable[Setting]
) -> tuple[tuple[Setting, str, Assignment], ...]:
    """Return (setting, variable, what overrides it) for each of ``settings`` that another definition overrides with another value.

    ``variable`` is empty for options other than Environment.
    """
    found: dict[tuple[str, str, str], tuple[Setting, str, Assignment]] = {}
    for setting in settings:
        environment = setting.option == "Environment" and setting.section == execution_section(sources.name)
        for name, wanted, history in (
            _expectations(sources, setting) if environment else _plain_expectations(sources, own_path, setting)
        ):
            winner = winning(history) or masking_file(sources, own_path, name)
            if winner is None or winner.source == own_path or winner.value == wanted:
                continue
            if environment or not same_value(name, winner.value or "", wanted or ""):
                found[setting.section, setting.option, name] = (setting, name if environment else "", winner)
    return tuple(found.values())


def execution_section(name: UnitName) -> str:
    """Return the section with the options for a unit's processes, for example Service."""
    return name.type.capitalize()


def loaded_environment(unit: Unit) -> dict[str, str]:
    """Return the variables of ``Environment=`` as systemd has loaded them, with specifiers expanded; without environment files."""
    return dict(environment_items(_from_shell(unit.properties["Environment"])))


def _value_of(history: t.Sequence[Assignment]) -> str | None:
    return history[-1].value if history else None


def _accumulated(history: t.Iterable[Assignment]) -> tuple[str, ...]:
    values: list[str] = []
    for place in history:
        if place.value is None:
            values.clear()
        else:
            values.append(place.value)
    return tuple(values)


def _with_winner(history: t.Sequence[Assignment]) -> tuple[Assignment, ...]:
    return tuple(place._replace(wins=place is history[-1]) for place in history)


def _execution_settings(sources: Sources, option: str) -> list[Placed]:
    section = execution_section(sources.name)
    return [
        placed for placed in sources.settings if (placed.setting.section, placed.setting.option) == (section, option)
    ]


def _since_reset(settings: t.Sequence[Placed]) -> list[Placed]:
    kept: list[Placed] = []
    for placed in settings:
        kept = [*kept, placed] if placed.setting.value else []
    return kept


def _expectations(sources: Sources, setting: Setting) -> t.Iterator[tuple[str, str | None, tuple[Assignment, ...]]]:
    """Yield (variable, wanted value, history) for each variable of an Environment= line of this collection."""
    for name, value in environment_items(setting.value):
        yield name, specifiers.expand(value, sources.name), variable_history(sources, name)


def _plain_expectations(
    sources: Sources, own_path: str, setting: Setting
) -> t.Iterator[tuple[str, str | None, tuple[Assignment, ...]]]:
    """Do the same for another option. If it accumulates, only a later reset overrides our line."""
    for option in canonical_options(setting.option):
        history = option_history(sources, setting.section, option)
        if not accumulates(option):
            yield option, setting.value or None, history
        elif setting.value:
            behind = itertools.dropwhile(lambda place: place.source != own_path, history)
            yield (
                option,
                setting.value,
                tuple(place for place in behind if place.value is None and place.source != own_path),
            )


def masking_file(sources: Sources, own_path: str, name: str) -> Assignment | None:
    """Return the file with the same name in a directory of higher priority: systemd reads only that one of the two."""
    if own_path in sources.files:
        return None
    file = own_path.rpartition("/")[2]
    return next(
        (Assignment(name, None, path, 0, wins=True) for path in sources.files if path.rpartition("/")[2] == file), None
    )


def _read_environment_files(
    parts: UnitName, settings: t.Sequence[Placed], overlay: Overlay | None
) -> t.Iterator[EnvironmentFile]:
    section = execution_section(parts)
    declared = [
        placed for placed in settings if (placed.setting.section, placed.setting.option) == (section, "EnvironmentFile")
    ]
    number = 0
    for placed in _since_reset(declared):
        optional = placed.setting.value.startswith("-")
        pattern = specifiers.expand(placed.setting.value[optional:], parts)
        # systemd globs the name, load_env_file via exec_context_load_environment()
        paths = [pattern] if pattern in (overlay or {}) else sorted(glob.glob(pattern)) or [pattern]
        for path in paths if pattern.startswith("/") else ():
            number += 1
            if number > ENVIRONMENT_FILES:
                raise SessionsError(
                    f"the unit {parts.full} has more than {ENVIRONMENT_FILES} environment files ({pattern}); find out what creates them, "
                    "remove those that are not needed and run again"
                )
            text = read_linked(path, overlay)
            yield EnvironmentFile(path, placed, optional, text is not None, () if text is None else _parse(path, text))


def _parse(path: str, text: str) -> tuple[environment_file.FileAssignment, ...]:
    try:
        return _parsed(text)
    except SessionsError as error:
        raise SessionsError(f"cannot read {path}: {error}") from error


def _parsed(text: str) -> tuple[environment_file.FileAssignment, ...]:
    if environment_file.depends_on_version(text):
        return environment_file.parse(text, version=_systemd_version())
    return environment_file.parse(text)


def _systemd_version() -> int:
    """Return the version of systemd on this host; the newest if it is unknown."""
    try:
        answer = re.match(r"systemd (\d+)", run(["systemctl", "--version"]).stdout)
    except SessionsError:
        answer = None  # an image without the program
    return int(answer[1]) if answer else environment_file.NEWEST


def _manager_environment() -> dict[str, str]:
    if not systemd_runs():
        return {}
    shown = run_checked(["systemctl", "show-environment"], purpose="read the environment of systemd")
    pairs = (line.partition("=") for line in shown.stdout.splitlines())
    return {
        name: "".join(words(_from_shell(value.removeprefix("$"))))
        for name, mark, value in pairs
        if mark and is_variable(name)
    }


def _from_shell(text: str) -> str:
    """Convert the shell quoting of systemctl's output to that of unit files, where ``\\$`` is not an escape."""
    return re.sub(r"\\(.)", lambda escape: escape[1] if escape[1] in "$`!" else escape[0], text, flags=re.DOTALL)
