# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics: their format, their file, that they name nobody, and that rules and dashboard query nothing else."""

from __future__ import annotations

import json
import os
import pathlib
import re
import typing as t

import pytest
import yaml

from accounts import CANARY, put_account, use
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import job as core_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._report import metrics_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._report.metrics import (
    METRICS,
    PREFIX,
    text_of_metrics,
)

ROOT = pathlib.Path(__file__).resolve().parents[5]
SAMPLE = re.compile(r'whatsapp_sessions_[a-z_]+\{([a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+\} -?[0-9.e+]+')
RECORD: dict[str, t.Any] = {
    "taken": "2026-01-01T00:00:00Z",
    "unit": "wa.service",
    "path": '/srv/a "b"\\c\n',
    "exists": True,
    "states": {"paired": 1, "corrupt": 0},
    "linked": 1,
    "displaced": 0,
    "duplicates": 0,
    "accounts": [
        {
            "id": "4…7-9c1f2e",
            "files": 3,
            "bytes": 1234567890123,
            "newest": "2026-01-01T00:00:00Z",
            "saved": "2025-12-31T23:00:00Z",
        }
    ],
    "backups": {"without_snapshot": 0, "last_run": "2025-12-31T23:00:00Z", "last_failed": 0},
    "backend": {"state": "running", "since": "2025-12-31T00:00:00Z", "use": "used"},
    "findings": [{"severity": "high"}],
    "progress": None,
    "problems": [],
}


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\bwhatsapp_sessions_\w+", text))


def test_each_line_is_as_prometheus_reads_it_and_each_metric_occurs() -> None:
    lines = text_of_metrics(RECORD).splitlines()
    assert [line for line in lines if not line.startswith("# ") and not SAMPLE.fullmatch(line)] == []
    assert {line.split()[2] for line in lines if line.startswith("# TYPE")} == {PREFIX + one.name for one in METRICS}
    assert any(
        line.startswith("whatsapp_sessions_account_bytes{") and line.endswith(" 1234567890123") for line in lines
    )
    path = r'path="/srv/a \"b\"\\c\n"'
    assert f'whatsapp_sessions_findings{{unit="wa.service",{path},severity="high"}} 1' in lines


def test_what_is_unknown_has_no_sample() -> None:
    unknown = {**RECORD, "backups": None, "backend": None, "accounts": []}
    named = names_in(text_of_metrics(unknown))
    assert not [name for name in named if "back" in name or "account_" in name]


def test_rules_and_dashboard_query_only_metrics_that_exist() -> None:
    known = {PREFIX + one.name for one in METRICS}
    rules = (ROOT / "docs/monitoring/alerts.yml").read_text()
    dashboard = (ROOT / "docs/monitoring/dashboard.json").read_text()
    expressions = [rule["expr"] for rule in yaml.safe_load(rules)["groups"][0]["rules"]]
    expressions += [target["expr"] for panel in json.loads(dashboard)["panels"] for target in panel["targets"]]
    assert len(expressions) > 15
    for text in (rules, dashboard, *expressions):
        assert names_in(text) - {"whatsapp_sessions"} <= known
        assert text.count("(") == text.count(")")
    assert all(names_in(one) or "node_textfile" in one for one in expressions)
    listed = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/report.md").read_text(), re.MULTILINE))
    assert {one.name for one in METRICS} <= listed


@pytest.fixture
def options(tmp_path: pathlib.Path) -> dict[str, t.Any]:
    put_account(tmp_path / "sessions" / CANARY)
    (tmp_path / "collector").mkdir()
    return {"path": str(tmp_path / "sessions"), "directory": str(tmp_path / "collector"), "audit": False}


def execute(options: dict[str, t.Any], *, check: bool = False) -> core_job.Outcome:
    return core_job.execute(metrics_job, options, check_mode=check)


def test_the_file_can_be_read_by_all_and_names_nobody(options: dict[str, t.Any]) -> None:
    assert execute(options, check=True).changed
    assert os.listdir(options["directory"]) == []
    outcome = execute(options)
    file = pathlib.Path(outcome.report.values["file"])
    assert os.listdir(options["directory"]) == [file.name]
    assert file.stat().st_mode & 0o777 == 0o644
    assert CANARY not in file.read_text() + json.dumps(outcome.diff)
    assert outcome.report.values["samples"] == len(re.findall("^whatsapp", file.read_text(), re.MULTILINE))


def test_the_same_figures_are_no_change_but_the_file_is_current(options: dict[str, t.Any]) -> None:
    file = pathlib.Path(execute(options).report.values["file"])
    os.utime(file, (1, 1))
    assert not execute(options).changed
    assert file.stat().st_mtime > 1
    use(pathlib.Path(options["path"]) / CANARY, at=1_800_000_000)
    assert execute(options).changed


def test_what_another_user_put_there_is_replaced_and_not_shown(
    options: dict[str, t.Any], tmp_path: pathlib.Path
) -> None:
    file = pathlib.Path(execute(options).report.values["file"])
    secret = tmp_path / "secret"
    secret.write_text("a secret")
    file.unlink()
    os.link(secret, file)
    assert "a secret" not in json.dumps(execute(options).diff)
    assert secret.read_text() == "a secret"
    assert file.read_text() != "a secret"


def test_a_collector_that_is_not_there_is_one_sentence(options: dict[str, t.Any]) -> None:
    with pytest.raises(SessionsError, match="does not exist; install node_exporter"):
        execute({**options, "directory": "/nowhere/here"})
