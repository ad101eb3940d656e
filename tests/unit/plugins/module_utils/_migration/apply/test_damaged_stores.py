# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases that looked sound, and turn out to be damaged when they are copied for good: while their backend is down."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from accounts import CANARY, content, looks, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import job as core_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.copy_file import Rules
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts import sqlite
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.sqlite import DamagedStore
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import job as migration_job
from layouts import damage_store, put_store

BROKEN = f"{CANARY}-broken.db"


class Scene:
    """A legacy root with stores, and the job that moves them; a store of one name cannot be copied."""

    def __init__(self, place: pathlib.Path) -> None:
        self.legacy, self.path = place / "legacy", place / "sessions"

    def migrate(self) -> dict[str, t.Any]:
        owner = {"owner": str(os.geteuid()), "group": str(os.getegid())}
        options = {"src": [str(self.legacy)], "path": str(self.path), "layout": "whatsmeow", **owner}
        outcome = core_job.execute(migration_job, options, check_mode=False)
        return {**outcome.report.values, "warnings": outcome.report.warnings, "changed": outcome.changed}


@pytest.fixture
def scene(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    put_stores = sqlite.put_stores

    def put_or_refuse(scratch: int, target: int, names: t.Collection[str], rules: Rules) -> None:
        if BROKEN in names:
            raise DamagedStore("a database is damaged")
        put_stores(scratch, target, names, rules)

    monkeypatch.setattr(sqlite, "put_stores", put_or_refuse)
    return Scene(tmp_path)


def counts(result: dict[str, t.Any]) -> dict[str, int]:
    return {action: number for action, number in result["counts"].items() if number}


def test_it_stays_and_the_others_go_and_the_next_run_knows(scene: Scene) -> None:
    put_store(scene.legacy / "one/whatsapp.db", [1])
    put_store(scene.legacy / f"two{CANARY}" / BROKEN, [2])
    made = scene.migrate()
    assert counts(made) == {"migrated": 1, "corrupt": 1}
    assert [account["reason"] for account in made["accounts"]][
        1
    ] == "its database is damaged; it stays at the legacy path"
    assert len(made["warnings"]) == 1
    assert os.listdir(scene.path) == ["one"]
    after = looks(scene.path.parent)
    again = scene.migrate()
    assert (again["changed"], again["steps"], counts(again)) == (False, [], {"unchanged": 1, "corrupt": 1})
    assert looks(scene.path.parent) == after


def test_it_is_tried_again_once_somebody_fixed_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    put_store(scene.legacy / "one/whatsapp.db", [1])
    put_store(scene.legacy / "two" / BROKEN, [2])
    scene.migrate()
    monkeypatch.undo()
    put_store(scene.legacy / "two" / BROKEN, [2, 3])
    assert counts(scene.migrate()) == {"migrated": 1, "unchanged": 1}
    assert not scene.migrate()["changed"]


def test_no_backend_is_sent_to_a_path_without_any_of_its_accounts(scene: Scene) -> None:
    put_store(scene.legacy / f"two{CANARY}" / BROKEN, [2])
    before = content(scene.legacy)
    with pytest.raises(SessionsError, match="is damaged, and there is no other account; nothing was published") as told:
        scene.migrate()
    assert CANARY not in str(told.value)
    assert content(scene.legacy) == before
    assert not scene.path.exists()


def put_beside(account: pathlib.Path) -> None:
    """Chats that a crash damaged, a copy of the store that is none, and what is no database."""
    put_store(account / "messages.db", [9])
    damage_store(account / "messages.db")
    put_store(account / "whatsapp-backup.db", [1], wal=True)
    put_file(account / "whatsapp-backup.db-wal", b"")
    put_file(account / "Thumbs.db", CANARY)
    (account / "old").mkdir()
    put_file(account / "old/history.db", b"SQLite format 3\0" + b"\xa5" * 9000)


@pytest.mark.parametrize("place", [".", "one"])
def test_what_a_program_can_do_without_is_copied_as_it_is(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.undo()
    put_store(scene.legacy / place / "whatsapp.db", [1])
    put_beside(scene.legacy / place)
    put_file(scene.legacy / "stats.db", CANARY)  # beside accounts, or in the only one
    before = content(scene.legacy)
    number = 2 if place == "." else 1  # what lies in the account that the root is is one, too
    assert counts(scene.migrate()) == {"migrated": number}
    after = content(scene.path)
    rebuilt = {"whatsapp.db", "whatsapp-backup.db", "whatsapp-backup.db-wal"}
    changed = {name for name in before if before[name] != after.get(name)}
    assert changed <= {os.fsencode(os.path.normpath(f"{place}/{name}")) for name in rebuilt}
    assert (scene.migrate()["changed"], counts(scene.migrate())) == (False, {"unchanged": number})
    other = Scene(scene.path.parent / "other")
    other.legacy.parent.mkdir()
    scene.legacy.rename(other.legacy)
    other.path = scene.path
    assert counts(other.migrate()) == {"unchanged": number}  # found equal, without a receipt for that place
