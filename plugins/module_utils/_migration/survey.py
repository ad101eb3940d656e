# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Surveys both sides of a migration: which accounts exist, in which state, and what to do with each.

The cost grows with the number of accounts: the keys of an account are read or counted only to judge a conflict.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import stat
import typing as t

from .._accounts.control_directory import control_path
from .._accounts.receipts import Entry, Mark, mark_with_parts
from .._accounts.tombstone import is_tombstone_at
from .._core.errors import SessionsError
from .._core.masking import account_key, masked
from .._fs.fdopen import DirFd, opened_below, opened_directory, status_below, status_of
from .._fs.users import owner_name
from .._layouts.account import AccountRef, open_account
from .._layouts.layout import KEYS_MISSING, Layout
from .._layouts.search import account_names, companions, found_in
from .conflicts import CopyState, Decision, decide
from .left_behind import Clash, Directories, LeftBehind, at_path_already, left_twin
from .owners import REMEDY, companion_owners, is_owned_by
from .restoring import WAYS, Facts, decide_restored
from .sources import Source


class Account(t.NamedTuple):
    """One account of a legacy path, and the decision about it.

    ``owner``: uid of its directory at the legacy path. ``linked``: that is reached by a symbolic link. ``equal``: both copies are of the
    same generation.
    """

    name: str
    root: str
    legacy: CopyState
    present: CopyState | None
    decision: Decision
    owner: int | None = None
    linked: bool = False
    equal: bool = False

    @property
    def label(self) -> str:
        """The masked name, for output."""
        return masked(self.name)

    @property
    def is_inside(self) -> bool:
        """Whether it is moved with the account that its root is."""
        return self.decision == _INSIDE


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


_MOVED_AWAY = Decision("skipped", "it has been moved to another host since; move it back from that host")
_ACCEPTED = Decision("skipped", "it belongs to another user, and leaving it behind was accepted")
_INSIDE = Decision("migrated", "it is in the account that the legacy path is itself, and is moved with it", adopt=True)
_DAMAGED = Decision("corrupt", "its database is damaged; it stays at the legacy path")


class Choice(t.NamedTuple):
    """The options about accounts. ``only``: the accounts to survey, all if empty; ``accepted``: those that may be left behind.

    ``on_conflict``: also one of the ways of restoring.py. ``lost``: see there.
    """

    on_conflict: str
    only: t.Collection[str] = ()
    accepted: t.Collection[str] = ()
    lost: t.Collection[str] = ()


