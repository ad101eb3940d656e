# SPDX-License-Identifier: GPL-3.0-or-later
"""What playbooks hand to the next step of a workflow: counts under one key, of all hosts, in success and in failure."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from fleetkit import DONE, MOVED, Fleet, Played

from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._awx import slice_of
from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._counts import checked, worked

SHOWN = {"ANSIBLE_SHOW_CUSTOM_STATS": "1"}
MIGRATED = {**MOVED, "counts": {"migrated": 3}}
VERIFIED = {
    **DONE,
    "info": {"linked_accounts": 3, "states": {"corrupt": 0}, "missing": [], "unlinked": []},
    "in_force": [],
    "backup": {"problem": ""},
}
SLICE = {"tower_job_id": 7, "tower_job_template_name": "persist", "tower_workflow_job_name": "persist"}


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Fleet:
    return Fleet(tmp_path)


def published(played: Played) -> dict[str, t.Any]:
    """Return the statistics of the run, which AWX and ansible-runner keep as artifacts."""
    lines = [line.strip() for line in played.output.splitlines() if line.strip().startswith("RUN: ")]
    assert len(lines) == 1, played.output
    stats: dict[str, t.Any] = json.loads(lines[0].removeprefix("RUN: "))
    return stats


def test_a_rollout_publishes_what_it_did_on_all_hosts(fleet: Fleet) -> None:
    fleet.add("a", session_migrate_1=MIGRATED)
    fleet.add("b", session_plan_1=DONE)
    fleet.add("c", session_migrate_1={**MIGRATED, "downtime_seconds": 1.5})
    played = fleet.play("persist", environment=SHOWN)
    assert played.rc == 0, played.output
    counts = {"hosts": 3, "linked": 9, "todo": 2, "not_checked": 0, "done": 2, "failed": 0, "untouched": 0}
    counts |= {"migrated": 6, "linked_before": 6, "linked_after": 6, "downtime_seconds": 1.5}
    done = "2 hosts are done, 0 failed and 0 were not touched"
    text = f"{done}, 6 accounts were moved, no backend was away for longer than 1.5 s"
    assert published(played) == {"whatsapp_ops": {"persist": {**counts, "text": text}}}


def test_a_rollout_that_stops_publishes_how_far_it_came(fleet: Fleet) -> None:
    fleet.add("a", session_migrate_1=MIGRATED)
    fleet.add("b", session_migrate_1={"failed": True, "msg": "the disk is full"})
    fleet.add("c", cut_by="session_migrate")
    fleet.add("d")
    played = fleet.play("persist", wa_serial="1 2", environment=SHOWN)
    assert played.rc != 0
    counts = published(played)["whatsapp_ops"]["persist"]
    assert (counts["todo"], counts["done"], counts["failed"], counts["untouched"]) == (4, 1, 2, 1)
    assert (counts["migrated"], counts["linked_before"], counts["linked_after"]) == (3, 3, 3)


def test_an_approver_sees_what_a_check_found(fleet: Fleet) -> None:
    fleet.add("a")
    fleet.add("b", session_plan_1={"failed": True, "msg": "the disk is full"})
    played = fleet.play("persist", "--check", environment=SHOWN)
    counts = published(played)["whatsapp_ops"]["persist"]
    text = "1 of 2 hosts need changes, 3 accounts are linked, 1 hosts could not be checked"
    assert counts == {"hosts": 2, "linked": 3, "todo": 1, "not_checked": 1, "text": text}


def test_a_later_step_keeps_what_earlier_ones_published(fleet: Fleet) -> None:
    fleet.add("a", session_plan_1=VERIFIED)
    fleet.add("b", session_plan_1={"failed": True, "msg": "the disk is full"})
    earlier = {"persist": {"todo": 1}, "verify": {"failed": 9}}
    played = fleet.play("verify", environment=SHOWN, wa_attach="none", whatsapp_ops=earlier)
    text = "2 hosts were checked, 3 accounts are linked, 1 hosts failed"
    assert published(played)["whatsapp_ops"] == {
        "persist": {"todo": 1},
        "verify": {"hosts": 2, "linked": 3, "failed": 1, "text": text},
    }


def test_each_slice_has_a_key_of_its_own(fleet: Fleet) -> None:
    fleet.add("a", session_plan_1=DONE)
    played = fleet.play("persist", "--check", environment=SHOWN, **SLICE)
    assert set(published(played)) == {"whatsapp_ops_7"}


def test_a_move_publishes_what_it_did_even_if_it_fails(fleet: Fleet) -> None:
    fleet.add("a", session_plan_1={"failed": True, "msg": "the disk is full"})
    fleet.add("b")
    played = fleet.play("move", environment=SHOWN, wa_move_from="a", wa_move_to="b")
    assert played.rc != 0
    assert published(played)["whatsapp_ops"]["move"]["migrated"] == 0


def test_a_slice_changes_nothing_where_hosts_have_to_wait_for_each_other(fleet: Fleet) -> None:
    fleet.add("a")
    played = fleet.play("persist", **SLICE)
    assert played.rc != 0
    assert "this job is one slice of persist" in " ".join(played.output.split())
    assert played.calls == {"a": []}


@pytest.mark.parametrize(
    ("stated", "template"),
    [
        ({}, ""),
        ({"tower_job_template_name": "persist"}, ""),
        (SLICE, "persist"),
        ({"awx_job_template_name": "persist", "awx_workflow_job_name": "persist"}, "persist"),
        ({**SLICE, "tower_workflow_job_name": "Weekly"}, ""),
    ],
)
def test_a_slice_is_recognised_by_names(stated: dict[str, t.Any], template: str) -> None:
    assert slice_of(stated) == template


def test_hosts_that_report_nonsense_count_as_nothing() -> None:
    host = {"persist_plan": {"linked_accounts": "many"}, "persist_migration": {"counts": [], "downtime_seconds": None}}
    assert checked("persist", [host, {}]) == {"hosts": 2, "linked": 0}
    assert set(worked("persist", [host, {}]).values()) == {0}


def test_restored_accounts_count_as_well() -> None:
    host = {"restore_result": {"counts": {"restored": 2, "kept": 1}, "downtime_seconds": 0.5}}
    counts = worked("restore", [host, {}])
    assert (counts["migrated"], counts["downtime_seconds"]) == (2, 0.5)


def test_an_audit_publishes_the_number_of_findings(fleet: Fleet) -> None:
    finding = {"id": "no_backup", "severity": "low", "title": "no backup", "count": 1, "remedy": "run backup"}
    finding["evidence"] = [{"where": "/wa", "what": "none"}]
    fleet.add("a", session_audit_1={"findings": [finding, finding], "accepted": [], "summary": "2 findings"})
    fleet.add("b", session_audit_1={"findings": [], "accepted": [], "summary": "no findings"})
    played = fleet.play("audit", environment=SHOWN)
    assert played.rc == 0, played.output
    text = "2 hosts were checked, 2 findings, 0 hosts failed"
    assert published(played)["whatsapp_ops"]["audit"] == {
        "hosts": 2,
        "linked": 0,
        "failed": 0,
        "findings": 2,
        "text": text,
    }


def test_a_backup_publishes_how_many_accounts_it_saved(fleet: Fleet) -> None:
    fleet.add(
        "a", session_backup_1={"changed": True, "saved": 2, "unchanged": 1, "skipped": 0, "oldest_age_seconds": 1}
    )
    fleet.add("b", session_backup_1={"failed": True, "msg": "the disk is full"})
    played = fleet.play("backup", environment=SHOWN, wa_backup_schedule="false")
    counts = published(played)["whatsapp_ops"]["backup"]
    assert (counts["hosts"], counts["failed"], counts["saved"], counts["unchanged"]) == (2, 1, 2, 1)
    assert "2 accounts were saved and 1 have not changed since" in counts["text"]


def test_check_mode_publishes_only_what_would_be_done(fleet: Fleet) -> None:
    fleet.add("a", session_migrate_1=MIGRATED)
    counts = published(fleet.play("persist", "--check", environment=SHOWN))["whatsapp_ops"]["persist"]
    text = "1 of 1 hosts need changes, 3 accounts are linked"
    assert counts == {"hosts": 1, "linked": 3, "todo": 1, "not_checked": 0, "text": text}
