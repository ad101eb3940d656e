# SPDX-License-Identifier: GPL-3.0-or-later
"""Comparing a tree with the record of its copy: every way in which a file can change is seen, and nothing is opened."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest

from accounts import put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs import walk_tree
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.compare_tree import Difference, difference
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.copy_file import UNSETTLED, record_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.copy_tree import Index
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.patterns import name_matcher, path_matcher


@pytest.fixture
def tree(tmp_path: pathlib.Path) -> pathlib.Path:
    for name in ("a", "b", "deep/c", "a.tmp", "Cache/d"):
        put_below(tmp_path / name, name * 3)
    return tmp_path


def put_below(path: pathlib.Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    put_file(path, text)


@pytest.fixture
def copied(tree: pathlib.Path) -> Index:
    records = {name: record_of((tree / name).stat()) for name in ("a", "b", "deep/c")}
    return {"": {"a": records["a"], "b": records["b"], "deep": ()}, "deep/": {"c": records["deep/c"]}}


def compared(tree: pathlib.Path, copied: Index) -> Difference:
    with opened_directory(str(tree)) as directory:
        return difference(directory, copied, name_matcher(("*.tmp",)), path_matcher(("Cache",)))


def test_an_unchanged_tree_is_read_by_status_only(
    tree: pathlib.Path, copied: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "link").symlink_to("a")
    (tree / "empty").mkdir()
    for name in ("a", "b", "deep/c"):
        (tree / name).chmod(0)
    copied = {"": {**copied[""], "a": record_of((tree / "a").stat()), "b": record_of((tree / "b").stat())}}
    copied["deep/"] = {"c": record_of((tree / "deep/c").stat())}
    monkeypatch.setattr(os, "read", None)
    assert compared(tree, copied) == Difference(same=True, files=0, bytes=0)


def _rewritten_with_its_mtime(tree: pathlib.Path) -> None:
    before = (tree / "a").stat()
    (tree / "a").write_text("AAA")
    os.utime(tree / "a", ns=(before.st_atime_ns, before.st_mtime_ns))


def _replaced(tree: pathlib.Path) -> None:
    put_file(tree / "new", "deep/c" * 3)
    (tree / "new").replace(tree / "deep/c")


CHANGES: dict[str, tuple[t.Callable[[pathlib.Path], object], Difference]] = {
    "rewritten": (_rewritten_with_its_mtime, Difference(False, 1, 3)),
    "replaced": (_replaced, Difference(False, 1, 18)),
    "created": (lambda tree: put_below(tree / "deep/new/e", "12"), Difference(False, 1, 2)),
    "removed": (lambda tree: (tree / "deep/c").unlink(), Difference(False, 0, 0)),
    "removed with its directory": (lambda tree: (tree / "deep").rename(tree / "Cache/deep"), Difference(False, 0, 0)),
    "renamed": (lambda tree: (tree / "a").rename(tree / "e"), Difference(False, 1, 3)),
    "a directory for a file": (
        lambda tree: [(tree / "a").unlink(), put_below(tree / "a/e", "1")],
        Difference(False, 1, 1),
    ),
    "a link for a directory": (
        lambda tree: [(tree / "deep").rename(tree / "Cache/deep"), (tree / "deep").symlink_to("Cache/deep")],
        Difference(False, 0, 0),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_is_seen(tree: pathlib.Path, copied: Index, change: str) -> None:
    act, expected = CHANGES[change]
    act(tree)
    assert compared(tree, copied) == expected


@pytest.mark.parametrize("field", range(4))
def test_each_value_of_a_record_counts(tree: pathlib.Path, copied: Index, field: int) -> None:
    for step in (-1, 1):
        record = list(copied["deep/"]["c"])
        record[field] += step
        assert compared(tree, {**copied, "deep/": {"c": tuple(record)}}) == Difference(False, 1, 18)


def test_a_file_that_kept_changing_is_never_the_same(tree: pathlib.Path, copied: Index) -> None:
    assert compared(tree, {**copied, "deep/": {"c": UNSETTLED}}) == Difference(False, 1, 18)
    assert compared(tree, {}) == Difference(False, 3, 24)


def test_names_are_read_up_to_a_limit(tree: pathlib.Path, copied: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk_tree, "NAMES", 3)
    with pytest.raises(SessionsError, match="more than 3 files"):
        compared(tree, copied)
