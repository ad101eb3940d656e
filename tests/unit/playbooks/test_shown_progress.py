# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines that a long migration shows while it runs, and that they change nothing else."""

from __future__ import annotations

import pathlib

import pytest
from fleetkit import MOVED, Answer, Fleet, Played

STAGE: Answer = {"work": "migration", "phase": "stage", "accounts": 12, "accounts_total": 300, "files": 42000}
PUBLISH: Answer = {"work": "migration", "phase": "publish", "accounts": 0, "files": 0, "backend": "down"}


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Fleet:
    return Fleet(tmp_path)


def shown(played: Played) -> list[str]:
    """The lines of progress, without how long it took so far."""
    return [line.rpartition(" (")[0] for line in played.output.splitlines() if line.endswith(" s)")]


def test_each_host_shows_what_it_is_doing(fleet: Fleet) -> None:
    fleet.add("a", progress=[STAGE, {}, {**STAGE, "backend": "up"}, PUBLISH])
    fleet.add("b", progress=[PUBLISH])
    played = fleet.play("persist", wa_progress="0.05", wa_serial=2)
    assert played.rc == 0, played.output
    lines = shown(played)
    assert [line for line in lines if line.startswith("a: ")][:4] == [
        "a: migration: stage, 12 of 300 accounts, 42,000 files",
        "a: examining the accounts",
        "a: migration: stage, 12 of 300 accounts, 42,000 files, backend up",
        "a: migration: publish, backend down",
    ]
    assert "b: migration: publish, backend down" in lines
    assert f"a: {MOVED['summary']}" in played.output
    assert played.calls["a"] == ["session_plan", "session_dir", "session_migrate", "session_plan"]


@pytest.mark.parametrize(("options", "seconds"), [((), 0), ((), 600), (("--check",), 0.01)])
def test_nobody_looks_when_it_is_off_or_short(
    fleet: Fleet, tmp_path: pathlib.Path, options: tuple[str, ...], seconds: float
) -> None:
    fleet.add("a")
    played = fleet.play("persist", *options, wa_progress=seconds)
    assert played.rc == 0, played.output
    assert not (tmp_path / "a" / "looks").exists()
    assert shown(played) == []
