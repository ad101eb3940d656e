# SPDX-License-Identifier: GPL-3.0-or-later
"""Two runs at once: one works, the other one says so, and nothing breaks."""

from __future__ import annotations

import fcntl
import pathlib
import subprocess
import typing as t

import pytest

from faultkit import ENGINES, Driver, Scene, driver, traced, until

MakeScene = t.Callable[..., Scene]
ROUNDS = 6


@pytest.fixture
def other() -> t.Iterator[Driver]:
    made = Driver()
    yield made
    made.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_second_run_is_told_about_the_first(scene: MakeScene, other: Driver, engine: str) -> None:
    contested = scene(engine=engine)
    first = other.begin("migration", contested.options())
    with traced(first, ["syncfs:signal=STOP:when=1"]):
        other.go()
        until(lambda: _is_locked(contested.control / "lock"))
        second = contested.run()
        until(lambda: _is_gone(first))
        outcome = other.outcome()
    assert "another run is working on" in second["failed"]
    assert outcome["changed"], outcome
    contested.check_converged()


@pytest.mark.parametrize("engine", ENGINES)
def test_whoever_comes_first(scene: MakeScene, other: Driver, engine: str) -> None:
    """Released at the same moment, each may come before, after or within the other."""
    for _round in range(ROUNDS):
        contested = scene(engine=engine, present={"5511999990001": 1})
        runs = [driver(), other]
        for run in runs:
            run.begin("migration", contested.options())
        for run in runs:
            run.go()
        outcomes = [run.outcome() for run in runs]
        failed = [outcome["failed"] for outcome in outcomes if "failed" in outcome]
        assert len(failed) < 2, failed
        assert all("another run is working on" in sentence for sentence in failed), failed
        contested.check_converged()
        assert contested.run()["changed"] is False


def _is_locked(path: pathlib.Path) -> bool:
    if not path.exists():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _is_gone(pid: int) -> bool:
    """Have a process that was stopped, or is about to be, go on; tell whether it has ended."""
    subprocess.run(["kill", "-CONT", str(pid)], check=False, capture_output=True)  # a child is in its PID namespace
    return not pathlib.Path(f"/proc/{pid}").exists()
