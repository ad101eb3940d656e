# SPDX-License-Identifier: GPL-3.0-or-later
"""How long snapshots are kept: as promised, and whatever the clock says an account keeps its last sound one."""

from __future__ import annotations

import typing as t

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import FolderMark, Mark
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.retention import expired
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.store import Snapshot, newest_sound

DAY = 86_400_000_000_000
NOW = 20_000 * DAY
MARK = Mark(FolderMark(1, 2), {})


def taken(days_ago: float, sequence: int, account: str = "a", state: str = "paired", confirmed: float = -1) -> Snapshot:
    when = NOW - int(days_ago * DAY)
    last = when if confirmed < 0 else NOW - int(confirmed * DAY)
    return Snapshot(
        f"backup-{account}-{sequence}", account, "baileys", when, last, when, state, 1, 1, MARK, "/srv/wa", sequence
    )


def left(found: t.Sequence[Snapshot], now: int = NOW, days: int = 7, last: int = 3) -> list[int]:
    gone = expired(found, now, keep_days=days, keep_last=last)
    return [one.sequence for one in found if one not in gone]


def test_recent_ones_and_the_last_few_are_kept() -> None:
    ages = (40, 30, 20, 10, 7.5, 6, 1)
    found = [taken(age, number) for number, age in enumerate(ages)]
    assert left(found) == [4, 5, 6]
    assert left(found, last=0) == [5, 6]
    assert left(found, days=25) == [2, 3, 4, 5, 6]
    assert left(found, days=0, last=1) == [6]
    assert left(found, days=0, last=0) == [6]


def test_each_account_counts_alone() -> None:
    found = [taken(30, number, account) for account in "ab" for number in range(4)]
    assert left(found) == [1, 2, 3, 1, 2, 3]


def test_a_sound_one_outlives_later_ones_that_are_not() -> None:
    found = [taken(40, 1), taken(30, 2), *(taken(20, number, state="unknown") for number in range(3, 9))]
    assert left(found, last=1) == [2]
    assert left([one for one in found if not one.is_sound], last=2) == [7, 8]


def test_what_was_the_state_until_recently_is_kept() -> None:
    assert left([taken(40, 1, confirmed=3), taken(2, 2)], last=1) == [1, 2]


def test_snapshots_from_the_future_are_kept_no_longer_than_the_following_one() -> None:
    found = [taken(-3000, 1), taken(-2000, 2), taken(20, 3), taken(1, 4)]
    assert left(found, last=1) == [4]
    assert left(found[:2], last=1) == [1, 2]


def test_a_clock_that_was_slow_costs_no_other_snapshot() -> None:
    found = [taken(3, 1), taken(2, 2), taken(20_000, 3), taken(1, 4)]
    assert left(found, last=1) == [1, 2, 4]


STATES = st.sampled_from(["paired", "unknown", "corrupt"])
MADE = st.builds(
    taken,
    st.floats(-40_000, 20_000),
    st.integers(0, 5),
    st.sampled_from("abc"),
    STATES,
    st.floats(-1, 20_000),
)


FOUND = st.lists(MADE, max_size=12, unique_by=lambda one: one.name)
LIMITS = st.tuples(st.integers(0, 100), st.integers(0, 5))


def names(found: t.Iterable[Snapshot]) -> set[str]:
    return {one.name for one in found}


@settings(max_examples=200, deadline=None)
@given(FOUND, st.integers(0, 40_000 * DAY), LIMITS)
def test_no_account_loses_its_last_sound_ones(found: list[Snapshot], now: int, limits: tuple[int, int]) -> None:
    days, last = limits
    gone = names(expired(found, now, keep_days=days, keep_last=last))
    stay = [one for one in found if one.name not in gone]
    assert gone <= names(found)
    assert {one.account for one in stay} == {one.account for one in found}
    assert newest_sound(stay) == newest_sound(found)
    for account in "abc":
        sound = sorted((one for one in found if one.account == account and one.is_sound), key=lambda one: one.order)
        assert not names(sound[::-1][: max(last, 1)]) & gone


@settings(max_examples=200, deadline=None)
@given(FOUND, st.integers(0, 40_000 * DAY), LIMITS)
def test_a_second_look_finds_nothing_and_longer_limits_keep_more(
    found: list[Snapshot], now: int, limits: tuple[int, int]
) -> None:
    days, last = limits
    gone = names(expired(found, now, keep_days=days, keep_last=last))
    stay = [one for one in found if one.name not in gone]
    assert expired(stay, now, keep_days=days, keep_last=last) == ()
    assert names(expired(found, now, keep_days=days + 1, keep_last=last + 1)) <= gone
