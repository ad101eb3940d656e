# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks say about settings before any host is looked at."""

from __future__ import annotations

import pathlib

import pytest
from fleetkit import DONE, Fleet


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Fleet:
    fleet = Fleet(tmp_path)
    fleet.add("a", session_plan_1=DONE)
    return fleet


def test_a_bad_choice_is_one_sentence_and_no_host_is_asked(fleet: Fleet) -> None:
    played = fleet.play("persist", wa_engine="fast")
    assert played.rc != 0
    assert "wa_engine is 'fast', but must be one of native, rsync, rename; nothing was changed" in played.output
    assert "argument_spec" not in played.output
    assert played.calls == {"a": []}


def test_settings_of_every_host_are_checked(fleet: Fleet) -> None:
    fleet.add("b", variables={"wa_retire": "perhaps"})
    played = fleet.play("persist")
    assert played.rc != 0
    assert "wa_retire of b is not true or false; nothing was changed" in played.output
    assert played.calls == {"a": [], "b": []}


def test_unknown_settings_are_warned_of_with_the_nearest_name(fleet: Fleet) -> None:
    fleet.add("b", session_plan_1=DONE, variables={"wa_move_acounts": ["a"], "wa_move_via": "direct"})
    played = fleet.play("persist", wa_servise="x", wa_unlike_all_others=1)
    assert played.rc == 0, played.output
    words = " ".join(played.output.split())
    assert "there is no setting wa_servise, so it is ignored; did you mean wa_service?" in words
    assert "there is no setting wa_move_acounts, so it is ignored; did you mean wa_move_accounts?" in words
    assert "there is no setting wa_unlike_all_others, so it is ignored" in words
    assert "wa_move_via" not in words


def test_empty_texts_and_nulls_are_what_is_left_out(fleet: Fleet) -> None:
    played = fleet.play(
        "persist", wa_rollback="", wa_stop_timeout="", wa_use_timeout="", wa_engine="", wa_legacy_paths=None,
        wa_health_expect="", wa_serial="", wa_max_fail_percentage="", wa_hosts="", wa_mode=None,
    )  # fmt: skip
    assert played.rc == 0, played.output
    assert played.calls == {"a": ["session_plan"]}


def test_tags_that_leave_nothing_of_a_playbook_say_so(fleet: Fleet) -> None:
    played = fleet.play("persist", "--tags", "restart")
    assert "no task has the tag restart, so the playbook persist does nothing" in " ".join(played.output.split())
    assert played.calls == {"a": []}


def test_a_setting_that_is_required_is_asked_for(fleet: Fleet) -> None:
    played = fleet.play("move", wa_move_from="a", wa_move_to="")
    assert played.rc != 0
    assert "wa_move_to is missing; nothing was changed" in played.output


def test_a_question_without_an_answer_does_not_hide_the_inventory(fleet: Fleet) -> None:
    fleet.add("b", variables={"wa_service": "shop-backend"})
    played = fleet.play("persist", wa_service="", wa_engine="", tower_job_id=3)
    assert played.rc != 0
    assert "wa_service has no answer in the survey, which hides the value that the inventory has for b" in " ".join(
        played.output.split()
    )
    assert played.calls == {"a": [], "b": []}
