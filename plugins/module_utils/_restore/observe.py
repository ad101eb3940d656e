# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Parameters and observed state of session_restore: which snapshots are restored, and the migration that does it. Reads only.

A restore is a migration whose sources are snapshots in the store, restricted to their accounts. So stop, guard, rescuer, displacement,
ownership, durability, start and proof of use are those of a migration; nothing here copies or renames.
"""

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from .._backup.store import ROOT, Snapshot, existing_store, gone_accounts, newest_sound, snapshots, store_path
from .._containers.service import read_service
from .._core.errors import SessionsError
from .._core.masking import account_key
from .._core.query_cache import one_look
from .._fs.fdopen import DirFd, exists, normal_path, opened_directory
from .._layouts.layout import LINKED
from .._migration.observe import State as MigrationState
from .._migration.observe import observe as observe_migration
from .._migration.params import Params as Migration
from .._migration.params import read_params as read_migration
from .._migration.restoring import FORCE, RECOVER, RESTORE
from .._usage.in_use import ELSEWHERE
from .attempts import KEPT, earlier_attempts
from .choice import LATEST, chosen, layout_for, of_path, require_whole, why_not_whole
from .evidence import MOVED, Log, compiled, log_since, look_at, unmounted_volume
from .recoverable import Limits, judged, needs_log

if t.TYPE_CHECKING:
    from .._layouts.layout import Layout

_NONE_WHOLE = "none of its snapshots is whole"
_MAY_BE_ELSEWHERE = "the last backup did not find it, so it may have been moved to another host or removed on purpose: restore it by name"


class Params(t.NamedTuple):
    """Options of session_restore. ``migration``: those that a migration has as well, without its sources.

    ``accounts``: their names; if empty, all. ``moment``: of the snapshot, or ``latest``. ``snapshot_path``: the
    sessions path that the snapshots were taken of. ``patterns``: of lines about a logout.
    """

    migration: Migration
    accounts: tuple[str, ...]
    moment: str
    recovers: bool
    backup_path: str | None
    snapshot_path: str
    limits: Limits
    patterns: tuple[t.Pattern[str], ...]
    show_accounts: bool

    @property
    def path(self) -> str:
        """The sessions path."""
        return self.migration.path


class Skipped(t.NamedTuple):
    """An account that is not restored, and why."""

    account: str
    reason: str


class State(t.NamedTuple):
    """What is to be restored. ``picked``: the snapshot of each account. ``migration``: None if there is nothing to restore.

    Unless accounts were named: ``sound``: the number of accounts that are linked and have a snapshot. To recover: ``lost``: those of
    ``picked`` that are missing or no longer linked, instead of damaged.
    """

    picked: t.Mapping[str, Snapshot]
    skipped: tuple[Skipped, ...]
    migration: MigrationState | None
    store: str
    sound: int = 0
    lost: frozenset[str] = frozenset()


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the typed parameters. Raises SessionsError for values that are invalid on every host."""
    recovers, accounts = options.get("state") == "recovered", tuple(map(str, options.get("accounts") or ()))
    moment = options.get("snapshot") or LATEST
    if not recovers and not accounts and not options.get("all_accounts"):
        raise SessionsError(
            "'accounts' names no account to restore; name those that are to be replaced by their snapshots"
        )
    if options.get("all_accounts") and (recovers or accounts or options.get("force") or moment != LATEST):
        raise SessionsError(
            "all_accounts restores accounts that are not linked, from their newest sound snapshot, so it takes neither 'accounts' nor "
            "'force' nor 'snapshot' nor state=recovered; leave them out, or name the accounts instead"
        )
    if recovers and (options.get("force") or moment != LATEST):
        raise SessionsError(
            "state=recovered restores only what is certainly damaged or lost, from its newest sound snapshot, so it takes neither 'force' "
            "nor 'snapshot'; leave them out, or name the accounts with state=restored"
        )
    path = normal_path(options["path"], "path")
    store_path(path, options.get("backup_path"))  # refuses a store in the sessions path
    way = RECOVER if recovers else FORCE if options.get("force") else RESTORE
    given = {
        name: options.get(name)
        for name in ("unit", "layout", "custom", "owner", "group", "unit_timeout", "use_timeout")
    }
    return Params(
        migration=read_migration({**given, "path": path, "src": [path]})._replace(sources=(), on_conflict=way),
        accounts=accounts,
        moment=moment,
        recovers=recovers,
        backup_path=options.get("backup_path"),
        snapshot_path=normal_path(options.get("snapshot_path") or path, "snapshot_path"),
        limits=_limits(options),
        patterns=compiled(options.get("logout_patterns") or ()),
        show_accounts=bool(options.get("show_accounts")),
    )


def _limits(options: t.Mapping[str, t.Any]) -> Limits:
    interval, at_most = options.get("recover_interval"), options.get("recover_at_most")
    limits = Limits(3600.0 if interval is None else float(interval), 3 if at_most is None else int(at_most))
    if not 0 <= limits.interval <= KEPT or limits.at_most < 1:
        raise SessionsError(
            f"'recover_interval' must be from 0 to {int(KEPT)} seconds, and 'recover_at_most' at least 1; correct them"
        )
    return limits


