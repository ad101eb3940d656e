# SPDX-License-Identifier: GPL-3.0-or-later
"""SQLite databases: what is committed is copied, wherever it stands, as one file; what is torn is told apart from what went wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import resource
import shutil
import signal
import sqlite3
import stat
import struct
import time
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import CANARY, OLD, content, looks, opened, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs import copy_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.copy_file import Rules, UnfitTree
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts import sqlite
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.sqlite import (
    DamagedStore,
    Records,
    bring_stores,
    is_beside_store,
    measure_stores,
    put_stores,
    same_stores,
    store_names,
    try_stores,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.sqlite_pages import store_digest
from layouts import damage_store, put_endless_store, put_store

WHATSMEOW = layout_named("whatsmeow")
NOBODY = 65534
OURS = NOBODY if os.geteuid() == 0 else os.geteuid()
NAME = f"{CANARY}.db"


class Scene:
    """An account with databases, a directory where they are collected, and the staged account."""

    def __init__(self, place: pathlib.Path) -> None:
        self.account, self.scratch, self.staged = place / "account", place / "scratch", place / "staged"
        for directory in (self.account, self.scratch, self.staged):
            directory.mkdir(mode=0o700)
        self.rules = Rules(OURS, OURS, frozenset([OURS, os.geteuid()]), lambda name: None, True)

    def bring(self, known: Records | None = None) -> tuple[Records, sqlite.Tally]:
        with opened(self.account) as account, opened(self.scratch) as scratch:
            return bring_stores(account, scratch, store_names(account, WHATSMEOW), self.rules, known or {})

    def put(self) -> None:
        with opened(self.scratch) as scratch, opened(self.staged) as staged, opened(self.account) as account:
            put_stores(scratch, staged, store_names(account, WHATSMEOW), self.rules)

    def try_all(self) -> None:
        with opened(self.scratch) as scratch, opened(self.account) as account:
            try_stores(scratch, store_names(account, WHATSMEOW), self.rules)

    def migrate(self) -> None:
        self.bring()
        self.put()


@pytest.fixture
def scene(tmp_path: pathlib.Path) -> Scene:
    return Scene(tmp_path)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file be too young to be trusted, see copy_file.py."""
    monkeypatch.setattr(copy_file, "_is_racy", lambda status: False)


