# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""One legacy root and the sessions path: judges both copies of an account, and decides what to do with it. Reads only."""

from __future__ import annotations

import dataclasses
import functools
import os
import typing as t

from .._accounts.receipts import Entry, Mark, mark_with_parts
from .._accounts.tombstone import is_tombstone_at
from .._core.masking import masked
from .._fs.fdopen import DirFd, opened_parent, status_of
from .._layouts.account import AccountRef, open_account
from .._layouts.layout import KEYS_MISSING, Layout
from .conflicts import CopyState, Decision, decide
from .left_behind import Clash, LeftBehind, left_twin
from .restoring import WAYS, Facts, decide_restored, receipt_source
from .sources import Source

_MOVED_AWAY = Decision("skipped", "it has been moved to another host since; move it back from that host")
INSIDE = Decision("migrated", "it is in the account that the legacy path is itself, and is moved with it", adopt=True)


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
        return self.decision == INSIDE


class Choice(t.NamedTuple):
    """The options about accounts. ``only``: the accounts to survey, all if empty; ``accepted``: those that may be left behind.

    ``on_conflict``: also one of the ways of restoring.py. ``lost``: see there.
    """

    on_conflict: str
    only: t.Collection[str] = ()
    accepted: t.Collection[str] = ()
    lost: t.Collection[str] = ()


class Looks:
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
    looks: Looks
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
            again=receipt is not None and receipt.source == receipt_source(self.source.path),
            occupied=has_entry(self.target, name),
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


def _newest(account: AccountRef) -> int:
    from .._accounts.compare import newest_ns

    return newest_ns(account)


def _same(account: AccountRef, target: DirFd | None) -> bool:
    from .._accounts.compare import same_account

    return target is not None and same_account(account, target)


def has_entry(target: DirFd | None, path: str) -> bool:
    """Return whether the open directory ``target`` has an entry at a relative path; False if it is None."""
    if target is None:
        return False
    try:
        with opened_parent(target, path) as (parent, name):
            return status_of(parent, name) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False
