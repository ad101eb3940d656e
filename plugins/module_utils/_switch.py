# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The configuration that sends a backend to its new sessions path: drop-ins and an environment file, changed while the unit is down.

An environment file beats every drop-in (systemd.exec(5)), so both are decided, checked and written together.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from . import _environment_file, _override
from ._effective import Sources, effective_in, read_sources
from ._errors import SessionsError
from ._paths import normal_path, opened_directory, read_file, write_atomic
from ._unit import Unit, process_environment, unit_name
from ._unitfile import environment_items


class EnvironmentFile(t.NamedTuple):
    """The file that systemd reads with EnvironmentFile=, and the variables it has to set, or (None) must not set.

    ``made``: it was made for these variables alone, and is removed once nothing is left in it.
    """

    path: str
    values: t.Mapping[str, str | None]
    made: bool = False


class Switch(t.NamedTuple):
    """What is wanted: drop-ins (parameters of systemd_override) and an environment file.

    ``restored``: the variables that get back whatever they were before another switch, where this one is its way back.
    ``before_stop``: drop-ins that have to be in force when the unit is stopped; they are no reason to stop it.
    """

    overrides: tuple[_override.Params, ...]
    environment_file: EnvironmentFile | None
    restored: frozenset[str] | None = None
    before_stop: tuple[_override.Params, ...] = ()

    @property
    def variables(self) -> frozenset[str]:
        """Names of the variables that the switch sets."""
        in_file = (name for name, value in self._values.items() if value is not None)
        return frozenset(name for name, _value in _variables(self.overrides)) | frozenset(in_file)

    @property
    def changed(self) -> frozenset[str]:
        """Names of the variables that have another value, or none, with the switch than without it."""
        return self.variables | frozenset(self._values) | (self.restored or frozenset())

    @property
    def _values(self) -> t.Mapping[str, str | None]:
        return self.environment_file.values if self.environment_file else {}


