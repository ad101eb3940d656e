# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job behind session_migrate: moves accounts from legacy paths to the sessions path with the shortest safe interruption.

Accounts are copied while the backend runs. While it is stopped, only the difference is copied, the copies are renamed into place and
the configuration is switched. See guard.py and rescue.py for how failures are handled.
"""

from __future__ import annotations

import contextlib
import typing as t

from .._containers.service import compose_of, read_service
from .._core.errors import SessionsError, WroteAlready
from .observe import State, observe, way_back_of
from .params import Params, read_params
from .plan import ACTIONS, Evidence, diff, plan, report, verify
from .steps import Step

__all__ = [
    "ACTIONS",
    "Params",
    "State",
    "Step",
    "apply",
    "diff",
    "observe",
    "plan",
    "read_params",
    "rehearse",
    "report",
    "verify",
]


def rehearse(state: State, params: Params) -> State:
    """Refuse in check mode what the real run would refuse while it is applied."""
    from .apply.rehearse import rehearsed

    return rehearsed(state)


def apply(steps: tuple[Step, ...], state: State, params: Params) -> Evidence:
    """Carry out the steps. If that fails after the backend wrote new keys at the sessions path, roll back together with these keys."""
    from .apply.run import apply_steps

    try:
        return apply_steps(steps, state)
    except WroteAlready as error:
        if params.state == "rolled_back":
            raise
        with _held(state, error):
            back = way_back_of(state, params)
            looked = observe(back)
            apply_steps(plan(looked, back), looked)
        raise SessionsError(
            f"{error.reason}; it was rolled back to its former path, together with the keys that it has written since: fix what keeps it "
            f"from using {params.path} and run again"
        ) from error


@contextlib.contextmanager
def _held(state: State, error: WroteAlready) -> t.Iterator[None]:
    """Keep a backend stopped during the rollback, because systemd may restart it repeatedly, and start it at the end in any case.

    A dropped connection does not end the run in between, and if the run is killed, systemd starts the backend. Docker does not restart
    unhealthy containers, so Compose services are left to the rollback itself.
    """
    from .._accounts.control_directory import INTENT
    from .apply.guard import Cutover, Stopwatch, run_in_the_end, signals_blocked, stop_now

    unit, intent = state.unit, f"{state.control}/{INTENT}"
    if unit is not None and compose_of(unit):
        with signals_blocked():
            yield
        return
    timeout = state.effective.unit_timeout
    runs = run_in_the_end(Cutover(unit, intent, timeout, Stopwatch())) if unit and unit.active else None
    with signals_blocked(), runs or contextlib.nullcontext():
        try:
            if unit is not None:
                stop_now(unit.name, timeout)
            yield
        except BaseException as second:
            with contextlib.suppress(SessionsError):  # the first error is the one to report
                _start_again(state, error)
            if isinstance(second, SessionsError):
                raise SessionsError(f"{error}. The rollback failed as well: {second}") from second
            raise
        _start_again(state, error)


def _start_again(state: State, error: WroteAlready) -> None:
    """Start a backend that ran before the migration. The rollback does not start one that had exited by itself on its new path."""
    if state.unit is None or not state.unit.active or read_service(state.unit.name).active:
        return
    from .._core.errors import StartFailed
    from .._systemd.start import start

    try:
        start(state.unit.name, state.effective.unit_timeout)
    except StartFailed as second:
        raise SessionsError(
            f"{error.reason}; its accounts were rolled back to their former path, together with the keys that it has written since, but "
            f"then {second}"
        ) from second
