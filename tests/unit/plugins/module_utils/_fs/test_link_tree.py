# SPDX-License-Identifier: GPL-3.0-or-later
"""Sharing files between two copies: only those that are known and have the size they had when they were copied."""

from __future__ import annotations

import errno
import os
import pathlib

import pytest

from accounts import content, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.copy_file import UNSETTLED, record_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.copy_tree import Index
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.link_tree import link_below, link_tree


@pytest.fixture
def trees(tmp_path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    old, new = tmp_path / "old", tmp_path / "new"
    for place in (old / "deep", new):
        place.mkdir(parents=True)
    for name in ("a", "b", "deep/c"):
        put_file(old / name, name * 3)
    return old, new


def known_of(old: pathlib.Path) -> Index:
    return {
        "": {"a": record_of((old / "a").stat()), "b": record_of((old / "b").stat()), "deep": ()},
        "deep/": {"c": record_of((old / "deep/c").stat())},
    }


def linked(trees: tuple[pathlib.Path, pathlib.Path], known: Index) -> Index:
    old, new = trees
    with opened_directory(str(old)) as source, opened_directory(str(new)) as target:
        return link_tree(source, target, known)


def test_what_is_known_is_shared(trees: tuple[pathlib.Path, pathlib.Path]) -> None:
    old, new = trees
    known = known_of(old)
    assert linked(trees, known) == known
    assert content(new) == content(old)
    assert (old / "deep/c").samefile(new / "deep/c")


def test_what_is_unknown_or_has_another_size_is_not(trees: tuple[pathlib.Path, pathlib.Path]) -> None:
    old, new = trees
    known = known_of(old)
    put_file(old / "a", "longer than before")
    put_file(old / "unknown", "x")
    known[""]["b"] = UNSETTLED
    known[""]["../../etc/passwd"] = known["deep/"]["c"]
    assert linked(trees, known) == {"": {"deep": ()}, "deep/": known["deep/"]}
    assert [path.name for path in new.iterdir()] == ["deep"]


def test_a_file_with_too_many_links_is_copied_again(
    trees: tuple[pathlib.Path, pathlib.Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_given: object, **_options: object) -> None:
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))

    monkeypatch.setattr(os, "link", refused)
    assert linked(trees, known_of(trees[0])) == {"": {"deep": ()}, "deep/": {}}


def test_one_file_below(trees: tuple[pathlib.Path, pathlib.Path]) -> None:
    old, new = trees
    (new / "deep").mkdir()
    with opened_directory(str(old)) as source, opened_directory(str(new)) as target:
        assert link_below(source, target, "deep/c")
        assert not link_below(source, target, "deep/gone")
        assert not link_below(source, target, "nowhere/c")
    assert (old / "deep/c").samefile(new / "deep/c")
