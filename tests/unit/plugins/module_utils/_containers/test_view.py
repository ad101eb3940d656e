# SPDX-License-Identifier: GPL-3.0-or-later
"""Which processes are those of a container."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers import view
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.inspect import Box
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.view import (
    is_same_tree,
    payload_groups,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError

ID = "7" * 64
BOX = Box("podman", ID, "bot", 4321, False, True, (), "/u", (), {})


@pytest.mark.parametrize(
    ("group", "own"),
    [
        (f"/system.slice/docker-{ID}.scope", f"/system.slice/docker-{ID}.scope"),
        (f"/machine.slice/libpod-{ID}.scope/container", f"/machine.slice/libpod-{ID}.scope"),
        (f"/machine.slice/libpod-{ID}.scope/init.scope", f"/machine.slice/libpod-{ID}.scope"),
        (f"/system.slice/bot.service/libpod-payload-{ID}", f"/system.slice/bot.service/libpod-payload-{ID}"),
        (f"/docker/{ID}/system.slice/bot.service", f"/docker/{ID}"),
    ],
)
def test_the_groups_of_a_container(monkeypatch: pytest.MonkeyPatch, group: str, own: str) -> None:
    """An init in it has the program in a group beside its own."""
    monkeypatch.setattr(view, "group_of", lambda _pid: group)
    assert payload_groups(BOX) == (own,)


def test_a_container_without_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(view, "group_of", lambda _pid: "/system.slice/bot.service")
    with pytest.raises(SessionsError, match="no control group of its own"):
        payload_groups(BOX)


def is_same(one: pathlib.Path, other: pathlib.Path) -> bool:
    opened = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (one, other)]
    try:
        return is_same_tree(*opened)
    finally:
        for descriptor in opened:
            os.close(descriptor)


def test_trees(tmp_path: pathlib.Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name / "main/below").mkdir(parents=True)
        (tmp_path / name / "main/below/file").write_text("1")
    assert is_same(tmp_path / "one", tmp_path / "other")
    (tmp_path / "other/main/below/file").write_text("12")
    assert not is_same(tmp_path / "one", tmp_path / "other")
    (tmp_path / "other/main/below/file").unlink()
    (tmp_path / "other/main/below/file").mkdir()
    assert not is_same(tmp_path / "one", tmp_path / "other")


@pytest.mark.parametrize(("limit", "value"), [("_DEEPEST", 2), ("_LOOKED_AT_MOST", 3), ("_SECONDS", -1.0)])
def test_a_tree_without_end(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float) -> None:
    """Whoever is root in the container makes it, and everything is held meanwhile."""
    (tmp_path / "a/b/c").mkdir(parents=True)
    monkeypatch.setattr(view, limit, value)
    with pytest.raises(SessionsError, match="check what they are"):
        is_same(tmp_path, tmp_path)
