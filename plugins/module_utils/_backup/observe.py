# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What a backup finds: the accounts, whether each has changed since its newest snapshot, and the store. Reads only."""

from __future__ import annotations

import os
import time
import typing as t

from .._accounts.copy_index import NOTHING, Known
from .._core.errors import SessionsError
from .._fs.fdopen import DirFd, opened_directory
from .._layouts.account import opened_account
from .._layouts.layout import LINKED, Layout
from .._layouts.registry import recognised
from .._layouts.search import account_names
from .._proc.pool import parallel_map
from .known import Choice, choice_of, difference_of, read_known
from .store import PARTIAL, Snapshot, existing_store, opened_snapshot, snapshots, store_path

PRESENT, PRUNED = "present", "pruned"
UNREADABLE = "unreadable"


class Params(t.NamedTuple):
    """Options of session_backup. ``accounts``: empty for all. ``unit``: None if the backend is never held. ``min_free_bytes``: what stays
    free on the disk of the store. ``unit_timeout``: seconds.
    """

    path: str
    unit: str | None
    layout: Layout | None
    accounts: frozenset[str]
    state: str
    backup_path: str | None
    quiesce: str
    keep_days: int
    keep_last: int
    min_free_bytes: int
    exclude_caches: bool
    unit_timeout: float
    show_accounts: bool


class Account(t.NamedTuple):
    """An account at the sessions path: ``state``, as judged; whether it is the ``same`` as in its newest snapshot; and what a new snapshot
    of it would copy: ``files`` and ``bytes``.
    """

    name: str
    state: str
    same: bool = False
    files: int = 0
    bytes: int = 0

    @property
    def is_linked(self) -> bool:
        """Whether its backend needs no QR code."""
        return self.state in LINKED


class State(t.NamedTuple):
    """``choice``: which files are saved, None if the sessions path does not exist. ``accounts``: those that the options select.
    ``snapshots``: all in the store, those of each account newest first. ``now``: ns since the epoch, before anything was read. ``disk``: of
    the store. ``unfinished``: whether a run that was killed has left something.
    """

    choice: Choice | None
    accounts: tuple[Account, ...]
    snapshots: tuple[Snapshot, ...]
    now: int
    disk: os.statvfs_result
    unfinished: bool = False

    @property
    def newest(self) -> dict[str, Snapshot]:
        """The newest snapshot of each account."""
        found: dict[str, Snapshot] = {}
        for one in self.snapshots:
            found.setdefault(one.account, one)
        return found


def observed(params: Params) -> State:
    """Look at the sessions path and the store. Raises SessionsError for a path that is not there, and for accounts that are not known."""
    now, disk = time.time_ns(), _disk_of(store_path(params.path, params.backup_path))
    with existing_store(params.path, params.backup_path) as store:
        kept = snapshots(store) if store is not None else ()
        left = store is not None and any(name.startswith(PARTIAL) for name in os.listdir(store))
        empty = State(None, (), kept, now, disk, left)
        try:
            with opened_directory(params.path) as root:
                choice = choice_of(recognised(root, params.layout), exclude_caches=params.exclude_caches)
                accounts = _accounts(root, store, choice, empty.newest, params)
        except (FileNotFoundError, NotADirectoryError):
            if params.state == PRUNED:
                return empty
            raise SessionsError(
                f"there is no directory {params.path}, so there is nothing to back up; check the path, and that its disk is mounted"
            ) from None
        except PermissionError as error:
            raise SessionsError(f"cannot read {params.path}: {error.strerror}; run as root (become)") from error
    return empty._replace(choice=choice, accounts=accounts)


def observed_again(before: State, params: Params) -> State:
    """Return the state after a run: what it may have changed is looked at again, which is the store. The accounts are as they were."""
    with existing_store(params.path, params.backup_path) as store:
        kept = snapshots(store, before.snapshots) if store is not None else ()
    return before._replace(snapshots=kept, now=time.time_ns(), unfinished=False)


def _accounts(
    root: DirFd, store: DirFd | None, choice: Choice, newest: t.Mapping[str, Snapshot], params: Params
) -> tuple[Account, ...]:
    names = [name for name in account_names(root, choice.layout) if is_selected(name, choice.layout, params)]
    _require_known(names, newest, choice.layout, params)
    if params.state == PRUNED:
        return ()
    looked = parallel_map(lambda name: _looked_at(root, store, choice, name, newest.get(name)), names)
    return tuple(Account(*one) for one in looked)


def _looked_at(root: DirFd, store: DirFd | None, choice: Choice, name: str, newest: Snapshot | None) -> Account:
    """Judge one account and compare it with its newest snapshot."""
    known = _known_in(store, newest, choice) if store is not None and newest is not None else NOTHING
    try:
        with opened_account(root, name) as directory:
            state = choice.layout.judged(directory).state
            return Account(name, state, *difference_of(root, name, directory, choice, known))
    except (OSError, SessionsError):
        return Account(name, UNREADABLE)


def _known_in(store: DirFd, newest: Snapshot, choice: Choice) -> Known:
    try:
        with opened_snapshot(store, newest.name) as directory:
            return read_known(directory, choice)
    except (OSError, SessionsError):
        return NOTHING


def is_selected(account: str, layout: Layout | None, params: Params) -> bool:
    """Whether the option ``accounts`` selects an account."""
    return not params.accounts or not params.accounts.isdisjoint(layout.called(account) if layout else (account,))


def _require_known(names: t.Collection[str], newest: t.Collection[str], layout: Layout, params: Params) -> None:
    known = {called for name in (*names, *newest) for called in layout.called(name)}
    strange = len(params.accounts - known)
    if strange:
        raise SessionsError(
            f"{strange} of the accounts in 'accounts' are neither at {params.path} nor in the directory of backups; nothing was changed"
        )


def _disk_of(path: str) -> os.statvfs_result:
    """Return the status of the disk that a directory is or would be on."""
    while True:
        try:
            return os.statvfs(path)
        except (FileNotFoundError, NotADirectoryError):
            path = os.path.dirname(path)