def dump(path: pathlib.Path) -> list[str]:
    """Give all that SQLite finds in a database, from a copy: looking changes it."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        return list(database.iterdump())


def dump_copy(path: pathlib.Path, place: pathlib.Path) -> list[str]:
    place.mkdir()
    for suffix in ("", "-wal", "-journal"):
        if path.with_name(path.name + suffix).exists():
            shutil.copy(path.with_name(path.name + suffix), place / f"copy{suffix}")
    return dump(place / "copy")


def digest(path: pathlib.Path) -> bytes | None:
    with opened(path.parent) as directory:
        return store_digest(directory, path.name)


# --- whatever programs do -----------------------------------------------------------------------------------

WRITES = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(1, 400)),
        st.tuples(st.just("delete"), st.integers(1, 9)),
        st.tuples(st.just("checkpoint"), st.just(0)),
        st.tuples(st.just("vacuum"), st.just(0)),
        st.tuples(st.just("uncommitted"), st.integers(1, 400)),
    ),
    max_size=6,
)


def write(database: sqlite3.Connection, what: str, number: int) -> None:
    if what == "insert":
        database.executemany("INSERT INTO held VALUES (?)", [(f"{CANARY} {row}" * 20,) for row in range(number)])
    elif what == "delete":
        database.execute("DELETE FROM held WHERE rowid % 10 < ?", (number,))
    elif what == "checkpoint":
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    elif what == "vacuum":
        database.execute("VACUUM")
    else:
        database.execute("BEGIN")
        write(database, "insert", number)
        database.execute("PRAGMA cache_spill=1")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    mode=st.sampled_from(["wal", "delete", "truncate", "persist"]),
    size=st.sampled_from([512, 4096, 65536]),
    writes=WRITES,
)
def test_what_is_committed_is_copied_as_one_file(
    tmp_path_factory: pytest.TempPathFactory, mode: str, size: int, writes: list[tuple[str, int]]
) -> None:
    """The program is killed after any writes: its files are taken as they are at that moment."""
    place = tmp_path_factory.mktemp("writes")
    scene = Scene(place)
    with contextlib.closing(sqlite3.connect(place / "live", isolation_level=None)) as database:
        database.execute(f"PRAGMA page_size={size}")
        database.execute(f"PRAGMA journal_mode={mode}")
        database.execute("PRAGMA synchronous=OFF")
        database.execute("PRAGMA cache_size=5")  # what is not committed gets into the files, too
        database.execute("CREATE TABLE held (what TEXT)")
        for what, number in writes:
            write(database, what, number)
            if what == "uncommitted":
                break
        for suffix in ("", "-wal", "-journal", "-shm"):
            if (place / f"live{suffix}").exists():
                put_file(scene.account / f"{NAME}{suffix}", (place / f"live{suffix}").read_bytes())
    committed = dump_copy(scene.account / NAME, place / "asked")
    before = looks(scene.account)
    scene.migrate()
    assert looks(scene.account) == before
    assert os.listdir(scene.staged) == [NAME]
    assert os.listdir(scene.scratch) == []
    if not (scene.account / f"{NAME}-journal").exists() or mode == "persist":
        with opened(scene.account) as one, opened(scene.staged) as other:
            hot = any(suffix.endswith("-journal") for suffix in os.listdir(scene.account))
            assert same_stores(one, other, WHATSMEOW) is not hot
    assert dump(scene.staged / NAME) == committed


@pytest.mark.parametrize("wal", [False, True])
def test_owner_mode_and_time_are_kept(scene: Scene, wal: bool) -> None:
    put_store(scene.account / NAME, wal=wal)
    (scene.account / NAME).chmod(0o640)
    if wal:
        os.utime(scene.account / f"{NAME}-wal", (OLD + 60, OLD + 60))
    os.utime(scene.staged, (OLD, OLD))
    scene.migrate()
    status = (scene.staged / NAME).stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode), status.st_mtime) == (OURS, 0o640, OLD + 60 if wal else OLD)
    assert scene.staged.stat().st_mtime == OLD
    assert CANARY.encode() in (scene.staged / NAME).read_bytes()


def test_an_empty_database_is_one(scene: Scene) -> None:
    put_file(scene.account / NAME, b"")
    scene.migrate()
    assert content(scene.staged) == {os.fsencode(NAME): b""}


def test_databases_in_directories_find_their_place(scene: Scene) -> None:
    for folder in ("a", "a/b"):
        (scene.account / folder).mkdir()
        (scene.staged / folder).mkdir()
        put_store(scene.account / folder / NAME)
    scene.migrate()
    assert dump(scene.staged / "a/b" / NAME) == dump(scene.account / "a/b" / NAME)
    assert (scene.staged / "a" / NAME).exists()


def test_a_name_that_means_something_to_sqlite_is_a_name(scene: Scene) -> None:
    for name in (":memory:.db", "file:x?mode=ro.db", "-x.db", "a\\b\n.db"):
        put_store(scene.account / name)
    scene.migrate()
    assert sorted(os.listdir(scene.staged)) == sorted(os.listdir(scene.account))


# --- what is no database ------------------------------------------------------------------------------------


def claim_pages(log: pathlib.Path, pages: int) -> None:
    """Have the last frame of a -wal say that the database has so many pages, with a checksum that fits."""
    content = bytearray(log.read_bytes())
    size = struct.unpack(">I", content[8:12])[0]
    order = "<" if content[3] == 0x82 else ">"
    sums = struct.unpack(">II", content[24:32])
    for frame in range(32, len(content), size + 24):
        if frame + 2 * (size + 24) > len(content):
            content[frame + 4 : frame + 8] = struct.pack(">I", pages)
        summed = bytes(content[frame : frame + 8] + content[frame + 24 : frame + 24 + size])
        sums = checksum(summed, sums, order)
        content[frame + 16 : frame + 24] = struct.pack(">II", *sums)
    put_file(log, bytes(content))


def checksum(content: bytes, sums: tuple[int, ...], order: str) -> tuple[int, int]:
    """The checksum of a -wal, section 4.2 of https://www.sqlite.org/fileformat.html."""
    one, two = sums
    for first, second in struct.iter_unpack(f"{order}II", content):
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two


def no_pages(path: pathlib.Path) -> None:
    put_file(path, path.read_bytes()[:3000])


def no_header(path: pathlib.Path) -> None:
    put_file(path, CANARY.encode() * 1000)


@pytest.mark.parametrize("damage", [damage_store, no_pages, no_header])
def test_a_damaged_one_is_told_without_its_name(scene: Scene, damage: t.Callable[[pathlib.Path], None]) -> None:
    put_store(scene.account / NAME)
    damage(scene.account / NAME)
    with pytest.raises(DamagedStore) as told:
        scene.migrate()
    assert CANARY not in str(told.value)
    assert os.listdir(scene.staged) == []


