# SPDX-License-Identifier: GPL-3.0-or-later
"""Events of the past: which belong together, and times that nobody vouches for."""

from __future__ import annotations

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import Entry, FolderMark, Mark
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.work_area import moment
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._report.history import (
    Event,
    events,
    seconds_of,
    text_of,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.starts import Start

MARK = Mark(FolderMark(1, 1), {})


def entry(moment: float, *, damaged: bool = False) -> Entry:
    return Entry("/old", MARK, MARK, moment, damaged=damaged)


def test_accounts_of_one_run_are_one_event_and_damaged_ones_none() -> None:
    entries = [entry(100), entry(130), entry(170), entry(1000), entry(1000, damaged=True)]
    assert events(entries, (), (), 0) == (Event("migrated", 170, 3), Event("migrated", 1000, 1))


def test_all_kinds_are_in_the_order_of_their_times() -> None:
    found = events([entry(1.8e9)], ["20200101T000000.000001Z-x", "?"], [Start(1.7e9, True), Start(1.9e9, False)], 1e9)
    assert [event.kind for event in found] == ["displaced", "failed", "migrated", "started"]


def test_what_is_older_is_left_out() -> None:
    assert events([entry(99)], (), [Start(99, False), Start(101, False)], 100) == (Event("started", 101),)


def test_moments_are_read_as_they_are_written() -> None:
    assert seconds_of(moment()) > 1.7e9
    assert seconds_of("nonsense") == 0


@pytest.mark.parametrize("seconds", [-1e30, 0, 1e9, 1e30])
def test_any_time_has_a_text_of_the_same_form(seconds: float) -> None:
    assert len(text_of(seconds)) == len("2026-01-01T00:00:00Z")
