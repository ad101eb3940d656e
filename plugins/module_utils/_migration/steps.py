# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Decides the steps of session_migrate from the observed state. Pure: nothing is read or written."""

from __future__ import annotations

import dataclasses
import typing as t

from .observe import Params, State
from .survey import Account

_TO_DECIDE = ("diverged", "skipped", "refused")


@dataclasses.dataclass(frozen=True)
class Step:
    """One step: recover, unlock, pre_stop_overrides, stage, publish, companions, switch, restart, reload, remember, close, tidy, retire."""

    name: str
    count: int = 1

    @property
    def bookkeeping(self) -> bool:
        """Whether the step only records what was observed, or removes leftovers of a killed run."""
        return self.name in ("remember", "tidy")


def planned(state: State, params: Params) -> tuple[Step, ...]:
    """Return the steps to do. Raises SessionsError where only the operator can decide."""
    # After an interrupted run the state is half finished: it is decided once that run is undone.
    if not state.interrupted and _is_anything_to_decide(state):
        from .refusals import require_decided

        require_decided(state, params)
    steps = [Step("recover")] if state.interrupted else []
    if params.state == "staged":
        return (*steps, *_staging_steps(state, params))
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


def _staging_steps(state: State, params: Params) -> t.Iterator[Step]:
    left = sum(account.name not in state.staged for account in state.survey.to_publish)
    if left and params.engine != "rename":  # 'rename' moves the accounts themselves, so it cannot stage them ahead
        yield Step("stage", left)


def _migrating_steps(state: State) -> t.Iterator[Step]:
    """Yield the steps in their order; steps with nothing to do have the count 0."""
    publish, switch = len(state.survey.to_publish), state.switch
    yield Step("unlock", len(state.locked))
    yield Step("pre_stop_overrides", int(switch.early_differs))
    yield Step("stage", publish)
    yield Step("publish", publish)
    # Companions alone are no reason to interrupt a backend.
    yield Step("companions", len(state.survey.companions) if publish else 0)
    yield Step("switch", int(switch.differs or bool(state.container and state.container.back)))
    yield Step("restart", int(bool(switch.outdated_options) and not switch.differs))
    yield Step("reload", int(switch.stale and not switch.outdated_options and not switch.differs))
    yield Step("remember", sum(account.decision.adopt for account in state.survey.accounts))
    yield Step("close", len(state.open_points) if not (publish or switch.differs or switch.outdated_options) else 0)
    yield Step("tidy", int(state.untidy and not publish))
    yield Step("retire", len(state.retirable))


def described(account: Account) -> dict[str, str]:
    """Return what may be disclosed of an account: masked name, action and reason."""
    return {"id": account.label, "action": account.decision.action, "reason": account.decision.reason}
