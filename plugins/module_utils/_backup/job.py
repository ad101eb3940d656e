# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job of session_backup: snapshots of accounts outside the sessions path, and the removal of expired ones.

An account that has not changed gets no new snapshot. One that is damaged or not linked is never saved, so that retention cannot replace
sound snapshots with useless ones.
"""

from __future__ import annotations

import collections
import dataclasses
import typing as t

from .._accounts.control_directory import control_path
from .._core.errors import SessionsError
from .._core.job import Report
from .._core.masking import masked
from .._fs.fdopen import normal_path
from .._fs.free_space import RESERVE
from .._layouts.registry import chosen_layout
from .._systemd.unit import unit_name
from .observe import PRESENT, UNREADABLE, Account, Params, State, is_selected, observed, observed_again
from .retention import expired
from .store import SAVED_STATES, Snapshot, newest_sound, store_path

if t.TYPE_CHECKING:
    from .run import Evidence
    from .save import Outcome

SAVED, UNCHANGED, SKIPPED = "saved", "unchanged", "skipped"
_NANO = 1_000_000_000
_NAMED_AT_MOST = 5
_REASONS = {
    "corrupt": "it is damaged; its snapshots stay as they are",
    UNREADABLE: "it cannot be read completely; its snapshots stay as they are",
}
_NOT_LINKED = "it is not linked"


@dataclasses.dataclass(frozen=True)
class Save:
    """Take a snapshot of each of these accounts."""

    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Prune:
    """Remove these snapshots."""

    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Record:
    """Record that the run took place, and which accounts it found unchanged (the names of their newest snapshots)."""

    confirmed: tuple[str, ...]
    bookkeeping: bool = True


Step = t.Union[Save, Prune, Record]


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the typed parameters; raise SessionsError for what is invalid on any host."""
    for option in ("keep_days", "keep_last", "min_free_bytes"):
        if options[option] < 0:
            raise SessionsError(f"{option} is {options[option]}; give 0 or more")
    if options["quiesce"] != "none" and not options["unit"]:
        raise SessionsError(f"quiesce is {options['quiesce']}, which needs the backend; name it in 'unit'")
    path = normal_path(options["path"], "path")
    store_path(path, options["backup_path"])
    return Params(
        path=path,
        unit=unit_name(options["unit"]) if options["unit"] else None,
        layout=chosen_layout(options),
        accounts=frozenset(options["accounts"] or ()),
        state=options["state"],
        backup_path=options["backup_path"] or None,
        quiesce=options["quiesce"],
        keep_days=options["keep_days"],
        keep_last=options["keep_last"],
        min_free_bytes=options["min_free_bytes"],
        exclude_caches=options["exclude_caches"],
        unit_timeout=float(options["unit_timeout"]),
        show_accounts=bool(options["show_accounts"]),
    )


def observe(params: Params) -> State:
    """Look at the accounts and the store."""
    return observed(params)


def plan(state: State, params: Params) -> tuple[Step, ...]:
    """Return the steps to take. Raises SessionsError for a store of another path, and if the disk has too little room."""
    _require_own_store(state, params)
    saved = tuple(one.name for one in state.accounts if _action(one) == SAVED)
    _require_room(state, params, saved)
    gone = tuple(one.name for one in expired_in(state.snapshots, state, params, saved))
    steps: list[Step] = [Save(saved)] if saved else []
    if gone:
        steps.append(Prune(gone))
    if params.state == PRESENT or steps or state.unfinished:
        newest = state.newest
        same = (newest[one.name].name for one in state.accounts if _action(one) == UNCHANGED)
        steps.append(Record(tuple(same)))
    return tuple(steps)


def expired_in(
    found: t.Iterable[Snapshot], state: State, params: Params, saved: t.Iterable[str] = ()
) -> tuple[Snapshot, ...]:
    """Return the expired ones of the selected accounts. ``saved``: accounts that are about to get a further snapshot."""
    layout = state.choice.layout if state.choice else params.layout
    selected = [one for one in found if is_selected(one.account, layout, params)]
    newest = {one.account: one for one in sorted(selected, key=lambda one: one.order)}
    coming = [
        newest[name]._replace(name="", state="paired", taken=state.now, confirmed=state.now, sequence=1 << 62)
        for name in saved
        if name in newest
    ]
    return expired([*selected, *coming], state.now, keep_days=params.keep_days, keep_last=params.keep_last)


def diff(state: State, steps: tuple[Step, ...], params: Params) -> dict[str, t.Any]:
    """Return the number of snapshots per account, before and after."""
    label = _label(params)
    before = collections.Counter(label(one.account) for one in state.snapshots)
    after = collections.Counter(before)
    accounts = {one.name: one.account for one in state.snapshots}
    for step in steps:
        if isinstance(step, Save):
            after.update(map(label, step.names))
        elif isinstance(step, Prune):
            after.subtract(label(accounts[name]) for name in step.names)
    return {"before": {"snapshots": dict(sorted(before.items()))}, "after": {"snapshots": dict(sorted(after.items()))}}


