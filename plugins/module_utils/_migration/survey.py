# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Surveys both sides of a migration: which accounts exist, in which state, and what to do with each.

The cost grows with the number of accounts: the keys of an account are read or counted only to judge a conflict.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import typing as t

from .._accounts.control_directory import control_path
from .._accounts.receipts import Entry
from .._accounts.tombstone import is_tombstone_at
from .._core.errors import SessionsError
from .._core.masking import account_key, masked
from .._fs.fdopen import DirFd, opened_directory, status_below
from .._fs.users import owner_name
from .._layouts.layout import Layout
from .._layouts.search import account_names, companions, found_in
from .conflicts import CopyState, Decision
from .left_behind import Clash, Directories, LeftBehind, at_path_already
from .owners import REMEDY, companion_owners, is_owned_by
from .pair import INSIDE, Account, AccountPair, Choice, Looks, has_entry
from .sources import Source


class Companion(t.NamedTuple):
    """An entry (relative path) next to the accounts of a legacy root that does not exist at the sessions path.

    ``owners``: the uids that may own the root, the entry and everything in it.
    """

    name: str
    root: str
    owners: frozenset[int]


@dataclasses.dataclass(frozen=True)
class Survey:
    """The result of a survey.

    ``present``: states of the accounts at the sessions path, by name. ``path_inode``: of the sessions path, 0 if it does not exist.
    ``sides``: each judged copy, by its root and name. ``left``: possible accounts that will exist only at a legacy path. ``clashes``: names
    that two legacy paths use for different devices. ``loose_links``: the number of symbolic links next to accounts, which are not copied.
    """

    layout: Layout
    accounts: tuple[Account, ...]
    companions: tuple[Companion, ...]
    present: t.Mapping[str, str]
    path_inode: int
    sides: t.Mapping[tuple[str, str], CopyState] = dataclasses.field(default_factory=dict)
    left: tuple[LeftBehind, ...] = ()
    clashes: tuple[Clash, ...] = ()
    loose_links: int = 0

    def with_action(self, *actions: str) -> tuple[Account, ...]:
        """The accounts with one of ``actions`` as the decision."""
        return tuple(account for account in self.accounts if account.decision.action in actions)

    @property
    def to_publish(self) -> tuple[Account, ...]:
        """The accounts to publish at the sessions path."""
        return tuple(account for account in self.accounts if account.decision.publish)

    def without_damaged(self, names: t.Collection[str]) -> Survey:
        """Return the survey with the decision that the accounts ``names`` stay at the legacy path, because their copies are damaged."""
        return dataclasses.replace(
            self,
            accounts=tuple(
                account._replace(decision=_DAMAGED) if account.name in names else account for account in self.accounts
            ),
        )


_ACCEPTED = Decision("skipped", "it belongs to another user, and leaving it behind was accepted")
_DAMAGED = Decision("corrupt", "its database is damaged; it stays at the legacy path")


class Roots(t.NamedTuple):
    """What is surveyed: the legacy paths, the sessions path and the layout of both.

    ``at_path``: whether the running backend uses ``path``, None if it is down.
    """

    sources: t.Sequence[Source]
    path: str
    layout: Layout
    at_path: bool | None = None


def survey(roots: Roots, receipts: t.Mapping[str, Entry], choice: Choice, before: Survey | None = None) -> Survey:
    """Survey the legacy roots and the sessions path.

    ``before``: an earlier survey; its judgements are reused for unchanged copies. Raises SessionsError if an account of ``choice.only``
    does not exist and was not moved away either.
    """
    sources, path = roots.sources, roots.path
    with contextlib.ExitStack() as stack:
        target = _opened(stack, path)
        looks = Looks(roots.layout, before.sides if before else {})
        present = _states(looks, path, target)
        found = _Found(choice, receipts, Directories(path, several=len(sources) > 1), set(choice.only) - present.keys())
        for source in sources:
            root = _opened(stack, source.path)
            if root is not None:
                found.add(
                    AccountPair(source, root, path, target, looks, roots.at_path, _is_handed_over(source.path, path))
                )
        inode = os.fstat(target).st_ino if target is not None else 0
    _require_found(found.missing, sources, path)
    accounts = _with_the_root(found.accounts, present)
    return Survey(
        roots.layout,
        tuple(accounts[name] for name in sorted(accounts)),
        tuple(found.companions.values()),
        present,
        inode,
        looks.sides,
        tuple(found.left_behind(accounts, present)),
        tuple(found.clashes),
        found.loose_links,
    )


