# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Choose the snapshot of each account that is restored, and check that it is whole. Reads only.

A store may have come from another host, so that a snapshot is data of strangers until it was judged: it counts only if its directory holds
exactly the account of its manifest, linked, with as many files and bytes as were saved.
"""

from __future__ import annotations

import typing as t

from .._backup.store import ROOT, Snapshot, opened_snapshot
from .._core.errors import SessionsError
from .._core.masking import masked
from .._fs.fdopen import DirFd, opened_below
from .._fs.walk_tree import measure
from .._layouts.account import opened_account
from .._layouts.layout import LINKED, Layout
from .._layouts.registry import CUSTOM, layout_named
from .._layouts.search import found_in

LATEST = "latest"
_NAMED_AT_MOST = 5


def of_path(found: t.Iterable[Snapshot], path: str, store: str) -> tuple[Snapshot, ...]:
    """Return the snapshots that were taken of ``path``. Raises SessionsError if all in the store are of other paths."""
    found = tuple(found)
    own = tuple(one for one in found if one.path == path)
    if found and not own:
        others = sorted({one.path for one in found})
        raise SessionsError(
            f"the snapshots in {store} were taken of {', '.join(others[:_NAMED_AT_MOST])}, not of {path}; nothing was changed: to restore "
            "them to another path, name the former one in 'snapshot_path' (role: wa_restore_snapshot_path)"
        )
    return own


def chosen(found: t.Iterable[Snapshot], accounts: t.Iterable[str], moment: str, store: str) -> dict[str, Snapshot]:
    """Return the snapshot of each account: the newest sound one, or the one of ``moment``. Raises SessionsError if there is none."""
    found = tuple(found)
    return {account: _chosen(found, account, moment, store) for account in accounts}


def _chosen(found: t.Sequence[Snapshot], account: str, moment: str, store: str) -> Snapshot:
    own = [one for one in found if one.account == account]
    fitting = [one for one in own if (one.is_sound if moment == LATEST else one.moment == moment)]
    if fitting:
        return fitting[0]  # the newest, as the store lists them
    known = ", ".join(one.moment for one in own[:_NAMED_AT_MOST])
    kind = "sound snapshot" if moment == LATEST else f"snapshot {moment}"
    others = f"there are {known}" if known else "there is none of this account; session_backup lists those that exist"
    raise SessionsError(
        f"the store {store} has no {kind} of account {masked(account)!r}; nothing was changed: check the name and the moment, {others}"
    )


def layout_for(snapshots: t.Iterable[Snapshot], layout: Layout | None) -> Layout:
    """Return the layout of the snapshots. Raises SessionsError if they have several, or another one than was chosen."""
    names = sorted({one.layout for one in snapshots})
    if len(names) != 1 or (layout is not None and layout.name != names[0]):
        raise SessionsError(
            f"the snapshots hold accounts of the layout {' and '.join(names)}{f', not {layout.name}' if layout else ''}; nothing was "
            "changed: restore accounts of one layout at a time, and set 'layout' to theirs or to auto"
        )
    if layout is None and names[0] == CUSTOM:
        raise SessionsError(
            "the snapshots hold accounts of a layout that only the option 'custom' describes; nothing was changed: set layout=custom and "
            "the same description with which they were saved"
        )
    return layout or layout_named(names[0])


def require_whole(store: DirFd, snapshot: Snapshot, layout: Layout) -> None:
    """Raise SessionsError if a snapshot is not whole."""
    why = why_not_whole(store, snapshot, layout)
    if why:
        raise SessionsError(
            f"the snapshot {snapshot.moment} of account {masked(snapshot.account)!r} cannot be restored, because {why}; nothing was "
            "changed: name another one in 'snapshot'"
        )


def why_not_whole(store: DirFd, snapshot: Snapshot, layout: Layout) -> str:
    """Return, as a clause, why a snapshot must not be restored; '' if it is whole."""
    if not snapshot.is_sound:
        return f"the account in it was {snapshot.state}"
    try:
        with opened_snapshot(store, snapshot.name) as directory, opened_below(directory, ROOT) as root:
            return _why_not_whole(root, snapshot, layout)
    except (OSError, SessionsError):
        return "its directory cannot be read"


def _why_not_whole(root: DirFd, snapshot: Snapshot, layout: Layout) -> str:
    found = list(found_in(root, layout))
    if [one.name for one in found] != [snapshot.account] or found[0].left or found[0].linked:
        return "its directory does not hold exactly this account"
    with opened_account(root, snapshot.account) as account:
        state = layout.judged(account).state
    if state not in LINKED:
        return f"the account in it is {state}"
    now = measure(root, lambda _name: False)
    if (now.files, now.bytes) != (snapshot.files, snapshot.bytes):
        return (
            f"it has {now.files} files with {now.bytes} bytes instead of {snapshot.files} with {snapshot.bytes}, so it was changed or is "
            "incomplete"
        )
    return ""
