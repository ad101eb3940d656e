# SPDX-License-Identifier: GPL-3.0-or-later
"""Browser profiles: what a torn database looks like, and what a lock says, with real processes."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import CANARY, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts import chromium
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.chromium import (
    judge_profile,
    lock_of_profile,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.layout import Judgement
from layouts import FOREIGN_LOCK, GONE, ORIGIN, put_lock, put_profile

INDEXED_DB = f"Default/IndexedDB/{ORIGIN}.indexeddb.leveldb"
LOCAL_STORAGE = "Default/Local Storage/leveldb"
HOST = os.uname().nodename


@pytest.fixture
def profile(tmp_path: pathlib.Path) -> pathlib.Path:
    made = tmp_path / "session-one"
    made.mkdir(mode=0o700)
    put_profile(made, "paired")
    return made


def judged(profile: pathlib.Path, *origin: str) -> Judgement:
    with opened_directory(str(profile)) as opened:
        judgement = judge_profile(opened, *origin)
    assert CANARY not in f"{judgement!r} {judgement.problems} {judgement.fingerprints}"
    return judgement


def locked(profile: pathlib.Path) -> str:
    with opened_directory(str(profile)) as opened:
        return lock_of_profile(opened)


# --- databases ----------------------------------------------------------------------------------------------------


def emptied(path: pathlib.Path) -> None:
    path.write_bytes(b"")


def without_data(database: pathlib.Path) -> None:
    for name in ("000003.log", "000005.ldb"):
        (database / name).unlink()


TORN: dict[str, tuple[t.Callable[[pathlib.Path], t.Any], str]] = {
    "CURRENT is empty": (lambda database: emptied(database / "CURRENT"), "current_invalid"),
    "CURRENT is missing": (lambda database: (database / "CURRENT").unlink(), "current_invalid"),
    "CURRENT holds anything": (lambda database: put_file(database / "CURRENT", CANARY), "current_invalid"),
    "CURRENT is large": (lambda database: os.truncate(database / "CURRENT", 1 << 20), "current_invalid"),
    "CURRENT is a link": (
        lambda database: ((database / "CURRENT").rename(database / "x"), (database / "CURRENT").symlink_to("x")),
        "current_invalid",
    ),
    "CURRENT is a directory": (
        lambda database: ((database / "CURRENT").unlink(), (database / "CURRENT").mkdir()),
        "current_invalid",
    ),
    "the manifest is empty": (lambda database: emptied(database / "MANIFEST-000001"), "manifest_missing"),
    "the manifest is missing": (lambda database: (database / "MANIFEST-000001").unlink(), "manifest_missing"),
    "CURRENT names another one": (
        lambda database: put_file(database / "CURRENT", "MANIFEST-000002\n"),
        "manifest_missing",
    ),
    "there is no data": (without_data, "data_missing"),
    "a table is empty": (lambda database: emptied(database / "000005.ldb"), "table_empty"),
    "an old table is empty": (lambda database: emptied(database / "000006.sst"), "table_empty"),
}


@pytest.mark.parametrize("place", [INDEXED_DB, LOCAL_STORAGE])
@pytest.mark.parametrize("name", TORN)
def test_a_torn_database_is_one_that_the_browser_would_wipe(profile: pathlib.Path, name: str, place: str) -> None:
    tear, problem = TORN[name]
    tear(profile / place)
    word = "indexeddb" if place == INDEXED_DB else "local_storage"
    assert judged(profile) == Judgement("corrupt", (f"{word}_{problem}",))


def test_sound_databases(profile: pathlib.Path) -> None:
    assert (judged(profile).state, judged(profile).problems, judged(profile).linked) == ("paired", (), 1)
    emptied(profile / INDEXED_DB / "000003.log")  # LevelDB has just begun a new one
    put_file(profile / INDEXED_DB / "CURRENT", "MANIFEST-000001")
    assert judged(profile).state == "paired"
    (profile / INDEXED_DB / "000005.ldb").unlink()
    assert judged(profile).state == "paired"


def test_without_local_storage_a_profile_is_half_a_copy(profile: pathlib.Path) -> None:
    shutil.rmtree(profile / LOCAL_STORAGE)
    assert judged(profile) == Judgement("corrupt", ("local_storage_missing",))


def test_the_page_was_never_opened(profile: pathlib.Path) -> None:
    (profile / INDEXED_DB).rename(profile / "Default/IndexedDB/https_example.org_0.indexeddb.leveldb")
    assert judged(profile) == Judgement("pending")
    assert judged(profile, "https_example.org_0").state == "paired"
    shutil.rmtree(profile / "Default")
    assert judged(profile) == Judgement("fresh")
    (profile / "Default").symlink_to("/etc")
    assert judged(profile) == Judgement("fresh")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(
    held=st.one_of(
        st.binary(max_size=30),
        st.from_regex(rb"MANIFEST-\d{1,8}\n?", fullmatch=True),
        st.sampled_from(
            [b"MANIFEST-000001\n", b"MANIFEST-000001", b"../../x", b"MANIFEST-000001\n\n", b"MANIFEST-\xd9\xa1"]
        ),
    )
)
def test_whatever_current_holds_it_is_right_or_the_database_is_torn(profile: pathlib.Path, held: bytes) -> None:
    put_file(profile / INDEXED_DB / "CURRENT", held)
    assert (judged(profile).state == "paired") is (held in (b"MANIFEST-000001\n", b"MANIFEST-000001"))


def test_a_browser_at_work_may_have_begun_a_table(profile: pathlib.Path, browser: Browser) -> None:
    emptied(profile / INDEXED_DB / "000005.ldb")
    assert judged(profile).state == "corrupt"
    lock_to(profile, f"{HOST}-{browser(f'--user-data-dir={profile}')}")
    assert judged(profile).state == "paired"
    emptied(profile / INDEXED_DB / "CURRENT")
    assert judged(profile).state == "corrupt"


def test_weaknesses(profile: pathlib.Path) -> None:
    profile.chmod(0o755)
    assert judged(profile).problems == ()  # the browser closes the directory inside
    (profile / "Default").chmod(0o755)
    assert judged(profile).problems == ("readable_by_everybody",)
    profile.chmod(0o777)
    assert judged(profile).problems == ("readable_by_everybody", "writable_by_everybody")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
def test_a_profile_that_its_user_cannot_write(profile: pathlib.Path) -> None:
    os.chown(profile, 65534, 65534)
    assert judged(profile).problems == ("profile_foreign_owner",)


# --- fingerprints ---------------------------------------------------------------------------------------------------


def test_a_copy_has_the_fingerprint_of_its_original(profile: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copytree(profile, tmp_path / "session-copy")
    put_profile(tmp_path / "session-other", "paired", 2)
    (one,), (copy,), (other,) = (
        judged(tmp_path / name).fingerprints for name in ("session-one", "session-copy", "session-other")
    )
    assert one == copy != other
    assert one not in repr(judged(profile))


@pytest.mark.parametrize("held", ["", "[]", "{}", '{"profile": 1}', '{"profile": []}', "[" * 99999, "\udcff"])
def test_preferences_may_hold_anything(profile: pathlib.Path, held: str) -> None:
    put_file(profile / "Default/Preferences", held.encode("utf-8", "surrogateescape"))
    assert (judged(profile).state, judged(profile).fingerprints) == ("paired", ())


def test_a_profile_without_preferences_has_no_fingerprint(profile: pathlib.Path) -> None:
    (profile / "Default/Preferences").unlink()
    assert judged(profile).fingerprints == ()
    (profile / "Default/Preferences").symlink_to("/etc/hostname")
    assert judged(profile).fingerprints == ()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(made=st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=2)))
def test_whatever_a_creation_time_is_it_only_serves_to_compare(profile: pathlib.Path, made: t.Any) -> None:
    put_file(profile / "Default/Preferences", json.dumps({"profile": {"creation_time": made}}))
    assert len(judged(profile).fingerprints) == 1


# --- locks ------------------------------------------------------------------------------------------------------------

Browser = t.Callable[..., int]


@pytest.fixture
def browser(tmp_path: pathlib.Path) -> t.Iterator[Browser]:
    """Start a process that was told what a browser is told; it ends with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> int:
        waiting = "import sys; print(flush=True); sys.stdin.read()"
        process = subprocess.Popen(
            [sys.executable, "-c", waiting, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=tmp_path,
        )
        running.append(process)
        assert process.stdout is not None
        process.stdout.readline()  # it has its arguments by now
        return process.pid

    yield start
    for process in running:
        process.communicate()


def lock_to(profile: pathlib.Path, target: str) -> None:
    (profile / "SingletonLock").unlink(missing_ok=True)
    (profile / "SingletonLock").symlink_to(target)


def test_no_lock(profile: pathlib.Path) -> None:
    assert locked(profile) == ""


@pytest.mark.parametrize("kind", ["stale", "foreign", "damaged"])
def test_locks_that_were_left(profile: pathlib.Path, kind: str) -> None:
    put_lock(profile, kind)
    assert locked(profile) == kind


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (f"{HOST}-{GONE}", "stale"),
        (f"{HOST}-99999999999999999999", "stale"),
        (f"{HOST}-1", "stale"),
        pytest.param(f"{HOST}-{os.getpid()}", "stale", id="no browser"),
        (FOREIGN_LOCK, "foreign"),
        (f"{HOST}x-{GONE}", "foreign"),
        (f"x-{HOST}-{GONE}", "foreign"),
        (f"{HOST}-x-{GONE}", "foreign"),
        (f"\n-{GONE}", "foreign"),
        (f"{HOST}-{'9' * 300}", "damaged"),
        (HOST, "damaged"),
        (f"{HOST}-", "damaged"),
        (f"{HOST}-1x", "damaged"),
        (f"-{GONE}", "damaged"),
        ("nothing", "damaged"),
    ],
)
def test_what_a_lock_names(profile: pathlib.Path, target: str, expected: str) -> None:
    lock_to(profile, target)
    assert locked(profile) == expected


