# SPDX-License-Identifier: GPL-3.0-or-later
"""What the playbook audit reports of findings, and from which severity on it fails."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from fleetkit import Answer, Fleet

EVIDENCE = [{"where": f"4…{number}-9c1f2e", "what": "it has no backup"} for number in range(5)]
FINDINGS = {
    "critical": {
        "id": "path_in_release", "severity": "critical", "title": "The directory is inside a deployed program", "count": 1,
        "evidence": [{"where": "/opt/wa/current/auth", "what": "it is inside /opt/wa"}], "remedy": "run the playbook persist",
    },
    "high": {
        "id": "backup_missing", "severity": "high", "title": "An account has no backup", "count": 5, "evidence": EVIDENCE,
        "remedy": "run the playbook backup",
    },
}  # fmt: skip
ACCEPTED = [{"id": "unit_root", "reason": "until spring", "until": "2027-04-30", "count": 1}]


def answer(*severities: str, **more: t.Any) -> Answer:
    """What the module returns for findings of these severities."""
    counts = {severity: severities.count(severity) for severity in ("critical", "high", "medium", "low")}
    return {
        "findings": [FINDINGS[severity] for severity in severities],
        "accepted": [],
        "counts": counts,
        "summary": f"5 accounts, {len(severities)} findings",
        **more,
    }


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Fleet:
    return Fleet(tmp_path)


def said(output: str) -> str:
    return " ".join(output.replace("\\n", " ").split())


@pytest.mark.parametrize(("fail_at", "failed"), [("", "a"), ("high", "ab"), ("never", "")])
def test_a_host_fails_from_the_threshold_on(fleet: Fleet, fail_at: str, failed: str) -> None:
    fleet.add("a", session_audit_1=answer("critical", "high"))
    fleet.add("b", session_audit_1=answer("high"))
    fleet.add("c", session_audit_1=answer())
    played = fleet.play("audit", wa_audit_fail_at=fail_at)
    assert (played.rc != 0) == bool(failed), played.output
    assert played.calls == {name: ["session_audit"] for name in "abc"}
    for name in "abc":
        assert (f"fatal: [{name}]" in played.output) == (name in failed)


def test_each_finding_is_named_with_evidence_and_remedy(fleet: Fleet) -> None:
    fleet.add("a", session_audit_1=answer("critical", "high", accepted=ACCEPTED))
    fleet.add("b", session_audit_1=answer())
    words = said(fleet.play("audit").output)
    assert "a: 5 accounts, 2 findings, accepted: unit_root" in words
    assert (
        "critical: path_in_release (The directory is inside a deployed program): /opt/wa/current/auth: it is inside /opt/wa; "
        "to fix it, run the playbook persist" in words
    )
    assert "4…2-9c1f2e: it has no backup; and 2 more; to fix it, run the playbook backup" in words
    assert "4…3-9c1f2e" not in words
    assert "b: 5 accounts, 0 findings" in words


def test_settings_of_exceptions_and_thresholds_are_checked_before_a_host_is_asked(fleet: Fleet) -> None:
    fleet.add("a", session_audit_1=answer())
    bad = fleet.play("audit", wa_audit_fail_at="terrible")
    assert bad.rc != 0
    assert "wa_audit_fail_at is 'terrible', but must be one of critical, high, medium, low, never" in said(bad.output)
    assert bad.calls == {"a": []}
    played = fleet.play(
        "audit", wa_audit_exceptions="[{id: unit_root, reason: x, until: 2027-04-30}]", wa_audit_max_files=""
    )
    assert played.rc == 0, played.output
    assert played.calls == {"a": ["session_audit"]}
