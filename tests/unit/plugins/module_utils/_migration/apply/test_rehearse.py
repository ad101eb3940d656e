# SPDX-License-Identifier: GPL-3.0-or-later
"""What check mode says and what the real run does then: each refusal of the one is a refusal of the other."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import typing as t

import pytest

from accounts import CANARY, content, give, looks, put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import job as core_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts import whatsmeow
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import job as migration_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import live_copies, rehearse, space
from layouts import around_wppconnect, damage_store, put_account_of, put_store

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
OTHER = 65533


class Scene:
    """A legacy root and a sessions path, and the job between them, really or in check mode."""

    def __init__(self, place: pathlib.Path) -> None:
        self.place, self.legacy, self.path = place, place / "legacy", place / "sessions"
        self.legacy.mkdir(parents=True)

    def run(self, check_mode: bool, **options: t.Any) -> dict[str, t.Any]:
        owner = {"owner": str(os.geteuid()), "group": str(os.getegid())}
        given = {"src": [str(self.legacy)], "path": str(self.path), **owner, **options}
        return dict(core_job.execute(migration_job, given, check_mode=check_mode).report.values)

    def refusals(self, **options: t.Any) -> list[str]:
        """What check mode says, and what the real run says; neither changes anything that anybody sees."""
        told = []
        for check_mode, seen in ((True, looks), (False, content)):  # what was renamed and renamed back has other times
            before = seen(self.legacy)
            with pytest.raises(SessionsError) as refused:
                self.run(check_mode, **options)
            told.append(str(refused.value))
            assert seen(self.legacy) == before
            assert not self.path.exists()
            assert CANARY not in told[-1]
        return told


@pytest.fixture
def scene(tmp_path: pathlib.Path) -> Scene:
    return Scene(tmp_path / "place")


def put_private(path: pathlib.Path) -> None:
    put_file(path, CANARY)
    os.chown(path, OTHER, OTHER)


def put_private_folder(path: pathlib.Path) -> None:
    path.mkdir(mode=0o700)
    os.chown(path, OTHER, OTHER)


UNFIT: dict[str, t.Callable[[pathlib.Path], None]] = {
    "another user": put_private,
    "directory of another user": put_private_folder,
    "nested more than": lambda path: os.makedirs(str(path) + "/d" * 70),
}


@root
@pytest.mark.parametrize("why", UNFIT)
@pytest.mark.parametrize("place", ["wa1", "."])
@pytest.mark.parametrize("engine", ["native", "rename"])
def test_what_must_not_be_copied(scene: Scene, why: str, place: str, engine: str) -> None:
    """In an account, and beside all of them."""
    if place == "." and engine == "rename":
        engine = "native"  # which copies what lies beside accounts, too
    put_account(scene.legacy / "wa1")
    UNFIT[why](scene.legacy / place / "stray")
    if place == "." and why != "nested more than":
        assert "stray" not in str(scene.run(True))  # of another user it is left where it is, and no reason to fail
        return
    assert all(why in told for told in scene.refusals(engine=engine))


@root
@pytest.mark.parametrize("receiver", [0, OTHER])
@pytest.mark.parametrize("linked", ["userDataDir/wa1/Default/Preferences", "tokens/wa1.data.json"])
def test_what_is_moved_and_has_a_second_name(scene: Scene, linked: str, receiver: int) -> None:
    """In an account, or elsewhere but part of it. It is refused only if it would change hands, under the second name too."""
    put_account_of("wppconnect", scene.legacy, "userDataDir/wa1")
    around_wppconnect(scene.legacy)
    put_file(scene.legacy / linked, "mine")
    give(scene.legacy, OTHER, OTHER)
    (scene.place / "second").hardlink_to(scene.legacy / linked)
    options = {"layout": "wppconnect", "engine": "rename", "owner": str(receiver), "group": str(receiver)}
    if receiver != OTHER:
        refusals = scene.refusals(**options)
        assert all(
            "contains a file with another hard link, so its owner must not be changed" in told for told in refusals
        )
        assert {path.lstat().st_uid for path in scene.legacy.rglob("*")} == {OTHER}
        return
    predicted, made = (scene.run(check_mode, **options)["counts"] for check_mode in (True, False))
    assert predicted == made
    assert made["migrated"] == 1


@root
@pytest.mark.parametrize("engine", ["native", "rename"])
def test_a_file_of_another_user_that_belongs_to_an_account_elsewhere(scene: Scene, engine: str) -> None:
    put_account_of("wppconnect", scene.legacy, "userDataDir/wa1")
    around_wppconnect(scene.legacy)
    put_private(scene.legacy / "tokens/wa1.data.json")
    told = scene.refusals(layout="wppconnect", engine=engine)
    assert all("another user" in one for one in told)


@pytest.mark.parametrize("layout", ["whatsmeow", "custom"])
def test_a_damaged_database(scene: Scene, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    custom = {"custom": {"markers": ["token"], "databases": ["*.db"]}} if layout == "custom" else {}
    put_store(scene.legacy / "one/whatsapp.db", [1])
    put_file(scene.legacy / "one/token", "x")
    damage_store(scene.legacy / "one/whatsapp.db")
    if layout == "whatsmeow":  # which judges it already; it was sound when it was looked at
        sound = whatsmeow.Judgement("paired", (), ("device",), 1)
        monkeypatch.setattr(whatsmeow, "_judged", lambda directory, name: sound)
    assert all("is damaged, and there is no other account" in told for told in scene.refusals(layout=layout, **custom))
    put_store(scene.legacy / "two/whatsapp.db", [2])
    put_file(scene.legacy / "two/token", "x")
    predicted, made = (scene.run(check_mode, layout=layout, **custom)["counts"] for check_mode in (True, False))
    assert (predicted, made["corrupt"], made["migrated"]) == (made, 1, 1)


def test_a_full_disk(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    put_account(scene.legacy / "wa1")
    monkeypatch.setattr(space, "has_room", lambda disk, size, files: False)
    monkeypatch.setattr(live_copies, "has_ample_room", lambda stage, tasks: False)
    assert all("free space and run again" in told for told in scene.refusals())


def test_no_rsync(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    put_account(scene.legacy / "wa1")
    monkeypatch.setattr(shutil, "which", lambda name, path: None)
    with pytest.raises(SessionsError, match="rsync is not installed on this host; nothing was changed: install it"):
        scene.run(True, engine="rsync")
    scene.run(True)


def test_a_process_that_works_there(scene: Scene) -> None:
    put_account(scene.legacy / "wa1")
    script = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=scene.legacy / "wa1", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        told = scene.refusals()
        process.communicate()
    assert all("processes outside the unit use the legacy path" in one for one in told)


def test_nothing_is_rehearsed_where_nothing_is_to_be_done(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    put_account(scene.legacy / "wa1")
    scene.run(False)
    monkeypatch.setattr(rehearse, "rehearsed", pytest.fail)
    scene.run(True)
