# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job behind session_plan: reports in one call what the other modules would do on this host.

Each module call costs a host about 0.2 s of CPU time whatever it does, so a host with nothing to do should need only one.
The only steps that this job applies are waiting: if something is left to do, for a moment at which the backend may be interrupted,
and otherwise for a backend that is not healthy yet.
"""

from __future__ import annotations

import typing as t

from .._accounts import info as accounts_info
from .._containers.detect import container_of
from .._containers.service import read_service
from .._core.errors import SessionsError
from .._core.job import Report
from .._core.query_cache import one_look
from .._core.summary import of_plan
from .._directory import job as directory_job
from .._directory.observe import Params as DirParams
from .._directory.observe import State as DirState
from .._fs.users import owner_name
from .._health import job as health_job
from .._layouts.layout import LINKED, Layout
from .._layouts.registry import first_layout
from .._migration import observe as migration_observe
from .._migration import params as migration_params
from .._migration import plan as migration_plan
from .._migration.switch import (
    EnvironmentFileEdit,
    Switch,
    SwitchState,
    observe_switch,
    overlay_of,
    read_environment_file,
)
from .._systemd import drop_in
from .._systemd.load_path import Overlay
from .._usage import use as usage_use
from .._usage.in_use import ELSEWHERE, Verdict
from . import graceful_stop

if t.TYPE_CHECKING:
    from .._usage import variables
    from . import backup, moment


class Params(t.NamedTuple):
    """The parameters of each requested job; None for the others."""

    dir: DirParams | None
    stop: graceful_stop.Params | None
    overrides: tuple[drop_in.Params, ...]
    environment_file: EnvironmentFileEdit | None
    in_force: variables.Params | None
    in_use: usage_use.Params | None
    migrate: migration_params.Params | None
    info: accounts_info.Params | None
    health: health_job.Params | None
    expected_accounts: int = 0
    allow_stopped: bool = False
    backup: backup.Params | None = None
    moment: moment.Params | None = None


class StopState(t.NamedTuple):
    """The drop-in for a graceful stop: its sections for the found layout, and the parameters and state of its override job."""

    sections: t.Mapping[str, t.Mapping[str, str]]
    wanted: drop_in.Params
    seen: drop_in.State


class State(t.NamedTuple):
    """The state that each job observed."""

    dir: DirState | None
    stop: StopState | None
    overrides: tuple[drop_in.State, ...]
    environment_file: SwitchState | None
    in_force: tuple[variables.Variable, ...] | None
    in_use: usage_use.Seen | None
    migrate: migration_observe.State | None
    info: accounts_info.State | None
    health: health_job.Observation | None
    backup: backup.Seen | None = None
    moment: moment.Seen | None = None


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the parameters of each job."""
    overrides = tuple(drop_in.read_params(given) for given in options.get("overrides") or ())
    migrate = migration_params.read_params(options["migrate"]) if options.get("migrate") else None
    directory = directory_job.read_params(options["dir"]) if options.get("dir") else None
    if directory:
        later = (*overrides, *(migrate.switch.overrides if migrate else ()))
        directory = directory._replace(read_write_paths=_read_write_paths(later))
    return Params(
        dir=directory,
        stop=graceful_stop.read_params(options["stop"]) if options.get("stop") else None,
        overrides=overrides,
        environment_file=read_environment_file(options.get("environment_file")),
        in_force=_read_in_force(options["in_force"]) if options.get("in_force") else None,
        in_use=usage_use.read_params(options["in_use"]) if options.get("in_use") else None,
        migrate=migrate,
        info=accounts_info.read_params(options["info"]) if options.get("info") else None,
        health=health_job.read_params(options["health"]) if options.get("health") else None,
        expected_accounts=options.get("expected_accounts") or 0,
        allow_stopped=bool(options.get("allow_stopped")),
        backup=_read_backup(options["backup"]) if options.get("backup") else None,
        moment=_read_moment(options["moment"]) if options.get("moment") else None,
    )


def _read_backup(options: t.Mapping[str, t.Any]) -> backup.Params:
    from . import backup

    return backup.read_params(options)


def _observe_backup(params: backup.Params) -> backup.Seen:
    from . import backup

    return backup.observe(params)


def _report_backup(params: backup.Params, seen: backup.Seen, state: State) -> dict[str, t.Any]:
    from . import backup

    return backup.report(params, seen, _linked(state))


def _read_moment(options: t.Mapping[str, t.Any]) -> moment.Params:
    from . import moment

    return moment.read_params(options)


def _observe_moment(params: moment.Params) -> moment.Seen:
    from . import moment

    return moment.observe(params)


def _awaits(state: State, params: Params) -> tuple[moment.Await, ...]:
    """Return the step to wait for a moment at which the backend may be interrupted, if one is needed."""
    if params.moment is None or state.moment is None:
        return ()
    from . import moment

    return moment.plan(params.moment, state.moment)