class SwitchState(t.NamedTuple):
    """What is there: per drop-in the steps it needs, the environment file's text now and as wanted, what the process lacks.

    ``diffs``: of the drop-ins that have to be written. The environment file is never shown, such files tend to hold secrets.
    ``early``: the steps of each drop-in that comes before the stop, ``early_diffs``: of those that have to be written.
    ``warnings``: what beats a drop-in that was not to fail for it.
    """

    steps: tuple[tuple[_override.Step, ...], ...]
    text: str | None
    wanted_text: str | None
    lacking: tuple[str, ...]
    diffs: tuple[t.Mapping[str, t.Any], ...] = ()
    early: tuple[tuple[_override.Step, ...], ...] = ()
    early_diffs: tuple[t.Mapping[str, t.Any], ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether a file has to be written that needs the unit stopped."""
        return any(map(_writes, self.steps)) or self.text != self.wanted_text

    @property
    def early_differs(self) -> bool:
        """Whether a file has to be written before the unit is stopped."""
        return any(map(_writes, self.early))

    @property
    def stale(self) -> bool:
        """Whether systemd has to read its files again although none has to be written."""
        return any((*self.steps, *self.early)) and not self.differs and not self.early_differs


def read_switch(options: t.Mapping[str, t.Any] | None, unit: str | None) -> Switch:
    """Make the typed switch from the option ``switch``; drop-ins are for ``unit`` unless they say otherwise."""
    options = options or {}
    overrides, before_stop = (
        tuple(_override.read_params(_for_unit(given, unit)) for given in options.get(option) or ())
        for option in ("overrides", "before_stop")
    )
    switch = Switch(overrides, read_environment_file(options.get("environment_file")), before_stop=before_stop)
    wanted = dict(switch.environment_file.values) if switch.environment_file else {}
    for name, value in _variables(overrides):
        if wanted.setdefault(name, value) != value:
            raise SessionsError(
                f"'switch' sets {name} to one value in one file and to another in a second one; give one value"
            )
    return switch


def read_environment_file(options: t.Mapping[str, t.Any] | None) -> EnvironmentFile | None:
    """Make the typed environment file from its option (``path``, ``values``)."""
    if not options:
        return None
    given = (options.get("values") or {}).items()
    values = {str(name): None if value is None else str(value) for name, value in given}
    _environment_file.with_values("", values)  # refuses names and values that no environment file can hold
    return EnvironmentFile(normal_path(options["path"], "environment_file.path"), values)


def observe_switch(switch: Switch, unit: Unit | None) -> SwitchState:
    """Look at drop-ins, environment file and process.

    Raises SessionsError for a drop-in that systemd would not accept, and when a file beats the switch, naming file and line.
    """
    file = switch.environment_file
    text = _read_text(file.path) if file else None
    wanted_text = _wanted_text(text, file) if file else None
    # Each drop-in is judged with the others as they are going to be: what this switch mends does not shadow it.
    overlay = _overlay(switch, wanted_text)
    states = [_override.observe(wanted, overlay) for wanted in switch.overrides]
    lacking = {option for state in states for option in state.lacking}
    if unit is not None:
        sources = read_sources(unit.name, overlay)
        if switch.restored is None:
            _require_in_force(switch, sources)
        lacking |= _lacking_variables(switch, unit, sources)
    early_states = [_override.observe(wanted, overlay) for wanted in switch.before_stop]
    steps, diffs = _planned(states, switch.overrides)
    early, early_diffs = _planned(early_states, switch.before_stop)
    all_seen = zip((*switch.overrides, *switch.before_stop), (*states, *early_states), (*steps, *early))
    warnings = tuple(dict.fromkeys(words for seen in all_seen for words in _override.report(*seen, None).warnings))
    return SwitchState(steps, text, wanted_text, tuple(sorted(lacking)), diffs, early, early_diffs, warnings)


def files_of(switch: Switch, state: SwitchState) -> list[str]:
    """Return the files that installing would change."""
    paths = [wanted.path for wanted, steps in zip(switch.overrides, state.steps) if _writes(steps)]
    if switch.environment_file and state.text != state.wanted_text:
        paths.append(switch.environment_file.path)
    return paths


def install(switch: Switch, state: SwitchState) -> None:
    """Write what differs, durably, the environment file first: it is the one that wins. systemd is not told here."""
    file = switch.environment_file
    if file and state.text != state.wanted_text:
        if state.wanted_text is None:
            _remove(file.path)
        else:
            _write_text(file.path, state.wanted_text)
    for wanted, steps in zip(switch.overrides, state.steps):
        _override.install(steps, wanted)


def install_early(switch: Switch, state: SwitchState) -> bool:
    """Write the drop-ins that come before the stop; return whether systemd, which is not told here, has to read its files again."""
    for wanted, steps in zip(switch.before_stop, state.early):
        _override.install(steps, wanted)
    return any(isinstance(step, _override.Reload) for steps in state.early for step in steps)


def overlay_of(switch: Switch) -> dict[str, str | None]:
    """Return the files that the switch is about as they are going to be."""
    file = switch.environment_file
    return _overlay(switch, _wanted_text(_read_text(file.path), file) if file else None)


def lacks_value(switch: Switch, unit: Unit) -> bool:
    """Whether the running main process was started with other values than the next start would give it."""
    return bool(_lacking_variables(switch, unit, read_sources(unit.name)))


def _for_unit(given: t.Mapping[str, t.Any], unit: str | None) -> dict[str, t.Any]:
    named = {**given, "unit": given.get("unit") or unit}
    if named["unit"] is None:
        raise SessionsError("a drop-in in 'switch' has no unit; name it in 'unit'")
    if unit is not None and unit_name(named["unit"]) != unit:
        raise SessionsError(
            f"a drop-in in 'switch' is for {named['unit']}, the sessions are those of {unit}; use systemd_override for it"
        )
    return named


def _variables(overrides: t.Iterable[_override.Params]) -> t.Iterator[tuple[str, str]]:
    for wanted in overrides:
        for setting in wanted.settings:
            if setting.option == "Environment" and setting.value:
                yield from environment_items(setting.value)


def _planned(
    states: t.Sequence[_override.State], overrides: t.Sequence[_override.Params]
) -> tuple[tuple[tuple[_override.Step, ...], ...], tuple[t.Mapping[str, t.Any], ...]]:
    """Return the steps of each drop-in, and the differences of those that have to be written."""
    steps = tuple(_override.plan(state, wanted) for state, wanted in zip(states, overrides))
    return steps, tuple(_override.diff(*seen) for seen in zip(states, steps, overrides) if _writes(seen[1]))


def _writes(steps: t.Iterable[_override.Step]) -> bool:
    return any(not isinstance(step, _override.Reload) for step in steps)


def _overlay(switch: Switch, wanted_text: str | None) -> dict[str, str | None]:
    """The files as they are going to be."""
    overlay = {wanted.path: wanted.text for wanted in (*switch.overrides, *switch.before_stop)}
    if switch.environment_file:
        overlay[switch.environment_file.path] = wanted_text
    return overlay


def _require_in_force(switch: Switch, sources: Sources) -> None:
    """Refuse to stop a backend for a change that another file would beat."""
    own = set(_overlay(switch, None))
    for name in sorted(switch.variables):
        winner = effective_in(sources, name)
        if winner.source not in own and winner.source:
            raise SessionsError(
                f"{winner.source} line {winner.line} sets {name}, too, and beats this change; "
                "nothing was changed: mend that line and run again"
            )


def _lacking_variables(switch: Switch, unit: Unit, sources: Sources) -> set[str]:
    if not unit.main_pid:
        return set()
    has = process_environment(unit.main_pid, switch.changed)
    wanted = {name: effective_in(sources, name).value for name in switch.changed}
    gone = switch.changed - switch.variables
    return {name for name, value in wanted.items() if (value is not None or name in gone) and has.get(name) != value}


def _wanted_text(text: str | None, file: EnvironmentFile) -> str | None:
    wanted = _environment_file.with_values(text or "", file.values)
    gone = not wanted if file.made else text is None and not any(value is not None for value in file.values.values())
    return None if gone else wanted


def _read_text(path: str) -> str | None:
    content = read_file(path)
    return None if content is None else content.decode("utf-8", "surrogateescape")


def _remove(path: str) -> None:
    with opened_directory(os.path.dirname(path)) as parent:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.basename(path), dir_fd=parent)
        os.fsync(parent)


def _write_text(path: str, text: str) -> None:
    """Keep owner and mode of a file that is there; a new one is for root alone, for such files tend to hold secrets."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    mode, uid, gid = 0o600, os.geteuid(), os.getegid()
    with opened_directory(directory) as parent:
        try:
            status = os.stat(os.path.basename(path), dir_fd=parent, follow_symlinks=False)
            mode, uid, gid = status.st_mode & 0o777, status.st_uid, status.st_gid
        except FileNotFoundError:
            pass
    write_atomic(path, text.encode("utf-8", "surrogateescape"), mode, uid=uid, gid=gid)
