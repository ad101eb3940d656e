# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job behind session_plan: reports in one call what the other modules would do on this host.

Each module call costs a host about 0.2 s of CPU time whatever it does, so a host with nothing to do should need only one.
The only step that this job applies is waiting: if nothing else is left to do, it waits for a backend that is not healthy yet.
"""

from __future__ import annotations

import typing as t

from . import _dir, _health, _info, _migrate_plan, _migrate_state, _override, _stop, _use
from ._containers import container_of
from ._dir_state import Params as DirParams
from ._dir_state import State as DirState
from ._errors import SessionsError
from ._identity import owner_name
from ._in_use import ELSEWHERE, Verdict
from ._job import Report
from ._layout import SOUND
from ._layouts import Layout, first_layout
from ._one_look import one_look
from ._summary import of_plan
from ._switch import EnvironmentFile, Switch, SwitchState, observe_switch, overlay_of, read_environment_file
from ._unit import read_unit
from ._unit_path import Overlay

if t.TYPE_CHECKING:
    from . import _in_force


class Params(t.NamedTuple):
    """The parameters of each requested job; None for the others."""

    dir: DirParams | None
    stop: _stop.Params | None
    overrides: tuple[_override.Params, ...]
    environment_file: EnvironmentFile | None
    in_force: _in_force.Params | None
    in_use: _use.Params | None
    migrate: _migrate_state.Params | None
    info: _info.Params | None
    health: _health.Params | None
    expected_accounts: int = 0
    allow_stopped: bool = False


class StopState(t.NamedTuple):
    """The drop-in for a graceful stop: its sections for the found layout, and the parameters and state of its override job."""

    sections: t.Mapping[str, t.Mapping[str, str]]
    wanted: _override.Params
    seen: _override.State


class State(t.NamedTuple):
    """The state that each job observed."""

    dir: DirState | None
    stop: StopState | None
    overrides: tuple[_override.State, ...]
    environment_file: SwitchState | None
    in_force: tuple[_in_force.Variable, ...] | None
    in_use: _use.Seen | None
    migrate: _migrate_state.State | None
    info: _info.State | None
    health: _health.Look | None


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the parameters of each job."""
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
        in_force=_read_in_force(options["in_force"]) if options.get("in_force") else None,
        in_use=_use.read_params(options["in_use"]) if options.get("in_use") else None,
        migrate=migrate,
        info=_info.read_params(options["info"]) if options.get("info") else None,
        health=_health.read_params(options["health"]) if options.get("health") else None,
        expected_accounts=options.get("expected_accounts") or 0,
        allow_stopped=bool(options.get("allow_stopped")),
    )


def _read_in_force(options: t.Mapping[str, t.Any]) -> _in_force.Params:
    from . import _in_force

    return _in_force.read_params(options)


def _observe_in_force(params: _in_force.Params) -> tuple[_in_force.Variable, ...]:
    from . import _in_force

    return _in_force.observe(params)


def observe(params: Params) -> State:
    """Observe the state of each job. Health is last and uses no cached queries: the backend may have been restarted meanwhile."""
    with one_look():
        state = _observe_all_but_health(params)
    return state._replace(health=_health.observe(params.health) if params.health else None)


def _observe_all_but_health(params: Params) -> State:
    migrate = _migrate_state.observe(params.migrate) if params.migrate else None
    info = _info.observe(params.info) if params.info else None
    # Values in a drop-in that is about to be replaced no longer count.
    overlay = overlay_of(migrate.params.switch) if migrate else {}
    return State(
        dir=_dir.observe(params.dir) if params.dir and not _is_mounted(migrate) else None,
        stop=_observe_stop(params.stop, _layout(migrate, info), overlay)
        if params.stop and not container_of(read_unit(params.stop.unit))  # a container is stopped by its engine
        else None,
        overrides=tuple(map(_override.observe, params.overrides)),
        environment_file=observe_switch(Switch((), params.environment_file), None) if params.environment_file else None,
        in_force=_observe_in_force(params.in_force) if params.in_force else None,
        in_use=_use.observe(params.in_use, _layout(migrate, info)) if params.in_use else None,
        migrate=migrate,
        info=info,
        health=None,
    )


def _is_mounted(migrate: _migrate_state.State | None) -> bool:
    """Whether a container has the sessions path mounted, so that its owner and mode already suit the program."""
    return bool(migrate and migrate.container and not migrate.container.root)


def plan(state: State, params: Params) -> tuple[_health.Wait, ...]:
    """Return the step to wait for a backend that is not healthy, if nothing else is left to do.

    Raises what the plans of the jobs raise, and SessionsError for problems that no job can fix.
    """
    if any(_left(state, params).values()):
        if params.migrate and state.migrate:
            from ._behind import require_expected

            require_expected(state.migrate, params.expected_accounts)
        return ()
    _require_kept(state, params)
    waiting: tuple[_health.Wait, ...] = ()
    if params.health is not None and state.health is not None and not _is_stopped(state.health, params):
        waiting = _health.plan(state.health, params.health)
    if not waiting:  # a process that was just started may not even have its own environment yet
        _require_used(state, params)
    return waiting