def _read_in_force(options: t.Mapping[str, t.Any]) -> variables.Params:
    from .._usage import variables

    return variables.read_params(options)


def _observe_in_force(params: variables.Params) -> tuple[variables.Variable, ...]:
    from .._usage import variables

    return variables.observe(params)


def observe(params: Params) -> State:
    """Observe the state of each job. Health is last and uses no cached queries: the backend may have been restarted meanwhile."""
    with one_look():
        state = _observe_all_but_health(params)
    return state._replace(health=health_job.observe(params.health) if params.health else None)


def _observe_all_but_health(params: Params) -> State:
    migrate = migration_observe.observe(params.migrate) if params.migrate else None
    info = accounts_info.observe(params.info) if params.info else None
    # Values in a drop-in that is about to be replaced no longer count.
    overlay = overlay_of(migrate.effective.switch) if migrate else {}
    return State(
        dir=directory_job.observe(params.dir) if params.dir and not _is_mounted(migrate) else None,
        stop=_observe_stop(params.stop, _layout(migrate, info), overlay)
        if params.stop and not container_of(read_service(params.stop.unit))  # a container is stopped by its engine
        else None,
        overrides=tuple(map(drop_in.observe, params.overrides)),
        environment_file=observe_switch(Switch((), params.environment_file), None) if params.environment_file else None,
        in_force=_observe_in_force(params.in_force) if params.in_force else None,
        in_use=usage_use.observe(params.in_use, _layout(migrate, info)) if params.in_use else None,
        migrate=migrate,
        info=info,
        health=None,
        backup=_observe_backup(params.backup) if params.backup else None,
        moment=_observe_moment(params.moment) if params.moment else None,
    )


def _is_mounted(migrate: migration_observe.State | None) -> bool:
    """Whether a container has the sessions path mounted, so that its owner and mode already suit the program."""
    return bool(migrate and migrate.container and not migrate.container.root)


def plan(state: State, params: Params) -> tuple[health_job.Wait | moment.Await, ...]:
    """Return the step to wait for a backend that is not healthy, if nothing else is left to do, and otherwise for the moment to do it.

    If no job is requested whose changes could be left to do, the caller is about to make some.
    Raises what the plans of the jobs raise, and SessionsError for problems that no job can fix.
    """
    left = _left(state, params)
    if any(left.values()):
        if params.migrate and state.migrate:
            from .._migration.switch_refusals import require_expected

            require_expected(state.migrate, params.expected_accounts)
        return _awaits(state, params)
    _require_kept(state, params)
    waiting: tuple[health_job.Wait, ...] = ()
    if params.health is not None and state.health is not None and not _is_stopped(state.health, params):
        waiting = health_job.plan(state.health, params.health)
    if not waiting:  # a process that was just started may not even have its own environment yet
        _require_used(state, params)
    return waiting if left or waiting else _awaits(state, params)


def diff(state: State, steps: tuple[t.Any, ...], params: Params) -> t.Mapping[str, t.Any]:
    """Return nothing: this job changes nothing."""
    return {}


def apply(
    steps: tuple[health_job.Wait | moment.Await, ...], state: State, params: Params
) -> health_job.Observation | None:
    """Wait until the backend is healthy, or may be interrupted. Raises SessionsError on a timeout."""
    waits = tuple(step for step in steps if isinstance(step, health_job.Wait))
    if params.moment is not None and not waits:
        from . import moment

        moment.apply(params.moment)
        return None
    if params.health is None or state.health is None:
        raise SessionsError("there is nothing to wait for; describe the backend's health in 'health'")
    return health_job.apply(waits, state.health, params.health)


def verify(state: State, params: Params) -> None:
    """Check again where the backend keeps its accounts, because programs save late. The end of the wait has already proved its health.

    If something is left to do, it was about the moment, and nothing has changed since.
    """
    if not any(_left(state, params).values()):
        _require_used(state, params)


def report(params: Params, state: State, steps: tuple[t.Any, ...], evidence: health_job.Observation | None) -> Report:
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
    if params.backup and state.backup:
        values["backup"] = _report_backup(params.backup, state.backup, state)
    if params.moment and state.moment:
        values["moment"] = _report_moment(params.moment, state.moment)
        if evidence is None and steps and values["moment"]["problem"]:
            warnings.append(f"{values['moment']['problem']}, so a run would stop before it changes anything")
    if state.in_force is not None:
        values["in_force"] = [variable._asdict() for variable in state.in_force]
    if state.stop:
        values["stop"] = {
            "unit": state.stop.wanted.unit,
            "name": state.stop.wanted.name,
            "sections": state.stop.sections,
        }
    return Report(values, tuple(warnings))


def _report_moment(params: moment.Params, seen: moment.Seen) -> dict[str, t.Any]:
    from . import moment

    return moment.report(params, seen)


