# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks of the collection that an operator's own playbook imports one after another: each stands alone."""

from __future__ import annotations

import pathlib

import pytest
from fleetkit import DONE, LEFT, Answer, Fleet

FAILED: Answer = {"failed": True, "msg": "the backend was not healthy"}


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Fleet:
    return Fleet(tmp_path)


def test_a_second_import_works_on_its_own_hosts_only(fleet: Fleet) -> None:
    fleet.add("a", session_plan_1={**LEFT, "migrate": {"path_made": True}})
    fleet.add("b", session_plan_1={**LEFT, "migrate": {"path_made": True}})
    played = fleet.compose(
        ("persist", {"wa_hosts": "a", "wa_service": "one"}), ("persist", {"wa_hosts": "b", "wa_service": "two"})
    )
    assert played.rc == 0, played.output
    whole = ["session_plan", "session_migrate", "session_plan"]
    assert played.calls == {"a": whole, "b": whole}


@pytest.mark.parametrize("hosts", ["b", "nowhere"])
def test_an_import_that_finds_nothing_to_do_works_on_no_host_of_an_earlier_one(fleet: Fleet, hosts: str) -> None:
    fleet.add("a", session_plan_1={**LEFT, "migrate": {"path_made": True}})
    fleet.add("b", session_plan_1=DONE)
    played = fleet.compose(("persist", {"wa_hosts": "a"}), ("persist", {"wa_hosts": hosts}))
    assert played.rc == 0, played.output
    assert played.calls["a"] == ["session_plan", "session_migrate", "session_plan"]


def test_hosts_that_failed_in_an_earlier_import_do_not_count_in_the_next_one(fleet: Fleet) -> None:
    fleet.add("a", session_plan_2=FAILED)
    fleet.add("b")
    fleet.add("c", session_plan_2=FAILED)
    fleet.add("d")
    fleet.add("e")
    played = fleet.compose(
        ("persist", {"wa_hosts": "a,b", "wa_serial": 2}),
        ("persist", {"wa_hosts": "c,d,e", "wa_serial": 2}),
        wa_max_fail_percentage=50,
    )
    assert played.rc != 0
    assert "continuing without a (failed, the backend runs): 1 hosts are done, 0 were not touched" in played.output
    assert "continuing without c (failed, the backend runs): 1 hosts are done, 1 were not touched" in played.output
    assert played.calls["e"][-1] == "session_plan"
    assert len(played.calls["e"]) > 1


def running(active: bool, invocation: str) -> Answer:
    """What a host answers to restart about its backend."""
    unit = {"active": active, "needs_reload": False, "state": "active", "name": "one.service", "container": ""}
    unit["invocation"] = invocation
    return {
        "todo": [],
        "summary": "1 account linked",
        "info": {
            "exists": True,
            "linked": 1,
            "total": 1,
            "linked_accounts": 1,
            "accounts": [{"id": "1", "state": "paired"}],
        },
        "in_force": [{"as_wanted": True, "running": active or None, "file": "", "line": 0}],
        "health": {"unit": unit, "facts": {}, "cursor": "c", "elapsed_seconds": 1.5},
    }


def test_nothing_is_restarted_that_the_second_import_does_not_name(fleet: Fleet) -> None:
    up = running(True, "before")
    fleet.add("a", session_plan_1=up, session_plan_2=up, session_plan_3=running(True, "after"))
    fleet.add("b", session_plan_1=running(False, ""))
    played = fleet.compose(
        ("restart", {"wa_hosts": "a", "wa_service": "one"}), ("restart", {"wa_hosts": "b", "wa_service": "two"})
    )
    assert played.rc == 0, played.output
    assert played.calls == {"a": ["session_plan"] * 3, "b": ["session_plan"]}
    assert "a: restarted, 1 account linked after 1.5 s" in " ".join(played.output.split())
    assert "two is stopped and stays stopped: b" in played.output


@pytest.mark.parametrize("role", ["persist", "rollback"])
def test_a_role_that_is_used_twice_looks_at_each_service(fleet: Fleet, role: str) -> None:
    fleet.add("a", session_plan_1=LEFT, session_plan_2=DONE, session_plan_3=DONE)
    used = [
        {
            "ansible.builtin.include_role": {"name": f"whatsapp_ops.sessions.{role}"},
            "vars": {f"{role}_service": service},
        }
        for service in ("one", "two")
    ]
    played = fleet.play_own([{"hosts": "all", "gather_facts": False, "tasks": used}])
    assert played.rc == 0, played.output
    assert played.calls["a"].count("session_migrate") == 1
    assert played.calls["a"][-1] == "session_plan"
    assert played.calls["a"].count("session_plan") == 3
