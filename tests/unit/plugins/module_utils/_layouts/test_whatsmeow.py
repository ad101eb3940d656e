# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLite stores of the Go library: what is in the write-ahead log counts, and a store is never touched where it lies."""

from __future__ import annotations

import importlib
import os
import pathlib
import sqlite3
import tempfile
import time
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import CANARY, content, looks, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts import sqlite_query, whatsmeow
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.layout import Judgement
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.whatsmeow import (
    WHATSMEOW,
    judge_stores,
    opened_stores,
)
from layouts import damage_store, put_endless_store, put_store

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")


@pytest.fixture
def account(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    made = tmp_path / "storages"
    made.mkdir(mode=0o700)
    (tmp_path / "private").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "private"))
    return made


def judged(account: pathlib.Path) -> Judgement:
    """Judge an account; nothing in it changes, nothing of it is told, and no copy of it is left."""
    before = looks(account)
    with opened_directory(str(account)) as opened:
        judgement = judge_stores(opened)
    assert looks(account) == before
    assert list((account.parent / "private").iterdir()) == []
    assert CANARY not in f"{judgement!r} {judgement.problems} {judgement.fingerprints}"
    assert len(judgement.fingerprints) == judgement.linked
    return judgement


@pytest.mark.parametrize(("devices", "state"), [((), "pending"), ((1,), "paired"), ((1, 2, 3), "paired")])
@pytest.mark.parametrize("wal", [False, True])
def test_devices_are_counted(account: pathlib.Path, devices: tuple[int, ...], state: str, wal: bool) -> None:
    put_store(account / "whatsapp.db", devices, wal=wal)
    assert (judged(account).state, judged(account).problems, judged(account).linked) == (state, (), len(devices))


def test_all_of_a_store_may_be_in_its_log(account: pathlib.Path) -> None:
    put_store(account / "whatsapp.db", (1, 2), wal=True)
    assert (account / "whatsapp.db").stat().st_size <= 4096
    assert judged(account).linked == 2
    (account / "whatsapp.db-wal").unlink()
    assert judged(account) == Judgement("corrupt", ("wal_missing",))


def test_a_store_that_a_program_has_open_is_left_alone(account: pathlib.Path) -> None:
    put_store(account / "whatsapp.db", (1,), wal=True)
    with sqlite3.connect(account / "whatsapp.db", isolation_level=None) as program:
        program.execute("BEGIN IMMEDIATE")
        program.execute("DELETE FROM whatsmeow_device")
        assert judged(account).linked == 1  # nothing of that is committed
        program.execute("ROLLBACK")
    program.close()


def test_a_change_that_was_cut_short_is_taken_back_in_the_copy(account: pathlib.Path) -> None:
    """A hot journal: the database has pages of a change that never happened."""
    put_store(account / "building.db", (1,))
    with sqlite3.connect(account / "building.db", isolation_level=None) as program:
        program.execute("PRAGMA cache_size=1")
        program.execute("BEGIN")
        program.execute("DELETE FROM whatsmeow_device")
        program.execute("UPDATE whatsmeow_sessions SET held = zeroblob(9000)")
        for ending in ("", "-journal"):
            put_file(account / f"whatsapp.db{ending}", (account / f"building.db{ending}").read_bytes())
        program.execute("ROLLBACK")
    program.close()
    (account / "building.db").unlink()
    assert (account / "whatsapp.db-journal").stat().st_size
    assert judged(account).linked == 1
    (account / "whatsapp.db-journal").unlink()
    assert judged(account).linked == 0


def test_a_logout_leaves_a_large_file_and_no_device(account: pathlib.Path) -> None:
    put_store(account / "whatsapp.db", (1,))
    with sqlite3.connect(account / "whatsapp.db", isolation_level=None) as program:
        program.execute("DELETE FROM whatsmeow_device")
    program.close()
    assert judged(account).state == "pending"