def apply(steps: tuple[Step, ...], state: State, params: Params) -> Evidence:
    """Save, prune and record. Raises SessionsError, after all that, if an account could not be saved."""
    from .run import carried_out

    return carried_out(steps, state, params)


def observe_again(before: State, params: Params) -> State:
    """Look at the store again. Accounts that change while a backup runs are a matter of the next one."""
    return observed_again(before, params)


def verify(state: State, params: Params) -> None:
    """Do nothing: new snapshots are read back under the lock of the store, see run.py. A moment later another run may have begun."""


def report(params: Params, state: State, steps: tuple[Step, ...], evidence: Evidence | None) -> Report:
    """Return what was saved, or would be, and what the store holds."""
    label = _label(params)
    outcomes = evidence.outcomes if evidence else {}
    accounts = [_described(one, outcomes, label) for one in state.accounts]
    counts = collections.Counter(one["action"] for one in accounts)
    sound = newest_sound(state.snapshots)
    ages = [_age(state.now, sound[one.name].confirmed) for one in state.accounts if one.is_linked and one.name in sound]
    values = {
        "path": params.path,
        "store": store_path(params.path, params.backup_path),
        "accounts": accounts,
        "saved": counts[SAVED],
        "unchanged": counts[UNCHANGED],
        "skipped": counts[SKIPPED],
        "pruned": evidence.pruned if evidence else sum(len(step.names) for step in steps if isinstance(step, Prune)),
        "snapshots": [_listed(one, state.now, label) for one in state.snapshots],
        "oldest_age_seconds": max(ages, default=None),
        "without_snapshot": [label(one.name) for one in state.accounts if one.is_linked and one.name not in sound],
        "new_bytes": sum(one.bytes for one, account in zip(state.accounts, accounts) if account["action"] == SAVED),
        "interruption_seconds": round(evidence.interruption, 3) if evidence else 0.0,
    }
    return Report(values, tuple(_warnings(params, state, accounts)))


def _action(account: Account) -> str:
    if account.state not in SAVED_STATES:
        return SKIPPED
    return UNCHANGED if account.same else SAVED


def _described(account: Account, outcomes: t.Mapping[str, Outcome], label: t.Callable[[str], str]) -> dict[str, str]:
    action, reason = _action(account), ""
    if account.name in outcomes and outcomes[account.name].action != SAVED:
        action, reason = outcomes[account.name]
    elif action == SKIPPED:
        reason = _REASONS.get(account.state, _NOT_LINKED)
    return {"id": label(account.name), "action": action, "reason": reason}


def _listed(one: Snapshot, now: int, label: t.Callable[[str], str]) -> dict[str, t.Any]:
    return {
        "id": label(one.account),
        "snapshot": one.moment,
        "age_seconds": _age(now, one.confirmed),
        "state": one.state,
        "files": one.files,
        "bytes": one.bytes,
    }


def _age(now: int, then: int) -> int:
    """Return the age in seconds; a moment in the future, by a clock that was wrong, is 0 seconds old."""
    return max(0, now - then) // _NANO


def _label(params: Params) -> t.Callable[[str], str]:
    return str if params.show_accounts else masked


def _require_own_store(state: State, params: Params) -> None:
    other = next((one.path for one in state.snapshots if control_path(one.path) != control_path(params.path)), None)
    if other:
        raise SessionsError(
            f"the directory of backups holds snapshots of {other}, and accounts of {params.path} may have the same names; nothing was "
            "changed: name another backup_path"
        )


def _require_room(state: State, params: Params, saved: t.Collection[str]) -> None:
    """Raise SessionsError if new snapshots would leave less free space than wanted."""
    new = [one for one in state.accounts if one.name in saved]
    files, size = sum(one.files for one in new), sum(one.bytes for one in new)
    wanted = int(size * RESERVE) + params.min_free_bytes
    free = state.disk.f_bavail * state.disk.f_frsize
    if new and (free < wanted or (state.disk.f_files and state.disk.f_favail < files * RESERVE)):
        raise SessionsError(
            f"the disk of {store_path(params.path, params.backup_path)} has {free >> 20} MiB and {state.disk.f_favail} inodes free, and "
            f"new snapshots need {size >> 20} MiB and {files} inodes with {params.min_free_bytes >> 20} MiB left (min_free_bytes); nothing "
            "was changed: free space, keep fewer snapshots (keep_days, keep_last), or name another disk in backup_path"
        )


def _warnings(params: Params, state: State, accounts: t.Sequence[t.Mapping[str, str]]) -> t.Iterator[str]:
    left = [one for one in accounts if one["action"] == SKIPPED and one["reason"] != _NOT_LINKED]
    if left:
        shown = "; ".join(f"{one['id']}: {one['reason']}" for one in left[:_NAMED_AT_MOST])
        yield f"{len(left)} linked accounts were not saved ({shown})"
    gone = state.newest.keys() - {one.name for one in state.accounts}
    if gone and not params.accounts and params.state == PRESENT:
        yield (
            f"{len(gone)} accounts that have snapshots are no longer at {params.path}; their last sound snapshots are kept: restore them, "
            "or remove their directories in the directory of backups"
        )
