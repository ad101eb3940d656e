# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What session_migrate plans and reports. Separate from applying it, so that session_plan does not have to send that code to hosts."""

from __future__ import annotations

import typing as t

from .._accounts.receipts import RECEIPT
from .._core.errors import SessionsError
from .._core.job import Diff, Report
from .._core.summary import of_migration
from .observe import State
from .pair import Account
from .params import Params
from .steps import Step, StepKind, described, planned

ACTIONS = ("migrated", "unchanged", "kept", "displaced", "corrupt", "diverged", "skipped")


class Evidence(t.NamedTuple):
    """What a run did: the decisions that it carried out, the backend's downtime and the duration of each phase, in seconds."""

    accounts: tuple[Account, ...]
    downtime: float
    phases: t.Mapping[str, float]
    path_made: bool
    warnings: tuple[str, ...]


def plan(state: State, params: Params) -> tuple[Step, ...]:
    """Return the steps to do, decided from ``state.effective`` only: in a rollback, ``params`` name the other direction.

    Raises SessionsError where only the operator can decide.
    """
    return planned(state)


def diff(state: State, steps: tuple[Step, ...], params: Params) -> Diff:
    """Return counts before and after, and the drop-ins that are written; no account is named."""
    kinds = {step.kind for step in steps}
    present = len(state.survey.present)
    new = sum(account.decision.publish and account.present is None for account in state.survey.accounts)
    left = [step.kind.value for step in steps if not step.bookkeeping]
    return [
        {
            "before": {"path": state.effective.path, "accounts": present, "steps_left": left},
            "after": {
                "path": state.effective.path,
                "accounts": present + (new if StepKind.PUBLISH in kinds else 0),
                "steps_left": [],
            },
        },
        *(state.switch.early_diffs if StepKind.PRE_STOP_OVERRIDES in kinds else ()),
        *(state.switch.diffs if StepKind.SWITCH in kinds else ()),
    ]


def verify(state: State, params: Params) -> None:
    """Raise SessionsError if steps remain after the run."""
    left = [step.kind.value for step in plan(state, params) if not step.bookkeeping and step.kind is not StepKind.STAGE]
    if left and params.state != "staged":
        raise SessionsError(
            f"steps remain after the migration to {state.effective.path} ({', '.join(left)}); "
            "find out which other program changes the accounts or the configuration, and run again"
        )


def report(params: Params, state: State, steps: tuple[Step, ...], evidence: Evidence | None) -> Report:
    """Report accounts (masked), counts, timings and the path of the receipt."""
    decided = evidence.accounts if evidence else state.survey.accounts
    counts = {action: _count(decided, action) for action in ACTIONS}
    warnings = [*_warnings_of(state, decided), *(() if evidence else state.miscounts)]
    if state.staying:
        warnings.append(
            f"{state.staying} entries of the legacy path are not retired, because they belong to another user, contain files of another "
            "user, or have further hard links; give them to the backend's user, or make sure that no backend starts on them"
        )
    if state.attachment and state.attachment.dotenv:
        warnings.append(
            f"{state.attachment.dotenv}; a program that reads this file itself keeps using the legacy path: change that line"
        )
    warnings.extend(state.switch.warnings)
    return Report(
        {
            "path": state.effective.path,
            "path_made": evidence.path_made if evidence else bool(steps) and not state.survey.path_inode,
            "src": [source.given for source in state.sources],
            "layout": state.survey.layout.name,
            "accounts": [described(account) for account in decided],
            "left_behind": [{"id": one.label, "path": one.root, "reason": one.why} for one in state.survey.left],
            "summary": of_migration(params.state, counts["migrated"], evidence.downtime if evidence else None),
            "counts": counts,
            "companions": _count_of(steps, StepKind.COMPANIONS),
            "unlocked": _count_of(steps, StepKind.UNLOCK),
            "steps": [step.kind.value for step in steps],
            "attached_by": "volume" if state.container else state.attachment.kind if state.attachment else "variable",
            "downtime_seconds": evidence.downtime if evidence else 0.0,
            "phases": evidence.phases if evidence else {},
            "receipt": f"{state.control}/{RECEIPT}",
        },
        (*warnings, *(evidence.warnings if evidence else ())),
    )


def _warnings_of(state: State, decided: t.Iterable[Account]) -> t.Iterator[str]:
    """Yield a warning for each kind of entry that stays at the legacy paths."""
    corrupt = sum(account.decision.action == "corrupt" for account in decided)
    if corrupt:
        yield f"{corrupt} damaged accounts stay at the legacy path; session_info reports their problems"
    links = [one for one in state.survey.left if one.is_link]
    if links:
        named = "; ".join(f"{one.label} in {one.root}: {one.why}" for one in links[:5])
        yield f"{len(links)} symbolic links, which may be accounts, stay at the legacy path ({named})"
    if state.survey.loose_links:
        path = state.effective.path
        yield f"{state.survey.loose_links} symbolic links next to the accounts are not copied; create them in {path} if needed"


def _count(accounts: t.Iterable[Account], action: str) -> int:
    if action == "displaced":
        return sum(account.decision.displace for account in accounts)
    return sum(account.decision.action == action for account in accounts)


def _count_of(steps: t.Iterable[Step], kind: StepKind) -> int:
    return sum(step.count for step in steps if step.kind is kind)