@pytest.mark.parametrize("answer", ["failed", None])
def test_what_goes_wrong_in_the_jail_is_no_damage(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, answer: str | None
) -> None:
    put_store(scene.account / NAME)
    scene.bring()
    monkeypatch.setattr(sqlite, "in_jail", lambda *arguments, **limits: answer)
    with pytest.raises(OSError, match="the disk may be full"):
        scene.put()
    assert os.listdir(scene.staged) == []


def test_a_full_disk_is_no_damage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit on the size of files is met in the jail like a full disk."""
    put_store(scene.account / NAME, range(50))
    scene.bring()
    made_whole = sqlite._made_whole

    def with_limit(library: t.Any) -> str:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        return made_whole(library)

    monkeypatch.setattr(sqlite, "_made_whole", with_limit)
    with pytest.raises(OSError, match="the disk may be full"):
        scene.put()
    assert os.listdir(scene.staged) == []


def test_one_that_sqlite_checks_for_days_is_refused_before_anybody_waits_for_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_endless_store(scene.account / NAME)
    scene.bring()
    monkeypatch.setattr(sqlite, "seconds_for", lambda size: 0.5)
    for work in (scene.try_all, scene.put):
        with pytest.raises(UnfitTree, match=r"could not be checked within 0 seconds .* restore a backup") as told:
            work()
        assert CANARY not in str(told.value)
        assert not isinstance(told.value, DamagedStore)
    assert os.listdir(scene.staged) == []


def test_what_is_tried_stays_as_it_is(scene: Scene) -> None:
    """A trial on the collected files would roll a journal back that is not finished yet."""
    put_store(scene.account / NAME, wal=True)
    put_store(scene.account / "other.db")
    scene.bring()
    before = content(scene.scratch)
    scene.try_all()
    assert content(scene.scratch) == before
    scene.put()
    assert len(os.listdir(scene.staged)) == 2


def test_a_torn_one_is_no_reason_to_give_up_yet(scene: Scene) -> None:
    put_store(scene.account / NAME)
    damage_store(scene.account / NAME)
    scene.bring()
    scene.try_all()


def test_nothing_is_checked_once_the_backend_has_been_down_for_too_long(scene: Scene) -> None:
    put_store(scene.account / NAME)
    scene.bring()
    scene.rules = dataclasses.replace(scene.rules, until=time.monotonic())
    with pytest.raises(UnfitTree, match="could not be checked within 0 seconds"):
        scene.put()


def test_a_log_that_claims_a_database_larger_than_itself_does_not_fill_the_disk(scene: Scene) -> None:
    put_store(scene.account / NAME, wal=True)
    claim_pages(scene.account / f"{NAME}-wal", 1 << 20)
    scene.bring()
    with contextlib.suppress(UnfitTree, OSError):
        scene.put()
    assert sum(path.stat().st_size for path in scene.scratch.rglob("*")) < 16 << 20


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/etc/passwd")])
def test_what_stands_beside_it_has_to_be_a_file(
    scene: Scene, suffix: str, make: t.Callable[[pathlib.Path], t.Any]
) -> None:
    put_store(scene.account / NAME)
    make(scene.account / f"{NAME}{suffix}")
    with pytest.raises(UnfitTree, match="not a regular file"):
        scene.bring()


def test_a_link_is_no_database(scene: Scene) -> None:
    put_store(scene.account.parent / NAME)
    (scene.account / NAME).symlink_to(scene.account.parent / NAME)
    scene.migrate()
    assert os.listdir(scene.staged) == []


def test_without_sqlite_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sqlite3", None)
    with pytest.raises(SessionsError, match="no module sqlite3; nothing was changed: install it"):
        sqlite.require_sqlite()


# --- what changed in between ---------------------------------------------------------------------------------


def test_what_did_not_change_is_not_read_again(scene: Scene, later: None) -> None:
    put_store(scene.account / NAME, wal=True)
    known, first = scene.bring()
    again, second = scene.bring(known)
    assert (first.copied, second.copied, again == known) == (2, 0, True)
    put_file(scene.account / f"{NAME}-wal", b"")
    known, third = scene.bring(known)
    assert (third.copied, third.unsettled) == (1, 0)
    (scene.account / f"{NAME}-wal").unlink()
    known, fourth = scene.bring(known)
    assert (fourth.copied, list(known[NAME])) == (0, [""])
    (scene.account / NAME).unlink()
    assert scene.bring(known)[0] == {}
    assert os.listdir(scene.scratch) == []


def test_files_that_were_not_there_at_one_moment_are_unsettled(
    scene: Scene, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the copies of the database and of its -wal the program writes both."""
    put_store(scene.account / NAME, wal=True)
    copy = sqlite.copy_until_settled

    def copy_then_write(source: int, target: int, name: str, rules: Rules) -> t.Any:
        record = copy(source, target, name, rules)
        if name.endswith("-wal"):
            put_store(scene.account / NAME, [1, 2])
        return record

    monkeypatch.setattr(sqlite, "copy_until_settled", copy_then_write)
    known, tally = scene.bring()
    assert tally.unsettled == 1
    monkeypatch.undo()
    scene.bring(known)
    scene.put()
    assert dump(scene.staged / NAME) == dump(scene.account / NAME)


