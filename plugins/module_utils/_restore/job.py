# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job behind session_restore: brings accounts back from their snapshots, and never turns keys back without a decision.

It chooses and checks snapshots; everything that changes the host is a migration (see _migration), whose source is the store.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import typing as t

from .._backup.store import LOCK, existing_store
from .._core.errors import SessionsError, WroteAlready
from .._core.job import Diff, Report
from .._core.masking import masked
from .._core.summary import accounts as counted
from .._core.summary import of_restore
from .._layouts.layout import LINKED
from .._migration import plan as migration_plan
from .._migration.restoring import ROLLED_BACK_KEYS, span
from .._migration.steps import planned
from .observe import Params, State, observe, read_params

if t.TYPE_CHECKING:
    from .._backup.store import Snapshot
    from .._migration.plan import Evidence as Migrated
    from .._migration.steps import Step

__all__ = ["Params", "State", "apply", "diff", "observe", "plan", "read_params", "rehearse", "report", "verify"]

ACTIONS = ("restored", "unchanged", "kept", "skipped")
# Seconds to wait for a run of session_backup to end.
_LOCKED_SECONDS = 120.0
_EVERY = 0.2


class Evidence(t.NamedTuple):
    """What a run did: the migration, and the snapshots that it restored, by account."""

    migrated: Migrated
    picked: t.Mapping[str, Snapshot]


def plan(state: State, params: Params) -> tuple[Step, ...]:
    """Return the steps of the migration. Raises SessionsError if a snapshot must not replace its account."""
    return planned(state.migration) if state.migration else ()


def diff(state: State, steps: tuple[Step, ...], params: Params) -> Diff:
    """Return the numbers of accounts before and after; no account is named."""
    if state.migration is None:
        return {"before": {}, "after": {}}
    return migration_plan.diff(state.migration, steps, state.migration.effective)


def rehearse(state: State, params: Params) -> State:
    """Refuse in check mode what the real run would refuse while it is applied."""
    from .._migration.apply.rehearse import rehearsed

    return state._replace(migration=rehearsed(state.migration)) if state.migration else state


def apply(steps: tuple[Step, ...], state: State, params: Params) -> Evidence | None:
    """Restore the accounts. They stay restored if the backend has already written to them when its start fails."""
    from .._migration.apply.run import apply_steps
    from .attempts import record_attempt

    if state.migration is None:
        return None
    with _store_kept(params):
        if params.recovers:
            record_attempt(params.path, state.picked)
        try:
            return Evidence(apply_steps(steps, state.migration), state.picked)
        except WroteAlready as error:
            raise SessionsError(
                f"{error.reason}; it has already written to the restored accounts, so they stay, and what they replaced is set aside "
                "(session_info lists it): fix what keeps the backend from running and start it"
            ) from error


@contextlib.contextmanager
def _store_kept(params: Params) -> t.Iterator[None]:
    """Keep other runs from pruning the store meanwhile. Raises SessionsError if one works on it for too long."""
    with existing_store(params.path, params.backup_path) as store:
        if store is None:
            raise SessionsError("the store of snapshots was removed meanwhile; nothing was changed: run again")
        lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=store)
        try:
            _lock(lock, params)
            yield
        finally:
            os.close(lock)


def _lock(lock: int, params: Params) -> None:
    deadline = time.monotonic() + _LOCKED_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                raise SessionsError(
                    f"another run is working on the snapshots of {params.path}; nothing was changed: wait until it has ended and run again"
                ) from error
        time.sleep(_EVERY)


def verify(state: State, params: Params) -> None:
    """Raise SessionsError if an account that was named is not linked at the sessions path after the run.

    Accounts that nobody named, and that are lost again, are reported as skipped.
    """
    present = state.migration.survey.present if state.migration else {}
    # Of all accounts, those are picked again that are not linked.
    gone = [name for name in params.accounts or state.picked if present.get(name) not in LINKED]
    if gone and not params.recovers:
        raise SessionsError(
            f"{counted(len(gone))}, first {masked(gone[0])!r}, is not linked at {params.path} after it was restored; find out whether the "
            "backend has removed it again, as it does when the phone has logged the device out"
        )


def report(params: Params, state: State, steps: tuple[Step, ...], evidence: Evidence | None) -> Report:
    """Report the accounts (masked unless asked for), the ages of their snapshots and the interruption."""
    migrated = evidence.migrated if evidence else None
    described = [*_decided(params, state, evidence), *(_described(params, *one) for one in state.skipped)]
    counts = {action: sum(one["action"] == action for one in described) for action in ACTIONS}
    return Report(
        {
            "path": params.path,
            "store": state.store,
            "accounts": described,
            "counts": counts,
            "sound": state.sound,
            "steps": [step.kind.value for step in steps],
            "summary": of_restore(counts["restored"], migrated.downtime if migrated else None),
            "downtime_seconds": migrated.downtime if migrated else 0.0,
            "phases": dict(migrated.phases) if migrated else {},
        },
        (*_warnings(described, is_done=bool(evidence)), *(migrated.warnings if migrated else ())),
    )


def _decided(params: Params, state: State, evidence: Evidence | None) -> t.Iterator[dict[str, t.Any]]:
    picked = evidence.picked if evidence else state.picked
    survey = state.migration.survey.accounts if state.migration else ()
    for account in evidence.migrated.accounts if evidence else survey:
        decision = account.decision
        yield _described(params, account.name, decision.reason, decision.action, picked.get(account.name))


def _described(
    params: Params, account: str, reason: str, action: str = "skipped", snapshot: Snapshot | None = None
) -> dict[str, t.Any]:
    return {
        "id": account if params.show_accounts else masked(account),
        "action": action,
        "reason": reason,
        "snapshot": snapshot.moment if snapshot else None,
        "age_seconds": max(0, int(time.time() - snapshot.confirmed / 1e9)) if snapshot else None,
    }


def _warnings(described: t.Sequence[t.Mapping[str, t.Any]], *, is_done: bool) -> t.Iterator[str]:
    ages = [one["age_seconds"] for one in described if one["action"] == "restored"]
    if ages:
        yield (
            f"the oldest snapshot that {'was' if is_done else 'would be'} restored is {span(max(ages))} old: {ROLLED_BACK_KEYS}"
        )
    skipped = [one for one in described if one["action"] == "skipped"]
    if skipped:
        yield f"{counted(len(skipped))} not restored, first {skipped[0]['id']!r}: {skipped[0]['reason']}"
