# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a snapshot replaces an account: the table, and what holds for every combination there can be."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import FolderMark, Mark
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.conflicts import CopyState, Decision
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.restoring import (
    FORCE,
    RECOVER,
    RESTORE,
    WAYS,
    Facts,
    decide_restored,
    span,
)

MARK = Mark(FolderMark(1, 1), {})
SNAPSHOT = CopyState("paired", MARK, 5, devices=("a",))
STATES = ("paired", "pending", "fresh", "corrupt", "unknown")


def present(state: str = "paired", newest: int = 5, device: str = "a") -> CopyState:
    return CopyState(state, MARK, newest, devices=(device,) if state == "paired" else ())


NONE = Facts()


def decided(
    now: CopyState | None, way: str, facts: Facts = NONE, *, same: bool = False, snapshot: CopyState = SNAPSHOT
) -> Decision:
    return decide_restored(snapshot, now, way, facts, lambda: same)


AGAIN, LOST = Facts(again=True, occupied=True), Facts(occupied=True, lost=True)
TABLE = [
    # at the sessions path, facts, equal contents, way: restore, force, recover
    (None, NONE, False, "restored restored kept"),
    (None, LOST, False, "restored restored restored"),
    (None, AGAIN, False, "restored restored kept"),
    (present(), NONE, True, "unchanged unchanged kept"),
    (present(newest=9), NONE, False, "refused restored kept"),
    (present(newest=5), NONE, False, "refused restored kept"),
    (present(newest=4), NONE, False, "restored restored kept"),
    (present(newest=9), AGAIN, False, "unchanged unchanged kept"),
    (present(newest=9, device="b"), AGAIN, False, "refused restored kept"),
    (present("corrupt", 9), NONE, False, "restored restored restored"),
    (present("corrupt", 9), AGAIN, False, "restored restored restored"),
    (present("fresh", 9), NONE, False, "restored restored kept"),
    (present("fresh", 9), LOST, False, "restored restored restored"),
    (present("pending", 9), LOST, False, "restored restored kept"),
    (present("unknown", 9), LOST, False, "restored restored kept"),
]


@pytest.mark.parametrize(("now", "facts", "same", "actions"), TABLE)
def test_the_table(now: CopyState | None, facts: Facts, same: bool, actions: str) -> None:
    assert [decided(now, way, facts, same=same).action for way in (RESTORE, FORCE, RECOVER)] == actions.split()


@pytest.mark.parametrize("way", [RESTORE, FORCE])
def test_contents_are_not_read_if_it_was_restored_from_this_snapshot(way: str) -> None:
    def read() -> bool:
        raise AssertionError("all files of both were read")

    assert decide_restored(SNAPSHOT, present(newest=9), way, AGAIN, read).action == "unchanged"


def test_what_is_replaced_is_displaced_and_nothing_else_is_published() -> None:
    every = itertools.product(
        [None, *(present(state, newest, device) for state in STATES for newest in (1, 5, 9) for device in "ab")],
        WAYS,
        [Facts(*flags) for flags in itertools.product((False, True), repeat=3)],
        (False, True),
    )
    for now, way, facts, same in every:
        facts = facts._replace(occupied=facts.occupied or now is not None)
        decision = decided(now, way, facts, same=same)
        assert decision.publish == (decision.action == "restored")
        assert decision.displace == (decision.publish and facts.occupied)
        if decision.publish and now is not None and now.state == "paired":
            assert way == FORCE or (way == RESTORE and now.newest_ns < SNAPSHOT.newest_ns)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", STATES[1:])
def test_an_unsound_snapshot_never_wins(way: str, state: str) -> None:
    snapshot = CopyState(state, MARK, 99)
    assert decided(None, way, LOST, snapshot=snapshot).action == "refused"
    assert decided(present("corrupt"), way, LOST, snapshot=snapshot).action == "refused"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (86400, "1 d"), (900000, "10 d")]
)
def test_a_length_of_time_in_words(seconds: int, words: str) -> None:
    assert span(seconds) == words
