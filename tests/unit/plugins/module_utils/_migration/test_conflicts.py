# SPDX-License-Identifier: GPL-3.0-or-later
"""Who wins a conflict: the table, and what holds for every combination there can be."""

from __future__ import annotations

import itertools
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import (
    Entry,
    FileMark,
    FolderMark,
    Mark,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.conflicts import (
    CopyState,
    Decision,
    decide,
)

STATES = ("paired", "pending", "fresh", "corrupt")
RANK = {"paired": 3, "pending": 2, "fresh": 1, "corrupt": 0}
ON_CONFLICT = ("newest", "keep", "replace", "fail")
MIGRATED_AT = 1000.0


def mark(number: int) -> Mark:
    return Mark(FolderMark(number, number), {"creds.json": FileMark(number, number, number, number, str(number))})


BEFORE, LEGACY_AFTER, PRESENT_AFTER = mark(1), mark(2), mark(3)
RECEIPT = Entry("/legacy", BEFORE, BEFORE, MIGRATED_AT)


def legacy(state: str = "paired", *, used: bool = False, newest: int = 5, in_use: bool = False) -> CopyState:
    return CopyState(state, LEGACY_AFTER if used else BEFORE, newest, in_use)


def present(state: str = "paired", *, used: bool = False, newest: int = 5, in_use: bool = False) -> CopyState:
    return CopyState(state, PRESENT_AFTER if used else BEFORE, newest, in_use)


def decided(
    old: CopyState, new: CopyState | None, receipt: Entry | None, on_conflict: str = "newest", same: bool = False
) -> Decision:
    return decide(old, new, receipt, on_conflict, lambda: same)


NO_RECEIPT = [
    # legacy, present, equal contents, on_conflict: newest, keep, replace, fail
    (legacy(), None, False, "migrated migrated migrated migrated"),
    (legacy("fresh"), None, False, "migrated migrated migrated migrated"),
    (legacy("corrupt"), None, False, "corrupt corrupt corrupt corrupt"),
    (legacy("corrupt"), present("corrupt"), False, "corrupt corrupt corrupt corrupt"),
    (legacy("corrupt"), present(), True, "corrupt corrupt corrupt corrupt"),
    (legacy(), present(), True, "unchanged unchanged unchanged unchanged"),
    (legacy(newest=9), present(), False, "migrated kept migrated diverged"),
    (legacy(newest=1), present(), False, "kept kept migrated diverged"),
    (legacy(), present(), False, "diverged kept migrated diverged"),
    (legacy("fresh", newest=9), present(), False, "kept kept migrated diverged"),
    (legacy("pending", newest=9), present(), False, "kept kept migrated diverged"),
    (legacy("fresh", newest=9), present("pending"), False, "kept kept migrated diverged"),
    (legacy(newest=1), present("fresh"), False, "migrated kept migrated diverged"),
    (legacy(newest=1), present("corrupt"), False, "migrated migrated migrated migrated"),
    (legacy(newest=9), present(in_use=True), False, "kept kept migrated diverged"),
    (legacy(in_use=True), present(), False, "migrated kept migrated diverged"),
    (legacy(newest=9, in_use=True), present(), False, "migrated kept migrated diverged"),
    (legacy(newest=1, in_use=True), present(), False, "diverged kept migrated diverged"),
    (legacy("fresh", newest=9, in_use=True), present(), False, "kept kept migrated diverged"),
]


def of(side: CopyState, *devices: str, **changes: t.Any) -> CopyState:
    return side._replace(devices=devices, **changes)


NO_RECEIPT += [
    (of(legacy(newest=9), "a"), of(present(), "a"), False, "migrated kept migrated diverged"),
    (of(legacy(newest=9), "a"), of(present(), "b"), False, "diverged kept migrated diverged"),
    (of(legacy(newest=1), "a"), of(present(), "b"), False, "diverged kept migrated diverged"),
    (of(legacy(in_use=True), "a"), of(present(), "b"), False, "diverged kept migrated diverged"),
    (of(legacy(newest=9), "a"), of(present(in_use=True), "b"), False, "kept kept migrated diverged"),
    (of(legacy(newest=9), "a", "b"), of(present(), "b"), False, "migrated kept migrated diverged"),
    (of(legacy(newest=9), "a", "b"), of(present(), "b", "c"), False, "diverged kept migrated diverged"),
    (legacy(newest=9), of(present(), "b"), False, "migrated kept migrated diverged"),
    (legacy(newest=9)._replace(partial=True), present(), False, "kept kept migrated diverged"),
    (legacy(newest=1), present()._replace(partial=True), False, "migrated kept migrated diverged"),
    (legacy("pending", newest=9), present()._replace(partial=True), False, "kept kept migrated diverged"),
]


@pytest.mark.parametrize(("old", "new", "same", "actions"), NO_RECEIPT)
def test_without_a_receipt(old: CopyState, new: CopyState | None, same: bool, actions: str) -> None:
    assert [decided(old, new, None, how, same).action for how in ON_CONFLICT] == actions.split()


WITH_RECEIPT = [
    (legacy(), None, "skipped skipped migrated skipped"),
    (legacy(used=True), None, "migrated migrated migrated migrated"),
    (legacy("corrupt", used=True), None, "corrupt corrupt corrupt corrupt"),
    (legacy(), present(), "unchanged unchanged unchanged unchanged"),
    (legacy(), present(used=True), "unchanged unchanged unchanged unchanged"),
    (legacy(), present("corrupt", used=True), "unchanged unchanged migrated unchanged"),
    (legacy(used=True), present(), "migrated migrated migrated migrated"),
    (legacy(used=True), present(used=True), "diverged kept migrated diverged"),
    (legacy(used=True, newest=9), present(used=True), "diverged kept migrated diverged"),
    (legacy("fresh", used=True), present(), "kept kept migrated kept"),
    (legacy("fresh", used=True), present(used=True), "kept kept migrated kept"),
    (legacy("corrupt", used=True), present(), "corrupt corrupt corrupt corrupt"),
    (legacy(used=True), present("fresh", used=True), "migrated kept migrated migrated"),
    (legacy(used=True), present("corrupt", used=True), "migrated kept migrated migrated"),
    # keys that were written in place, which no mark shows
    (legacy(used=True), present(newest=int(MIGRATED_AT * 1e9) + 1), "diverged kept migrated diverged"),
    (legacy(used=True), present(newest=int(MIGRATED_AT * 1e9)), "migrated migrated migrated migrated"),
]


@pytest.mark.parametrize(("old", "new", "actions"), WITH_RECEIPT)
def test_with_a_receipt(old: CopyState, new: CopyState | None, actions: str) -> None:
    assert [decided(old, new, RECEIPT, how).action for how in ON_CONFLICT] == actions.split()


def everything() -> t.Iterator[tuple[CopyState, CopyState | None, Entry | None, str, bool]]:
    sides = [
        [
            make(state, used=used, newest=newest, in_use=in_use)
            for state, used, newest, in_use in itertools.product(STATES, (False, True), (1, 5, 9), (False, True))
        ]
        for make in (legacy, present)
    ]
    return itertools.product(sides[0], [None, *sides[1]], [None, RECEIPT], ON_CONFLICT, (False, True))


def test_what_always_holds() -> None:
    seen = 0
    for old, new, receipt, how, same in everything():
        if new is not None and old.in_use and new.in_use:
            continue  # a backend uses one place
        seen += 1
        decision = decided(old, new, receipt, how, same)
        case = (old, new, receipt is not None, how, same, decision)
        assert decision.reason, case
        assert decision.publish is (decision.action == "migrated"), case
        assert decision.displace is (decision.publish and new is not None), case
        assert decision.action in ("migrated", "unchanged", "kept", "corrupt", "diverged", "skipped"), case
        assert not (decision.publish and old.state == "corrupt" and receipt is None), case
        if decision.adopt:
            assert new is not None and decision.action in ("kept", "unchanged"), case
        if new is None:
            assert decision.action in ("migrated", "corrupt", "skipped"), case
            continue
        if how != "replace":
            assert not (decision.publish and RANK[old.state] < RANK[new.state]), case
            if new.in_use and receipt is None and RANK[old.state] == RANK[new.state]:
                assert not decision.publish, case
            if receipt is None and decision.publish and RANK[old.state] == RANK[new.state]:
                assert old.newest_ns >= new.newest_ns, case  # never an older generation over a newer one
            if receipt and decision.publish:
                assert old.mark is LEGACY_AFTER, case
                assert new.mark is BEFORE or RANK[new.state] < RANK[old.state], case
        if how == "keep" and receipt is None:
            assert not decision.publish or new.state == "corrupt", case
    assert seen == 2 * 4 * 2 * (48 * 49 - 24 * 24)


def test_contents_are_compared_only_where_it_matters() -> None:
    def unasked() -> bool:
        raise AssertionError("asked")

    decide(legacy(), None, None, "newest", unasked)
    decide(legacy(used=True), present(), RECEIPT, "newest", unasked)
    decide(legacy("corrupt"), present(), None, "newest", unasked)
