# SPDX-License-Identifier: GPL-3.0-or-later
"""A migration that fails when all is published: accounts, parts and what lies beside them go back, whatever the layout."""

from __future__ import annotations

import errno
import os
import pathlib
import typing as t

import pytest

from accounts import content
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils import _job, _migrate, _migrate_run
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._errors import SessionsError
from layouts import KINDS, put_root_of

LOCKS = (b"SingletonLock", b"SingletonCookie", b"SingletonSocket")


def migrate(legacy: pathlib.Path, path: pathlib.Path, **options: t.Any) -> dict[str, t.Any]:
    owner = {"owner": str(os.geteuid()), "group": str(os.getegid())}
    outcome = _job.execute(_migrate, {"src": [str(legacy)], "path": str(path), **owner, **options}, check_mode=False)
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
        patch.setattr(_migrate_run, "install", fail)
        with pytest.raises(SessionsError, match="Read-only file system; what was done was taken back"):
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

    monkeypatch.setattr(_migrate_run, "install", fail)
    for account in legacy.rglob("*"):
        os.utime(account, (1_800_000_000, 1_800_000_000), follow_symlinks=False)
    with pytest.raises(SessionsError, match="what was done was taken back"):
        migrate(legacy, path, on_conflict="replace")
    assert content(path) == before
