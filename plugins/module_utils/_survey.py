# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Looks at both sides of a migration: what accounts there are, in what state, and what is to be done about each.

The cost grows with the number of accounts: an account's keys are read or counted only where a conflict has to be judged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ._area import area_path
from ._conflicts import Decision, Side, decide
from ._errors import SessionsError
from ._layout import Layout, opened_below, status_of
from ._layouts import account_names, companions, open_account
from ._masking import masked
from ._paths import opened_directory
from ._receipts import Entry, Mark, account_key, mark_with_parts
from ._sources import Source, is_in_use
from ._tombstone import is_tombstone_at


class Account(t.NamedTuple):
    """One account of a legacy path, and what is decided about it."""

    name: str
    root: str
    legacy: Side
    present: Side | None
    decision: Decision

    @property
    def label(self) -> str:
        """How the account is called where others may read it."""
        return masked(self.name)


class Companion(t.NamedTuple):
    """An entry (its relative path) beside the accounts of a legacy root that the sessions path does not have."""

    name: str
    root: str


@dataclasses.dataclass(frozen=True)
class Survey:
    """All that was seen. ``present``: states of the accounts at the sessions path, by name. ``path_inode``: 0 where it is not made yet.

    ``sides``: each copy that was judged, by the root it is in and its name.
    """

    layout: Layout
    accounts: tuple[Account, ...]
    companions: tuple[Companion, ...]
    present: t.Mapping[str, str]
    path_inode: int
    sides: t.Mapping[tuple[str, str], Side] = dataclasses.field(default_factory=dict)

    def with_action(self, *actions: str) -> tuple[Account, ...]:
        """The accounts that one of ``actions`` was decided for."""
        return tuple(account for account in self.accounts if account.decision.action in actions)

    @property
    def to_publish(self) -> tuple[Account, ...]:
        """The accounts whose legacy copy goes to the sessions path."""
        return tuple(account for account in self.accounts if account.decision.publish)

    def without_damaged(self, names: t.Collection[str]) -> Survey:
        """Decide that the accounts ``names`` stay where they are, because their copies turned out to be damaged."""
        return dataclasses.replace(
            self,
            accounts=tuple(
                account._replace(decision=_DAMAGED) if account.name in names else account for account in self.accounts
            ),
        )


_MOVED_AWAY = Decision("skipped", "it was moved to another host since; move it back from there")
_DAMAGED = Decision("corrupt", "its database is damaged; it stays at the legacy path")


def survey(
    sources: t.Sequence[Source],
    path: str,
    layout: Layout,
    receipts: t.Mapping[str, Entry],
    on_conflict: str,
    in_use: t.Collection[str] | None,
    before: Survey | None = None,
    only: t.Collection[str] = (),
) -> Survey:
    """Look at the legacy roots and the sessions path.

    ``in_use``: the paths in the environment of the running backend, None when it is down. ``before``: an earlier look, which counts for
    whatever looks as it did then. ``only``: the accounts to look at, all where it is empty. Raises SessionsError where one of them is
    nowhere, and was not moved away either.
    """
    with contextlib.ExitStack() as stack:
        target = _opened(stack, path)
        looks = _Looks(layout, before.sides if before else {})
        present = _states(looks, path, target)
        accounts: dict[str, Account] = {}
        extras: dict[str, Companion] = {}
        missing = set(only) - present.keys()
        for source in sources:
            root = _opened(stack, source.path)
            if root is None:
                continue
            two = _Two(source, root, path, target, looks, in_use, _is_handed_over(source.path, path))
            for name in account_names(root, layout):
                if only and name not in only:
                    continue
                if name not in accounts or accounts[name].legacy.state == "corrupt":
                    accounts[name] = two.account(name, receipts.get(account_key(name)), on_conflict)
            missing = {name for name in missing - accounts.keys() if not is_tombstone_at(root, name)}
            for name in () if only else companions(root, layout):
                if is_tombstone_at(root, name):
                    continue  # it is about an account of that place
                if not _has(target, name) and not _is_beside_store(layout, name.rpartition("/")[2]):
                    extras.setdefault(name, Companion(name, source.path))
        inode = os.fstat(target).st_ino if target is not None else 0
    _require_found(missing, sources, path)
    found = tuple(accounts[name] for name in sorted(accounts))
    return Survey(layout, found, tuple(extras.values()), present, inode, looks.sides)


def _is_handed_over(source: str, path: str) -> bool:
    return source.startswith(f"{area_path(path)}/") or path.startswith(f"{area_path(source)}/")


def _require_found(missing: t.Collection[str], sources: t.Sequence[Source], path: str) -> None:
    if missing:
        named = ", ".join(sorted(map(masked, missing)))
        places = ", ".join([*(source.given for source in sources), path])
        raise SessionsError(
            f"accounts that were named are not there: {named} (looked in {places}); "
            "nothing was changed, see with session_info how they are called and run again"
        )


