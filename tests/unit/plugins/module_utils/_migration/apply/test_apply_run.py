# SPDX-License-Identifier: GPL-3.0-or-later
"""A migration that fails when all is published: accounts, parts and what lies beside them go back. One that has a unit stopped."""

from __future__ import annotations

import dataclasses
import errno
import os
import pathlib
import time
import typing as t

import pytest

from accounts import OLD, content, put_account, put_file, use
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import job as core_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import job as migration_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import (
    progress,
    publish,
    staging,
    while_stopped,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import run as apply_run
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.rescue import is_used
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.stage import Stage
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.staging_area import open_staged
from areas import control_of
from layouts import KINDS, put_root_of

LOCKS = (b"SingletonLock", b"SingletonCookie", b"SingletonSocket")


def migrate(legacy: pathlib.Path, path: pathlib.Path, **options: t.Any) -> dict[str, t.Any]:
    owner = {"owner": str(os.geteuid()), "group": str(os.getegid())}
    outcome = core_job.execute(
        migration_job, {"src": [str(legacy)], "path": str(path), **owner, **options}, check_mode=False
    )
    return {**outcome.report.values, "changed": outcome.changed}


def without_locks(tree: dict[bytes, bytes | None]) -> dict[bytes, bytes | None]:
    return {name: held for name, held in tree.items() if os.path.basename(name) not in LOCKS}


@pytest.mark.parametrize("engine", ["native", "rsync", "rename"])
@pytest.mark.parametrize("layout", KINDS)
def test_what_was_published_goes_back(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, layout: str, engine: str
) -> None:
    """Only locks may be gone where the engine 'rename' had to touch the accounts themselves."""
    legacy, path = tmp_path / "legacy", tmp_path / "sessions"
    put_root_of(layout, legacy)
    before = content(legacy)
    published = {}

    def fail(*arguments: t.Any) -> None:
        published.update(content(path))
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(while_stopped, "install", fail)
        with pytest.raises(SessionsError, match="Read-only file system; changes were rolled back"):
            migrate(legacy, path, engine=engine)
    after = content(legacy)
    assert published
    assert (without_locks(after) if engine == "rename" else after) == (
        without_locks(before) if engine == "rename" else before
    )
    assert not path.exists()
    made = migrate(legacy, path, engine=engine)
    assert made["counts"]["migrated"] >= 2
    assert content(path) == published
    assert not migrate(legacy, path, engine=engine)["changed"]


@pytest.mark.parametrize("layout", ["wppconnect", "waha"])
def test_what_was_there_before_stays(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    legacy, path = tmp_path / "legacy", tmp_path / "sessions"
    put_root_of(layout, legacy)
    migrate(legacy, path)
    before = content(path)

    def fail(*arguments: t.Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(while_stopped, "install", fail)
    for account in legacy.rglob("*"):
        os.utime(account, (1_800_000_000, 1_800_000_000), follow_symlinks=False)
    with pytest.raises(SessionsError, match="changes were rolled back"):
        migrate(legacy, path, on_conflict="replace")
    assert content(path) == before


@pytest.mark.parametrize("engine", ["native", "rsync", "rename"])
def test_a_copy_that_is_judged_otherwise_than_its_original_is_not_published(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    legacy, path = tmp_path / "legacy", tmp_path / "sessions"
    put_account(legacy / "one")
    stage_final = while_stopped.stage_final

    def damage(stage: Stage, *rest: t.Any) -> staging.Staged:
        staged = stage_final(stage, *rest)
        copy = open_staged(stage.area, "one")
        descriptor = os.open("creds.json", os.O_WRONLY | os.O_TRUNC, dir_fd=copy)
        os.close(descriptor)
        os.close(copy)
        return staged

    monkeypatch.setattr(while_stopped, "stage_final", damage)
    with pytest.raises(SessionsError, match=r"the copy of account .* is corrupt while the original is paired"):
        migrate(legacy, path, engine=engine)
    assert not path.exists()


@pytest.mark.parametrize("engine", ["native", "rsync"])
def test_after_the_stop_only_what_was_touched_is_looked_at(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """As if a unit was held stopped; its backend writes after the last live copy."""
    legacy, path = tmp_path / "legacy", tmp_path / "sessions"
    accounts = [put_account(legacy / name, number=number) for number, name in enumerate(("one", "two", "three"))]
    cut_over, stage_in, looked = apply_run.cut_over, progress.stage_in, []

    def write_and_cut_over(*arguments: t.Any) -> None:
        monkeypatch.setattr(staging, "_stage_once", lambda copy: looked.append(copy.task.name))
        use(accounts[0], OLD + 60)
        put_file(accounts[1] / "pre-key-9.json", "9")
        time.sleep(2 * staging._GRAIN)
        cut_over(*arguments)

    monkeypatch.setattr(staging, "parallel_map", lambda work, items: [work(item) for item in items])
    monkeypatch.setattr(apply_run, "cut_over", write_and_cut_over)
    monkeypatch.setattr(progress, "stage_in", lambda *rest: dataclasses.replace(stage_in(*rest), stopped=True))
    time.sleep(2 * staging._GRAIN)
    open_before = set(os.listdir("/proc/self/fd"))
    assert migrate(legacy, path, engine=engine)["counts"]["migrated"] == 3
    assert content(path) == content(legacy)
    assert looked == []
    assert set(os.listdir("/proc/self/fd")) == open_before


def test_who_leaves_for_another_host_goes_back_and_so_does_what_took_the_place(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sessions"
    outbox = control_of(path) / "outbox/other/sessions"
    outbox.parent.mkdir(mode=0o700, parents=True)
    for above in outbox.parents[1:4]:
        above.chmod(0o700)
    put_account(path / "wa1")
    put_account(path / "wa2", number=2)
    there = content(path)

    def fail(*arguments: t.Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def take() -> dict[str, t.Any]:
        return migrate(path, outbox, engine="rename", accounts=["wa1"], tombstone="It is on another host.")

    with monkeypatch.context() as patch:
        patch.setattr(while_stopped, "install", fail)
        with pytest.raises(SessionsError, match="changes were rolled back"):
            take()
    assert content(path) == there
    assert take()["counts"]["migrated"] == 1
    gone = content(path)
    assert b"another host" in (gone[b"wa1"] or b"")
    assert not (set(gone) & {name for name in there if name.startswith(b"wa1/")})
    with monkeypatch.context() as patch:
        patch.setattr(while_stopped, "install", fail)
        with pytest.raises(SessionsError, match="changes were rolled back"):
            migrate(outbox, path, engine="rename")
    assert content(path) == gone
    assert migrate(outbox, path, engine="rename")["counts"]["migrated"] == 1
    assert content(path) == there


def test_what_is_at_the_sessions_path_already_is_watched_over(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should the backend be taken back, keys that it wrote there count as much as those of accounts that were published."""
    legacy, path = tmp_path / "legacy", tmp_path / "sessions"
    put_account(legacy / "one")
    put_account(path / "two", number=2)
    intents: list[t.Any] = []
    commit = publish.commit

    def commit_and_use(control: int, intent: t.Mapping[str, t.Any]) -> None:
        commit(control, intent)
        later = time.time_ns()
        assert not is_used({**intent, "committed": True}, later)
        use(path / "two", later // 10**9 + 60)
        intents.append(intent)
        assert is_used({**intent, "committed": True}, later)

    monkeypatch.setattr(publish, "commit", commit_and_use)
    assert migrate(legacy, path)["counts"]["migrated"] == 1
    assert [entry["new_name"] for entry in intents[0]["staying"]] == ["two"]
