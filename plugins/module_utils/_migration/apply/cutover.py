# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The cutover: everything from the stop of the backend to the proof that it uses the sessions path.

While it is stopped, while_stopped.py acts. On any error the backend runs on its former accounts again. Containers whose layer holds the
accounts have cutovers of their own: container_run.py and compose_rollback.py.
"""

from __future__ import annotations

import contextlib
import typing as t

from ..._accounts.control_directory import INTENT
from ..._containers.service import read_service
from ..._core.errors import SessionsError, StartFailed
from ..._fs.fdopen import opened_directory
from ..._layouts.layout import LINKED
from ..._systemd.bindings import are_bound
from ..._usage.open_watch import UseWatch
from .checks import require_nobody_holds
from .close_mount_points import close
from .guard import Cutover, rescuer_armed, stopped
from .install_switch import clear_the_way, early_installed
from .kept_copies import forget_source, is_committed, is_source_gone
from .progress import Run
from .proof import Start, prove, watched_use
from .recover import tidy
from .undo import fall_back, undo
from .while_stopped import publish_all

if t.TYPE_CHECKING:
    from ..._containers.handling import Handling
    from ..._systemd.unit import Unit
    from ..params import Params


def cut_over(run: Run) -> None:
    """Do everything from the stop to the verification after the start. On any error, the backend runs on its former accounts again."""
    require_nobody_holds(run.state)
    if run.touches:
        run.touches.read()
    cutover, container = _cutover_of(run), run.state.container
    if cutover and container and container.back:
        _go_back_into_container(run, cutover)
    elif cutover and container and container.root and not cutover.compose:
        _cut_over_container(run, cutover)
    else:
        _cut_over_unit(run, cutover)


def _cut_over_unit(run: Run, cutover: Cutover | None) -> None:
    with (
        early_installed(run.params.switch, run.state.switch),  # systemd reads it when the guard is installed
        rescuer_armed(cutover) if cutover else contextlib.nullcontext(),
        contextlib.ExitStack() as started,
    ):
        try:
            use = _publish_while_stopped(run, cutover, started)
            unit = _unit_to_prove(run)
            if unit:
                with run.watch.phase("prove"):
                    run.warnings.extend(_proved(run, unit, use))
        except StartFailed as error:
            if cutover:
                _give_up(run, cutover, error)
            raise
    if run.state.attachment and run.params.switch.bindings:
        close_points(run)
    try:
        tidy(run.control, run.data, None)
    except OSError as error:  # no reason to fail: the accounts are in place
        run.warnings.append(f"cannot remove all staged copies: {error.strerror}; the next run removes them")


def _publish_while_stopped(run: Run, cutover: Cutover | None, started: contextlib.ExitStack) -> UseWatch | None:
    """Publish everything while the unit is stopped, or undo it; then start the unit.

    Return the watch, closed with ``started``, that sees which accounts the unit opens from its start on.
    """
    with stopped(cutover) if cutover else contextlib.nullcontext():
        try:
            publish_all(run)
            unit = _unit_to_prove(run)
            return started.enter_context(_watched_use(run, unit)) if unit else None
        except BaseException:
            clear_the_way(run.params.switch, run.state.switch)
            undo(run)
            raise


def _unit_to_prove(run: Run) -> Unit | None:
    """Return the unit if it will run and is led to the sessions path."""
    is_led = run.params.switch.leads or run.params.restores or run.state.container
    return run.unit if is_led and run.unit and run.unit.active else None


def _give_up(run: Run, cutover: Cutover, error: StartFailed) -> t.NoReturn:
    if cutover.inside:  # the former accounts were deleted with the former container
        from .container_run import kept

        raise SessionsError(f"{error}; {kept(cutover.unit, run.params.path)}") from error
    fall_back(run, cutover, f"{error}{run.state.hint}")


def _watched_use(run: Run, unit: Unit) -> t.ContextManager[UseWatch | None]:
    return watched_use(unit, run.params.path, run.state.former, run.survey.layout)


def _start_of(run: Run, unit: Unit) -> Start:
    """Return what must be verified after the start."""
    published = (account for account in run.survey.accounts if account.decision.publish)
    linked = {account.name for account in published if account.legacy.state in LINKED}
    linked |= {name for name, found in run.survey.present.items() if found in LINKED}
    return Start(
        unit.name,
        run.params.path,
        run.state.former,
        run.survey.layout,
        run.params.switch,
        bool(linked),
        run.params.unit_timeout,
        run.params.use_timeout,
    )


def _proved(run: Run, unit: Unit, use: UseWatch | None) -> tuple[str, ...]:
    """Verify that the backend uses the sessions path; return warnings. Raises StartFailed for every error."""
    start = _start_of(run, unit)
    unproved = f"{unit.name} was started, but whether it uses {start.path} could not be verified"
    try:
        if run.state.container:
            from .container_run import prove_container

            return prove_container(start, use)
        warnings = prove(start, use)
        _require_bound(unit.name, run.params)
        return warnings
    except StartFailed:
        raise
    except SessionsError as error:
        raise StartFailed(f"{unproved}: {error}") from error
    except OSError as error:
        raise StartFailed(f"{unproved}: {error.strerror}") from error


def _require_bound(unit: str, params: Params) -> None:
    """Raise StartFailed if the bindings are missing; the only check that is possible when systemd knows no main process."""
    now = read_service(unit)
    if now.active and not are_bound(now, params.switch.bindings):
        raise StartFailed(f"{unit} was started, but {params.path} is not mounted over its accounts directory")


def close_points(run: Run) -> None:
    """Close the mount points of a backend that is known to run with its bindings."""
    state = run.state
    points, identity = state.attachment.points if state.attachment else (), state.identity
    if state.unit is None or not state.unit.active or not identity.uid:
        return
    try:
        owners = {uid for source in state.sources for uid in source.owners or (identity.uid,) if uid}
        close(run.control, points, owners, identity.gid)
    except OSError as error:  # no reason to fail: the accounts are in place
        run.warnings.append(
            f"cannot close {', '.join(points)} to other users: {error.strerror}; the next run tries again"
        )


def _cut_over_container(run: Run, cutover: Cutover) -> None:
    from . import container_run

    parts = container_run.Parts(
        publish=lambda: publish_all(run),
        undo_moves=lambda: undo(run),
        is_gone=lambda: is_source_gone(run.control),
        is_committed=lambda: is_committed(run.control),
        watched=lambda: _watched_use(run, cutover.unit),
        start=lambda: _start_of(run, cutover.unit),
    )
    handling = t.cast("Handling", run.state.container)
    run.warnings.extend(container_run.cut_over(cutover, handling, run.params.path, parts))
    forget_source(run.control)
    with contextlib.suppress(OSError):  # the next run removes what is left
        tidy(run.control, run.data, None)


def _go_back_into_container(run: Run, cutover: Cutover) -> None:
    from .compose_rollback import put_back, require_back

    unit, back = cutover.unit, t.cast("Handling", run.state.container).back
    compose, params = cutover.compose, run.params
    if compose is None or back is None:
        return
    with rescuer_armed(cutover), stopped(cutover), opened_directory(params.path) as path:
        try:
            with run.watch.phase("publish"):
                put_back(run.place(path), compose, back, params.path, run.survey.layout)
        except BaseException:
            undo(run)
            raise
    with run.watch.phase("prove"):
        require_back(unit.name, back)
    run.warnings.append(
        f"the accounts of {unit.name} are now inside its container and are lost when Compose recreates it: run persist before that"
    )
    tidy(run.control, run.data, None)


def _cutover_of(run: Run) -> Cutover | None:
    """Return what is kept stopped during the cutover; None without a unit."""
    state, params = run.state, run.params
    if state.unit is None:
        return None
    mounts = (params.path, state.area, *(source.path for source in state.sources))
    intent = f"{state.control}/{INTENT}"
    cutover = Cutover(
        state.unit,
        intent,
        params.unit_timeout,
        run.watch,
        mounts,
        restored=params.restored,
        # A backend that has lost its accounts cannot save them when it has to stop.
        unclean=params.restores,
    )
    if not state.container or not cutover.compose:
        return cutover
    root, back = state.container.root, state.container.back
    inside = root.inside if root else back.inside if back else ""
    return cutover._replace(inside=inside, back=bool(back))