class _Looks:
    """Looks at copies of accounts, each judged once: ``known`` holds what was judged before."""

    def __init__(self, layout: Layout, known: t.Mapping[tuple[str, str], Side]) -> None:
        self.layout = layout
        self.known = known
        self.sides: dict[tuple[str, str], Side] = {}

    def side(self, place: str, root: int, name: str, ancestor: Mark | None = None) -> Side | None:
        """Look at one copy below the open directory ``root``; None when it is not there.

        Where it still looks like its ``ancestor`` nobody will ask for its state, so it is not judged: that may take reading all of it.
        """
        try:
            directory = open_account(root, name)
        except (FileNotFoundError, NotADirectoryError):
            return None  # any other error is no reason to go on without the account
        try:
            if not self.layout.is_account(directory):
                return None
            mark = mark_with_parts(root, name, directory, self.layout)
            if ancestor is not None and not mark.differs_from(ancestor):
                return Side("unknown", mark)
            known = self.sides.get((place, name)) or self.known.get((place, name))
            is_known = known is not None and known.mark == mark and known.state != "unknown"
            found = known if known and is_known else Side(self.layout.judge(directory).state, mark)
            self.sides[place, name] = found
            return found
        finally:
            os.close(directory)


class _Two(t.NamedTuple):
    """A legacy root and the sessions path, both open (or the latter not made yet).

    ``handed_over``: one lies in the area of the other, so the accounts come from another host or go to one, or come back from there.
    """

    source: Source
    root: int
    path: str
    target: int | None
    looks: _Looks
    in_use: t.Collection[str] | None
    handed_over: bool = False

    def account(self, name: str, receipt: Entry | None, on_conflict: str) -> Account:
        """Look at both copies of an account and decide about it."""
        if self.handed_over:
            receipt = None  # somebody brings it, whatever became of it here before
        layout, damaged = self.looks.layout, receipt is not None and receipt.damaged
        at_path = self.in_use is not None and is_in_use(self.path, self.in_use)
        present = self.looks.side(self.path, self.target, name) if self.target is not None else None
        legacy = self._legacy(name, None if damaged or present is None or present.state == "corrupt" else receipt)
        if receipt is not None and receipt.damaged:
            if not legacy.mark.differs_from(receipt.legacy):
                legacy = legacy._replace(state="corrupt")
            receipt = None
        legacy = legacy._replace(in_use=self.in_use is not None and not at_path)
        ancestor = _ancestor(receipt, self.source, legacy, present)
        if present is None and not self.handed_over and self.target is not None and is_tombstone_at(self.target, name):
            return Account(name, self.source.path, legacy, None, _MOVED_AWAY)
        if present is not None:
            present = present._replace(in_use=at_path)
            if ancestor is None or legacy.mark.differs_from(ancestor.legacy):
                legacy = legacy._replace(newest_ns=_newest(self.root, name, layout))
                present = present._replace(newest_ns=_newest(self.target, name, layout))
        decision = decide(legacy, present, ancestor, on_conflict, lambda: _same(self.root, self.target, name, layout))
        return Account(name, self.source.path, legacy, present, decision)

    def _legacy(self, name: str, receipt: Entry | None) -> Side:
        ancestor = receipt.legacy if receipt is not None and receipt.source == self.source.path else None
        found = self.looks.side(self.source.path, self.root, name, ancestor)
        # None: it was removed since it was listed.
        return found or Side("corrupt", mark_with_parts(self.root, name, self.root, self.looks.layout))


def _ancestor(receipt: Entry | None, source: Source, legacy: Side, present: Side | None) -> Entry | None:
    """Say whether a receipt tells anything about this legacy copy: one of another source was not 'used since' because it differs."""
    if receipt is None or (receipt.mirrored and present is None):
        return None
    if receipt.source == source.path:
        return receipt
    if present is not None or legacy.mark.changed_ns > receipt.time * 1e9:
        return None
    return dataclasses.replace(receipt, legacy=legacy.mark)  # as old as the migration: not used since, either


def _states(looks: _Looks, path: str, target: int | None) -> dict[str, str]:
    if target is None:
        return {}
    found = ((name, looks.side(path, target, name)) for name in account_names(target, looks.layout))
    return {name: side.state for name, side in found if side is not None}


def _newest(root: int | None, name: str, layout: Layout) -> int:
    from ._compare import newest_ns

    return newest_ns(root, name, layout) if root is not None else 0


def _same(root: int, target: int | None, name: str, layout: Layout) -> bool:
    from ._compare import same_account

    return target is not None and same_account(root, target, name, layout)


def _is_beside_store(layout: Layout, name: str) -> bool:
    if not layout.databases:
        return False
    from ._stores import is_beside_store

    return is_beside_store(layout, name)


def _has(target: int | None, path: str) -> bool:
    if target is None:
        return False
    folder, _slash, name = path.rpartition("/")
    try:
        with opened_below(target, folder or ".") as parent:
            return status_of(parent, name) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def _opened(stack: contextlib.ExitStack, path: str) -> int | None:
    try:
        return stack.enter_context(opened_directory(path))
    except (FileNotFoundError, NotADirectoryError):  # not made yet, or put out of use
        return None
