# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole run on a directory: an account is looked at once, and complete snapshots are read once."""

from __future__ import annotations

import pathlib

import pytest

from accounts import put_account, use
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup import job, observe
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup import store as of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.job import Outcome, execute
from snapshots import OPTIONS


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a run looks at: names of accounts, and of snapshots whose manifest it reads."""
    seen: list[str] = []
    compare, read = observe.difference_of, of.snapshot_at
    monkeypatch.setattr(observe, "difference_of", lambda *words: [seen.append(words[1]), compare(*words)][1])
    monkeypatch.setattr(of, "snapshot_at", lambda *words: [seen.append(words[1]), read(*words)][1])
    return seen


def run(path: pathlib.Path) -> Outcome:
    return execute(job, {**OPTIONS, "path": str(path)}, check_mode=False)


def test_an_unchanged_account_is_looked_at_once(
    tmp_path: pathlib.Path, control_home: pathlib.Path, looks: list[str]
) -> None:
    account = put_account(tmp_path / "sessions/a")
    first = run(account.parent)
    name = f"backup-a-{first.report.values['snapshots'][0]['snapshot']}"
    looks.clear()
    second = run(account.parent)
    assert looks == [name, "a"]
    assert (second.changed, second.report.values["unchanged"], second.report.values["oldest_age_seconds"]) == (
        False,
        1,
        0,
    )
    use(account, 0)
    looks.clear()
    third = run(account.parent)
    assert [one["action"] for one in third.report.values["accounts"]] == ["saved"]
    assert third.report.values["new_bytes"] == (account / "creds.json").stat().st_size
    assert len(third.report.values["snapshots"]) == 2
    assert looks.count("a") == looks.count(name) == 1
