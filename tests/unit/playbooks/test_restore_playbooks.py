# SPDX-License-Identifier: GPL-3.0-or-later
"""What restore.yml and recover.yml do with many hosts: all are checked first, then few at a time, and a failure stops the rest."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from fleetkit import Fleet

NOTHING = {"changed": False, "summary": "no account to be restored", "steps": []}
FORESEEN = {"changed": True, "summary": "1 account would be restored", "steps": ["stage", "publish"]}
RESTORED = {**FORESEEN, "summary": "1 account restored, away for 0.6 s", "downtime_seconds": 0.6}
HEALTHY = {"changed": False, "todo": [], "summary": "backend healthy"}
CHECK, RESTORE, PLAN = "session_restore", "session_restore", "session_plan"
PLAYBOOKS = ("recover", "restore")


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Fleet:
    return Fleet(tmp_path)


def add(fleet: Fleet, name: str, **answers: t.Any) -> None:
    laid = {"session_restore_1": FORESEEN, "session_restore_2": RESTORED, "session_plan_1": HEALTHY}
    fleet.add(name, **{**laid, **answers})


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_host_with_nothing_to_do_costs_one_call(fleet: Fleet, playbook: str) -> None:
    add(fleet, "a", session_restore_1=NOTHING)
    add(fleet, "b")
    played = fleet.play(playbook, wa_restore_accounts="wa1\nwa2")
    assert played.rc == 0, played.output
    assert played.calls == {"a": [CHECK], "b": [CHECK, RESTORE, PLAN]}
    assert "a: no account to be restored" in played.output
    assert "b: 1 account restored, away for 0.6 s, backend healthy" in played.output


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_a_host_that_cannot_be_checked_stops_all(fleet: Fleet, playbook: str) -> None:
    add(fleet, "a")
    add(fleet, "b", session_restore_1={"failed": True, "msg": "messages cannot be decrypted"})
    played = fleet.play(playbook)
    assert played.rc != 0
    assert "stopped before anything was changed: b failed" in " ".join(played.output.split())
    assert played.calls == {"a": [CHECK], "b": [CHECK]}


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_the_first_host_that_fails_stops_the_rollout(fleet: Fleet, playbook: str) -> None:
    add(fleet, "a", session_restore_2={"failed": True, "msg": "the disk is full"})
    add(fleet, "b")
    played = fleet.play(playbook)
    assert played.rc != 0
    output = " ".join(played.output.split())
    assert "the disk is full" in output
    assert "stopped at a (failed, the backend runs): 0 hosts are done, 1 were not touched" in output
    assert played.calls["b"] == [CHECK]


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_an_unhealthy_backend_fails(fleet: Fleet, playbook: str) -> None:
    add(fleet, "a", session_plan_1={**HEALTHY, "todo": ["health"]})
    assert fleet.play(playbook).rc != 0


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_check_mode_asks_twice_and_acts_never(fleet: Fleet, playbook: str) -> None:
    add(fleet, "a", session_restore_2=FORESEEN)
    played = fleet.play(playbook, "--check")
    assert played.rc == 0, played.output
    assert played.calls == {"a": [CHECK, CHECK]}