def test_a_lock_names_this_host_whatever_dashes_are_in_its_name(
    profile: pathlib.Path, monkeypatch: pytest.MonkeyPatch, browser: Browser
) -> None:
    names = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((names.sysname, "web-01-2", *tuple(names)[2:])))
    lock_to(profile, f"web-01-2-{GONE}")
    assert locked(profile) == "stale"
    lock_to(profile, f"web-01-2-{browser(f'--user-data-dir={profile}')}")
    assert locked(profile) == "live"
    lock_to(profile, f"web-01-{GONE}")
    assert locked(profile) == "foreign"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_any_lock_is_one_of_these(profile: pathlib.Path, target: str) -> None:
    lock_to(profile, target)
    host, dash, pid = target.rpartition("-")
    regular = bool(host and dash and pid.isdecimal())
    assert locked(profile) == ("damaged" if not regular else "stale" if host == HOST else "foreign")


@pytest.mark.parametrize("make", [pathlib.Path.touch, pathlib.Path.mkdir, os.mkfifo])
def test_what_no_browser_can_have_made_is_a_damaged_lock(profile: pathlib.Path, make: t.Any) -> None:
    make(profile / "SingletonLock")
    assert locked(profile) == "damaged"


@pytest.mark.parametrize(
    "told",
    [
        "--user-data-dir={profile}",
        "--user-data-dir={profile}/",
        "--user-data-dir=session-one",
        "--user-data-dir=./session-one",
        "--user-data-dir=link",
        "--user-data-dir={profile}/../link",
        "--type=x --user-data-dir={profile} --more",  # rewritten: in one piece
    ],
)
def test_a_live_lock_is_one_of_a_process_that_uses_this_directory(
    profile: pathlib.Path, browser: Browser, told: str
) -> None:
    (profile.parent / "link").symlink_to(profile.name)
    lock_to(profile, f"{HOST}-{browser(told.format(profile=profile))}")
    assert locked(profile) == "live"


