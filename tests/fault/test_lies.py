# SPDX-License-Identifier: GPL-3.0-or-later
"""Times that lie: files changed under an unchanged size and mtime, files from the future, a clock that jumps.

The machine's clock stamps files and belongs to everybody on it, so it is not set here. That of the run is: all files then seem to be
written in the future or long ago, as they do after a jump.
"""

from __future__ import annotations

import os
import time
import typing as t

import pytest

from faultkit import BACKEND, ENGINES, Scene, content, write_account

MakeScene = t.Callable[..., Scene]
ACCOUNT = "5511999990001"
YEAR = 365 * 86400.0
COPYING = ("native", "rsync")


@pytest.mark.parametrize("verify", ["checksum", "metadata"])
@pytest.mark.parametrize("engine", COPYING)
def test_changed_since_it_was_staged_under_the_same_size_and_mtime(scene: MakeScene, engine: str, verify: str) -> None:
    lying = scene(engine=engine, verify=verify)
    assert lying.run(state="staged")["changed"]
    next_generation(lying, ACCOUNT, None)
    lying.legacy = {**lying.legacy, ACCOUNT: 3}
    assert lying.run().get("changed")
    lying.check_converged()


@pytest.mark.parametrize("verify", ["checksum", "metadata"])
@pytest.mark.parametrize("when", [-30 * YEAR, YEAR, 0.0])
@pytest.mark.parametrize("engine", ENGINES)
def test_files_from_the_future_and_from_long_ago(scene: MakeScene, engine: str, when: float, verify: str) -> None:
    lying = scene(engine=engine, verify=verify)
    for path in [lying.source, *lying.source.rglob("*")]:
        os.utime(path, (time.time() + when, time.time() + when))
    assert lying.run().get("changed")
    lying.check_converged()
    assert lying.run()["changed"] is False


@pytest.mark.parametrize("when", [-YEAR, YEAR])
@pytest.mark.parametrize("engine", COPYING)
def test_staged_before_the_clock_was_set(scene: MakeScene, engine: str, when: float) -> None:
    lying = scene(engine=engine, verify="metadata")
    assert lying.run(state="staged", clock=when)["changed"]
    next_generation(lying, ACCOUNT, None)
    lying.legacy = {**lying.legacy, ACCOUNT: 3}
    assert lying.run().get("changed")
    lying.check_converged()


@pytest.mark.parametrize("when", [-YEAR, YEAR])
@pytest.mark.parametrize("engine", ENGINES)
def test_migrated_before_the_clock_was_set(scene: MakeScene, engine: str, when: float) -> None:
    lying = scene(engine=engine)
    assert lying.run(clock=when)["changed"]
    lying.check_converged()
    assert lying.run()["changed"] is False
    require_kept(lying, when, clock=0)


@pytest.mark.parametrize("when", [-YEAR, YEAR])
@pytest.mark.parametrize("engine", ENGINES)
def test_used_after_the_clock_was_set(scene: MakeScene, engine: str, when: float) -> None:
    lying = scene(engine=engine)
    assert lying.run()["changed"]
    require_kept(lying, when, clock=when)


def require_kept(lying: Scene, when: float, clock: float) -> None:
    """The backend wrote to its accounts at the sessions path; whatever any clock says, the older legacy copy never comes back."""
    for account in lying.legacy:
        next_generation(lying, account, when, at_path=True)
        if lying.engine == "rename":  # an operator put the old accounts back, from a backup say
            write_account(lying.source / account, content(account, 2))
    outcome = lying.run(clock=clock)
    assert not outcome.get("changed") or outcome["counts"]["migrated"] == 0, outcome
    for account in lying.legacy:
        lying.later = {account: [3]}
        assert lying.is_whole(lying.path / account, account) == 3


def next_generation(lying: Scene, account: str, when: float | None, *, at_path: bool = False) -> None:
    """Write generation 3 over 2, whose files have the same sizes; ``when`` from now, or None to leave the mtimes as they were."""
    directory = (lying.path if at_path else lying.source) / account
    for name, data in content(account, 3).items():
        path = directory / name
        written = time.time_ns() + int((when or 0) * 10**9)
        if when is None and path.exists():
            written = path.stat().st_mtime_ns
            assert path.stat().st_size == len(data)
        path.write_bytes(data)
        os.chown(path, BACKEND, BACKEND)
        os.utime(path, ns=(written, written))
    (directory / "pre-key-2.json").unlink()
