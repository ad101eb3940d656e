# SPDX-License-Identifier: GPL-3.0-or-later
"""Which accounts are restored without anybody naming them: only what is certainly damaged or lost."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._restore.evidence import Live, Log
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._restore.recoverable import (
    Limits,
    Verdict,
    judged,
    needs_log,
)

NOW = 1_000_000.0
LIMITS = Limits(3600.0, 3)
QUIET, LOGOUT, UNKNOWN = Log(), Log(logouts=2), Log(unknown="the journal ends too early")
DAMAGED, MISSING, FRESH = Live("corrupt"), Live("missing"), Live("fresh")


def verdict(live: Live, log: Log = QUIET, unmounted: str = "", earlier: tuple[float, ...] = ()) -> Verdict | None:
    return judged(live, log, unmounted, earlier, LIMITS, NOW)


@pytest.mark.parametrize(
    ("live", "log", "restored", "lost", "words"),
    [
        (DAMAGED, QUIET, True, False, "damaged"),
        (DAMAGED, LOGOUT, True, False, "damaged"),
        (DAMAGED, UNKNOWN, True, False, "damaged"),
        (MISSING, QUIET, True, True, "missing"),
        (MISSING, LOGOUT, False, False, "2 line(s) about a logout"),
        (MISSING, UNKNOWN, False, False, "the journal ends too early"),
        (FRESH, QUIET, True, True, "credentials are gone"),
        (FRESH, LOGOUT, False, False, "about a logout"),
        (FRESH, UNKNOWN, False, False, "restore it by name"),
        (Live("pending"), QUIET, False, False, "linking a device"),
        (Live("unknown"), QUIET, False, False, "kept elsewhere"),
        (Live("moved"), QUIET, False, False, "another host"),
        (DAMAGED._replace(settled=False), QUIET, False, False, "being written"),
        (DAMAGED._replace(readable=False), QUIET, False, False, "cannot be read"),
    ],
)
def test_the_table(live: Live, log: Log, restored: bool, lost: bool, words: str) -> None:
    found = verdict(live, log)
    assert found is not None
    assert (found.restore, found.lost) == (restored, lost)
    assert words in found.reason


def test_nothing_is_wrong_with_a_linked_account() -> None:
    assert verdict(Live("paired"), LOGOUT, "/srv") is None


def test_behind_an_unmounted_volume_nothing_is_lost() -> None:
    for live, log in itertools.product((DAMAGED, MISSING, FRESH), (QUIET, LOGOUT)):
        found = verdict(live, log, "/srv")
        assert found is not None and not found.restore and "/srv is not mounted" in found.reason


@pytest.mark.parametrize(
    ("earlier", "restored"),
    [
        ((), True),
        ((NOW - 3599,), False),
        ((NOW - 3600,), True),
        ((NOW - 4000, NOW - 50_000, NOW - 86_399), False),
        ((NOW - 4000, NOW - 50_000, NOW - 86_400), True),
        ((NOW + 50,), True),  # the clock was wrong then
    ],
)
def test_an_account_is_not_recovered_too_often(earlier: tuple[float, ...], restored: bool) -> None:
    found = verdict(DAMAGED, earlier=earlier)
    assert found is not None and found.restore is restored


def test_the_log_is_read_only_where_it_decides() -> None:
    assert [needs_log(live) for live in (DAMAGED, MISSING, FRESH, Live("paired"))] == [False, True, True, False]