@pytest.mark.parametrize(
    "told", ["", "--user-data-dir=", "--user-data-dir=/nowhere", "{profile}", "--user-data-dir={profile}-2"]
)
def test_a_lock_is_stale_when_its_number_belongs_to_another_program(
    profile: pathlib.Path, browser: Browser, told: str
) -> None:
    lock_to(profile, f"{HOST}-{browser(told.format(profile=profile))}")
    assert locked(profile) == "stale"


def test_a_process_that_has_ended_holds_nothing(profile: pathlib.Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", "", f"--user-data-dir={profile}"])
    lock_to(profile, f"{HOST}-{process.pid}")
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie, whose command line is empty
    assert locked(profile) == "stale"
    process.wait()
    assert locked(profile) == "stale"


def test_where_processes_are_hidden_one_that_lives_is_taken_for_the_owner(
    profile: pathlib.Path, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(pid: int, name: str) -> t.NoReturn:
        raise FileNotFoundError(name)

    pid = browser()
    monkeypatch.setattr(chromium, "process_file", hidden)
    lock_to(profile, f"{HOST}-{pid}")
    assert locked(profile) == "live"
    lock_to(profile, f"{HOST}-{GONE}")
    assert locked(profile) == "stale"


def test_a_lock_that_vanishes_while_it_is_read(profile: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_lock(profile, "stale")

    def gone(*arguments: t.Any, **more: t.Any) -> t.NoReturn:
        raise FileNotFoundError

    monkeypatch.setattr(os, "readlink", gone)
    assert locked(profile) == ""