def _is_stopped(look: health_job.Observation, params: Params) -> bool:
    """Whether the backend is stopped and may be. One that exited by itself is ``failed`` or about to be restarted, not ``inactive``."""
    return params.allow_stopped and look.unit is not None and look.unit.properties["ActiveState"] == "inactive"


def _layout(migrate: migration_observe.State | None, info: accounts_info.State | None) -> Layout:
    if migrate:
        return migrate.survey.layout
    return info.layout if info else first_layout()


def _observe_stop(params: graceful_stop.Params, layout: Layout, overlay: Overlay) -> StopState:
    sections = graceful_stop.sections_for(params, layout, overlay)
    wanted = drop_in.read_params({"unit": params.unit, "name": params.name, "sections": sections})
    return StopState(sections, wanted, drop_in.observe(wanted, overlay))


def _left(state: State, params: Params) -> dict[str, bool]:
    """Return for each requested job whether its plan has a step that changes something."""
    left: dict[str, bool] = {}
    if params.dir and state.dir:
        left["dir"] = bool(directory_job.plan(state.dir, params.dir))
    if state.stop:
        left["stop"] = bool(drop_in.plan(state.stop.seen, state.stop.wanted))
    if params.overrides:
        plans = (drop_in.plan(seen, wanted) for seen, wanted in zip(state.overrides, params.overrides))
        left["overrides"] = any(plans)
    if state.environment_file:
        left["environment_file"] = state.environment_file.differs
    if params.migrate and state.migrate:
        left["migrate"] = any(not step.bookkeeping for step in migration_plan.plan(state.migrate, params.migrate))
    return left


def _require_kept(state: State, params: Params) -> None:
    """Raise SessionsError if the backend cannot write to its sessions, or fewer accounts are linked than expected."""
    if params.dir and state.dir and state.dir.not_writable:
        raise SessionsError(
            f"{owner_name(state.dir.wanted.uid)} cannot write to {params.dir.path}: {state.dir.not_writable}; "
            "check what prevents it (quota, immutable flag, SELinux, export options of a network filesystem)"
        )
    if params.info and state.info and accounts_info.sound_count(state.info) < params.expected_accounts:
        raise SessionsError(
            f"{accounts_info.sound_count(state.info)} accounts are linked at {params.info.path}, but "
            f"{params.expected_accounts} were expected; see what session_info reports about the others"
        )


def _require_used(state: State, params: Params) -> None:
    """Raise SessionsError if the running backend does not use the path of its accounts."""
    wrong, use = "", None
    if state.in_use:
        use = state.in_use.use
        wrong = usage_use.complaint(state.in_use, _sound(state))
    elif params.migrate and state.migrate and state.migrate.effective.switch.leads and _sound(state):
        use = state.migrate.use
        # After a rollback the path may be known only to the program, and without an open file nothing shows that it uses it.
        if use and (params.migrate.state != "rolled_back" or use.state == ELSEWHERE):
            wrong = usage_use.complaint_of(use, params.migrate.unit or "", state.migrate.effective.path)
    if wrong:
        raise SessionsError(wrong, in_use=_shown_use(use))


def _shown_use(use: Verdict | None) -> dict[str, t.Any]:
    return {"state": use.state if use else "stopped", "where": list(use.where) if use else []}


def _reports(state: State, params: Params, look: health_job.Observation | None) -> t.Iterator[tuple[str, Report]]:
    if params.migrate and state.migrate:
        yield (
            "migrate",
            migration_plan.report(
                params.migrate, state.migrate, migration_plan.plan(state.migrate, params.migrate), None
            ),
        )
    if params.dir and state.dir:
        yield "dir", directory_job.report(params.dir, state.dir, directory_job.plan(state.dir, params.dir), None)
    if params.info and state.info:
        yield "info", accounts_info.report(params.info, state.info, (), None)
    if params.health and look:
        yield "health", health_job.report(params.health, look, (), None)


def _sound(state: State) -> int:
    """Count the accounts, at either path, that must reconnect after a restart."""
    return len(_linked(state))


def _linked(state: State) -> set[str]:
    """Return the names of these accounts."""
    names: set[str] = set()
    if state.migrate:
        seen = state.migrate.survey
        names |= {
            account.name
            for account in seen.accounts
            if account.legacy.state in LINKED and account.decision.action != "skipped"
        }
        names |= {name for name, found in seen.present.items() if found in LINKED}
    if state.info:
        names |= {account.name for account in state.info.accounts if account.state in LINKED}
    return names


def _read_write_paths(overrides: t.Iterable[drop_in.Params]) -> tuple[str, ...]:
    """Return the paths in ReadWritePaths= of drop-ins that will be written."""
    settings = (setting for wanted in overrides for setting in wanted.settings)
    return tuple(
        path
        for setting in settings
        if setting.option == "ReadWritePaths" and setting.value
        for path in setting.value.split()
    )
