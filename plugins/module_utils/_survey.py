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

from ._beside import measure_entries, same_entries
from ._conflicts import Decision, Side, decide
from ._layout import Layout, name_matcher, opened_below, status_of
from ._layouts import account_names, companions, open_account
from ._masking import masked
from ._paths import opened_directory
from ._receipts import Entry, account_key, mark_with_parts
from ._sources import Source, is_in_use
from ._stores import is_beside_store, same_stores, store_patterns
from ._tree import measure, same_content


@dataclasses.dataclass(frozen=True)
class Account:
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


@dataclasses.dataclass(frozen=True)
class Companion:
    """An entry (its relative path) beside the accounts of a legacy root that the sessions path does not have."""

    name: str
    root: str


@dataclasses.dataclass(frozen=True)
class Survey:
    """All that was seen. ``present``: states of the accounts at the sessions path, by name. ``path_inode``: 0 where it is not made yet."""

    layout: Layout
    accounts: tuple[Account, ...]
    companions: tuple[Companion, ...]
    present: t.Mapping[str, str]
    path_inode: int

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
                dataclasses.replace(account, decision=_DAMAGED) if account.name in names else account
                for account in self.accounts
            ),
        )


_DAMAGED = Decision("corrupt", "its database is damaged; it stays at the legacy path")


def survey(
    sources: t.Sequence[Source],
    path: str,
    layout: Layout,
    receipts: t.Mapping[str, Entry],
    on_conflict: str,
    in_use: t.Collection[str] | None,
) -> Survey:
    """Look at the legacy roots and the sessions path.

    ``in_use``: the paths in the environment of the running backend, None when it is down.
    """
    with contextlib.ExitStack() as stack:
        target = _opened(stack, path)
        present = _states(target, layout) if target is not None else {}
        accounts: dict[str, Account] = {}
        extras: dict[str, Companion] = {}
        for source in sources:
            root = _opened(stack, source.path)
            if root is None:
                continue
            for name in account_names(root, layout):
                if name not in accounts or accounts[name].legacy.state == "corrupt":
                    accounts[name] = _account(
                        name, source, root, target, layout, receipts.get(account_key(name)), on_conflict, path, in_use
                    )
            for name in companions(root, layout):
                if not _has(target, name) and not is_beside_store(layout, name.rpartition("/")[2]):
                    extras.setdefault(name, Companion(name, source.path))
        inode = os.fstat(target).st_ino if target is not None else 0
    return Survey(layout, tuple(accounts[name] for name in sorted(accounts)), tuple(extras.values()), present, inode)


def side(root: int, name: str, layout: Layout, in_use: bool) -> Side | None:
    """Look at one copy of an account below the open directory ``root``; None when it is not there."""
    try:
        directory = open_account(root, name)
    except OSError:
        return None
    try:
        if not layout.is_account(directory):
            return None
        return Side(layout.judge(directory).state, mark_with_parts(root, name, directory, layout), in_use=in_use)
    finally:
        os.close(directory)


def _account(
    name: str,
    source: Source,
    root: int,
    target: int | None,
    layout: Layout,
    receipt: Entry | None,
    on_conflict: str,
    path: str,
    in_use: t.Collection[str] | None,
) -> Account:
    at_path = in_use is not None and is_in_use(path, in_use)
    legacy = side(root, name, layout, in_use is not None and not at_path)
    if legacy is None:  # it was removed since it was listed
        legacy = Side("corrupt", mark_with_parts(root, name, root, layout))
    if receipt is not None and receipt.damaged:
        if not legacy.mark.differs_from(receipt.legacy):
            legacy = dataclasses.replace(legacy, state="corrupt")
        receipt = None
    present = side(target, name, layout, at_path) if target is not None else None
    ancestor = _ancestor(receipt, source, legacy, present)
    if present is not None and (ancestor is None or legacy.mark.differs_from(ancestor.legacy)):
        legacy = dataclasses.replace(legacy, newest_ns=_newest(root, name, layout))
        present = dataclasses.replace(present, newest_ns=_newest(target, name, layout))
    decision = decide(legacy, present, ancestor, on_conflict, lambda: _same(root, target, name, layout))
    return Account(name, source.path, legacy, present, decision)


def _ancestor(receipt: Entry | None, source: Source, legacy: Side, present: Side | None) -> Entry | None:
    """Say whether a receipt tells anything about this legacy copy: one of another source was not 'used since' because it differs."""
    if receipt is None or receipt.source == source.path:
        return receipt
    if present is not None or legacy.mark.changed_ns > receipt.time * 1e9:
        return None
    return dataclasses.replace(receipt, legacy=legacy.mark)  # as old as the migration: not used since, either


def _states(target: int, layout: Layout) -> dict[str, str]:
    states = {}
    for name in account_names(target, layout):
        found = side(target, name, layout, False)
        if found is not None:
            states[name] = found.state
    return states


def _newest(root: int | None, name: str, layout: Layout) -> int:
    if root is None:
        return 0
    try:
        directory = open_account(root, name)
    except FileNotFoundError:
        return 0  # it was removed since it was listed
    try:
        parts = measure_entries(root, layout.parts_of(name))
        return max(parts.newest_ns, measure(directory, layout.volatile_matcher, _cache_test(layout)).newest_ns)
    finally:
        os.close(directory)


def _same(root: int, target: int | None, name: str, layout: Layout) -> bool:
    if target is None:
        return False
    with opened_below(root, name) as one, opened_below(target, name) as other:
        apart = name_matcher((*layout.volatile, *store_patterns(layout)))
        return (
            same_content(one, other, apart, _cache_test(layout))
            and (not layout.databases or same_stores(one, other, layout))
            and same_entries(root, target, layout.parts_of(name), layout.volatile_matcher)
        )


def _cache_test(layout: Layout) -> t.Callable[[str], t.Any] | None:
    return layout.cache_matcher if layout.caches else None


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
    except FileNotFoundError:
        return None
