# SPDX-License-Identifier: GPL-3.0-or-later
"""Databases that looked sound, and turn out to be damaged when they are copied for good: while their backend is down."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from accounts import CANARY, content, looks
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils import _job, _migrate, _staging
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._copy import Rules
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._stores import DamagedStore
from layouts import put_store

BROKEN = f"{CANARY}-broken.db"


class Scene:
    """A legacy root with stores, and the job that moves them; a store of one name cannot be copied."""

    def __init__(self, place: pathlib.Path) -> None:
        self.legacy, self.path = place / "legacy", place / "sessions"

    def migrate(self) -> dict[str, t.Any]:
        owner = {"owner": str(os.geteuid()), "group": str(os.getegid())}
        options = {"src": [str(self.legacy)], "path": str(self.path), "layout": "whatsmeow", **owner}
        outcome = _job.execute(_migrate, options, check_mode=False)
        return {**outcome.report.values, "warnings": outcome.report.warnings, "changed": outcome.changed}


@pytest.fixture
def scene(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    put_stores = _staging.put_stores

    def put_or_refuse(scratch: int, target: int, names: t.Collection[str], rules: Rules) -> None:
        if BROKEN in names:
            raise DamagedStore("a database there is damaged")
        put_stores(scratch, target, names, rules)

    monkeypatch.setattr(_staging, "put_stores", put_or_refuse)
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


def test_it_is_tried_again_once_somebody_mended_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
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
