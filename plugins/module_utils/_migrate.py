# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job behind session_migrate: accounts from legacy paths to the sessions path, with the shortest interruption that is safe.

Copies are made while the backend runs. Only the difference is copied while it is stopped, then everything is put in place by renames
and the configuration is switched before the backend starts again. See _cutover.py and _rescue.py for what happens when it goes wrong.
"""

from __future__ import annotations

import typing as t

from ._errors import SessionsError
from ._job import Diff, Report
from ._migrate_state import Params, State, Step, described, observe, planned, read_params
from ._receipts import RECEIPT
from ._survey import Account

if t.TYPE_CHECKING:
    from ._migrate_run import Evidence

__all__ = ["Params", "State", "Step", "apply", "diff", "observe", "plan", "read_params", "report", "verify"]

ACTIONS = ("migrated", "unchanged", "kept", "displaced", "corrupt", "diverged", "skipped")


def plan(state: State, params: Params) -> tuple[Step, ...]:
    """Say what has to be done. Raises SessionsError where only the operator can decide."""
    return planned(state, state.params)


def diff(state: State, steps: tuple[Step, ...], params: Params) -> Diff:
    """Give counts before and after, and the drop-ins that are written; no account is named."""
    names = {step.name for step in steps}
    present = len(state.survey.present)
    new = sum(account.decision.publish and account.present is None for account in state.survey.accounts)
    left = [step.name for step in steps if not step.bookkeeping]
    return [
        {
            "before": {"path": state.params.path, "accounts": present, "steps_left": left},
            "after": {
                "path": state.params.path,
                "accounts": present + (new if "publish" in names else 0),
                "steps_left": [],
            },
        },
        *(state.switch.diffs if "switch" in names else ()),
    ]


def apply(steps: tuple[Step, ...], state: State, params: Params) -> Evidence:
    """Carry the steps out."""
    from ._migrate_run import carry_out

    return carry_out(steps, state, state.params)


def verify(state: State, params: Params) -> None:
    """Raise SessionsError when something is still left to do."""
    left = [step.name for step in plan(state, params) if not step.bookkeeping and step.name != "stage"]
    if left and params.state != "staged":
        raise SessionsError(
            f"after the migration to {state.params.path} there is still something to do "
            f"({', '.join(left)}); something changes it: see what, and run again"
        )


def report(params: Params, state: State, steps: tuple[Step, ...], evidence: Evidence | None) -> Report:
    """Describe accounts (masked), counts, timings and where the receipt is."""
    decided = evidence.accounts if evidence else state.survey.accounts
    corrupt = sum(account.decision.action == "corrupt" for account in decided)
    warnings = (
        [f"{corrupt} damaged accounts stay at the legacy path; session_info tells their problems"] if corrupt else []
    )
    return Report(
        {
            "path": state.params.path,
            "src": [source.given for source in state.sources],
            "layout": state.survey.layout.name,
            "accounts": [described(account) for account in decided],
            "counts": {action: _count(decided, action) for action in ACTIONS},
            "companions": _steps(steps, "companions"),
            "unlocked": _steps(steps, "unlock"),
            "steps": [step.name for step in steps],
            "downtime_seconds": evidence.watch.downtime if evidence else 0.0,
            "phases": evidence.watch.phases if evidence else {},
            "receipt": f"{state.area}/{RECEIPT}",
        },
        tuple(warnings + (evidence.warnings if evidence else [])),
    )


def _count(accounts: t.Iterable[Account], action: str) -> int:
    if action == "displaced":
        return sum(account.decision.displace for account in accounts)
    return sum(account.decision.action == action for account in accounts)


def _steps(steps: t.Iterable[Step], name: str) -> int:
    return sum(step.count for step in steps if step.name == name)
