# SPDX-License-Identifier: GPL-3.0-or-later
"""What a restore says that it is doing: its phases, its accounts and its files."""

from __future__ import annotations

import os
import pathlib
import shutil
import typing as t

import pytest

from accounts import put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import job as core_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import progress
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._restore import job as restore_job
from snapshots import put_snapshot


def test_it_reports_as_a_migration_does(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, files = tmp_path / "sessions", 0
    for number, name in enumerate(("wa1", "wa2")):
        account = put_account(path / name, number=number)
        for key in range(150):
            put_file(account / f"session-{key}.json", "{}")
        put_snapshot(path, name)
        files += len(os.listdir(account))
        shutil.rmtree(account)
    lines: list[str] = []
    done: dict[str, tuple[int, int, t.Any]] = {}
    begin = progress._Work.begin

    def ended(work: t.Any, phase: str) -> None:
        done[str(work.facts.get("phase"))] = (
            work.accounts.value(),
            work.files.value(),
            work.facts.get("accounts_total"),
        )
        begin(work, phase)

    monkeypatch.setattr(progress, "_log", lines.append)
    monkeypatch.setattr(progress._Work, "begin", ended)
    options = {"path": str(path), "accounts": ["wa1", "wa2"], "owner": str(os.geteuid()), "group": str(os.getegid())}
    outcome = core_job.execute(restore_job, options, check_mode=False)
    assert outcome.report.values["counts"]["restored"] == 2
    assert lines[0] == "restore of sessions: stage"
    assert "restore of sessions: publish" in lines
    assert done["stage"] == (2, files, 2)
    assert not any("wa1" in line for line in lines)
