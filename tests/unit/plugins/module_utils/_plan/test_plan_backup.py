# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether backups are overdue: only where a schedule or a limit says so, and for accounts that should have a snapshot."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import FolderMark, Mark
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup import store as of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._plan import backup
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._plan.backup import DAY, Params, Seen

NOW = 10 * DAY * 10**9
PATH = "/srv/wa"
UNIT = "whatsapp-ops-backup-x.service"


def ago(hours: float) -> int:
    return NOW - int(hours * 3600) * 10**9


def seen(**fields: t.Any) -> Seen:
    fresh = Seen(True, {"a": ago(1), "b": ago(2)}, ago(1), False, ago(1), ("backup",), (), NOW)
    return fresh._replace(**fields)


def report(found: Seen, max_age: int = 0, linked: t.Collection[str] = ("a", "b")) -> dict[str, t.Any]:
    return backup.report(Params(PATH, None, max_age), found, linked)


def test_ages_are_those_of_linked_accounts() -> None:
    told = report(seen(confirmed={"a": ago(1), "unlinked": ago(99)}))
    assert told["oldest_age_seconds"] == 3600
    assert told["without_snapshot"] == 1
    assert told["copy_age_seconds"] == 3600
    assert told["scheduled"]
    assert told["problem"] == ""


@pytest.mark.parametrize(
    ("found", "max_age", "words"),
    [
        (seen(), 0, ""),
        (seen(confirmed={"a": ago(1), "b": ago(25)}), 0, "25.0 hours old, and 24.0 hours are allowed"),
        (seen(confirmed={"a": ago(1), "b": ago(25)}, scheduled=()), 0, ""),
        (seen(confirmed={"a": ago(1), "b": ago(25)}, scheduled=()), DAY, "25.0 hours old"),
        (seen(confirmed={"a": ago(1), "b": ago(25)}), 2 * DAY, ""),
        (seen(), 3600, "2.0 hours old, and 1.0 hours are allowed"),
        (seen(confirmed={"a": ago(1)}), 0, ""),
        (seen(confirmed={"a": ago(1)}, run=ago(25)), 0, "1 linked accounts at /srv/wa have no snapshot"),
        (seen(store=False, confirmed={}, run=0), 0, "2 linked accounts at /srv/wa have no snapshot"),
        (seen(store=False, confirmed={}, run=0, scheduled=()), 0, ""),
        (seen(run_failed=True), 0, "the last backup of /srv/wa could not save all accounts"),
        (seen(error="the store is not private"), 0, "the store is not private"),
        (seen(failed=(UNIT,)), 0, f"the last run of {UNIT} failed"),
        (seen(copied=ago(25)), 0, ""),
        (
            seen(copied=ago(25), scheduled=("backup", "restic")),
            0,
            "off-host copy of the snapshots of /srv/wa is 25.0 hours old, and 24.0 hours are allowed (see",
        ),
        (seen(copied=0, scheduled=("backup", "restic")), 0, "does not exist"),
    ],
)
def test_a_problem_is_one_sentence(found: Seen, max_age: int, words: str) -> None:
    problem = report(found, max_age)["problem"]
    assert words in problem
    assert bool(words) == bool(problem)


def test_without_linked_accounts_nothing_is_overdue() -> None:
    assert report(seen(confirmed={}, run=0), linked=())["problem"] == ""


def test_what_is_on_disk_is_seen(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = f"{tmp_path}/sessions"
    params = backup.read_params({"path": path})
    monkeypatch.setattr(backup, "JOB_OPTIONS", str(tmp_path))
    asked: list[t.Sequence[str]] = []
    monkeypatch.setattr(backup, "_failed", lambda units: asked.append(units) or (units[0],) if units else ())
    nothing = backup.observe(params)
    assert (nothing.store, nothing.scheduled, nothing.failed, nothing.run) == (False, (), (), 0)
    with of.opened_store(path) as store:
        name = of.name_of("a", "20260102T030405.000006Z")
        made = of.Snapshot(name, "a", "baileys", 10, 10, 9, "paired", 2, 99, Mark(FolderMark(1, 2), {}), path)
        os.mkdir(name, 0o700, dir_fd=store)
        with of.opened_snapshot(store, name) as directory:
            of.write_manifest(directory, made)
        of.write_confirmed(store, {name: 12})
        of.write_last_run(store, of.LastRun(13, 1, 0, 0, 2))
    label = pathlib.Path(of.store_path(path)).parent.name.lstrip(".")
    (tmp_path / f"backup-{label}.json").touch()
    found = backup.observe(params)
    assert (found.store, found.confirmed, found.run, found.run_failed) == (True, {"a": 12}, 13, True)
    assert found.scheduled == ("backup",)
    assert found.failed == (f"whatsapp-ops-backup-{label}.service",)
    assert found.copied == 0


def test_a_store_that_cannot_be_trusted_is_a_problem_and_no_error(tmp_path: pathlib.Path) -> None:
    path = f"{tmp_path}/sessions"
    with of.opened_store(path):
        pathlib.Path(of.store_path(path)).chmod(0o755)
    found = backup.observe(backup.read_params({"path": path}))
    assert found.store
    assert "is not private to root" in backup.report(Params(path, None, 0), found, ("a",))["problem"]
