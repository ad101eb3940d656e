# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Carries out the steps of session_backup under the lock of the store. Loaded only if there is something to do."""

from __future__ import annotations

import typing as t

from .._core.errors import SessionsError
from .._core.masking import masked
from .._core.progress import reported
from .._fs.fdopen import names_in
from .._fs.free_space import kept_free
from .job import SAVED, SKIPPED, Prune, Record, Save, Step, expired_in
from .observe import Params, State
from .quiesce import Hold, Interruption, hold_of
from .save import FAILED, Outcome, locked_store, prune, save
from .store import (
    LastRun,
    confirmations,
    gone_accounts,
    opened_store,
    snapshot_at,
    snapshots,
    write_confirmed,
    write_gone,
    write_last_run,
)
from .take import Order

if t.TYPE_CHECKING:
    from .._fs.fdopen import DirFd
    from .known import Choice


class Evidence(t.NamedTuple):
    """``outcomes``: of the accounts to be saved; ``pruned``: number of removed snapshots; ``interruption``: seconds of the backend."""

    outcomes: dict[str, Outcome]
    pruned: int
    interruption: float


def carried_out(steps: t.Sequence[Step], state: State, params: Params) -> Evidence:
    """Carry out the steps. Raises SessionsError at the end if an account could not be saved; the others are saved nevertheless."""
    interruption, pruned = Interruption(), 0
    outcomes: dict[str, Outcome] = {}
    with (
        opened_store(params.path, params.backup_path) as store,
        locked_store(store),
        reported(store, "backup", params.unit or ""),
    ):
        for step in steps:
            if isinstance(step, Save):
                outcomes = save(store, _orders(store, step, state, params), lambda: _hold(params), interruption)
            elif isinstance(step, Prune):
                pruned = _prune(store, step, state, params)
            else:
                _record(store, step, state, outcomes)
                _record_gone(store, state, params)
    _require_all(outcomes, params)
    return Evidence(outcomes, pruned, interruption.seconds)


def _orders(store: DirFd, step: Save, state: State, params: Params) -> list[Order]:
    choice, newest = t.cast("Choice", state.choice), state.newest
    bytes_kept, inodes_kept = kept_free(store)
    room = (max(bytes_kept, params.min_free_bytes), inodes_kept)
    return [
        Order(
            params.path,
            name,
            choice,
            newest[name].name if name in newest else "",
            newest[name].sequence + 1 if name in newest else 1,
            room,
        )
        for name in step.names
    ]


def _hold(params: Params) -> Hold | None:
    if params.quiesce == "none" or params.unit is None:
        return None
    return hold_of(params.unit, params.quiesce, params.unit_timeout)


def _prune(store: DirFd, step: Prune, state: State, params: Params) -> int:
    """Remove what is still expired now: an account that was to be saved may have kept changing. Returns the number."""
    still = {one.name for one in expired_in(snapshots(store, state.snapshots), state, params)}
    names = [name for name in step.names if name in still]
    prune(store, names)
    return len(names)


def _record(store: DirFd, step: Record, state: State, outcomes: t.Mapping[str, Outcome]) -> None:
    """Read new snapshots back, and record what the run found. Raises SessionsError if one is not there."""
    new = [outcome.detail for outcome in outcomes.values() if outcome.action == SAVED]
    if not all(snapshot_at(store, name) for name in new):
        raise SessionsError(
            "a snapshot that was written cannot be read back; check the disk of the directory of backups"
        )
    there = set(names_in(store))
    confirmed = {**confirmations(store), **dict.fromkeys(step.confirmed, state.now)}
    write_confirmed(store, {name: when for name, when in confirmed.items() if name in there})
    done = [outcome.action for outcome in outcomes.values()]
    skipped = len(state.accounts) - len(step.confirmed) - len(done) + done.count(SKIPPED)
    write_last_run(store, LastRun(state.now, done.count(SAVED), len(step.confirmed), skipped, done.count(FAILED)))


def _record_gone(store: DirFd, state: State, params: Params) -> None:
    """Record accounts that are gone or no longer linked. A run that looked at some accounts only, or found none, does not know."""
    if params.accounts or not state.accounts:
        return
    gone = state.newest.keys() - {one.name for one in state.accounts if one.state != "fresh"}
    if gone != gone_accounts(store):
        write_gone(store, gone)


def _require_all(outcomes: t.Mapping[str, Outcome], params: Params) -> None:
    failed = {name: outcome.detail for name, outcome in outcomes.items() if outcome.action == FAILED}
    if failed:
        name, reason = next(iter(failed.items()))
        saved = sum(outcome.action == SAVED for outcome in outcomes.values())
        raise SessionsError(
            f"{len(failed)} accounts could not be saved, for example {name if params.show_accounts else masked(name)}: {reason}. "
            f"{saved} others were saved, and earlier snapshots are as they were",
            saved=saved,
            failed=len(failed),
        )
