# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook report: one call for each host, every host on the page whatever it answers, growth since the last run."""

from __future__ import annotations

import json
import pathlib
import random
import typing as t

import pytest
from fleetkit import Fleet

from sample_report import record_of


@pytest.fixture
def record() -> dict[str, t.Any]:
    """A host that is healthy."""
    made = record_of(random.Random(1), 3)
    for account in made["accounts"]:
        account.update(state="paired", problems=[], bytes=1000, backup_age_seconds=60)
    made.update(states={"paired": 3, "corrupt": 0}, linked=3, bytes=3000, findings=[])
    made["backups"].update(without_snapshot=0, oldest_age_seconds=60)
    return made


def play(fleet: Fleet, folder: pathlib.Path, *options: str, **settings: t.Any) -> t.Any:
    played = fleet.play("report", *options, wa_report_dir=str(folder), **settings)
    assert played.rc == 0, played.output
    return played


def read(folder: pathlib.Path) -> dict[str, t.Any]:
    document: dict[str, t.Any] = json.loads((folder / "report.json").read_text())
    return document


def test_every_host_is_on_the_page_whatever_it_answers(tmp_path: pathlib.Path, record: dict[str, t.Any]) -> None:
    fleet, folder = Fleet(tmp_path), tmp_path / "made" / "report"
    fleet.add("cut", cut_by="session_report")
    fleet.add("healthy", session_report_1={"record": record})
    fleet.add("refused", session_report_1={"failed": True, "msg": "cannot read /srv; run as root"})
    fleet.add("liar", session_report_1={"record": {**record, "accounts": [{"id": 1}]}})
    played = play(fleet, folder)
    assert all(calls == ["session_report"] for calls in played.calls.values())
    document = read(folder)
    found = {host["host"]: host["condition"] for host in document["hosts"]}
    assert found == {"cut": "unreachable", "healthy": "ok", "liar": "failed", "refused": "failed"}
    reasons = {host["host"]: host["reasons"] for host in document["hosts"]}
    assert reasons["refused"] == ["cannot read /srv; run as root"]
    assert "its record is not valid (accounts[].id)" in reasons["liar"][0]
    assert "2 not examined, 1 unreachable of 4 hosts." in " ".join(played.output.split())
    assert (document["totals"]["accounts"], document["totals"]["linked"]) == (3, 3)
    page = (folder / "report.html").read_text()
    assert "healthy" in page
    assert (folder / "report.html").stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json"]


def test_growth_is_shown_against_the_last_run(tmp_path: pathlib.Path, record: dict[str, t.Any]) -> None:
    grown = json.loads(json.dumps(record))
    grown["accounts"][0]["bytes"] += 500
    grown["accounts"][1]["key"] = "new"
    grown["bytes"] += 500
    fleet = Fleet(tmp_path)
    fleet.add("wa1", session_report_1={"record": record}, session_report_2={"record": grown})
    play(fleet, tmp_path)
    assert read(tmp_path)["hosts"][0]["growth"] is None
    play(fleet, tmp_path)
    document = read(tmp_path)
    assert document["hosts"][0]["growth"] == document["totals"]["growth"] == 500
    assert [account["growth"] for account in document["hosts"][0]["record"]["accounts"]] == [500, None, 0]
    assert len(document["trend"]) == 2


def test_check_mode_writes_nothing_and_a_foreign_file_is_only_a_warning(
    tmp_path: pathlib.Path, record: dict[str, t.Any]
) -> None:
    fleet, folder = Fleet(tmp_path), tmp_path / "report"
    fleet.add("wa1", **{f"session_report_{number}": {"record": record} for number in (1, 2)})
    play(fleet, folder, "--check")
    assert not folder.exists()
    folder.mkdir()
    (folder / "report.json").write_text("[1, 2]")
    played = play(fleet, folder)
    assert "is not a report of this release" in " ".join(played.output.split())
    assert read(folder)["totals"]["hosts"] == 1


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path: pathlib.Path, record: dict[str, t.Any]) -> None:
    fleet = Fleet(tmp_path)
    fleet.add("wa1", session_report_1={"record": record})
    (tmp_path / "file").touch()
    played = fleet.play("report", wa_report_dir=str(tmp_path / "file"))
    assert played.rc != 0
    assert "set wa_report_dir to a directory that you can write" in " ".join(played.output.split())
