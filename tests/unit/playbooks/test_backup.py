# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of a fleet: what each host is asked, and that other playbooks save snapshots before they interrupt a backend."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from fleetkit import LEFT, Fleet

TAKEN = {"changed": True, "saved": 3, "unchanged": 0, "skipped": 0, "oldest_age_seconds": 61}
TIMER = {"changed": False, "unit": "whatsapp-ops-backup-x.service", "next_run": "tomorrow", "failed": False}
FULL = {"failed": True, "msg": "the disk of the snapshots is full"}
PROBLEM = "the last run of whatsapp-ops-backup-x.service failed"


def with_backup(**seen: t.Any) -> dict[str, t.Any]:
    return {**LEFT, "backup": {"store": False, "scheduled": False, "problem": "", **seen}}


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Fleet:
    return Fleet(tmp_path)


def test_a_schedule_takes_one_call_for_each_job(fleet: Fleet) -> None:
    fleet.add("a", session_backup_1=TAKEN, session_timer_1=TIMER, session_timer_2=TIMER, session_timer_3=TIMER)
    played = fleet.play("backup", wa_recover_on_calendar="hourly", wa_recover_at_most=1)
    assert played.rc == 0, played.output
    assert played.calls["a"] == ["session_backup", "session_timer", "session_timer", "session_timer"]
    saves, recovers = played.options["a"][2:]
    assert saves["job"] == "backup"
    assert (recovers["job"], recovers["state"], recovers["on_calendar"]) == ("recover", "present", "hourly")
    assert (recovers["options"]["state"], recovers["options"]["recover_at_most"]) == ("recovered", 1)
    words = " ".join(played.output.split())
    assert "a: 3 saved, 0 unchanged, 0 skipped, newest snapshots at most 1 minutes old, next run tomorrow" in words


def test_nothing_is_recovered_by_itself_unless_that_is_wanted(fleet: Fleet) -> None:
    fleet.add("a", session_backup_1=TAKEN, session_timer_1=TIMER, session_timer_2=TIMER, session_timer_3=TIMER)
    played = fleet.play("backup")
    assert played.rc == 0, played.output
    absent = played.options["a"][-1]
    assert (absent["job"], absent["state"]) == ("recover", "absent")


def test_without_a_schedule_there_is_one_call(fleet: Fleet) -> None:
    fleet.add("a", session_backup_1={**TAKEN, "oldest_age_seconds": None})
    played = fleet.play("backup", wa_backup_schedule="false")
    assert played.rc == 0, played.output
    assert played.calls["a"] == ["session_backup"]
    assert "no snapshot of a linked account" in played.output


@pytest.mark.parametrize("seen", [{"store": True}, {"scheduled": True}])
def test_snapshots_are_saved_before_accounts_are_moved(fleet: Fleet, seen: dict[str, bool]) -> None:
    fleet.add("a", session_plan_1=with_backup(**seen), session_backup_1=TAKEN)
    played = fleet.play("persist")
    assert played.rc == 0, played.output
    assert played.calls["a"] == ["session_plan", "session_dir", "session_backup", "session_migrate", "session_plan"]


@pytest.mark.parametrize(("seen", "settings"), [({}, {}), ({"store": True}, {"wa_backup_before": "no"})])
def test_no_snapshots_are_saved_where_nobody_wants_them(
    fleet: Fleet, seen: dict[str, bool], settings: dict[str, str]
) -> None:
    fleet.add("a", session_plan_1=with_backup(**seen))
    played = fleet.play("persist", **settings)
    assert played.rc == 0, played.output
    assert played.calls["a"] == ["session_plan", "session_dir", "session_migrate", "session_plan"]


def test_snapshots_that_cannot_be_saved_are_reported_and_nothing_waits_for_them(fleet: Fleet) -> None:
    fleet.add("a", session_plan_1=with_backup(store=True), session_backup_1=FULL)
    played = fleet.play("persist")
    assert played.rc == 0, played.output
    assert "continuing although no snapshots could be saved: the disk of the snapshots is full" in " ".join(
        played.output.split()
    )
    assert played.calls["a"][-2:] == ["session_migrate", "session_plan"]


def test_snapshots_that_are_required_prevent_the_interruption(fleet: Fleet) -> None:
    fleet.add("a", session_plan_1=with_backup(store=True), session_backup_1=FULL)
    played = fleet.play("persist", wa_backup_before_required=True)
    assert played.rc != 0
    assert "session_migrate" not in played.calls["a"]
    assert "the disk of the snapshots is full" in played.output


@pytest.mark.parametrize("playbook", ["restart", "rollback"])
def test_a_restart_and_a_rollback_do_the_same(fleet: Fleet, playbook: str) -> None:
    info = {"exists": True, "total": 0, "linked": 0, "linked_accounts": 0, "accounts": []}
    force = [{"as_wanted": True, "running": True, "file": "", "line": 0}]
    health = {**t.cast("dict[str, t.Any]", LEFT["health"]), "facts": {}, "cursor": ""}
    plan = {**with_backup(store=True), "info": info, "in_force": force, "health": health}
    health["unit"]["needs_reload"] = False
    fleet.add("a", session_plan_1=plan, session_plan_2=plan, session_backup_1=FULL)
    played = fleet.play(playbook, wa_backup_before_required=True)
    assert played.rc != 0
    assert played.calls["a"][-2:] in (["session_backup", "session_health"], ["session_plan", "session_backup"])
    assert "session_migrate" not in played.calls["a"]


def test_a_problem_with_backups_fails_verify(fleet: Fleet) -> None:
    force = [{"as_wanted": True, "running": True, "file": "", "line": 0, "attached_by": "variable", "name": "X"}]
    info = {"states": {"corrupt": 0}, "linked_accounts": 3, "missing": [], "unlinked": []}
    fleet.add("a", session_plan_1={**with_backup(problem=PROBLEM), "in_force": force, "info": info})
    played = fleet.play("verify")
    assert played.rc != 0
    assert PROBLEM in played.output, played.output
    assert played.calls["a"] == ["session_plan"]
