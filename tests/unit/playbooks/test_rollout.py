# SPDX-License-Identifier: GPL-3.0-or-later
"""How a rollout begins, stops and goes on, whatever the modules do on hosts."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from fleetkit import DONE, LEFT, Answer, Fleet, Played

FAILED: Answer = {"failed": True, "msg": "the backend was not healthy"}


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Fleet:
    return Fleet(tmp_path)


def said(played: Played) -> list[str]:
    """The sentences of the rollout itself."""
    words = ("stopped at", "stopped before", "continuing without")
    lines = (line.strip().removeprefix('"msg": ').strip('"') for line in played.output.splitlines())
    return [line for line in lines if line.startswith(words)]


def test_hosts_are_worked_on_in_batches_unless_nothing_is_left_to_do(fleet: Fleet) -> None:
    fleet.add("a")
    fleet.add("b", session_plan_1=DONE)
    fleet.add("c", session_plan_1={**LEFT, "migrate": {"path_made": True}})
    played = fleet.play("persist", wa_serial="1, 50%")
    assert played.rc == 0, played.output
    whole = ["session_plan", "session_migrate", "session_plan"]
    assert played.calls == {"a": [whole[0], "session_dir", *whole[1:]], "b": ["session_plan"], "c": whole}
    assert said(played) == []


def test_a_host_that_fails_when_looked_at_keeps_all_from_beginning(fleet: Fleet) -> None:
    fleet.add("a")
    fleet.add("b", session_plan_1=FAILED)
    fleet.add("c", cut_by="session_plan")
    played = fleet.play("persist")
    assert played.rc != 0
    assert played.untouched == ["a", "b", "c"]
    assert said(played) == [
        "stopped before anything was changed: b, c failed or cannot be reached; fix that or leave them out with --limit, and run again"
    ]


def test_as_many_as_allowed_are_left_out(fleet: Fleet) -> None:
    fleet.add("a")
    fleet.add("b", session_plan_1=FAILED)
    fleet.add("c")
    played = fleet.play("persist", wa_max_fail_percentage=34)
    assert played.rc != 0
    assert played.untouched == ["b"]
    assert said(played)[0].startswith("continuing without b")


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"session_plan_2": FAILED}, "failed, the backend runs"),
        ({"session_plan_2": FAILED, "session_health_1": FAILED}, "failed, THE BACKEND IS DOWN"),
        ({"cut_by": "session_dir"}, "cannot be reached"),
        ({"cut_by": "session_migrate"}, "cannot be reached"),
    ],
)
def test_the_first_bad_batch_is_the_last_one(fleet: Fleet, bad: dict[str, t.Any], why: str) -> None:
    for name in "abcd":
        fleet.add(name, **(bad if name == "c" else {}))
    played = fleet.play("persist", wa_serial=[1, 2])
    assert played.rc != 0
    assert said(played) == [
        f"stopped at c ({why}): 2 hosts are done, 1 were not touched; check these hosts and run again"
    ]
    assert played.untouched == ["d"]


def test_a_first_batch_that_is_lost_is_the_last_one(fleet: Fleet) -> None:
    """ansible-core would end the playbook without a word."""
    fleet.add("a", cut_by="session_migrate")
    fleet.add("b")
    played = fleet.play("persist")
    assert played.rc != 0
    assert said(played)[0].startswith("stopped at a (cannot be reached): 0 hosts are done, 1 were not touched")
    assert played.untouched == ["b"]


def test_a_batch_may_lose_as_many_as_allowed(fleet: Fleet) -> None:
    fleet.add("a")
    fleet.add("b", cut_by="session_migrate")
    fleet.add("c")
    played = fleet.play("persist", wa_serial="2", wa_max_fail_percentage="50")
    assert played.rc != 0
    assert said(played)[0].startswith("continuing without b (cannot be reached): 1 hosts are done, 1 were not touched")
    assert played.untouched == []


def test_hosts_keep_step_whatever_strategy_the_operator_prefers(fleet: Fleet) -> None:
    for name in "abc":
        fleet.add(name)
    played = fleet.play("persist", environment={"ANSIBLE_STRATEGY": "free"})
    assert played.rc == 0, played.output
    assert all("session_migrate" in calls for calls in played.calls.values())


def test_check_mode_walks_through_all_batches(fleet: Fleet) -> None:
    fleet.add("a")
    fleet.add("b")
    played = fleet.play("persist", "--check")
    assert played.rc == 0, played.output
    assert played.calls["b"] == ["session_plan", "session_dir", "session_migrate"]


def test_only_the_hosts_of_a_limit_are_looked_at(fleet: Fleet) -> None:
    fleet.add("a")
    fleet.add("b", session_plan_1=FAILED)
    played = fleet.play("persist", "--limit", "a")
    assert played.rc == 0, played.output
    assert played.calls["b"] == []


def test_each_host_ends_in_one_sentence_that_is_always_shown(fleet: Fleet) -> None:
    fleet.add("a")
    fleet.add("b", session_plan_1=DONE)
    played = fleet.play("persist")
    assert played.rc == 0, played.output
    done = "3 accounts linked, backend healthy, nothing left to do"
    assert f"a: 3 accounts moved, away for 0.6 s, {done}" in played.output
    assert f"b: {done}" in played.output


def test_hosts_where_nothing_is_to_be_done_are_said_in_one_task_for_all(fleet: Fleet) -> None:
    for name in "abc":
        fleet.add(name, session_plan_1=DONE)
    played = fleet.play("persist")
    assert played.rc == 0, played.output
    assert all(calls == ["session_plan"] for calls in played.calls.values())
    assert played.output.count("nothing left to do") == 3
    recap = played.output[played.output.index("PLAY RECAP") :]
    # Per host the look; once for all, the settings, the counts and the sentences.
    assert [int(line.split("ok=")[1].split()[0]) for line in recap.splitlines() if "ok=" in line] == [4, 1, 1]
