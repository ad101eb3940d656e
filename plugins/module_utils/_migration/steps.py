# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Decides the steps of session_migrate from the observed state. Pure: nothing is read or written."""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from .observe import State
from .pair import Account

_TO_DECIDE = ("diverged", "skipped", "refused")


class StepKind(str, enum.Enum):
    """What a step does. The values are reported."""

    RECOVER = "recover"  # undo what a killed run did
    UNLOCK = "unlock"  # remove stale locks of accounts at the sessions path
    PRE_STOP_OVERRIDES = "pre_stop_overrides"  # install the drop-ins that must be effective when the unit stops
    STAGE = "stage"  # copy accounts to the work area
    PUBLISH = "publish"  # put accounts in their place
    COMPANIONS = "companions"  # put the files that accounts share in their place
    SWITCH = "switch"  # point the backend to the sessions path
    RESTART = "restart"  # restart a backend whose configuration is right already
    RELOAD = "reload"  # let systemd read its files again
    REMEMBER = "remember"  # record accounts that are at the sessions path already
    CLOSE = "close"  # close the mount points of bindings to other users
    TIDY = "tidy"  # remove what a killed run left
    RETIRE = "retire"  # put the legacy path out of use


# Done while the backend is stopped, so any of them interrupts it.
INTERRUPTING = frozenset((StepKind.PUBLISH, StepKind.COMPANIONS, StepKind.SWITCH, StepKind.RESTART))


@dataclasses.dataclass(frozen=True)
class Step:
    """One step, and the number of things that it concerns."""

    kind: StepKind
    count: int = 1

    @property
    def bookkeeping(self) -> bool:
        """Whether the step only records what was observed, or removes leftovers of a killed run."""
        return self.kind in (StepKind.REMEMBER, StepKind.TIDY)


def planned(state: State) -> tuple[Step, ...]:
    """Return the steps to do. Raises SessionsError where only the operator can decide."""
    # After an interrupted run the state is half finished: it is decided once that run is undone.
    if not state.interrupted and _is_anything_to_decide(state):
        from .refusals import require_decided

        require_decided(state)
    steps = [Step(StepKind.RECOVER)] if state.interrupted else []
    if state.effective.state == "staged":
        return (*steps, *_staging_steps(state))
    return (*steps, *(step for step in _migrating_steps(state) if step.count))


def _is_anything_to_decide(state: State) -> bool:
    """Whether a refusal is possible at all; if not, the module of refusals is not loaded."""
    seen = state.survey
    return bool(
        state.refusal
        or state.astray
        or state.leaves
        or seen.clashes
        or seen.to_publish
        or seen.with_action(*_TO_DECIDE)
        or (state.container and state.container.root)
    )


def _staging_steps(state: State) -> t.Iterator[Step]:
    left = sum(account.name not in state.staged for account in state.survey.to_publish)
    if (
        left and state.effective.engine != "rename"
    ):  # 'rename' moves the accounts themselves, so it cannot stage them ahead
        yield Step(StepKind.STAGE, left)


def _migrating_steps(state: State) -> t.Iterator[Step]:
    """Yield the steps in their order; steps with nothing to do have the count 0."""
    publish, switch = len(state.survey.to_publish), state.switch
    yield Step(StepKind.UNLOCK, len(state.locked))
    yield Step(StepKind.PRE_STOP_OVERRIDES, int(switch.early_differs))
    yield Step(StepKind.STAGE, publish)
    yield Step(StepKind.PUBLISH, publish)
    # Companions alone are no reason to interrupt a backend.
    yield Step(StepKind.COMPANIONS, len(state.survey.companions) if publish else 0)
    yield Step(StepKind.SWITCH, int(switch.differs or bool(state.container and state.container.back)))
    yield Step(StepKind.RESTART, int(bool(switch.outdated_options) and not switch.differs))
    yield Step(StepKind.RELOAD, int(switch.stale and not switch.outdated_options and not switch.differs))
    yield Step(StepKind.REMEMBER, sum(account.decision.adopt for account in state.survey.accounts))
    yield Step(
        StepKind.CLOSE, len(state.open_points) if not (publish or switch.differs or switch.outdated_options) else 0
    )
    yield Step(StepKind.TIDY, int(state.untidy and not publish))
    yield Step(StepKind.RETIRE, len(state.retirable))


def described(account: Account) -> dict[str, str]:
    """Return what may be disclosed of an account: masked name, action and reason."""
    return {"id": account.label, "action": account.decision.action, "reason": account.decision.reason}
