# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job behind session_plan: what the other modules would do on this host, asked in one call.

Each module call costs every host about 0.2 s of its CPU whatever it does, so a host where nothing is to be done should cost one.
The only thing applied here is waiting: when nothing else is left to do, a backend that is not well yet gets its time to become so.
"""

from __future__ import annotations

import typing as t

from . import _dir, _health, _in_force, _info, _migrate_plan, _migrate_state, _override, _stop
from ._dir_state import Params as DirParams
from ._dir_state import State as DirState
from ._errors import SessionsError
from ._identity import owner_name
from ._job import Report
from ._layouts import Layout, first_layout
from ._one_look import one_look
from ._switch import EnvironmentFile, Switch, SwitchState, observe_switch, overlay_of, read_environment_file
from ._unit_path import Overlay


class Params(t.NamedTuple):
    """The parameters of each job that was asked about."""

    dir: DirParams | None
    stop: _stop.Params | None
    overrides: tuple[_override.Params, ...]
    environment_file: EnvironmentFile | None
    in_force: _in_force.Params | None
    migrate: _migrate_state.Params | None
    info: _info.Params | None
    health: _health.Params | None
    expected_accounts: int = 0
    may_be_stopped: bool = False


class StopState(t.NamedTuple):
    """The drop-in for a graceful stop: its sections, made for the layout found, and what it needs."""

    sections: t.Mapping[str, t.Mapping[str, str]]
    wanted: _override.Params
    seen: _override.State


class State(t.NamedTuple):
    """The state that each job saw."""

    dir: DirState | None
    stop: StopState | None
    overrides: tuple[_override.State, ...]
    environment_file: SwitchState | None
    in_force: tuple[_in_force.Variable, ...] | None
    migrate: _migrate_state.State | None
    info: _info.State | None
    health: _health.Look | None


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Make the parameters of each job."""
    overrides = tuple(_override.read_params(given) for given in options.get("overrides") or ())
    migrate = _migrate_state.read_params(options["migrate"]) if options.get("migrate") else None
    directory = _dir.read_params(options["dir"]) if options.get("dir") else None
    if directory:
        later = (*overrides, *(migrate.switch.overrides if migrate else ()))
        directory = directory._replace(read_write_paths=_read_write_paths(later))
    return Params(
        dir=directory,
        stop=_stop.read_params(options["stop"]) if options.get("stop") else None,
        overrides=overrides,
        environment_file=read_environment_file(options.get("environment_file")),
        in_force=_in_force.read_params(options["in_force"]) if options.get("in_force") else None,
        migrate=migrate,
        info=_info.read_params(options["info"]) if options.get("info") else None,
        health=_health.read_params(options["health"]) if options.get("health") else None,
        expected_accounts=options.get("expected_accounts") or 0,
        may_be_stopped=bool(options.get("may_be_stopped")),
    )


def observe(params: Params) -> State:
    """Look once for each job. At the backend last, and with fresh eyes: it may have been restarted since the unit was asked about."""
    with one_look():
        state = _observe_all_but_health(params)
    return state._replace(health=_health.observe(params.health) if params.health else None)


def _observe_all_but_health(params: Params) -> State:
    migrate = _migrate_state.observe(params.migrate) if params.migrate else None
    info = _info.observe(params.info) if params.info else None
    # What is set in a drop-in that is about to be replaced is nobody's wish any more.
    overlay = overlay_of(params.migrate.switch) if params.migrate else {}
    return State(
        dir=_dir.observe(params.dir) if params.dir else None,
        stop=_observe_stop(params.stop, _layout(migrate, info), overlay) if params.stop else None,
        overrides=tuple(map(_override.observe, params.overrides)),
        environment_file=observe_switch(Switch((), params.environment_file), None) if params.environment_file else None,
        in_force=_in_force.observe(params.in_force) if params.in_force else None,
        migrate=migrate,
        info=info,
        health=None,
    )


def plan(state: State, params: Params) -> tuple[_health.Wait, ...]:
    """Wait for a backend that is not well, if nothing else is left to do.

    Raises what the plans of the jobs raise, and SessionsError for what is wrong although nothing is left to do.
    """
    if any(_left(state, params).values()):
        return ()
    _require_kept(state, params)
    if params.health is None or state.health is None or _is_stopped(state.health, params):
        return ()
    return _health.plan(state.health, params.health)


def diff(state: State, steps: tuple[t.Any, ...], params: Params) -> t.Mapping[str, t.Any]:
    """Looking changes nothing, so there is nothing to show."""
    return {}


def apply(steps: tuple[_health.Wait, ...], state: State, params: Params) -> _health.Look:
    """Wait until the backend is well; raise SessionsError when its time is over."""
    if params.health is None or state.health is None:
        raise SessionsError("there is nothing to wait for; name the backend's health in 'health'")
    return _health.apply(steps, state.health, params.health)


