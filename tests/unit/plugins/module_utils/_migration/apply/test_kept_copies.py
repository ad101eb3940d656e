# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies of what goes with a container are kept where they may be the last ones."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import (
    INTENT,
    read_document_at,
    write_document_at,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import kept_copies
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.kept_copies import (
    forget_source,
    is_source_gone,
    kept_if_last,
    note_source,
    require_none_left,
)

ID = "7" * 64


class Places(t.NamedTuple):
    control: int
    area: int
    path: pathlib.Path


@pytest.fixture
def places(tmp_path: pathlib.Path) -> t.Iterator[Places]:
    """A control directory and an area with the staged copy of one account."""
    (tmp_path / "area/staging/key").mkdir(parents=True)
    (tmp_path / "area/staging/key/creds.json").write_text("{}")
    (tmp_path / "control").mkdir()
    opened = [os.open(tmp_path / name, os.O_RDONLY | os.O_DIRECTORY) for name in ("control", "area")]
    yield Places(*opened, tmp_path)
    for descriptor in opened:
        os.close(descriptor)


def note(places: Places, monkeypatch: pytest.MonkeyPatch, *, lives: bool) -> None:
    monkeypatch.setattr(kept_copies, "group_of", lambda _pid: f"/machine.slice/libpod-{ID if lives else 'other'}.scope")
    note_source(places.control, ID, os.getpid())


def kept(places: Places) -> list[pathlib.Path]:
    return list(places.path.glob("area/kept-*/staging/key/creds.json"))


def fail(places: Places) -> str:
    with pytest.raises(SessionsError) as told, kept_if_last(places.control, places.area, "bot.service", "/srv/a"):
        raise SessionsError("it failed")
    return str(told.value)


def test_the_container_has_ended(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is staged is set aside, and what is published is not taken back by the next run."""
    note(places, monkeypatch, lives=False)
    write_document_at(places.control, INTENT, {"moves": [], "files": []})
    told = fail(places)
    assert "the copies were kept" in told and str(kept(places)[0].parents[2]) in told
    assert not read_document_at(places.control, INTENT)
    require_none_left(places.control, places.area, "bot.service", "/srv/a")  # told once


def test_the_host_was_booted_since(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    note(places, monkeypatch, lives=True)
    assert not is_source_gone(places.control)
    monkeypatch.setattr(kept_copies, "boot", lambda: "another")
    with pytest.raises(SessionsError, match="the copies were kept"):
        require_none_left(places.control, places.area, "bot.service", "/srv/a")
    assert kept(places)


def test_the_container_goes_on(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    note(places, monkeypatch, lives=True)
    require_none_left(places.control, places.area, "bot.service", "/srv/a")
    assert fail(places) == "it failed"
    assert not kept(places)
    monkeypatch.setattr(kept_copies, "group_of", lambda _pid: "")
    assert not is_source_gone(places.control)  # it ended later, which is no matter of the run


def test_what_is_not_taken_back_yet_is_remembered(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    note(places, monkeypatch, lives=True)
    write_document_at(places.control, INTENT, {"moves": [], "files": []})
    assert fail(places) == "it failed"
    monkeypatch.setattr(kept_copies, "group_of", lambda _pid: "")
    assert is_source_gone(places.control)


@pytest.mark.parametrize("committed", [True, False])
def test_all_is_published(places: Places, monkeypatch: pytest.MonkeyPatch, committed: bool) -> None:
    note(places, monkeypatch, lives=False)
    write_document_at(places.control, INTENT, {"committed": committed})
    assert (fail(places) == "it failed") is committed
    assert bool(kept(places)) is not committed


def test_no_container(places: Places) -> None:
    assert fail(places) == "it failed"
    forget_source(places.control)
    require_none_left(places.control, places.area, "bot.service", "/srv/a")
