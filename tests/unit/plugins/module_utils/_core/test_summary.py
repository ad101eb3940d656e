# SPDX-License-Identifier: GPL-3.0-or-later
"""The few words that an operator reads about a host."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import summary


@pytest.mark.parametrize(
    ("state", "moved", "downtime", "said"),
    [
        ("migrated", 3, 0.6, "3 accounts moved, away for 0.6 s"),
        ("retired", 1, 12.34, "1 account moved, away for 12.3 s"),
        ("migrated", 0, 0.6, "no account moved, away for 0.6 s"),
        ("migrated", 3, None, "3 accounts would be moved"),
        ("migrated", 0, None, "no account to be moved"),
        ("rolled_back", 2, 0.5, "2 accounts rolled back, away for 0.5 s"),
        ("staged", 2, None, "2 accounts would be copied ahead"),
    ],
)
def test_of_a_migration(state: str, moved: int, downtime: float | None, said: str) -> None:
    assert summary.of_migration(state, moved, downtime) == said


def health(healthy: bool, active: bool | None) -> dict[str, t.Any]:
    return {"healthy": healthy, "unit": None if active is None else {"active": active}}


@pytest.mark.parametrize(
    ("linked", "seen", "left", "said"),
    [
        (3, health(True, True), {"dir": False}, "3 accounts linked, backend healthy, nothing left to do"),
        (3, health(False, False), {}, "3 accounts linked, backend stopped"),
        (
            1,
            health(False, True),
            {"dir": True, "stop": False, "migrate": True},
            "1 account linked, backend not healthy, left to do: dir migrate",
        ),
        (None, health(True, None), {}, "backend healthy"),
        (0, None, {}, "0 accounts linked"),
    ],
)
def test_of_a_plan(linked: int | None, seen: dict[str, t.Any] | None, left: dict[str, bool], said: str) -> None:
    assert summary.of_plan(linked, seen, left) == said