def verify(state: State, params: Params) -> None:
    """The look that ended the wait is the proof."""


def report(params: Params, state: State, steps: tuple[t.Any, ...], evidence: _health.Look | None) -> Report:
    """Tell per job whether there is anything to do, and what was seen."""
    left = _left(state, params)
    look = evidence or state.health
    warnings: list[str] = []
    values: dict[str, t.Any] = {
        "todo": [name for name, wanted in left.items() if wanted],
        "steps": left,
        "sound": _sound(state),
    }
    for name, told in _reports(state, params, look):
        values[name] = dict(told.values)
        warnings.extend(told.warnings)
    if look and look.unit and _is_stopped(look, params):
        warnings.append(f"{look.unit.name} is stopped, so nothing says that it is well; start it when it is to run")
    if state.in_force is not None:
        values["in_force"] = [variable._asdict() for variable in state.in_force]
    if state.stop:
        values["stop"] = {
            "unit": state.stop.wanted.unit,
            "name": state.stop.wanted.name,
            "sections": state.stop.sections,
        }
    return Report(values, tuple(warnings))


def _is_stopped(look: _health.Look, params: Params) -> bool:
    """Whether the backend is down, and may be: one that ended by itself is ``failed``, or about to be started again."""
    return params.may_be_stopped and look.unit is not None and look.unit.properties["ActiveState"] == "inactive"


def _layout(migrate: _migrate_state.State | None, info: _info.State | None) -> Layout:
    if migrate:
        return migrate.survey.layout
    return info.layout if info else first_layout()


def _observe_stop(params: _stop.Params, layout: Layout, overlay: Overlay) -> StopState:
    sections = _stop.sections_for(params, layout, overlay)
    wanted = _override.read_params({"unit": params.unit, "name": params.name, "sections": sections})
    return StopState(sections, wanted, _override.observe(wanted, overlay))


def _left(state: State, params: Params) -> dict[str, bool]:
    """Say for each job that was asked about whether its plan has a step that changes something."""
    left: dict[str, bool] = {}
    if params.dir and state.dir:
        left["dir"] = bool(_dir.plan(state.dir, params.dir))
    if state.stop:
        left["stop"] = bool(_override.plan(state.stop.seen, state.stop.wanted))
    if params.overrides:
        plans = (_override.plan(seen, wanted) for seen, wanted in zip(state.overrides, params.overrides))
        left["overrides"] = any(plans)
    if state.environment_file:
        left["environment_file"] = state.environment_file.differs
    if params.migrate and state.migrate:
        left["migrate"] = any(not step.bookkeeping for step in _migrate_plan.plan(state.migrate, params.migrate))
    return left


def _require_kept(state: State, params: Params) -> None:
    """Raise SessionsError where the backend cannot write to its sessions, or fewer accounts are linked than expected."""
    if params.dir and state.dir and state.dir.not_writable:
        raise SessionsError(
            f"{owner_name(state.dir.wanted.uid)} cannot write in {params.dir.path}: {state.dir.not_writable}; "
            "see what forbids it (quota, immutable flag, SELinux, export options of a network filesystem)"
        )
    if params.info and state.info and _info.sound_count(state.info) < params.expected_accounts:
        raise SessionsError(
            f"{_info.sound_count(state.info)} accounts are linked at {params.info.path}, "
            f"and it should be {params.expected_accounts}; see what session_info says about the others"
        )


def _reports(state: State, params: Params, look: _health.Look | None) -> t.Iterator[tuple[str, Report]]:
    if params.migrate and state.migrate:
        yield (
            "migrate",
            _migrate_plan.report(
                params.migrate, state.migrate, _migrate_plan.plan(state.migrate, params.migrate), None
            ),
        )
    if params.dir and state.dir:
        yield "dir", _dir.report(params.dir, state.dir, _dir.plan(state.dir, params.dir), None)
    if params.info and state.info:
        yield "info", _info.report(params.info, state.info, (), None)
    if params.health and look:
        yield "health", _health.report(params.health, look, (), None)


def _sound(state: State) -> int:
    """Count the accounts, at either path, that a restart has to bring back."""
    names: set[str] = set()
    if state.migrate:
        seen = state.migrate.survey
        names |= {
            account.name
            for account in seen.accounts
            if account.legacy.state in _info.SOUND and account.decision.action != "skipped"
        }
        names |= {name for name, found in seen.present.items() if found in _info.SOUND}
    if state.info:
        names |= {account.name for account in state.info.accounts if account.state in _info.SOUND}
    return len(names)


def _read_write_paths(overrides: t.Iterable[_override.Params]) -> tuple[str, ...]:
    """Collect what drop-ins that are still to be written list in ReadWritePaths=."""
    settings = (setting for wanted in overrides for setting in wanted.settings)
    return tuple(
        path
        for setting in settings
        if setting.option == "ReadWritePaths" and setting.value
        for path in setting.value.split()
    )
