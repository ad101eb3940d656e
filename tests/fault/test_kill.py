# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills the run at its n-th system call, for every n that matters, and looks at what is left; then the run is repeated."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from faultkit import CHANGING, LOOKING, Scene, count_calls, in_turn

MakeScene = t.Callable[..., Scene]

SCENES: dict[str, dict[str, t.Any]] = {
    "first": {},
    "conflict": {"present": {"5511999990001": 1, "5511999990009": 1}},
    "whole-root": {"legacy": {".": 2}},
    "way-back": {"layout": "way back"},
    "stores": {
        "layout": "waha",
        "legacy": {"gows/5511999990001": 2, "noweb/5511999990002": 2},
        "present": {"gows/5511999990001": 1, "gows/5511999990009": 1},
    },
    "parts": {
        "layout": "wppconnect",
        "legacy": {"userDataDir/5511999990001": 2, "userDataDir/5511999990002": 2},
        "present": {"userDataDir/5511999990001": 1},
    },
}
# These put something in its place or make it last: fatal each time they come. Of others some are taken, first and last among them: so
# many of those that change something, and of those that only look.
DECISIVE = ("rename", "renameat", "renameat2", "fsync", "syncfs", "link", "linkat", "mkdir")
OF_EACH_CALL = {"first": (4, 3), "else": (2, 1)}


@pytest.mark.parametrize(("kind", "engine"), in_turn(SCENES))
def test_killed_anywhere(
    scene: MakeScene, engine: str, kind: str, tmp_path: pathlib.Path, record_property: t.Any
) -> None:
    fields = {"engine": engine, **SCENES[kind]}
    points = _points(scene(**fields), tmp_path / "calls", *OF_EACH_CALL.get(kind, OF_EACH_CALL["else"]))
    killed, failures = 0, []
    for call, number in points:
        struck = scene(**fields)
        outcome = struck.run([f"{call}:signal=KILL:when={number}"])
        killed += "killed" in outcome
        try:
            struck.check_after_fault()
            if (number + len(call)) % 2:  # else the next run comes before the rescuer
                struck.check_rescued()
            struck.check_finishes()
        except AssertionError as error:
            failures.append(f"killed at {call} number {number}: {error}")
    record_property("kill points", len(points))
    record_property("kill points in the run itself", killed)
    assert not failures, "\n".join([f"{len(failures)} of {len(points)} points:", *failures])
    assert struck.run()["changed"] is False
    assert killed >= 25  # of eight tests: more than 200 points over a whole run


def _points(clean: Scene, log: pathlib.Path, changing: int, looking: int) -> list[tuple[str, int]]:
    """Run once without a fault and return where to strike: (call, how manieth)."""
    outcome = clean.run(log=log)
    assert outcome.get("changed"), outcome
    clean.check_converged()
    points = []
    for call, total in sorted(count_calls(log).items()):
        most = total if call in DECISIVE else changing if call in CHANGING else looking
        points += [(call, number) for number in spread_over(total, most)]
    assert {"renameat2", "syncfs", "fsync"} <= {call for call, _number in points} <= {*CHANGING, *LOOKING}
    return points


def spread_over(total: int, most: int) -> list[int]:
    """Return at most ``most`` numbers from 1 to ``total``, first and last among them; a single one is in the middle."""
    if most == 1:
        return [(total + 1) // 2] if total else []
    if total <= most:
        return list(range(1, total + 1))
    return sorted({1 + round(place * (total - 1) / (most - 1)) for place in range(most)})
