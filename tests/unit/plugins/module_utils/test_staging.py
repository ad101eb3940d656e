# SPDX-License-Identifier: GPL-3.0-or-later
"""Filling the staging area: what is known of a copy and for how long, and a source that somebody writes to."""

from __future__ import annotations

import dataclasses
import marshal
import os
import pathlib
import typing as t

import pytest

from accounts import CANARY, OLD, content, put_account, put_file, use
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils import _index, _staging
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._area import opened_area, opened_staging
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts import layout_named, open_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._receipts import account_key, mark_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._staging import (
    ENGINES,
    Stage,
    Task,
    clear_staging,
    is_staged,
    need_of,
    place_of,
    stage_final,
    stage_live,
)

BAILEYS = layout_named("baileys")
KEY = account_key("wa1")


class Scene:
    """A legacy root with one account, and an open area."""

    def __init__(self, place: pathlib.Path, area: int) -> None:
        self.legacy, self.area_path = place / "legacy", place / ".sessions.whatsapp-ops"
        self.path = place / "sessions"
        self.account = put_account(self.legacy / "wa1")
        self.stage = Stage(area, BAILEYS, os.geteuid(), os.getegid(), "native", True)
        self.tasks = [Task(str(self.legacy), "wa1", "w…1")]

    @property
    def staged(self) -> pathlib.Path:
        return self.area_path / "staging" / KEY

    def with_engine(self, engine: str) -> Stage:
        return dataclasses.replace(self.stage, engine=engine)

    def is_staged(self) -> bool:
        root = os.open(self.legacy, os.O_RDONLY)
        account = open_account(root, "wa1")
        try:
            with opened_staging(str(self.path)) as staging:
                assert staging is not None
                return is_staged(staging, "wa1", mark_of(account, BAILEYS))
        finally:
            os.close(account)
            os.close(root)


@pytest.fixture
def scene(tmp_path: pathlib.Path) -> t.Iterator[Scene]:
    (tmp_path / "sessions").mkdir()
    with opened_area(str(tmp_path / "sessions")) as area:
        yield Scene(tmp_path, area)


def settled(scene: Scene) -> None:
    """Stage until no file is as young as the tick of the clock."""
    while stage_live(scene.stage, scene.tasks).unsettled:
        pass


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_ends_in_the_same(scene: Scene, engine: str) -> None:
    source = content(scene.account)
    put_file(scene.account / "x.tmp", "x")
    stage_live(scene.with_engine(engine), scene.tasks)
    stage_final(scene.with_engine(engine), scene.tasks)
    assert content(scene.staged) == source
    assert scene.account.exists() is (engine != "rename")


def test_what_is_known_is_not_read_again(scene: Scene) -> None:
    settled(scene)
    assert stage_live(scene.stage, scene.tasks).copied == 0
    use(scene.account, OLD + 60)
    put_file(scene.account / "pre-key-9.json", "{}")
    (scene.account / "pre-key-1.json").unlink()
    tally = stage_final(scene.stage, scene.tasks).tally
    assert tally.removed == 1
    assert content(scene.staged) == content(scene.account)


OTHERS: dict[str, t.Callable[[dict[str, t.Any]], t.Any]] = {
    "of another boot": lambda index: index.update(boot="another"),
    "for another owner": lambda index: index.update(owner=[4242, 4242]),
    "of no known kind": lambda index: index.update(more=1),
    "without files": lambda index: index.pop("files"),
}


@pytest.mark.parametrize("which", [*OTHERS, "cut short", "empty", "gone"])
def test_an_index_that_cannot_be_trusted_is_not(scene: Scene, which: str) -> None:
    """The copies may be torn then: each is compared with its source again."""
    settled(scene)
    index = scene.staged.with_name(f"{KEY}.index")
    if which in OTHERS:
        document = marshal.loads(index.read_bytes())
        OTHERS[which](document)
        index.write_bytes(marshal.dumps(document))
    elif which == "gone":
        index.unlink()
    else:
        index.write_bytes(index.read_bytes()[: 20 if which == "cut short" else 0])
    torn = scene.staged / "pre-key-1.json"
    put_file(torn, b"\0" * torn.stat().st_size)  # same size, same time
    assert stage_final(scene.stage, scene.tasks).tally.copied >= 1
    assert content(scene.staged) == content(scene.account)


def test_staged_is_what_looks_as_it_did(scene: Scene) -> None:
    assert not scene.is_staged()
    settled(scene)
    assert scene.is_staged()
    use(scene.account, OLD + 60)
    assert not scene.is_staged()
    settled(scene)
    assert scene.is_staged()
    clear_staging(scene.stage.area)
    assert not scene.is_staged()
    assert list((scene.area_path / "staging").iterdir()) == []


def test_nothing_known_of_another_boot_counts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(scene)
    monkeypatch.setattr(_index, "boot", lambda: "another")
    assert not scene.is_staged()


def test_need_is_what_is_not_there_yet(scene: Scene) -> None:
    need = need_of(scene.stage, scene.tasks)
    assert (need.files, need.bytes) == (5, sum(path.stat().st_size for path in scene.account.iterdir()))
    settled(scene)
    put_file(scene.account / "pre-key-9.json", "123")
    need = need_of(scene.stage, scene.tasks)
    assert (need.files, need.bytes) == (1, 3)


@pytest.mark.parametrize("engine", ["native", "rsync"])
def test_who_still_writes_is_noticed(scene: Scene, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """Something writes before every look; a thread would not get to it on a busy machine."""
    look, written = _staging._stage_once, iter(range(10**9))

    def write_and_look(*arguments: t.Any) -> t.Any:
        put_file(scene.account / "creds.json", f'{{"n": {next(written)}}}', at=OLD)
        return look(*arguments)

    stage_live(scene.with_engine(engine), scene.tasks)
    with monkeypatch.context() as patch:
        patch.setattr(_staging, "_SETTLING", 0.3)
        patch.setattr(_staging, "_stage_once", write_and_look)
        with pytest.raises(SessionsError, match=r"account 'w…1' from .*: something still writes to it") as refused:
            stage_final(scene.with_engine(engine), scene.tasks)
    assert "creds" not in str(refused.value)
    stage_final(scene.with_engine(engine), scene.tasks)
    assert content(scene.staged) == content(scene.account)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_account_that_is_gone_is_told_by_its_label(scene: Scene, engine: str) -> None:
    tasks = [Task(str(scene.legacy), f"{CANARY}", "5…0")]
    with pytest.raises(SessionsError, match=r"cannot stage account '5…0' from .*: No such file") as refused:
        stage_final(scene.with_engine(engine), tasks)
    assert CANARY not in str(refused.value)


def test_moving_puts_aside_what_might_be_more_than_a_copy(scene: Scene) -> None:
    put_account(scene.staged, number=7)
    kept, source = content(scene.staged), content(scene.account)
    stage_final(scene.with_engine("rename"), scene.tasks)
    assert content(scene.staged) == source
    (aside,) = (scene.area_path / "displaced").iterdir()
    assert content(aside) == kept


@pytest.mark.parametrize(
    ("root", "name", "place"),
    [
        ("/a/b", "wa1", ("/a/b", "wa1")),
        ("/a/b", "t/wa1", ("/a/b/t", "wa1")),
        ("/a/b", ".", ("/a", "b")),
        ("/b", ".", ("/", "b")),
        ("/b", "x", ("/b", "x")),
    ],
)
def test_where_an_account_lies(root: str, name: str, place: tuple[str, str]) -> None:
    assert place_of(root, name) == place
