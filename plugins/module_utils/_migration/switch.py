# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The configuration that points a backend to its new sessions path: drop-ins and an environment file, changed while the unit is down.

An environment file overrides every drop-in (systemd.exec(5)), so both are decided, checked and written together.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from .._containers.service import service_identity
from .._core.errors import SessionsError
from .._fs.fdopen import normal_path
from .._fs.files import Held, read_file, read_held
from .._systemd import drop_in
from .._systemd import environment_file as systemd_environment_file
from .._systemd.bindings import Binding, are_bound
from .._systemd.effective import Sources, effective_in, read_sources
from .._systemd.file_steps import Reload
from .._systemd.unit import Unit, process_environment, unit_name
from .._systemd.unit_file import environment_items


class EnvironmentFileEdit(t.NamedTuple):
    """The file that systemd reads with EnvironmentFile=, and the variables it must set, or (None) must not set.

    ``made``: it was created only for these variables, and is removed when it becomes empty.
    """

    path: str
    values: t.Mapping[str, str | None]
    made: bool = False


class PlainFile(t.NamedTuple):
    """A file that a program other than systemd reads, and its requested text: a drop-in of Quadlet, an override of Compose."""

    path: str
    text: str


class Switch(t.NamedTuple):
    """The requested configuration: drop-ins (parameters of systemd_override) and an environment file.

    ``restored``: in a rollback, the variables that get their former values back. ``pre_stop_overrides``: drop-ins that must be effective
    when the unit is stopped; they are no reason to stop it. ``attach``: how to point the backend to its sessions path, see attach.py:
    ``asked`` is the switch before its decision, ``bindings`` are the mounts that the unit must have, which then count instead of
    variables. ``unbound``: in the same way, the mounts that it must not have.
    """

    overrides: tuple[drop_in.Params, ...]
    environment_file: EnvironmentFileEdit | None
    restored: frozenset[str] | None = None
    pre_stop_overrides: tuple[drop_in.Params, ...] = ()
    attach: str = "variable"
    bindings: tuple[Binding, ...] = ()
    unbound: tuple[Binding, ...] = ()
    asked: Switch | None = None
    plain: tuple[PlainFile, ...] = ()

    @property
    def variables(self) -> frozenset[str]:
        """Names of the variables that the switch sets."""
        in_file = (name for name, value in self._values.items() if value is not None)
        return frozenset(name for name, _value in _variables(self.overrides)) | frozenset(in_file)

    @property
    def leads(self) -> bool:
        """Whether the switch points the backend to its path. Without a switch, only the caller knows which path the backend uses."""
        return bool(self.overrides or self.environment_file or self.bindings or self.unbound or self.plain)

    @property
    def changed(self) -> frozenset[str]:
        """Names of the variables that the switch sets, unsets or restores."""
        return self.variables | frozenset(self._values) | (self.restored or frozenset())

    @property
    def _values(self) -> t.Mapping[str, str | None]:
        return self.environment_file.values if self.environment_file else {}


