# SPDX-License-Identifier: GPL-3.0-or-later
"""What a backup decides from what it finds: a table over its plan, and what it reports."""

from __future__ import annotations

import os
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import FolderMark, Mark
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup import job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.job import Prune, Record, Save
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.known import choice_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.observe import Account, Params, State
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.store import Snapshot
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from snapshots import OPTIONS

DAY = 86_400_000_000_000
NOW = 20_000 * DAY
PATH = "/srv/wa"
CHOICE = choice_of(layout_named("baileys"), exclude_caches=True)


def params(**changed: t.Any) -> Params:
    return job.read_params({**OPTIONS, "path": PATH, **changed})


def kept(account: str, days_ago: int, sequence: int, **fields: t.Any) -> Snapshot:
    when = NOW - days_ago * DAY
    name = f"backup-{account}-{sequence}"
    made = Snapshot(
        name, account, "baileys", when, when, when, "paired", 1, 1, Mark(FolderMark(1, 2), {}), PATH, sequence
    )
    return made._replace(**fields)


def state(accounts: t.Sequence[Account] = (), snapshots: t.Sequence[Snapshot] = (), unfinished: bool = False) -> State:
    ordered = tuple(sorted(snapshots, key=lambda one: one.order, reverse=True))
    return State(CHOICE, tuple(accounts), ordered, NOW, os.statvfs("/"), unfinished)


NEW, SAME, PENDING = Account("a", "paired"), Account("a", "paired", same=True), Account("a", "pending")
OLD = [kept("a", 30, 1), kept("a", 20, 2)]


@pytest.mark.parametrize(
    ("found", "steps"),
    [
        (state(), (Record(()),)),
        (state([NEW]), (Save(("a",)), Record(()))),
        (state([Account("a", "unknown")]), (Save(("a",)), Record(()))),
        (state([SAME], OLD[1:]), (Record(("backup-a-2",)),)),
        (state([SAME], OLD), (Prune(("backup-a-1",)), Record(("backup-a-2",)))),
        (state([NEW], OLD), (Save(("a",)), Prune(("backup-a-1", "backup-a-2")), Record(()))),
        (state([PENDING], OLD), (Prune(("backup-a-1",)), Record(()))),
        (state([Account("a", "corrupt")]), (Record(()),)),
        (state([], OLD), (Prune(("backup-a-1",)), Record(()))),
    ],
)
def test_plan(found: State, steps: tuple[t.Any, ...]) -> None:
    assert job.plan(found, params()) == steps


def test_pruning_alone() -> None:
    assert job.plan(state(), params(state="pruned")) == ()
    assert job.plan(state(snapshots=OLD), params(state="pruned")) == (Prune(("backup-a-1",)), Record(()))
    assert job.plan(state(unfinished=True), params(state="pruned")) == (Record(()),)


def test_only_snapshots_of_named_accounts_are_removed() -> None:
    found = state([], [*OLD, kept("b", 30, 1), kept("b", 20, 2)])
    assert job.plan(found, params(accounts=["b"]))[0] == Prune(("backup-b-1",))


def test_a_run_that_only_records_changes_nothing() -> None:
    assert Record(()).bookkeeping
    assert job.diff(state([SAME], OLD[1:]), (Record(()),), params()) == {
        "before": {"snapshots": {"a": 1}},
        "after": {"snapshots": {"a": 1}},
    }


def test_ages_and_what_is_missing() -> None:
    accounts = [SAME, Account("b", "paired"), Account("c", "paired"), Account("d", "pending")]
    sound = [kept("a", 3, 1, confirmed=NOW - DAY), kept("b", -5, 1), kept("c", 1, 1, state="corrupt")]
    values = job.report(params(), state(accounts, sound), (), None).values
    assert values["oldest_age_seconds"] == 86_400
    assert values["without_snapshot"] == ["c"]
    assert [one["age_seconds"] for one in values["snapshots"] if one["id"] == "b"] == [0]
    assert job.report(params(), state(), (), None).values["oldest_age_seconds"] is None


def test_names_are_masked_by_default() -> None:
    found = state([Account("4915112345678", "paired")], [kept("4915112345678", 1, 1)])
    shown = params(show_accounts=False)
    steps = job.plan(found, shown)
    assert "4915112345678" not in str((job.report(shown, found, steps, None), job.diff(found, steps, shown)))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"path": "wa"}, "relative path"),
        ({"backup_path": "/srv/wa/backups"}, "at, in or above"),
        ({"quiesce": "stop"}, "name it in 'unit'"),
        ({"keep_days": -1}, "give 0 or more"),
    ],
)
def test_options_that_no_host_could_accept(changed: dict[str, t.Any], message: str) -> None:
    with pytest.raises(SessionsError, match=message):
        params(**changed)


def test_a_store_of_another_path_and_a_full_disk_are_refused() -> None:
    with pytest.raises(SessionsError, match="holds snapshots of /srv/other"):
        job.plan(state([], [kept("a", 1, 1, path="/srv/other")]), params())
    with pytest.raises(SessionsError, match="nothing was changed: free space"):
        job.plan(state([Account("a", "paired", files=1, bytes=1 << 60)]), params())
    assert job.plan(state([Account("a", "pending", bytes=1 << 60)]), params(min_free_bytes=1 << 60)) == (Record(()),)