def survey(
    sources: t.Sequence[Source],
    path: str,
    layout: Layout,
    receipts: t.Mapping[str, Entry],
    choice: Choice,
    at_path: bool | None,
    before: Survey | None = None,
) -> Survey:
    """Survey the legacy roots and the sessions path.

    ``at_path``: whether the running backend uses ``path``, None if it is down. ``before``: an earlier survey; its judgements are reused
    for unchanged copies. Raises SessionsError if an account of ``choice.only`` does not exist and was not moved away either.
    """
    with contextlib.ExitStack() as stack:
        target = _opened(stack, path)
        looks = _Looks(layout, before.sides if before else {})
        present = _states(looks, path, target)
        found = _Found(choice, receipts, Directories(path, several=len(sources) > 1), set(choice.only) - present.keys())
        for source in sources:
            root = _opened(stack, source.path)
            if root is None:
                continue
            pair = AccountPair(source, root, path, target, looks, at_path, _is_handed_over(source.path, path))
            found.add_accounts(pair)
            found.add_companions(pair)
        inode = os.fstat(target).st_ino if target is not None else 0
    _require_found(found.missing, sources, path)
    accounts = _with_the_root(found.accounts, present)
    ordered = tuple(accounts[name] for name in sorted(accounts))
    return Survey(
        layout,
        ordered,
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
            if not _has(pair.target, name) and not _is_beside_store(layout, name.rpartition("/")[2]):
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
    return {".": whole, **{name: account._replace(decision=_INSIDE) for name, account in others.items()}}


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


class _Looks:
    """Judges copies of accounts, each only once; ``known``: earlier judgements."""

    def __init__(self, layout: Layout, known: t.Mapping[tuple[str, str], CopyState]) -> None:
        self.layout = layout
        self.known = known
        self.sides: dict[tuple[str, str], CopyState] = {}
        self.owners: dict[tuple[str, str], int] = {}

    def side(self, place: str, root: DirFd, name: str, ancestor: Mark | None = None) -> CopyState | None:
        """Return one copy below the open directory ``root``; None if it does not exist.

        If its mark equals that of its ``ancestor``, its state does not matter, so it is not judged, which may mean reading it completely.
        """
        try:
            directory = open_account(root, name)
        except (FileNotFoundError, NotADirectoryError):
            return None  # any other error must end the run, not leave out the account
        try:
            if not self.layout.is_account(directory):
                return None
            self.owners[place, name] = os.fstat(directory).st_uid
            mark = mark_with_parts(AccountRef(root, name, self.layout), directory)
            if ancestor is not None and not mark.differs_from(ancestor):
                return CopyState("unknown", mark)
            known = self.sides.get((place, name)) or self.known.get((place, name))
            is_known = known is not None and known.mark == mark and known.state != "unknown"
            found = known if known and is_known else self._judged(directory, mark)
            self.sides[place, name] = found
            return found
        finally:
            os.close(directory)

    def _judged(self, directory: DirFd, mark: Mark) -> CopyState:
        judgement = self.layout.judged(directory)
        devices = judgement.fingerprints if judgement.state == "paired" else ()
        return CopyState(judgement.state, mark, devices=devices, partial=KEYS_MISSING in judgement.problems)


class AccountPair(t.NamedTuple):
    """A legacy root and the sessions path, both open; the latter is None if it does not exist.

    ``handed_over``: one is in the area of the other, so the accounts are in transit between hosts.
    """

    source: Source
    root: DirFd
    path: str
    target: DirFd | None
    looks: _Looks
    at_path: bool | None
    handed_over: bool = False

    def decided(self, name: str, receipt: Entry | None, choice: Choice) -> Account:
        """Judge both copies of an account and decide about it."""
        if choice.on_conflict in WAYS:
            return self._restored(name, receipt, choice)
        return self._account(name, receipt, choice.on_conflict)

    def _restored(self, name: str, receipt: Entry | None, choice: Choice) -> Account:
        """Decide about an account of a snapshot. ``receipt``: of the last time that it was restored."""
        account = self.ref(name)
        snapshot = self._legacy(name, None)._replace(newest_ns=_newest(account))
        present = self.looks.side(self.path, self.target, name) if self.target is not None else None
        if present is None and self.target is not None and is_tombstone_at(self.target, name):
            return Account(name, self.source.path, snapshot, None, _MOVED_AWAY, self._owner(name))
        if present is not None and self.target is not None:
            present = present._replace(newest_ns=_newest(account._replace(root=self.target)))
        facts = Facts(
            again=receipt is not None and receipt.source == self.source.path,
            occupied=_has(self.target, name),
            lost=name in choice.lost,
        )
        is_same = functools.partial(_same, account, self.target)
        decision = decide_restored(snapshot, present, choice.on_conflict, facts, is_same)
        return Account(name, self.source.path, snapshot, present, decision, self._owner(name))

    def _account(self, name: str, receipt: Entry | None, on_conflict: str) -> Account:
        if self.handed_over:
            receipt = None  # it arrives from another host, so its history on this host does not count
        account, damaged = self.ref(name), receipt is not None and receipt.damaged
        present = self.looks.side(self.path, self.target, name) if self.target is not None else None
        legacy = self._legacy(name, None if damaged or present is None or present.state == "corrupt" else receipt)
        if receipt is not None and receipt.damaged:
            if not legacy.mark.differs_from(receipt.legacy):
                legacy = legacy._replace(state="corrupt")
            receipt = None
        legacy = legacy._replace(in_use=self.at_path is False)
        ancestor = _ancestor(receipt, self.source, legacy, present)
        if present is None and not self.handed_over and self.target is not None and is_tombstone_at(self.target, name):
            return Account(name, self.source.path, legacy, None, _MOVED_AWAY, self._owner(name))
        if present is not None and self.target is not None:
            present = present._replace(in_use=self.at_path is True)
            if ancestor is None or legacy.mark.differs_from(ancestor.legacy):
                legacy = legacy._replace(newest_ns=_newest(account))
                present = present._replace(newest_ns=_newest(account._replace(root=self.target)))
        decision = decide(legacy, present, ancestor, on_conflict, lambda: _same(account, self.target))
        equal = (
            decision.action == "unchanged"
            and present is not None
            and (ancestor is None or not present.mark.differs_from(ancestor.present))
        )
        return Account(name, self.source.path, legacy, present, decision, self._owner(name), equal=equal)

    def after(self, first: AccountPair, name: str) -> tuple[Clash | None, LeftBehind | None]:
        """Compare the account ``name`` with one of the same name in an earlier legacy path: a clash, a twin to leave behind, or neither."""
        places = first.source.given, self.source.given
        sides = first.side(name), self.side(name)
        if sides[0].is_of_another_device(sides[1]):
            return Clash(name, *places), None
        twin = left_twin(name, *sides, places)
        same = twin is not None and _same(first.ref(name), self.root)
        return None, None if same else twin

    def side(self, name: str) -> CopyState:
        """Judge only the legacy copy."""
        return self._legacy(name, None)

    def ref(self, name: str) -> AccountRef:
        """Return the legacy copy of an account."""
        return AccountRef(self.root, name, self.looks.layout)

    def _owner(self, name: str) -> int | None:
        return self.looks.owners.get((self.source.path, name))

    def _legacy(self, name: str, receipt: Entry | None) -> CopyState:
        ancestor = receipt.legacy if receipt is not None and receipt.source == self.source.path else None
        found = self.looks.side(self.source.path, self.root, name, ancestor)
        # None: it was removed meanwhile.
        return found or CopyState("corrupt", mark_with_parts(self.ref(name), self.root))


def _ancestor(receipt: Entry | None, source: Source, legacy: CopyState, present: CopyState | None) -> Entry | None:
    """Return the receipt if it applies to this legacy copy. A copy from another source differs from it without having been used since."""
    if receipt is None or (receipt.mirrored and present is None):
        return None
    if receipt.source == source.path:
        return receipt
    if present is not None or legacy.mark.changed_ns > receipt.time * 1e9:
        return None
    # The copy is older than the migration, so it has not been used since either.
    return dataclasses.replace(receipt, legacy=legacy.mark)


def _states(looks: _Looks, path: str, target: DirFd | None) -> dict[str, str]:
    if target is None:
        return {}
    found = ((name, looks.side(path, target, name)) for name in account_names(target, looks.layout))
    return {name: side.state for name, side in found if side is not None}


def _newest(account: AccountRef) -> int:
    from .._accounts.compare import newest_ns

    return newest_ns(account)


def _same(account: AccountRef, target: DirFd | None) -> bool:
    from .._accounts.compare import same_account

    return target is not None and same_account(account, target)


def _is_beside_store(layout: Layout, name: str) -> bool:
    if not layout.databases:
        return False
    from .._layouts.sqlite import is_beside_store

    return is_beside_store(layout, name)


def _has(target: DirFd | None, path: str) -> bool:
    if target is None:
        return False
    folder, _slash, name = path.rpartition("/")
    try:
        with opened_below(target, folder or ".") as parent:
            return status_of(parent, name) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def _opened(stack: contextlib.ExitStack, path: str) -> DirFd | None:
    try:
        return stack.enter_context(opened_directory(path))
    except (FileNotFoundError, NotADirectoryError):  # it does not exist yet, or was retired
        return None
