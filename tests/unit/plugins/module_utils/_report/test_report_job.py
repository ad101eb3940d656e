# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a host: what it says, that it names nobody, and that what cannot be examined does not end it."""

from __future__ import annotations

import json
import os
import pathlib
import time
import typing as t

import pytest

from accounts import CANARY, looks, put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import (
    opened_control,
    write_document_at,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import (
    RECEIPT,
    Entry,
    FolderMark,
    Mark,
    document_of,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup import store as backup_store
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.store import Snapshot
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import job as core_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import masking, progress
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._report import job as report_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.starts import Start
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage import use as usage_use
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage.in_use import Verdict

HOUR = 3600
MARK = Mark(FolderMark(1, 1), {})


@pytest.fixture
def sessions(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "sessions"
    for number in (1, 2, 3):
        put_account(path / f"{CANARY}-{number}", number=number)
    put_file(path / f"{CANARY}-3" / "creds.json", "{ damaged")
    return path


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The unit of the host, as properties to change: it runs and uses the sessions path."""
    properties = {**dict.fromkeys(PROPERTIES, ""), "ActiveState": "active", "MainPID": "1"}
    monkeypatch.setattr(report_job, "read_service", lambda name: Unit(name, properties))
    monkeypatch.setattr(report_job, "starts_of", lambda unit, days: (Start(time.time() - HOUR, False),))
    monkeypatch.setattr(
        usage_use, "observe", lambda params, layout: usage_use.Seen(params, Verdict(properties.get("use", "used")), ())
    )
    return properties


def record_of(path: pathlib.Path, **options: t.Any) -> dict[str, t.Any]:
    outcome = core_job.execute(report_job, {"path": str(path), **options}, check_mode=False)
    assert not outcome.changed
    return t.cast("dict[str, t.Any]", json.loads(json.dumps(outcome.report.values["record"])))


def snapshot_of(path: pathlib.Path, account: str, seconds: float, **changes: t.Any) -> None:
    """Put a snapshot into the store that was taken ``seconds`` ago."""
    taken = time.time_ns() - int(seconds * 1e9)
    moment = f"20260101T000000.{int(seconds):06d}Z"
    name = backup_store.name_of(account, moment)
    one = Snapshot(name, account, "baileys", taken, taken, taken, "paired", 4, 100, MARK, str(path))._replace(**changes)
    with backup_store.opened_store(str(path)) as store:
        os.mkdir(name, 0o700, dir_fd=store)
        with backup_store.opened_snapshot(store, name) as directory:
            backup_store.write_manifest(directory, one)


def test_counts_sizes_and_states_are_those_of_the_accounts(sessions: pathlib.Path) -> None:
    before = looks(sessions)
    record = record_of(sessions)
    assert looks(sessions) == before
    assert (record["total"], record["linked"]) == (3, 2)
    assert record["files"] == sum(account["files"] for account in record["accounts"]) == 15
    assert record["bytes"] == sum(account["bytes"] for account in record["accounts"]) > 0
    assert record["backend"] is None
    assert record["backups"] == {
        "exists": False,
        "snapshots": 0,
        "bytes": 0,
        "oldest_age_seconds": None,
        "without_snapshot": 2,
        "last_run": None,
        "last_failed": None,
    }


def test_nothing_names_an_account_unless_it_is_wanted(sessions: pathlib.Path) -> None:
    assert CANARY not in json.dumps(record_of(sessions))
    assert CANARY in json.dumps(record_of(sessions, show_accounts=True))


def test_an_account_has_the_same_key_in_every_report_of_a_host_and_another_one_elsewhere(
    sessions: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys() -> list[str]:
        return [account["key"] for account in record_of(sessions)["accounts"]]

    first = keys()
    assert first == keys()
    assert len(set(first)) == 3
    monkeypatch.setattr(masking, "_host_key", lambda: b"another machine")
    assert not set(first) & set(keys())


def test_the_age_of_backups_is_that_of_the_worst_linked_account(sessions: pathlib.Path) -> None:
    snapshot_of(sessions, f"{CANARY}-1", 2 * HOUR)
    snapshot_of(sessions, f"{CANARY}-1", HOUR)
    assert record_of(sessions)["backups"]["without_snapshot"] == 1
    snapshot_of(sessions, f"{CANARY}-2", 5 * HOUR)
    record = record_of(sessions)
    assert record["backups"]["oldest_age_seconds"] == pytest.approx(5 * HOUR, abs=60)
    assert (record["backups"]["without_snapshot"], record["backups"]["snapshots"]) == (0, 3)
    ages = [account["backup_age_seconds"] for account in record["accounts"]]
    assert ages == [pytest.approx(HOUR, abs=60), pytest.approx(5 * HOUR, abs=60), None]


def test_the_backend_and_the_path_that_it_uses(sessions: pathlib.Path, backend: dict[str, str]) -> None:
    record = record_of(sessions, unit="wa")
    assert (record["backend"]["state"], record["backend"]["use"]) == ("running", "used")
    backend.update(use="nowhere")
    assert "neither open files" in record_of(sessions, unit="wa")["backend"]["problem"]
    backend.update(ActiveState="failed", MainPID="0")
    assert record_of(sessions, unit="wa")["backend"]["state"] == "failed"


def test_a_unit_that_cannot_be_examined_is_a_sentence_and_no_failure(
    sessions: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(name: str) -> Unit:
        raise SessionsError(f"the unit {name} does not exist on this host; check its name")

    monkeypatch.setattr(report_job, "read_service", unknown)
    record = record_of(sessions, unit="wa")
    assert record["backend"] is None
    assert record["problems"] == ["the unit wa.service does not exist on this host; check its name"]
    assert record["total"] == 3


def test_history_is_migrations_and_starts_of_the_days_that_are_wanted(
    sessions: pathlib.Path, backend: dict[str, str]
) -> None:
    now = time.time()
    times = {"a": now - 2 * HOUR, "b": now - 2 * HOUR + 1, "c": now - 90 * 24 * HOUR}
    entries = {key: Entry("/old", MARK, MARK, moment) for key, moment in times.items()}
    with opened_control(str(sessions)) as control:
        write_document_at(control, RECEIPT, document_of(str(sessions), entries))
    history = record_of(sessions, unit="wa")["history"]
    assert [(event["event"], event["accounts"]) for event in history] == [("migrated", 2), ("started", 0)]
    assert len(record_of(sessions, unit="wa", history_days=365)["history"]) == 3


def test_a_receipt_that_is_damaged_is_a_problem_of_the_record(sessions: pathlib.Path) -> None:
    with opened_control(str(sessions)) as control:
        write_document_at(control, RECEIPT, {"accounts": {"a": 1}})
    assert "receipt.json" in record_of(sessions)["problems"][0]


def test_a_run_in_progress_is_seen(sessions: pathlib.Path) -> None:
    assert record_of(sessions)["progress"] is None
    with opened_control(str(sessions)) as control, progress.reported(control, "migration", "wa.service"):
        progress.phase("stage")
        progress.expect(accounts=3)
        found = record_of(sessions)["progress"]
    assert (found["phase"], found["accounts_total"]) == ("stage", 3)
    assert record_of(sessions)["progress"] is None


def test_findings_are_those_of_the_audit_with_the_first_places(sessions: pathlib.Path) -> None:
    found = {finding["id"]: finding for finding in record_of(sessions)["findings"]}
    assert found["account_corrupt"]["severity"] == "critical"
    assert "…" in found["account_corrupt"]["where"]
    assert "backup_missing" in found
    assert CANARY not in json.dumps(list(found.values()))
    assert record_of(sessions, audit=False)["findings"] == []


def test_an_accepted_finding_is_not_returned_again(sessions: pathlib.Path) -> None:
    exception = {"id": "account_corrupt", "reason": "it is being examined", "until": "9999-01-01"}
    record = record_of(sessions, exceptions=[exception])
    assert record["accepted"] == ["account_corrupt"]
    assert "account_corrupt" not in [finding["id"] for finding in record["findings"]]
    expired = record_of(sessions, exceptions=[{**exception, "until": "2020-01-01"}])
    assert expired["accepted"] == []
    assert {"account_corrupt", "exception_expired"} <= {finding["id"] for finding in expired["findings"]}


def test_a_backup_in_progress_is_seen(sessions: pathlib.Path) -> None:
    with backup_store.opened_store(str(sessions)) as store, progress.reported(store, "backup"):
        progress.phase("copy")
        found = record_of(sessions)["progress"]
    assert (found["work"], found["phase"]) == ("backup", "copy")