def diff(state: State, steps: tuple[t.Any, ...], params: Params) -> t.Mapping[str, t.Any]:
    """Return nothing: this job changes nothing."""
    return {}


def apply(steps: tuple[_health.Wait, ...], state: State, params: Params) -> _health.Look:
    """Wait until the backend is healthy. Raises SessionsError on a timeout."""
    if params.health is None or state.health is None:
        raise SessionsError("there is nothing to wait for; describe the backend's health in 'health'")
    return _health.apply(steps, state.health, params.health)


def verify(state: State, params: Params) -> None:
    """Check again where the backend keeps its accounts, because programs save late. The end of the wait has already proved its health."""
    _require_used(state, params)


def report(params: Params, state: State, steps: tuple[t.Any, ...], evidence: _health.Look | None) -> Report:
    """Report for each job whether anything is left to do, and its own report."""
    left = _left(state, params)
    look = evidence or state.health
    warnings: list[str] = []
    values: dict[str, t.Any] = {
        "todo": [name for name, wanted in left.items() if wanted],
        "steps": left,
        "linked_accounts": _sound(state),
    }
    for name, told in _reports(state, params, look):
        values[name] = dict(told.values)
        warnings.extend(told.warnings)
    values["summary"] = of_plan(_sound(state) if state.migrate or state.info else None, values.get("health"), left)
    if look and look.unit and _is_stopped(look, params):
        warnings.append(f"{look.unit.name} is stopped, so its health is unknown; start it when it should run")
    if state.in_use:
        values["in_use"] = {**_shown_use(state.in_use.use), "newer": list(state.in_use.newer)}
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
    """Whether the backend is stopped and may be. One that exited by itself is ``failed`` or about to be restarted, not ``inactive``."""
    return params.allow_stopped and look.unit is not None and look.unit.properties["ActiveState"] == "inactive"


def _layout(migrate: _migrate_state.State | None, info: _info.State | None) -> Layout:
    if migrate:
        return migrate.survey.layout
    return info.layout if info else first_layout()


def _observe_stop(params: _stop.Params, layout: Layout, overlay: Overlay) -> StopState:
    sections = _stop.sections_for(params, layout, overlay)
    wanted = _override.read_params({"unit": params.unit, "name": params.name, "sections": sections})
    return StopState(sections, wanted, _override.observe(wanted, overlay))


def _left(state: State, params: Params) -> dict[str, bool]:
    """Return for each requested job whether its plan has a step that changes something."""
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
    """Raise SessionsError if the backend cannot write to its sessions, or fewer accounts are linked than expected."""
    if params.dir and state.dir and state.dir.not_writable:
        raise SessionsError(
            f"{owner_name(state.dir.wanted.uid)} cannot write to {params.dir.path}: {state.dir.not_writable}; "
            "check what prevents it (quota, immutable flag, SELinux, export options of a network filesystem)"
        )
    if params.info and state.info and _info.sound_count(state.info) < params.expected_accounts:
        raise SessionsError(
            f"{_info.sound_count(state.info)} accounts are linked at {params.info.path}, but "
            f"{params.expected_accounts} were expected; see what session_info reports about the others"
        )


def _require_used(state: State, params: Params) -> None:
    """Raise SessionsError if the running backend does not use the path of its accounts."""
    wrong, use = "", None
    if state.in_use:
        use = state.in_use.use
        wrong = _use.complaint(state.in_use, _sound(state))
    elif params.migrate and state.migrate and state.migrate.params.switch.leads and _sound(state):
        use = state.migrate.use
        # After a rollback the path may be known only to the program, and without an open file nothing shows that it uses it.
        if use and (params.migrate.state != "rolled_back" or use.state == ELSEWHERE):
            wrong = _use.complaint_of(use, params.migrate.unit or "", state.migrate.params.path)
    if wrong:
        raise SessionsError(wrong, in_use=_shown_use(use))


def _shown_use(use: Verdict | None) -> dict[str, t.Any]:
    return {"state": use.state if use else "stopped", "where": list(use.where) if use else []}


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
    """Count the accounts, at either path, that must reconnect after a restart."""
    names: set[str] = set()
    if state.migrate:
        seen = state.migrate.survey
        names |= {
            account.name
            for account in seen.accounts
            if account.legacy.state in SOUND and account.decision.action != "skipped"
        }
        names |= {name for name, found in seen.present.items() if found in SOUND}
    if state.info:
        names |= {account.name for account in state.info.accounts if account.state in SOUND}
    return len(names)


def _read_write_paths(overrides: t.Iterable[_override.Params]) -> tuple[str, ...]:
    """Return the paths in ReadWritePaths= of drop-ins that will be written."""
    settings = (setting for wanted in overrides for setting in wanted.settings)
    return tuple(
        path
        for setting in settings
        if setting.option == "ReadWritePaths" and setting.value
        for path in setting.value.split()
    )
