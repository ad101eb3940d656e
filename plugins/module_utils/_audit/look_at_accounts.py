# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Observe the accounts in the directories that hold them, as session_info does, and a bounded number of files in each."""

from __future__ import annotations

import os
import stat
import typing as t

from .._accounts import info as accounts_info
from .._core.masking import masked
from .._fs.fdopen import opened_directory
from .._layouts.account import AccountRef
from .._layouts.layout import Layout
from .._layouts.lookalikes import Candidate, copies_among, devices_shared
from .facts import Account, Scan
from .params import Params

AccountFacts = accounts_info.AccountFacts


class Held(t.NamedTuple):
    """The accounts of one directory as session_info sees them."""

    path: str
    state: accounts_info.State


def held_at(path: str, layout: Layout | None) -> Held:
    """Judge the accounts at ``path``. Raises SessionsError if they cannot be read."""
    params = accounts_info.read_params({"path": path})._replace(layout=layout)
    return Held(path, accounts_info.observe(params))


def accounts_of(held: t.Sequence[Held], params: Params, owner: str) -> tuple[Account, ...]:
    """Return the accounts of all directories. ``owner``: the user that should own them, '' for any."""
    label: t.Callable[[str], str] = str if params.show_accounts else masked
    twins, found = _twins(held, label), []
    for place in held:
        copies = copies_among([_candidate(account.name, account) for account in place.state.accounts])
        with opened_directory(place.path) as root:
            for account in place.state.accounts:
                found.append(
                    Account(
                        label(account.name),
                        account.state,
                        account.problems,
                        account.lock,
                        twins=twins.get((place.path, account.name), ()),
                        copy_of=label(copies[account.name]) if account.name in copies else "",
                        wrong_owner=account.owner if owner and account.owner != owner else "",
                        scan=_scan(AccountRef(root, account.name, place.state.layout), params),
                    )
                )
    return tuple(found)


def links_of(held: t.Iterable[Held], params: Params) -> tuple[tuple[str, str], ...]:
    """Return the symbolic links that may be accounts but are not followed, each with the reason."""
    label: t.Callable[[str], str] = str if params.show_accounts else masked
    return tuple((label(one.name), one.left) for place in held for one in place.state.left)


def _candidate(name: str, account: AccountFacts) -> Candidate:
    return Candidate(name, account.fingerprints, account.newest)


def _twins(held: t.Iterable[Held], label: t.Callable[[str], str]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return for each account (directory and name) the labels of the others with the same device, in any of the directories."""
    names: dict[str, tuple[str, str]] = {}
    candidates = []
    for place in held:
        for account in place.state.accounts:
            names[f"{place.path}/{account.name}"] = (place.path, account.name)
            candidates.append(_candidate(f"{place.path}/{account.name}", account))
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for group in devices_shared(candidates):
        members = [names[candidate.name] for candidate in group]
        for member in members:
            found[member] = tuple(label(name) for path, name in members if (path, name) != member)
    return found


def _scan(account: AccountRef, params: Params) -> Scan:
    from .scan import scanned

    reachable = bool(os.fstat(account.root).st_mode & stat.S_IXOTH)
    try:
        with account.opened() as directory:
            return scanned(
                directory, account.layout, files=params.limits.files, statuses=params.statuses, reachable=reachable
            )
    except (FileNotFoundError, NotADirectoryError):
        return Scan()  # removed since it was listed
