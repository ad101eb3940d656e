# SPDX-License-Identifier: GPL-3.0-or-later
"""A watch that cannot be told who opens a file: what counts, what does not, and that it says so when it missed something."""

from __future__ import annotations

import contextlib
import os
import pathlib
import typing as t

import pytest

from accounts import put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.layout import Layout
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage import open_watch
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage.in_use import Use
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage.open_watch import UseWatch

SECONDS = 60.0


@pytest.fixture(autouse=True)
def _without_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_watch, "has_fanotify", lambda: False)


@pytest.fixture
def new(tmp_path: pathlib.Path) -> pathlib.Path:
    return put_account(tmp_path / "new/wa1").parent


@pytest.fixture
def old(tmp_path: pathlib.Path) -> pathlib.Path:
    return put_account(tmp_path / "old/wa1").parent


@contextlib.contextmanager
def watching(*places: pathlib.Path, layout: Layout | None = None) -> t.Iterator[UseWatch]:
    watch = UseWatch()
    for place in places:
        root = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        watch.add_place(place.name, root, layout or layout_named("baileys"))
        os.close(root)
    with watch:
        yield watch


def test_an_open_counts_at_its_place_alone(new: pathlib.Path, old: pathlib.Path) -> None:
    with watching(new, old) as watch:
        (old / "wa1/creds.json").read_bytes()
        seen = watch.seen()
    assert seen == {"new": Use(named=False), "old": Use(1, frozenset(("wa1",)), named=False)}


def test_who_waits_hears_of_it(new: pathlib.Path, old: pathlib.Path) -> None:
    with watching(new, old) as watch:
        assert not watch.wait_for(lambda seen: bool(seen["new"].opens), 0.01)
        (new / "wa1/creds.json").read_bytes()
        assert watch.wait_for(lambda seen: bool(seen["new"].opens), SECONDS)


LOOKS: dict[str, t.Callable[[pathlib.Path], t.Any]] = {
    "listed": lambda root: [list(path.iterdir()) for path in (root, root / "wa1")],
    "asked for": lambda root: (root / "wa1/creds.json").stat(),
    "a file beside the accounts": lambda root: (root / "README").read_text(),
}


@pytest.mark.parametrize("look", LOOKS)
def test_what_proves_nothing_does_not_count(new: pathlib.Path, look: str) -> None:
    put_file(new / "README", "")
    with watching(new) as watch:
        LOOKS[look](new)
        assert watch.seen()["new"].opens == 0


def test_an_account_that_is_made_later_is_watched(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "new"
    root.mkdir()
    with watching(root) as watch:
        (root / "wa2").mkdir()
        watch.wait_for(lambda seen: False, 0.05)  # the queue is read
        put_file(root / "wa2/creds.json", "{}")
        assert watch.wait_for(lambda seen: seen["new"].accounts == {"wa2"}, SECONDS)


def test_what_is_at_two_places_belongs_to_the_first(new: pathlib.Path, tmp_path: pathlib.Path) -> None:
    same = tmp_path / "same"
    same.symlink_to(new)
    with watching(new, same) as watch:
        (same / "wa1/creds.json").read_bytes()
        seen = watch.seen()
    assert (seen["new"].opens, seen["same"].opens) == (1, 0)


def test_of_an_account_among_the_files_of_a_program_only_keys_count(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "app"
    root.mkdir()
    put_file(root / "main.go", "")
    put_file(root / "examplestore.db", "")
    whatsmeow = layout_named("whatsmeow")
    assert whatsmeow.database_matcher("examplestore.db")
    with watching(root, layout=whatsmeow) as watch:
        (root / "main.go").read_bytes()
        assert watch.seen()["app"].opens == 0
        (root / "examplestore.db").read_bytes()
        assert watch.seen()["app"].opens == 1


def test_what_was_lost_is_said(new: pathlib.Path, old: pathlib.Path) -> None:
    most = int(pathlib.Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
    watch = UseWatch()
    for place in (new, old):
        root = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        watch.add_place(place.name, root, layout_named("baileys"))
        os.close(root)
    for number in range(most + 10):
        (new / "wa1" / ("creds.json" if number % 2 else "pre-key-1.json")).read_bytes()
    seen = watch.seen()["new"]
    for _round in range(100):
        seen = watch.seen()["new"]
    other = watch.seen()["old"]
    watch.close()
    assert (seen.opens > 0, seen.complete) == (True, False)
    assert other == Use(named=False), "what is lost at one place is not lost at another"


def test_opens_without_end_hold_nobody_up(new: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with watching(new) as watch:
        monkeypatch.setattr(open_watch, "_read", lambda queue: open_watch._HEAD.pack(0, 0, 0, 0))
        assert watch.seen()["new"].opens == 0


def test_an_account_that_cannot_be_watched_is_said(new: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_watch, "_MARKS_AT_MOST", 0)
    with watching(new) as watch:
        assert watch.seen()["new"] == Use(complete=False, named=False)


def test_nothing_stays_open(new: pathlib.Path, old: pathlib.Path) -> None:
    before = os.listdir("/proc/self/fd")
    with watching(new, old):
        assert len(os.listdir("/proc/self/fd")) > len(before)
    assert os.listdir("/proc/self/fd") == before