# --- comparing without SQLite --------------------------------------------------------------------------------


def test_one_state_has_one_digest_wherever_it_stands(tmp_path: pathlib.Path) -> None:
    put_store(tmp_path / "a/one.db", wal=True)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with contextlib.closing(sqlite3.connect(tmp_path / "b/one.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    assert not (tmp_path / "b/one.db-wal").exists()
    held = digest(tmp_path / "a/one.db")
    assert held is not None
    assert held == digest(tmp_path / "b/one.db")
    (tmp_path / "a/one.db-wal").unlink()
    assert digest(tmp_path / "a/one.db") != digest(tmp_path / "b/one.db")


def test_another_state_has_another_digest(tmp_path: pathlib.Path) -> None:
    for number, name in enumerate(("a", "b")):
        put_store(tmp_path / name / "one.db", [number])
    assert digest(tmp_path / "a/one.db") != digest(tmp_path / "b/one.db")


@pytest.mark.parametrize("held", [b"no database", b"SQLite format 3\0", b"SQLite format 3\0" + bytes(84)])
def test_what_sqlite_would_not_read_is_the_same_byte_by_byte(tmp_path: pathlib.Path, held: bytes) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        put_file(tmp_path / name / "one.db", held)
        put_file(tmp_path / name / "one.db-journal", b"x")
    with opened(tmp_path / "a") as one, opened(tmp_path / "b") as other:
        assert same_stores(one, other, WHATSMEOW) is True
        for ending in ("", "-journal"):
            put_file(tmp_path / f"b/one.db{ending}", held + b"y")
            assert same_stores(one, other, WHATSMEOW) is False
            put_file(tmp_path / f"b/one.db{ending}", held if not ending else b"x")
        (tmp_path / "a/one.db-journal").unlink()
        assert same_stores(one, other, WHATSMEOW) is False


def test_what_would_take_too_long_is_not_the_same(tmp_path: pathlib.Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        put_file(tmp_path / name / "one.db", b"no database")
        os.truncate(tmp_path / name / "one.db", 1 << 40)
    with opened(tmp_path / "a") as one, opened(tmp_path / "b") as other:
        assert same_stores(one, other, WHATSMEOW) is False


def test_a_log_that_claims_more_pages_than_there_are_is_not_believed(tmp_path: pathlib.Path) -> None:
    put_store(tmp_path / "one.db", wal=True)
    log = bytearray((tmp_path / "one.db-wal").read_bytes())
    for frame in range(32, len(log), 4096 + 24):
        log[frame + 4 : frame + 8] = b"\xff" * 4
    put_file(tmp_path / "one.db-wal", bytes(log))
    assert digest(tmp_path / "one.db") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(held=st.binary(max_size=200), at=st.integers(0, 5000), log=st.binary(max_size=200))
def test_crafted_files_are_compared_without_harm(tmp_path: pathlib.Path, held: bytes, at: int, log: bytes) -> None:
    put_store(tmp_path / "one.db", wal=True)
    for path, crafted in ((tmp_path / "one.db", held), (tmp_path / "one.db-wal", log)):
        whole = path.read_bytes()
        put_file(path, whole[:at] + crafted + whole[at + len(crafted) :])
    digest(tmp_path / "one.db")


def test_what_is_a_database_and_what_is_beside_one(scene: Scene) -> None:
    for name in ("a.db", "a.db-wal", "a.db-shm", "a.db-journal", "b.sqlite3", "b.sqlite3-wal", "c.txt"):
        put_file(scene.account / name, b"123")
    (scene.account / "ui").mkdir()
    put_file(scene.account / "ui/cached.db", b"123")
    with opened(scene.account) as account:
        assert store_names(account, WHATSMEOW) == ["a.db", "b.sqlite3"]
        need = measure_stores(account, WHATSMEOW)
    assert (need.files, need.bytes) == (10, 30)  # the -shm is never copied
    assert [is_beside_store(WHATSMEOW, name) for name in ("a.db", "a.db-wal", "b.sqlite3-shm", "c.txt")] == [
        *(False, True, True, False)
    ]