@dataclasses.dataclass
class _Found:
    """The findings of a survey, root by root. ``missing``: the wanted accounts that no root had so far."""

    choice: Choice
    receipts: t.Mapping[str, Entry]
    directories: Directories
    missing: set[str]
    accounts: dict[str, Account] = dataclasses.field(default_factory=dict)
    pairs: dict[str, AccountPair] = dataclasses.field(default_factory=dict)
    companions: dict[str, Companion] = dataclasses.field(default_factory=dict)
    left: dict[str, LeftBehind] = dataclasses.field(default_factory=dict)
    clashes: list[Clash] = dataclasses.field(default_factory=list)
    loose_links: int = 0

    def add(self, pair: AccountPair) -> None:
        """Add what a root has."""
        self.add_accounts(pair)
        self.add_companions(pair)

    def add_accounts(self, pair: AccountPair) -> None:
        """Add the accounts of a root. One that an earlier root has is only compared with that, unless that is corrupt."""
        source, root, only = pair.source, pair.root, self.choice.only
        for name, why, linked in found_in(root, pair.looks.layout):
            if (only and name not in only) or (linked and at_path_already(root, name, pair.path)):
                continue
            why = why or self.directories.why_not(root, name, linked)
            if why:
                self.left.setdefault(name, LeftBehind(name, source.given, why, is_link=linked))
            elif name not in self.accounts or self.accounts[name].legacy.state == "corrupt":
                account = pair.decided(name, self.receipts.get(account_key(name)), self.choice)
                account = account._replace(linked=True) if linked else account
                self.accounts[name] = _allowed(account, source, self.choice.accepted)
                self.pairs[name] = pair
            else:
                clash, twin = pair.after(self.pairs[name], name)
                self.clashes += [clash] if clash else []
                self.left.update({name: twin} if twin else {})
        self.missing = {name for name in self.missing - self.accounts.keys() if not is_tombstone_at(root, name)}

    def add_companions(self, pair: AccountPair) -> None:
        """Add the entries of a root that are copied with its accounts, unless the sessions path has them."""
        source, root, layout = pair.source, pair.root, pair.looks.layout
        owners = companion_owners(source.owners, os.fstat(root), source.receiver)
        # If closed, the user's own companions were copied before, and files of root may have been moved in by the user.
        if self.choice.only or source.closed or not owners:
            return
        for name in companions(root, layout):
            if not is_owned_by(root, name, owners) or is_tombstone_at(root, name):
                continue  # it belongs to another user, or replaces an account that was moved away
            if _is_link(root, name):
                self.loose_links += name not in self.left
                continue
            if not has_entry(pair.target, name) and not _is_beside_store(layout, name.rpartition("/")[2]):
                self.companions.setdefault(name, Companion(name, source.path, owners))

    def left_behind(self, accounts: t.Mapping[str, Account], present: t.Collection[str]) -> t.Iterator[LeftBehind]:
        """Yield what a switch of the backend would leave behind, in the order of names."""
        stay = (account for account in accounts.values() if _stays(account))
        left = {**self.left, **{one.name: LeftBehind(one.name, one.root, one.decision.reason) for one in stay}}
        for name in sorted(left):
            # The target of a link that is not followed is unknown, so the account of that name at the sessions path may be another one.
            is_there = name in present and not left[name].is_link
            if not is_there and (left[name].is_twin or not _is_brought(accounts.get(name))):
                yield left[name]


def _with_the_root(accounts: dict[str, Account], present: t.Collection[str]) -> dict[str, Account]:
    """Move accounts with the one that their root is (``.``), unless that would replace newer keys at the sessions path."""
    whole = accounts.get(".")
    if whole is None or not whole.decision.publish or set(present) - accounts.keys():
        return accounts
    others = {name: account for name, account in accounts.items() if name != "."}
    if not all(_goes_with(account, whole) for account in others.values()):
        return accounts
    return {".": whole, **{name: account._replace(decision=INSIDE) for name, account in others.items()}}


def _goes_with(account: Account, whole: Account) -> bool:
    if account.root != whole.root or account.linked:
        return False
    return (
        account.decision.publish or account.equal or (account.present is None and account.decision.action == "corrupt")
    )


def _stays(account: Account) -> bool:
    """Whether an account will exist only at its legacy path, damaged or accepted to be left behind."""
    return account.present is None and (account.decision.action == "corrupt" or account.decision == _ACCEPTED)


def _is_brought(account: Account | None) -> bool:
    return account is not None and account.decision.publish


def _is_link(root: DirFd, path: str) -> bool:
    status = status_below(root, path)
    return status is not None and stat.S_ISLNK(status.st_mode)


def _allowed(account: Account, source: Source, accepted: t.Collection[str]) -> Account:
    """Return the account, skipped if leaving it behind was accepted. Raises SessionsError if its owner is not allowed."""
    closed = source.closed and account.name == "." and account.owner == 0
    if account.owner is not None and source.owners is not None and account.owner not in source.owners and not closed:
        if account.name in accepted or account.label in accepted:
            return account._replace(decision=_ACCEPTED)
        raise SessionsError(
            f"account {account.label!r} in {source.given} belongs to {owner_name(account.owner)}, not to "
            f"{' or '.join(map(owner_name, sorted(source.owners)))}; nothing was changed: {REMEDY}"
        )
    return account


def _is_handed_over(source: str, path: str) -> bool:
    return source.startswith(f"{control_path(path)}/") or path.startswith(f"{control_path(source)}/")


def _require_found(missing: t.Collection[str], sources: t.Sequence[Source], path: str) -> None:
    if missing:
        named = ", ".join(sorted(map(masked, missing)))
        places = ", ".join([*(source.given for source in sources), path])
        raise SessionsError(
            f"these named accounts do not exist: {named} (searched in {places}); "
            "nothing was changed: list the account names with session_info and run again"
        )


def _states(looks: Looks, path: str, target: DirFd | None) -> dict[str, str]:
    if target is None:
        return {}
    found = ((name, looks.side(path, target, name)) for name in account_names(target, looks.layout))
    return {name: side.state for name, side in found if side is not None}


def _is_beside_store(layout: Layout, name: str) -> bool:
    if not layout.databases:
        return False
    from .._layouts.sqlite import is_beside_store

    return is_beside_store(layout, name)


def _opened(stack: contextlib.ExitStack, path: str) -> DirFd | None:
    try:
        return stack.enter_context(opened_directory(path))
    except (FileNotFoundError, NotADirectoryError):  # it does not exist yet, or was retired
        return None
