# SPDX-License-Identifier: GPL-3.0-or-later
"""Report, metrics and progress of a real backend: what an operator sees, and what systemd writes without Ansible."""

from __future__ import annotations

import json
import pathlib
import re

from hostkit import PATH, UNIT, Host
from playkit import module_calls, play

PROGRESS = re.compile(r"\S+: (migration: [a-z_]+(, [\w ,]+)?|examining the accounts) \(\d+ s\)")
COLLECTOR = "/var/lib/prometheus/node-exporter"


def test_one_call_shows_a_host_and_what_happened_to_it(host: Host, tmp_path: pathlib.Path) -> None:
    now = host.sh("date +%s").strip()
    persisted = play(host, "persist", wa_progress=0.2)
    assert persisted.rc == 0, persisted.output
    shown = [line for line in persisted.output.splitlines() if PROGRESS.fullmatch(line)]
    assert any(" migration: " in line for line in shown), persisted.output
    assert "accounts moved" in persisted.output or "account moved" in persisted.output
    assert host.sh("ls /run/whatsapp-ops | grep progress", may_fail=True) == ""
    host.well()
    before = module_calls(host)

    played = play(host, "report", wa_report_dir=str(tmp_path))

    assert (played.rc, module_calls(host) - before) == (0, 1), played.output
    reported = json.loads((tmp_path / "report.json").read_text())["hosts"][0]
    record = reported["record"]
    assert record["problems"] == []
    assert (record["linked"], record["total"]) == (len(host.before["legacy"]),) * 2
    assert (record["backend"]["state"], record["backend"]["use"]) == ("running", "used"), reported["reasons"]
    assert {"migrated", "started"} <= {event["event"] for event in record["history"]}
    assert "backup_missing" in {finding["id"] for finding in record["findings"]}
    lines = host.sh(f"journalctl --identifier=whatsapp-ops --output=cat --since=@{now}").splitlines()
    for phase in ("stage", "publish", "prove"):
        assert f"migration of {UNIT}: {phase}" in lines


def test_systemd_writes_metrics_without_ansible(host: Host) -> None:
    host.sh(f"mkdir -p {COLLECTOR}")
    options = {"path": PATH, "unit": UNIT, "layout": "baileys"}
    installed = host.module("session_timer", job="metrics", options=options, on_calendar="daily")
    assert installed.get("changed"), installed
    try:
        host.sh(f"systemctl start {installed['unit']}")
        names = host.sh(f"ls -l {COLLECTOR}/*.prom")
        metrics = host.sh(f"cat {COLLECTOR}/*.prom")
    finally:
        host.module("session_timer", job="metrics", options=options, state="absent")
        host.sh(f"rm -rf {COLLECTOR}")
    assert names.startswith("-rw-r--r-- 1 root root")
    assert f'whatsapp_sessions_backend_up{{unit="{UNIT}",path="{PATH}"}} 1' in metrics
    assert f'whatsapp_sessions_problems{{unit="{UNIT}",path="{PATH}"}} 0' in metrics