class SwitchState(t.NamedTuple):
    """The observed state: the steps of each drop-in, the current and requested text of the environment file, what the process lacks.

    ``diffs``: of the drop-ins to write. The environment file is never shown, because such files tend to contain secrets.
    ``early``: the steps of each drop-in that is installed before the stop, ``early_diffs``: of those to write. ``warnings``: what shadows a
    drop-in that should not fail for it. ``held``: the environment file as it was read, None if it does not exist. ``trusted``: the uids
    that may own it and its directory. ``plain``: the plain files to write.
    """

    steps: tuple[tuple[drop_in.Step, ...], ...]
    text: str | None
    wanted_text: str | None
    outdated_options: tuple[str, ...]
    diffs: tuple[t.Mapping[str, t.Any], ...] = ()
    early: tuple[tuple[drop_in.Step, ...], ...] = ()
    early_diffs: tuple[t.Mapping[str, t.Any], ...] = ()
    warnings: tuple[str, ...] = ()
    held: Held | None = None
    trusted: frozenset[int] = frozenset()
    plain: tuple[PlainFile, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether a file must be written while the unit is stopped."""
        return any(map(is_written, self.steps)) or self.text != self.wanted_text or bool(self.plain)

    @property
    def early_differs(self) -> bool:
        """Whether a file must be written before the unit is stopped."""
        return any(map(is_written, self.early))

    @property
    def stale(self) -> bool:
        """Whether systemd must reload its files although none has to be written."""
        return any((*self.steps, *self.early)) and not self.differs and not self.early_differs


def read_switch(options: t.Mapping[str, t.Any] | None, unit: str | None) -> Switch:
    """Return the typed switch from the option ``switch``; drop-ins are for ``unit`` unless they name another one."""
    options = options or {}
    overrides, pre_stop_overrides = (
        tuple(drop_in.read_params(_for_unit(given, unit)) for given in options.get(option) or ())
        for option in ("overrides", "pre_stop_overrides")
    )
    switch = Switch(
        overrides,
        read_environment_file(options.get("environment_file")),
        pre_stop_overrides=pre_stop_overrides,
        attach=options.get("attach") or "variable",
    )
    wanted = dict(switch.environment_file.values) if switch.environment_file else {}
    for name, value in _variables(overrides):
        if wanted.setdefault(name, value) != value:
            raise SessionsError(f"'switch' sets {name} to different values in two files; give one value")
    return switch


def read_environment_file(options: t.Mapping[str, t.Any] | None) -> EnvironmentFileEdit | None:
    """Return the typed environment file from its option (``path``, ``values``)."""
    if not options:
        return None
    given = (options.get("values") or {}).items()
    values = {str(name): None if value is None else str(value) for name, value in given}
    systemd_environment_file.with_values("", values)  # refuses names and values that an environment file cannot contain
    return EnvironmentFileEdit(normal_path(options["path"], "environment_file.path"), values)


def observe_switch(switch: Switch, unit: Unit | None) -> SwitchState:
    """Read drop-ins, environment file and process.

    Raises SessionsError for a drop-in that systemd would reject, and if another file overrides the switch, with its name and line.
    """
    file = switch.environment_file
    held, trusted = read_held(file.path) if file else None, _trusted(unit)
    text = _text_of(held)
    wanted_text = _wanted_text(text, file) if file else None
    if file and held:
        _require_trusted(file.path, held, trusted)
        if text != wanted_text:
            _require_one_name(file.path, held)
    # Each drop-in is judged with the future texts of the others: what this switch fixes does not shadow it.
    overlay = _overlay(switch, wanted_text)
    states = [drop_in.observe(wanted, overlay) for wanted in switch.overrides]
    outdated_options = {option for state in states for option in state.outdated_options}
    if unit is not None:
        sources = read_sources(unit.name, overlay)
        if switch.restored is None:
            _require_in_force(switch, sources)
        outdated_options |= _outdated_variables(switch, unit, sources)
    plain = tuple(file for file in switch.plain if read_file(file.path) != file.text.encode())
    early_states = [drop_in.observe(wanted, overlay) for wanted in switch.pre_stop_overrides]
    steps, diffs = _planned(states, switch.overrides)
    early, early_diffs = _planned(early_states, switch.pre_stop_overrides)
    all_seen = zip((*switch.overrides, *switch.pre_stop_overrides), (*states, *early_states), (*steps, *early))
    warnings = tuple(dict.fromkeys(words for seen in all_seen for words in drop_in.report(*seen, None).warnings))
    return SwitchState(
        steps=steps,
        text=text,
        wanted_text=wanted_text,
        outdated_options=tuple(sorted(outdated_options)),
        diffs=(*diffs, *map(_difference, plain)),
        early=early,
        early_diffs=early_diffs,
        warnings=warnings,
        held=held,
        trusted=trusted,
        plain=plain,
    )


def _require_one_name(path: str, held: Held) -> None:
    if held.status.st_nlink > 1:
        raise SessionsError(
            f"{path} has another hard link, which would keep the old content; nothing was changed: "
            "replace it with a copy (cp, then mv) and run again"
        )


def files_of(switch: Switch, state: SwitchState) -> list[str]:
    """Return the files that installing would change."""
    paths = [wanted.path for wanted, steps in zip(switch.overrides, state.steps) if is_written(steps)]
    if switch.environment_file and state.text != state.wanted_text:
        paths.append(switch.environment_file.path)
    return [*paths, *(file.path for file in state.plain)]


def overlay_of(switch: Switch) -> dict[str, str | None]:
    """Return the future texts of the files of the switch, by path."""
    file = switch.environment_file
    return _overlay(switch, _wanted_text(_text_of(read_held(file.path)), file) if file else None)


def needs_restart(switch: Switch, unit: Unit) -> bool:
    """Whether the running main process has other values or bindings than the next start would give it."""
    return bool(_outdated_variables(switch, unit, read_sources(unit.name)))


def _for_unit(given: t.Mapping[str, t.Any], unit: str | None) -> dict[str, t.Any]:
    named = {**given, "unit": given.get("unit") or unit}
    if named["unit"] is None:
        raise SessionsError("a drop-in in 'switch' has no unit; name it in 'unit'")
    if unit is not None and unit_name(named["unit"]) != unit:
        raise SessionsError(
            f"a drop-in in 'switch' is for {named['unit']}, but the sessions belong to {unit}; use systemd_override for it"
        )
    return named


def _variables(overrides: t.Iterable[drop_in.Params]) -> t.Iterator[tuple[str, str]]:
    for wanted in overrides:
        for setting in wanted.settings:
            if setting.option == "Environment" and setting.value:
                yield from environment_items(setting.value)


def _planned(
    states: t.Sequence[drop_in.State], overrides: t.Sequence[drop_in.Params]
) -> tuple[tuple[tuple[drop_in.Step, ...], ...], tuple[t.Mapping[str, t.Any], ...]]:
    """Return the steps of each drop-in, and the diffs of those to write."""
    steps = tuple(drop_in.plan(state, wanted) for state, wanted in zip(states, overrides))
    return steps, tuple(drop_in.diff(*seen) for seen in zip(states, steps, overrides) if is_written(seen[1]))


def _difference(file: PlainFile) -> t.Mapping[str, t.Any]:
    before = (read_file(file.path) or b"").decode("utf-8", "replace")
    return {"before_header": file.path, "after_header": file.path, "before": before, "after": file.text}


def is_written(steps: t.Iterable[drop_in.Step]) -> bool:
    """Whether the steps change a drop-in and do not only reload it."""
    return any(not isinstance(step, Reload) for step in steps)


def _overlay(switch: Switch, wanted_text: str | None) -> dict[str, str | None]:
    """Return the future texts of the files, by path."""
    overlay = {wanted.path: wanted.text for wanted in (*switch.overrides, *switch.pre_stop_overrides)}
    if switch.environment_file:
        overlay[switch.environment_file.path] = wanted_text
    return overlay


def _require_in_force(switch: Switch, sources: Sources) -> None:
    """Raise SessionsError if another file would override the change, so that stopping the backend would be useless."""
    own = set(_overlay(switch, None))
    for name in sorted(switch.variables):
        winner = effective_in(sources, name)
        if winner.source not in own and winner.source:
            raise SessionsError(
                f"{winner.source} line {winner.line} sets {name} as well and overrides this change; "
                f"nothing was changed: fix that line and run again{_or_name_it(winner.source, sources)}"
            )


def _or_name_it(path: str, sources: Sources) -> str:
    """Return the advice to name an environment file in the switch, which then fixes its line; '' for other files."""
    if path in (file.path for file in sources.environment_files):
        return ", or name the file in 'switch.environment_file' to have the line changed by the run"
    return ""


def _outdated_variables(switch: Switch, unit: Unit, sources: Sources) -> set[str]:
    if switch.bindings:  # bindings are for a program that does not read the variables
        return {"BindPaths"} if unit.active and not are_bound(unit, switch.bindings) else set()
    if switch.unbound:
        return {"BindPaths"} if unit.active and are_bound(unit, switch.unbound) else set()
    if not unit.main_pid:
        return set()
    has = process_environment(unit.main_pid, switch.changed)
    wanted = {name: effective_in(sources, name).value for name in switch.changed}
    gone = switch.changed - switch.variables
    return {name for name, value in wanted.items() if (value is not None or name in gone) and has.get(name) != value}


def _wanted_text(text: str | None, file: EnvironmentFileEdit) -> str | None:
    wanted = systemd_environment_file.with_values(text or "", file.values)
    gone = not wanted if file.made else text is None and not any(value is not None for value in file.values.values())
    return None if gone else wanted


def _text_of(held: Held | None) -> str | None:
    return None if held is None else held.content.decode("utf-8", "surrogateescape")


def _trusted(unit: Unit | None) -> frozenset[int]:
    """Return the uids that may own an environment file: root, the current user, and the user of the unit."""
    trusted = {0, os.geteuid()}
    if unit is not None:
        with contextlib.suppress(SessionsError):  # the user may not exist yet in an image, or be dynamic
            trusted.add(service_identity(unit).uid)
    return frozenset(trusted)


def _require_trusted(path: str, held: Held, trusted: t.Collection[int]) -> None:
    """Raise SessionsError if another user controls the file: the unit would run with the values of that user."""
    for what, status in ((path, held.status), (f"the directory of {path}", held.parent)):
        if status.st_uid not in trusted:
            raise SessionsError(
                f"{what} belongs to neither root nor the user of the unit (uid {status.st_uid}); nothing was changed: "
                "give it to one of them and run again"
            )
