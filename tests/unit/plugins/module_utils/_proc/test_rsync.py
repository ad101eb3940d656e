# SPDX-License-Identifier: GPL-3.0-or-later
"""rsync leaves out exactly what the other engine leaves out: patterns mean the same to both."""

from __future__ import annotations

import os
import pathlib

import pytest

from accounts import CANARY, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.patterns import name_matcher, path_matcher
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.walk_tree import files_below
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.rsync import fill_by_rsync

TREE = (
    *("a.tmp", "deep/a.tmp", "Cache/x", "Default/Cache/x", "Default/Cached", "Default/Service Worker/CacheStorage/x"),
    *(
        "Service Worker/ScriptCache",
        "Worker/ScriptCache/x",
        "ui/x",
        "deep/ui/x",
        "a[b].log",
        "ab.log",
        "a\\b",
        "a\\*",
        "axb",
    ),
    *("-rf", "BrowserMetrics-1.pma", "deep/BrowserMetrics", f"{CANARY}/key", "x.db", "x.db-wal", "deep/x.db-shm"),
)


@pytest.mark.parametrize(
    ("names", "paths"),
    [
        ((), ()),
        (("*.tmp", "-rf"), ()),
        (("*.db", "*.db-wal", "*.db-shm"), ()),
        (("a[b]*", "a\\*"), ()),
        (("a\\b",), ()),
        (("a?b",), ()),
        ((), ("**/Cache", "**/Service Worker/CacheStorage", "**/Service Worker/ScriptCache", "**/BrowserMetrics*")),
        ((), ("ui",)),
        ((), ("*/Cache", "Default/*")),
        ((), ("a[b].log", "**/a\\*")),
    ],
)
def test_patterns_mean_the_same(tmp_path: pathlib.Path, names: tuple[str, ...], paths: tuple[str, ...]) -> None:
    for name in TREE:
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        put_file(tmp_path / "source" / name, CANARY)
    (tmp_path / "target").mkdir()
    source, target = (os.open(tmp_path / name, os.O_RDONLY | os.O_DIRECTORY) for name in ("source", "target"))
    try:
        fill_by_rsync(source, target, "w…1", names, paths)
        wanted = {name for name, _status in files_below(source, name_matcher(names), path_matcher(paths))}
        copied = {name for name, _status in files_below(target, name_matcher(()), None)}
    finally:
        os.close(source)
        os.close(target)
    assert copied == wanted
    assert (len(wanted) == len(TREE)) is (names == paths)
