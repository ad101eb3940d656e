# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts that are written to while they are copied: what is published in the end is the last generation, whole."""

from __future__ import annotations

import contextlib
import json
import pathlib
import subprocess
import sys
import typing as t

import pytest

from faultkit import BACKEND, ENVIRONMENT, Files, Outcome, Scene, content, read_account

MakeScene = t.Callable[..., Scene]
WRITER = pathlib.Path(__file__).with_name("writer.py")
ACCOUNTS = ("5511999990001", "5511999990002")
ROUNDS = 6
SLOW = ["pread64:delay_exit=30000"]  # microseconds: each copied file is read back


@contextlib.contextmanager
def writers(scene: Scene, pause: float = 0) -> t.Iterator[dict[str, int]]:
    """Have each account written to, a file every ``pause`` seconds; afterwards the dict says which generation each was left in."""
    last: dict[str, int] = {}
    begun = [sys.executable, str(WRITER), str(BACKEND)]
    running = [
        subprocess.Popen(
            [*begun, str(scene.source / account), account, str(pause)],
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        for account in ACCOUNTS
    ]
    try:
        for writer in running:
            assert writer.stdout
            assert writer.stdout.readline()
        yield last
    finally:
        for writer in running:
            writer.terminate()
        for account, writer in zip(ACCOUNTS, running, strict=True):
            last[account] = int(writer.communicate()[0].split()[-1])


@pytest.mark.parametrize("engine", ["native", "rsync"])
@pytest.mark.parametrize("verify", ["checksum", "metadata"])
def test_staged_while_it_is_written_and_migrated_when_it_is_not(
    scene: MakeScene, engine: str, verify: str, record_property: t.Any
) -> None:
    for number in range(ROUNDS):
        busy = scene(engine=engine, verify=verify, legacy=dict.fromkeys(ACCOUNTS, 2))
        with writers(busy) as last:
            staged = [busy.run(state="staged") for _pass in range(1 + number % 3)]
        assert not [outcome for outcome in staged if "failed" in outcome], staged
        busy.legacy = dict(last)
        outcome = busy.run()
        assert outcome.get("changed"), outcome
        busy.check_converged()
        assert busy.run()["changed"] is False
    record_property("live accounts published", ROUNDS * len(ACCOUNTS))


@pytest.mark.parametrize("engine", ["native", "rsync"])
def test_migrated_while_somebody_writes_all_the_time(scene: MakeScene, engine: str, record_property: t.Any) -> None:
    """No unit is named, so nobody is stopped: it is refused, or what is published is what was there at one moment."""
    published = 0
    # A slow copy of what is written now and then finds each file settled, and would have files of several moments. The other one takes as
    # long as a run has patience.
    for pause, faults in (0.1, SLOW), (0.1, SLOW), (0.0, []):
        busy = scene(engine=engine, legacy=dict.fromkeys(ACCOUNTS, 2))
        with writers(busy, pause):
            outcome: Outcome = busy.run(faults)
        assert outcome.get("foreseen", True), outcome
        for account in ACCOUNTS:
            published += require_one_moment(busy.path / account, account)
    record_property("accounts published while somebody wrote", published)
    assert published


def require_one_moment(directory: pathlib.Path, account: str) -> bool:
    """Nothing, or what a writer leaves who is stopped at one moment: files of two generations in a row, one of them cut off.

    Returns whether there is anything.
    """
    found = read_account(directory)
    if not found:
        return False
    generation = json.loads(found["creds.json"])["generation"]
    assert any(_is_one_moment(found, account, begun) for begun in (generation, generation + 1)), (
        f"files of more than two generations, or more than one torn file, are published with credentials of {generation}"
    )
    return True


def _is_one_moment(found: Files, account: str, begun: int) -> bool:
    old, new = content(account, begun - 1), content(account, begun)
    odd = [name for name, data in found.items() if data not in (old.get(name), new.get(name))]
    return not odd or (len(odd) == 1 and new.get(odd[0], b"").startswith(found[odd[0]]))
