# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job behind session_migrate: accounts from legacy paths to the sessions path, with the shortest interruption that is safe.

Copies are made while the backend runs. Only the difference is copied while it is stopped, then everything is put in place by renames
and the configuration is switched before the backend starts again. See _cutover.py and _rescue.py for what happens when it goes wrong.
"""

from __future__ import annotations

import contextlib
import typing as t

from ._errors import SessionsError
from ._migrate_plan import ACTIONS, Evidence, diff, plan, report, verify
from ._migrate_state import Params, State, observe, read_params, way_back_of
from ._migrate_steps import Step
from ._unit import read_unit

if t.TYPE_CHECKING:
    from ._migrate_run import WroteAlready

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
    """Refuse in check mode what the real run would refuse on its way."""
    from ._rehearse import rehearsed

    return rehearsed(state)


def apply(steps: tuple[Step, ...], state: State, params: Params) -> Evidence:
    """Carry the steps out. Where that fails after the backend wrote new keys at its new path, go back with these keys."""
    from ._migrate_run import WroteAlready, carry_out

    try:
        return carry_out(steps, state, state.params)
    except WroteAlready as error:
        if params.state == "rolled_back":
            raise
        with _held(state, error):
            back = way_back_of(state, params)
            looked = observe(back)
            carry_out(plan(looked, back), looked, looked.params)
        raise SessionsError(
            f"{error.reason}; it was brought back to where it was before, with the keys that it wrote since: correct what keeps it from "
            f"{params.path} and run again"
        ) from error


@contextlib.contextmanager
def _held(state: State, error: WroteAlready) -> t.Iterator[None]:
    """Stop a backend for the way back, since systemd may start it again and again, and start it in the end, whatever happens.

    No dropped connection ends the run in between, and should it be killed, systemd starts the backend. Docker starts no container that
    is not well, so one of Compose is left to the way back itself.
    """
    from ._control import INTENT
    from ._cutover import Cutover, Stopwatch, run_in_the_end, stop_now, undisturbed

    unit, intent = state.unit, f"{state.control}/{INTENT}"
    if unit is not None and unit.compose:
        with undisturbed():
            yield
        return
    timeout = state.params.unit_timeout
    runs = run_in_the_end(Cutover(unit, intent, timeout, Stopwatch())) if unit and unit.active else None
    with undisturbed(), runs or contextlib.nullcontext():
        try:
            if unit is not None:
                stop_now(unit.name, timeout)
            yield
        except BaseException as second:
            with contextlib.suppress(SessionsError):  # what went wrong first has to be said
                _start_again(state, error)
            if isinstance(second, SessionsError):
                raise SessionsError(f"{error}. Going back failed, too: {second}") from second
            raise
        _start_again(state, error)


def _start_again(state: State, error: WroteAlready) -> None:
    """Start a backend that ran at first. One that had ended by itself on its new path was not started on the way back."""
    if state.unit is None or not state.unit.active or read_unit(state.unit.name).active:
        return
    from ._cutover import StartFailed, start

    try:
        start(state.unit.name, state.params.unit_timeout)
    except StartFailed as second:
        raise SessionsError(
            f"{error.reason}; its accounts were brought back to where they were before, with the keys that it wrote since, and then "
            f"{second}"
        ) from second