DAMAGES: dict[str, tuple[t.Callable[[pathlib.Path], t.Any], str]] = {
    "torn": (damage_store, "store_damaged"),
    "cut": (lambda store: os.truncate(store, 8192), "store_damaged"),
    "no database": (lambda store: put_file(store, CANARY * 99), "store_damaged"),
    "zeros": (lambda store: put_file(store, bytes(8192)), "store_damaged"),
    "a directory of that name beside it": (lambda store: (store.parent / "x.db").mkdir(), ""),
    "a link": (lambda store: (store.rename(store.parent / "x"), store.symlink_to("x")), "store_not_a_file"),
    "a FIFO": (lambda store: (store.unlink(), os.mkfifo(store)), "store_not_a_file"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damages(account: pathlib.Path, name: str) -> None:
    put_store(account / "whatsapp.db", (1,))
    damage, problem = DAMAGES[name]
    damage(account / "whatsapp.db")
    if name == "a FIFO" or name == "a link":
        with opened_directory(str(account)) as opened:
            assert judge_stores(opened) == Judgement("corrupt", (problem,))
    elif problem:
        assert judged(account) == Judgement("corrupt", (problem,))
    else:
        assert judged(account).state == "paired"


def test_a_program_that_has_just_begun(account: pathlib.Path) -> None:
    assert judged(account) == Judgement("fresh")
    put_file(account / "whatsapp.db", b"")
    assert judged(account) == Judgement("fresh")


def test_what_else_such_programs_keep_says_nothing(account: pathlib.Path) -> None:
    put_store(account / "whatsapp.db", (1,))
    put_file(account / "chatstorage.db", CANARY)  # no database at all
    with sqlite3.connect(account / "settings.sqlite3", isolation_level=None) as other:
        other.execute("CREATE TABLE users (name TEXT)")
    other.close()
    assert (judged(account).state, judged(account).linked) == ("paired", 1)
    (account / "whatsapp.db").unlink()
    assert judged(account) == Judgement("unknown", ("store_of_another_program",))
    (account / "settings.sqlite3").unlink()
    assert judged(account) == Judgement("fresh")


@pytest.mark.parametrize("wal", [False, True])
def test_the_store_of_another_library_may_hold_a_device(account: pathlib.Path, wal: bool) -> None:
    """Programs in Rust call it whatsapp.db as well, and have other tables."""
    with sqlite3.connect(account / "whatsapp.db", isolation_level=None) as other:
        other.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
        other.execute("CREATE TABLE device (id INTEGER)")
        assert judged(account) == Judgement("unknown", ("store_of_another_program",))
    other.close()


WITHOUT_A_LOG = "second_database_wal_missing"
SECONDS: dict[str, tuple[t.Callable[[pathlib.Path], t.Any], str]] = {
    "whatsapp-backup.db": (
        lambda path: put_store(path, (1,), wal=True) or (path.parent / f"{path.name}-wal").unlink(),
        WITHOUT_A_LOG,
    ),
    "whatsapp_2026-01-31.db": (lambda path: put_store(path, (1,)) or damage_store(path), "second_database_damaged"),
    "whatsapp (2).db": (lambda path: put_store(path, (1,)) or damage_store(path), "second_database_damaged"),
    "history.sqlite": (lambda path: put_file(path, b"SQLite format 3\0" + b"\xa5" * 9000), ""),  # of another program
    "messages.db": (lambda path: put_file(path, bytes(9000)), ""),
    "Thumbs.db": (lambda path: put_file(path, CANARY * 99), ""),
}


@pytest.mark.parametrize("name", SECONDS)
@pytest.mark.parametrize("store", ["whatsapp.db", "bridge.db"])
def test_what_lies_beside_a_store_does_not_condemn_it(account: pathlib.Path, name: str, store: str) -> None:
    put_store(account / store, (1,), wal=True)
    make, problem = SECONDS[name]
    name = name.replace("whatsapp", store.partition(".")[0])
    make(account / name)
    judgement = judged(account)
    assert (judgement.state, judgement.linked, judgement.problems) == ("paired", 1, (problem,) if problem else ())
    with opened_directory(str(account)) as opened:
        assert opened_stores(opened) == (store,)


def test_a_sound_copy_does_not_hide_that_the_store_is_damaged(account: pathlib.Path) -> None:
    put_store(account / "whatsapp.db", (1,))
    put_store(account / "whatsapp-backup.db", (1,))
    damage_store(account / "whatsapp.db")
    assert judged(account) == Judgement("corrupt", ("store_damaged",))


def test_a_store_of_a_known_name_that_was_never_used_hides_no_other(account: pathlib.Path) -> None:
    put_file(account / "whatsapp.db", b"")
    put_store(account / "bridge.db", (1,))
    assert (judged(account).state, judged(account).linked) == ("paired", 1)


def test_files_that_are_called_like_databases_make_no_account(account: pathlib.Path) -> None:
    put_file(account / "Thumbs.db", CANARY * 99)
    with opened_directory(str(account)) as opened:
        assert not WHATSMEOW.is_account(opened)
        put_file(account / "bridge.db", bytes(8192))  # what a crash leaves of one
        assert WHATSMEOW.is_account(opened)


def test_a_device_in_two_stores_is_one_device(account: pathlib.Path) -> None:
    put_store(account / "whatsapp.db", (1, 2))
    put_store(account / "whatsapp-keys.db", (1,))
    assert judged(account).linked == 2
    damage_store(account / "whatsapp-keys.db")
    assert (judged(account).state, judged(account).linked) == ("corrupt", 2)


def test_fingerprints_tell_devices_apart(account: pathlib.Path) -> None:
    put_store(account / "whatsapp.db", (1, 2))
    one, two = judged(account).fingerprints
    assert one != two
    assert one not in repr(judged(account))


@pytest.mark.parametrize(
    "crafted",
    [
        "CREATE VIEW whatsmeow_device AS SELECT 'linked' AS jid",
        "CREATE TABLE whatsmeow_device (id TEXT)",
        "CREATE TABLE whatsmeow_device (jid BLOB); INSERT INTO whatsmeow_device VALUES (x'ff00'), (NULL), (1.5)",
    ],
)
def test_crafted_tables(account: pathlib.Path, crafted: str) -> None:
    with sqlite3.connect(account / "whatsapp.db", isolation_level=None) as store:
        store.executescript(crafted)
    store.close()
    judgement = judged(account)
    assert judgement.state == ("paired" if "INSERT" in crafted else "fresh" if "VIEW" in crafted else "corrupt")


def test_a_store_that_takes_too_long_is_not_judged(account: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_query, "_allowance", sqlite_query.Allowance(0, 5))
    put_endless_store(account / "whatsapp.db")
    begun = time.monotonic()
    assert judged(account) == Judgement("unknown", ("store_not_judged",))
    assert time.monotonic() - begun < 20


def test_many_such_stores_take_no_longer_than_all_may(account: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_query, "_allowance", sqlite_query.Allowance(0, 2))
    for number in range(50):
        put_endless_store(account / f"{number}.db")
    begun = time.monotonic()
    assert judged(account) == Judgement("unknown", ("store_not_judged",))
    assert time.monotonic() - begun < 20


def test_what_slow_stores_take_is_missing_for_others() -> None:
    allowance = sqlite_query.Allowance(60, 100)
    seen = []
    for took in (30, 30, 30, 0.1, 20):
        seen.append(allowance.seconds(30))
        allowance.spend(took)
    assert seen == [30, 30, 3, 1, 1]
    assert allowance.seconds(30) == 0


def test_a_store_too_large_to_copy_is_not_judged(account: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whatsmeow, "STORE_BYTES", 5000)
    put_store(account / "whatsapp.db", (1,))
    assert judged(account) == Judgement("unknown", ("store_too_large",))


def test_a_store_of_holes_does_not_fill_the_disk(account: pathlib.Path) -> None:
    put_store(account / "whatsapp.db", (1,))
    os.truncate(account / "whatsapp.db", 1 << 40)
    assert judged(account) == Judgement("unknown", ("store_too_large",))


def test_a_copy_leaves_the_disk_its_reserve(account: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_store(account / "whatsapp.db", (1,))
    monkeypatch.setattr(sqlite_query, "kept_free", lambda directory: (1 << 60, 0))
    assert judged(account) == Judgement("unknown", ("store_not_copied",))


def test_without_sqlite_nothing_is_known(account: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> t.NoReturn:
        raise ImportError(name)

    put_store(account / "whatsapp.db", (1,))
    monkeypatch.setattr(importlib, "import_module", missing)
    assert judged(account) == Judgement("unknown", ("sqlite_missing",))


def test_without_room_for_a_copy_nothing_is_known(account: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_store(account / "whatsapp.db", (1,))
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with opened_directory(str(account)) as opened:
        assert judge_stores(opened) == Judgement("unknown", ("store_not_copied",))


@pytest.mark.parametrize("sound", [False, True])
def test_a_copy_of_a_store_in_motion_proves_no_damage(
    account: pathlib.Path, monkeypatch: pytest.MonkeyPatch, sound: bool
) -> None:
    put_store(account / "whatsapp.db", (1,))
    held = (account / "whatsapp.db").read_bytes()
    damage_store(account / "whatsapp.db")
    tried: list[float] = []

    def waiting(seconds: float) -> None:
        tried.append(seconds)
        if sound and len(tried) == 2:
            put_file(account / "whatsapp.db", held)

    looked = iter(range(1000))
    monkeypatch.setattr(whatsmeow, "_looks", lambda directory, name: {"": (next(looked), 1, 1, 1)})
    monkeypatch.setattr(whatsmeow.time, "sleep", waiting)
    with opened_directory(str(account)) as opened:
        judgement = judge_stores(opened)
    assert (judgement.state, judgement.linked) == (("paired", 1) if sound else ("unknown", 0))
    assert judgement.problems == (() if sound else ("store_in_motion",))


@root
def test_a_store_of_another_user_is_read_as_that_user(account: pathlib.Path) -> None:
    put_store(account / "whatsapp.db", (1,), wal=True)
    for path in (account, *account.iterdir()):
        os.chown(path, 65534, 65534)
    account.parent.chmod(0o700)  # where the owner could not go
    assert judged(account).linked == 1
    (account / "whatsapp.db").chmod(0)
    assert judged(account) == Judgement("corrupt", ("store_unreadable_by_owner",))


def test_weaknesses(account: pathlib.Path) -> None:
    put_store(account / "whatsapp.db", (1,))
    account.chmod(0o755)
    (account / "whatsapp.db").chmod(0o644)
    os.link(account / "whatsapp.db", account / "backup")
    assert judged(account).problems == ("store_hard_linked", "readable_by_everybody")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 40_000), st.binary(min_size=1, max_size=40)), max_size=6))
def test_whatever_is_overwritten_a_store_is_judged(account: pathlib.Path, changes: list[tuple[int, bytes]]) -> None:
    put_store(account / "whatsapp.db", (1,))
    held = bytearray((account / "whatsapp.db").read_bytes())
    for place, bytes_ in changes:
        held[place : place + len(bytes_)] = bytes_
    put_file(account / "whatsapp.db", bytes(held))
    assert judged(account).state in ("paired", "pending", "corrupt", "fresh", "unknown")


def test_names() -> None:
    assert WHATSMEOW.is_volatile("whatsapp.db-shm")
    assert not any(WHATSMEOW.is_volatile(f"whatsapp.db{ending}") for ending in ("", "-wal", "-journal"))
    assert all(WHATSMEOW.database_matcher(name) for name in ("whatsapp.db", "a.sqlite", "b.sqlite3"))
    assert not WHATSMEOW.database_matcher("whatsapp.db-wal")


def test_the_tree_is_not_changed_by_looking(account: pathlib.Path) -> None:
    put_store(account / "whatsapp.db", (1,), wal=True)
    before = content(account)
    judged(account)
    assert content(account) == before