def observe(params: Params) -> State:
    """Choose and check the snapshots, and observe the migration that restores them."""
    store_at = store_path(params.path, params.backup_path)
    with existing_store(params.path, params.backup_path) as store, one_look():
        if store is None:
            if params.recovers:
                return State({}, (), None, store_at)
            raise SessionsError(
                f"there is no store of snapshots at {store_at}; session_backup makes one, or name the directory of a copy in 'backup_path'"
            )
        found = of_path(snapshots(store), params.snapshot_path, store_at)
        choose = _lost if params.recovers else _named if params.accounts else _all
        state = choose(store, found, params, store_at)
    if not state.picked:
        return state
    return state._replace(migration=_observed(state, params))


def _named(store: DirFd, found: tuple[Snapshot, ...], params: Params, store_at: str) -> State:
    """Return the state with the snapshots of the accounts that were named."""
    picked = chosen(found, params.accounts, params.moment, store_at)
    layout = layout_for(picked.values(), params.migration.layout)
    for snapshot in picked.values():
        require_whole(store, snapshot, layout)
    _require_volume(params.path)
    return State(picked, (), None, store_at)


def _all(store: DirFd, found: tuple[Snapshot, ...], params: Params, store_at: str) -> State:
    """Return the state with a snapshot of each account but those that are linked at the sessions path, and those that may be elsewhere."""
    newest = newest_sound(found)
    if not newest:
        raise SessionsError(
            f"{store_at} has no sound snapshot, so there is nothing to restore; check where the snapshots are"
        )
    _require_volume(params.path)
    layout = layout_for(newest.values(), params.migration.layout)
    lives = look_at(params.path, newest, layout, running=False)
    gone = gone_accounts(store) | {name for name, live in lives.items() if live.state == MOVED}
    picked, skipped = dict[str, Snapshot](), list[Skipped]()
    away = [name for name, live in sorted(lives.items()) if live.state not in LINKED]
    for name in away:
        whole = None if name in gone else _newest_whole(store, found, name, layout)
        if whole is not None:
            picked[name] = whole
        else:
            skipped.append(Skipped(name, _MAY_BE_ELSEWHERE if name in gone else _NONE_WHOLE))
    return State(picked, tuple(skipped), None, store_at, sound=len(newest) - len(away))


def _require_volume(path: str) -> None:
    volume = unmounted_volume(path)
    if volume:
        raise SessionsError(f"the volume of {volume} is not mounted; nothing was changed: mount it and run again")


def _lost(store: DirFd, found: tuple[Snapshot, ...], params: Params, store_at: str) -> State:
    """Return the state with the snapshots of the accounts that are certainly damaged or lost."""
    own = [one for one in found if not params.accounts or one.account in params.accounts]
    newest = newest_sound(own)
    if not newest:
        return State({}, (), None, store_at)
    layout = layout_for(newest.values(), params.migration.layout)
    unit = read_service(params.migration.unit) if params.migration.unit else None
    lives = look_at(params.path, newest, layout, running=bool(unit and unit.active))
    logless = [newest[name].confirmed for name, live in lives.items() if needs_log(live)]
    log = log_since(unit, min(logless), params.patterns) if logless else Log()
    volume, earlier, now = unmounted_volume(params.path), earlier_attempts(params.path), time.time()
    picked, skipped, lost, sound = dict[str, Snapshot](), list[Skipped](), set[str](), 0
    for name in sorted(newest):
        verdict = judged(lives[name], log, volume, earlier.get(account_key(name), ()), params.limits, now)
        if verdict is None:
            sound += 1
            continue
        whole = _newest_whole(store, own, name, layout) if verdict.restore else None
        if whole is not None:
            picked[name] = whole
            lost |= {name} if verdict.lost else set()
        else:
            reason = _NONE_WHOLE if verdict.restore else verdict.reason
            skipped.append(Skipped(name, reason))
    return State(picked, tuple(skipped), None, store_at, sound, frozenset(lost))


def _newest_whole(store: DirFd, found: t.Iterable[Snapshot], account: str, layout: Layout) -> Snapshot | None:
    own = (one for one in found if one.account == account and one.is_sound)
    return next((one for one in own if not why_not_whole(store, one, layout)), None)


def _observed(state: State, params: Params) -> MigrationState:
    """Observe the migration of the picked snapshots. Raises SessionsError if the backend does not use the sessions path."""
    migration = migration_of(state, params)
    _require_owner(migration)
    observed = observe_migration(migration)
    if observed.use is not None and observed.use.state == ELSEWHERE:
        raise SessionsError(
            f"{migration.unit} uses {', '.join(observed.use.where)}, not {params.path}, so an account that is restored there would not be "
            "used; nothing was changed: name the directory that it uses, or run persist first"
        )
    return observed


def migration_of(state: State, params: Params) -> Migration:
    """Return the parameters of the migration that restores what was picked."""
    roots = tuple(f"{state.store}/{snapshot.name}/{ROOT}" for snapshot in state.picked.values())
    layout = layout_for(state.picked.values(), params.migration.layout)
    names = frozenset(state.picked)
    return params.migration._replace(sources=roots, layout=layout, accounts=names, lost=state.lost)


def _require_owner(migration: Migration) -> None:
    """Raise SessionsError if nothing says whom the restored accounts belong to: snapshots belong to root."""
    if migration.unit or migration.owner:
        return
    parent, name = os.path.split(migration.path)
    with contextlib.suppress(OSError), opened_directory(parent) as above:
        if exists(above, name):
            return
    raise SessionsError(
        f"{migration.path} does not exist, and neither 'unit' nor 'owner' says whom the restored accounts belong to; name one of them"
    )
