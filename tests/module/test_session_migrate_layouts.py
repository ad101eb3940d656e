# SPDX-License-Identifier: GPL-3.0-or-later
"""session_migrate with the trees of every library, the real module as root on a real filesystem: what travels, how, and what does not.

Every call asks for the difference at the highest verbosity, and no canary may be in what it prints.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import sqlite3
import stat
import subprocess
import sys
import typing as t

import pytest

from accounts import CANARY, OLD, content, give, looks, put_account, put_file
from areas import control_of
from layouts import KINDS, age, damage_store, put_account_of, put_csharp, put_leveldb, put_lock, put_root_of, put_store
from module_server import Server

UID, GID = 65534, 65534
ENGINES = ("native", "rsync", "rename")
COPYING = ("native", "rsync")
LATER = OLD + 1000

Result = dict[str, t.Any]


class Host:
    """An application's directory, a sessions path, and the module that goes from one to the other."""

    def __init__(self, server: Server, place: pathlib.Path) -> None:
        self.server, self.place = server, place
        self.app, self.path = place / "opt/app", place / "var/sessions"
        self.app.mkdir(parents=True)
        self.path.parent.mkdir()

    def put(self, layout: str) -> None:
        """Make one account in each state, and what stands beside them."""
        put_root_of(layout, self.app)
        give(self.app, UID, GID)

    def account(self, layout: str, name: str = "one", **options: t.Any) -> pathlib.Path:
        made = put_account_of(layout, self.app, KINDS[layout].name(name), **options)
        give(self.app, UID, GID)
        return made

    def migrate(self, *, check: bool = False, **options: t.Any) -> Result:
        told = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_verbosity": 4}
        given = {"src": [str(self.app)], "path": str(self.path), "owner": "nobody", **options}
        result = self.server.run("session_migrate", {**told, **given})
        assert CANARY not in json.dumps(result)
        return result

    def at_path(self, account: pathlib.Path) -> pathlib.Path:
        return self.path / account.relative_to(self.app)

    @property
    def control(self) -> pathlib.Path:
        return control_of(self.path)

    @property
    def area(self) -> pathlib.Path:
        return self.path.parent / ".sessions.whatsapp-ops"

    def displaced(self) -> list[pathlib.Path]:
        return sorted(path for path in (self.area / "displaced").iterdir() if path.suffix != ".json")


@pytest.fixture
def host(server: Server, place: pathlib.Path) -> Host:
    return Host(server, place)


def counts(result: Result) -> dict[str, int]:
    return {action: number for action, number in result["counts"].items() if number}


def facts(path: pathlib.Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def rows(store: pathlib.Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(f"file:{store}?immutable=1", uri=True)) as database:
        return list(database.iterdump())


# --- every layout by every engine -----------------------------------------------------------------------

CACHES = ("Cache", "Code Cache", "CacheStorage", "ShaderCache")
LOCKS = ("SingletonLock", "SingletonCookie", "SingletonSocket")


def kept(tree: dict[bytes, bytes | None]) -> dict[str, bytes | None]:
    """Take out of a tree what need not travel: locks, and caches with what they are in; of databases only the names are compared."""
    found: dict[str, bytes | None] = {}
    for name, held in tree.items():
        parts = pathlib.PurePath(os.fsdecode(name)).parts
        if not {*parts} & {*CACHES, *LOCKS}:
            found["/".join(parts)] = b"a database" if parts[-1].endswith((".db", ".sqlite3")) else held
    return found


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layout", KINDS)
def test_what_is_sound_is_at_the_path_as_it_was(host: Host, layout: str, engine: str) -> None:
    host.put(layout)
    source, before = kept(content(host.app)), looks(host.app)
    everything = looks(host.place)
    foreseen = host.migrate(engine=engine, check=True)
    assert looks(host.place) == everything
    made = host.migrate(engine=engine)
    after = looks(host.place)
    again = host.migrate(engine=engine)
    assert [foreseen["changed"], made["changed"], again["changed"]] == [True, True, False]
    assert looks(host.place) == after
    assert (foreseen["counts"], foreseen["steps"]) == (made["counts"], made["steps"])
    assert made["counts"]["corrupt"] == 1
    assert made["counts"]["migrated"] == len(made["accounts"]) - 1 >= 2
    there = kept(content(host.path))
    assert there
    assert {name: held for name, held in source.items() if name in there} == there
    missing = {name.partition(f"corrupt{CANARY}")[0] for name in source if name not in there}
    assert missing <= BESIDE, "something else than what stays was left behind"
    assert {facts(path)[:2] for path in host.path.rglob("*")} == {(UID, GID)}
    assert not [path for path in host.path.rglob("*") if path.is_symlink()]
    assert sorted(os.listdir(host.area)) == ["displaced", "staging"]
    assert os.listdir(host.area / "staging") == []
    if engine != "rename":
        assert looks(host.app) == before


# What stays: the corrupt account (its name is cut off), its token, and what is neither an account's nor travels.
BESIDE = {
    *("", "session-", "sessions/session-", "gows/", "gows", "userDataDir/", "tokens/", "_IGNORE_"),
    *(".wwebjs_cache", f".wwebjs_cache/{CANARY}.html", "message_log.txt", f"RemoteAuth-{CANARY}"),
    *("package.json", "code"),
}


# --- caches ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", COPYING)
def test_caches_stay_behind_unless_they_are_asked_for(host: Host, engine: str) -> None:
    account = host.account("wwebjs")
    (account / "Default/Cache/Cache_Data/deeper").mkdir()
    host.migrate(engine=engine, state="staged")
    assert host.migrate(engine=engine, exclude_caches=False)["changed"]
    assert content(host.path) == content(host.app)


@pytest.mark.parametrize("engine", COPYING)
def test_caches_that_were_staged_are_not_published_unless_they_are_asked_for(host: Host, engine: str) -> None:
    account = host.account("wwebjs")
    host.migrate(engine=engine, state="staged", exclude_caches=False)
    host.migrate(engine=engine)
    published = host.at_path(account)
    assert not (published / "Default/Cache").exists()
    assert not (published / "ShaderCache").exists()
    assert not list(published.rglob("CacheStorage"))
    assert (published / "Default/IndexedDB").exists()


def test_the_engine_rename_moves_caches_too(host: Host) -> None:
    account = host.account("wwebjs")
    source = content(host.app)
    host.migrate(engine="rename")
    assert content(host.path) == source
    assert not account.exists()


def test_a_baileys_account_may_be_called_like_a_cache(host: Host) -> None:
    put_account(host.app / "Cache")
    give(host.app, UID, GID)
    host.migrate()
    assert (host.path / "Cache/creds.json").exists()


# --- what is use of an account, and what is not ----------------------------------------------------------


def append_to_leveldb(account: pathlib.Path) -> None:
    log = account / "Default/Local Storage/leveldb/000003.log"
    put_file(log, log.read_bytes() + b"more", at=LATER)


def compact_leveldb(account: pathlib.Path) -> None:
    shutil.rmtree(account / "Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb")
    put_leveldb(account / "Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb", 7)


def fill_cache(account: pathlib.Path) -> None:
    (account / "GrShaderCache").mkdir(exist_ok=True)
    (account / "Default/Cache/new").mkdir(parents=True, exist_ok=True)
    put_file(account / "Default/Cache/new/f_1", CANARY, at=LATER)
    shutil.rmtree(account / "ShaderCache", ignore_errors=True)


def leave_lock(account: pathlib.Path) -> None:
    put_lock(account, "stale")
    put_file(account / "DevToolsActivePort", "1", at=LATER)


def write_store(account: pathlib.Path) -> None:
    put_store(account / "whatsapp.db", [1, 2])
    age(account, LATER)


def write_log(account: pathlib.Path) -> None:
    put_store(account / "whatsapp.db", [1, 2], wal=True)
    age(account, LATER)


def look_into_store(account: pathlib.Path) -> None:
    """What a connection that only reads leaves when it is killed: an index and an empty log."""
    put_file(account / "whatsapp.db-shm", bytes(32768), at=LATER)
    put_file(account / "whatsapp.db-wal", b"", at=LATER)


USES = [
    ("wwebjs", append_to_leveldb),
    ("wwebjs", compact_leveldb),
    ("whatsmeow", write_store),
    ("whatsmeow", write_log),
]
NO_USES = [("wwebjs", fill_cache), ("wwebjs", leave_lock), ("whatsmeow", look_into_store)]


@pytest.mark.parametrize(("layout", "change"), USES)
def test_an_account_that_was_used_at_the_legacy_path_alone_wins(
    host: Host, layout: str, change: t.Callable[[pathlib.Path], None]
) -> None:
    account = host.account(layout)
    host.migrate()
    change(account)
    give(host.app, UID, GID)
    made = host.migrate()
    assert counts(made) == {"migrated": 1, "displaced": 1}
    assert len(host.displaced()) == 1
    assert not host.migrate()["changed"]


@pytest.mark.parametrize(("layout", "change"), USES)
def test_an_account_that_was_used_at_the_sessions_path_alone_stays(
    host: Host, layout: str, change: t.Callable[[pathlib.Path], None]
) -> None:
    account = host.account(layout)
    host.migrate()
    change(host.at_path(account))
    after = looks(host.path)
    assert not host.migrate()["changed"]
    assert looks(host.path) == after


@pytest.mark.parametrize(("layout", "change"), USES)
def test_an_account_that_was_used_at_both_is_for_the_operator_to_decide(
    host: Host, layout: str, change: t.Callable[[pathlib.Path], None]
) -> None:
    account = host.account(layout)
    host.migrate()
    for side in (account, host.at_path(account)):
        change(side)
    age(host.at_path(account), LATER + 2_000_000_000)  # after the receipt, whenever the tests run
    before = looks(host.place)
    refused = host.migrate()
    assert "were used since the last migration" in refused["msg"]
    assert looks(host.place) == before
    assert counts(host.migrate(on_conflict="keep")) == {"kept": 1}


@pytest.mark.parametrize(("layout", "change"), NO_USES)
def test_what_comes_and_goes_in_an_account_is_no_use_of_it(
    host: Host, layout: str, change: t.Callable[[pathlib.Path], None]
) -> None:
    account = host.account(layout)
    host.migrate()
    change(account)
    result = host.migrate()
    assert (result["changed"], counts(result)) == (False, {"unchanged": 1})


def test_large_files_are_not_read_to_see_whether_an_account_was_used(host: Host) -> None:
    """Of a terabyte that is mostly a hole only the ends are looked at."""
    account = host.account("wwebjs")
    log = account / "Default/Local Storage/leveldb/000003.log"
    with log.open("r+b") as file:
        file.truncate(1 << 40)
    os.utime(log, (OLD, OLD))
    assert host.migrate(check=True, engine="rename")["changed"]


# --- SQLite ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", COPYING)
def test_what_stands_in_the_log_of_a_database_travels(host: Host, engine: str) -> None:
    account = host.account("whatsmeow")
    put_store(account / "whatsapp.db", range(9), wal=True)
    put_file(account / "whatsapp.db-shm", bytes(32768))
    put_file(account / "notes.txt", CANARY)
    give(host.app, UID, GID)
    source = content(host.app)
    assert host.migrate(engine=engine)["changed"]
    published = host.at_path(account)
    assert sorted(os.listdir(published)) == ["notes.txt", "whatsapp.db"]
    assert sum('INSERT INTO "whatsmeow_device"' in row for row in rows(published / "whatsapp.db")) == 9
    assert facts(published / "whatsapp.db") == (UID, GID, 0o600)
    assert content(host.app) == source
    assert not host.migrate(engine=engine)["changed"]


def test_the_engine_rename_moves_a_database_with_its_log(host: Host) -> None:
    account = host.account("whatsmeow")
    put_store(account / "whatsapp.db", range(9), wal=True)
    give(host.app, UID, GID)
    source = content(host.app)
    assert host.migrate(engine="rename")["changed"]
    assert content(host.path) == source
    assert not host.migrate(engine="rename")["changed"]


@pytest.mark.parametrize("engine", COPYING)
def test_equal_databases_without_a_receipt_are_equal_wherever_their_content_stands(host: Host, engine: str) -> None:
    account = host.account("whatsmeow")
    put_store(account / "whatsapp.db", wal=True)
    give(host.app, UID, GID)
    host.migrate(engine=engine)
    shutil.rmtree(host.control)
    result = host.migrate(engine=engine)
    assert (counts(result), result["steps"]) == ({"unchanged": 1}, ["remember"])


def test_databases_that_differ_without_a_receipt_are_decided_about(host: Host) -> None:
    account = host.account("whatsmeow")
    host.migrate()
    shutil.rmtree(host.control)
    write_log(account)
    give(host.app, UID, GID)
    assert counts(host.migrate()) == {"migrated": 1, "displaced": 1}
    assert not (host.at_path(account) / "whatsapp.db-wal").exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_damaged_database_stays_where_it_is(host: Host, engine: str) -> None:
    host.account("whatsmeow")
    broken = host.account("whatsmeow", "two")
    damage_store(broken / "whatsapp.db")
    result = host.migrate(engine=engine)
    assert counts(result) == {"migrated": 1, "corrupt": 1}
    assert (broken / "whatsapp.db").exists()
    assert not host.at_path(broken).exists()
    assert not host.migrate(engine=engine)["changed"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_database_beside_accounts_travels_as_one_file(host: Host, engine: str) -> None:
    put_account_of("waha", host.app, "noweb/one")
    put_store(host.app / "noweb/waha.sqlite3", range(3), wal=True)
    put_file(host.app / "noweb/waha.sqlite3-shm", bytes(32768))
    give(host.app, UID, GID)
    result = host.migrate(engine=engine)
    assert (result["layout"], result["companions"]) == ("waha", 1)
    assert sorted(os.listdir(host.path / "noweb")) == ["one", "waha.sqlite3"]
    assert sum('whatsmeow_device" VALUES' in row for row in rows(host.path / "noweb/waha.sqlite3")) == 3
    assert facts(host.path / "noweb/waha.sqlite3") == (UID, GID, 0o600)
    assert not host.migrate(engine=engine)["changed"]


def test_a_damaged_database_beside_accounts_is_told(host: Host) -> None:
    put_account_of("waha", host.app, "noweb/one")
    put_store(host.app / "noweb/waha.sqlite3", range(3))
    damage_store(host.app / "noweb/waha.sqlite3")
    give(host.app, UID, GID)
    held = (host.app / "noweb/waha.sqlite3").read_bytes()
    made = host.migrate()
    assert any("1 file(s) next to the accounts are named like databases" in told for told in made["warnings"])
    assert (host.path / "noweb/waha.sqlite3").read_bytes() == held
    assert not host.migrate()["changed"]


def test_a_damaged_database_beside_accounts_that_has_a_log_is_refused(host: Host) -> None:
    put_account_of("waha", host.app, "noweb/one")
    put_store(host.app / "noweb/waha.sqlite3", range(3))
    damage_store(host.app / "noweb/waha.sqlite3")
    put_file(host.app / "noweb/waha.sqlite3-journal", b"x")
    give(host.app, UID, GID)
    refused = host.migrate()
    assert "cannot copy files that the accounts share: a database is damaged" in refused["msg"]
    assert not (host.path / "noweb").exists()


# --- accounts that are more than a directory -------------------------------------------------------------


def put_token(host: Host, name: str, held: str) -> pathlib.Path:
    (host.app / "tokens").mkdir(exist_ok=True)
    token = put_file(host.app / f"tokens/{name}.data.json", held)
    give(host.app, UID, GID)
    return token


@pytest.mark.parametrize("engine", ENGINES)
def test_what_belongs_to_an_account_travels_and_gives_way_with_it(host: Host, engine: str) -> None:
    account = host.account("wppconnect")
    token = put_token(host, "one", f"{CANARY} old")
    host.migrate(engine="native")
    append_to_leveldb(account)
    put_file(token, f"{CANARY} new", at=LATER)
    give(host.app, UID, GID)
    result = host.migrate(engine=engine)
    assert counts(result) == {"migrated": 1, "displaced": 1}
    assert host.at_path(token).read_text() == f"{CANARY} new"
    assert facts(host.at_path(token)) == (UID, GID, 0o600)
    directory, part = host.displaced()
    assert part.name.startswith(f"{directory.name}.part-")
    assert part.read_text() == f"{CANARY} old"
    assert json.loads((host.control / f"displaced/{part.name}.json").read_text())["account"] == "one.data.json"
    assert token.exists() is (engine != "rename")
    assert not host.migrate(engine=engine)["changed"]


def test_a_part_that_was_written_is_use_of_its_account(host: Host) -> None:
    host.account("wppconnect")
    token = put_token(host, "one", "old")
    host.migrate()
    put_file(token, "new", at=LATER)
    give(host.app, UID, GID)
    assert counts(host.migrate()) == {"migrated": 1, "displaced": 1}
    assert host.at_path(token).read_text() == "new"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_part_of_an_account_that_is_gone_gives_way(host: Host, engine: str) -> None:
    """The profile was removed from the sessions path, its token was not."""
    account = host.account("wppconnect")
    (host.path / "tokens").mkdir(parents=True)
    put_file(host.path / "tokens/one.data.json", "left over")
    host.migrate(engine=engine)
    assert host.at_path(account).is_dir()
    assert os.listdir(host.path / "tokens") == []
    assert [path.read_text() for path in host.displaced()] == ["left over"]


@pytest.mark.parametrize("engine", COPYING)
@pytest.mark.parametrize("becomes", ["nothing", "link"])
def test_a_part_that_was_staged_and_is_gone_is_not_published(host: Host, engine: str, becomes: str) -> None:
    host.account("wppconnect")
    token = put_token(host, "one", "held")
    host.migrate(engine=engine, state="staged")
    token.unlink()
    if becomes == "link":
        token.symlink_to("/etc/shadow")
    host.migrate(engine=engine)
    assert os.listdir(host.path / "tokens") == []


def test_equal_accounts_without_a_receipt_are_equal_with_their_parts(host: Host) -> None:
    host.account("wppconnect")
    token = put_token(host, "one", "held")
    host.migrate()
    shutil.rmtree(host.control)
    assert counts(host.migrate(check=True)) == {"unchanged": 1}
    put_file(token, "other", at=LATER)
    assert counts(host.migrate(check=True)) == {"migrated": 1, "displaced": 1}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_private_part_of_another_user_is_not_handed_out(host: Host, engine: str) -> None:
    host.account("wppconnect")
    token = put_token(host, "one", "root:secret")
    os.chown(token, 0, 0)
    before = content(host.app)
    refused = host.migrate(engine=engine)
    assert "private file of another user" in refused["msg"]
    assert content(host.app) == before
    assert not host.path.exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_part_that_is_a_link_is_none(host: Host, engine: str) -> None:
    host.account("wppconnect")
    (host.app / "tokens").mkdir()
    (host.app / "tokens/one.data.json").symlink_to("/etc/shadow")
    assert counts(host.migrate(engine=engine)) == {"migrated": 1}
    assert os.listdir(host.path / "tokens") == []


# --- locks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["foreign", "stale", "damaged"])
@pytest.mark.parametrize("where", ["session-one", "webjs/one", "webjs/one/session-one"])
def test_a_lock_that_nobody_holds_is_removed_from_the_sessions_path(host: Host, kind: str, where: str) -> None:
    layout = "waha" if "webjs" in where else "wwebjs"
    profile = host.path / where
    put_account_of("wwebjs", host.path, where)
    if layout == "waha":
        put_file(host.path / "webjs/one/.waha.session.config.json", "{}")
    put_lock(profile, kind)
    give(host.path, UID, GID)
    before = kept(content(host.path))
    foreseen = host.migrate(check=True)
    assert (foreseen["steps"], foreseen["unlocked"], foreseen["layout"]) == (["unlock"], 1, layout)
    made = host.migrate()
    assert (made["steps"], made["unlocked"], made["downtime_seconds"]) == (["unlock"], 1, 0)
    assert not [name for name in os.listdir(profile) if name.startswith("Singleton")]
    assert kept(content(host.path)) == before
    assert not host.migrate()["changed"]


@pytest.mark.parametrize("held", ["Default/Preferences", "."])
def test_a_lock_stays_where_a_process_uses_the_account(host: Host, held: str) -> None:
    """The lock names another host, but what counts is who is there: a browser that was started before the host was renamed."""
    profile = host.path / "session-one"
    put_account_of("wwebjs", host.path, "session-one")
    put_lock(profile, "foreign")
    code = "import os, sys; os.open(sys.argv[1], os.O_RDONLY); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(profile / held)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as user:
        assert user.stdout is not None
        assert user.stdin is not None
        user.stdout.readline()
        assert not host.migrate()["changed"]
        assert (profile / "SingletonLock").is_symlink()
        user.stdin.close()
    assert host.migrate()["unlocked"] == 1


def test_a_directory_in_the_place_of_a_lock_is_left_to_the_operator(host: Host) -> None:
    put_account_of("wwebjs", host.path, "session-one")
    (host.path / "session-one/SingletonLock").mkdir()
    assert not host.migrate()["changed"]


def test_staging_leaves_locks_alone(host: Host) -> None:
    put_account_of("wwebjs", host.path, "session-one")
    put_lock(host.path / "session-one", "foreign")
    assert not host.migrate(state="staged")["changed"]


def test_a_process_at_the_legacy_path_stops_everything_one_in_the_application_does_not(host: Host) -> None:
    """A shell that stands in the application's directory is no second writer; one that has a profile open is."""
    account = host.account("session_manager")
    (host.app / "logs").mkdir()
    code = "import os, sys; os.open(sys.argv[1], os.O_RDWR | os.O_CREAT); print(flush=True); sys.stdin.read()"
    for opened, stops in (("logs/app.log", False), (f"{account}/Default/LOCK", True)):
        with subprocess.Popen(
            [sys.executable, "-c", code, opened], cwd=host.app, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as user:
            assert user.stdout is not None
            user.stdout.readline()
            result = host.migrate(state="migrated", layout="session_manager", on_conflict="replace")
            assert ("outside the unit use the legacy path" in result.get("msg", "")) is stops
            assert user.stdin is not None
            user.stdin.close()
        append_to_leveldb(account)


# --- applications' directories, and putting them out of use ------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("layout", ["session_manager", "wppconnect"])
def test_of_an_application_only_the_sessions_are_put_out_of_use(host: Host, layout: str, engine: str) -> None:
    host.put(layout)
    others = {
        name: seen for name, seen in looks(host.app).items() if b"package.json" in name or name.endswith(b"/code")
    }
    assert others
    foreseen = host.migrate(engine=engine, state="retired", check=True)
    made = host.migrate(engine=engine, state="retired")
    assert foreseen["steps"] == made["steps"]
    assert made["steps"][-1] == "retire"
    left = {name for name in os.listdir(host.app) if ".migrated-" not in name}
    assert left >= {"package.json"}
    assert {name: looks(host.app)[name] for name in others} == others
    folders = {"session_manager": ["sessions"], "wppconnect": ["tokens", "userDataDir"]}[layout]
    for folder in folders:
        assert facts(host.app / folder) == (0, 0, 0o444)
        assert str(host.path) in (host.app / folder).read_text()
        (aside,) = host.app.glob(f"{folder}.migrated-*")
        assert facts(aside) == (0, 0, 0o700)
    if layout == "session_manager":
        assert not (host.app / "session-state.json").exists()
        (aside,) = host.app.glob("session-state.json.migrated-*")
        assert facts(aside) == (0, 0, 0o600)
    after = looks(host.place)
    for state in ("retired", "migrated", "staged"):
        assert not host.migrate(engine=engine, state=state, layout=layout)["changed"]
    assert looks(host.place) == after


@pytest.mark.parametrize("layout", ["openwa", "baileys_csharp"])
def test_accounts_among_the_files_of_a_program_are_moved_out_of_it(host: Host, layout: str) -> None:
    """Under any other name in there the program, or this module, would find them again."""
    account = host.account(layout)
    put_file(host.app / "program.dll", CANARY)
    parts = {"openwa": ["one.data.json"], "baileys_csharp": [f"{account.name}\\store.db"]}[layout]
    for part in parts:
        put_file(host.app / part, CANARY)
    give(host.app, UID, GID)
    host.migrate(state="retired")
    assert sorted(os.listdir(host.app)) == sorted([account.name, "program.dll"])
    assert account.is_file()
    (aside,) = host.app.parent.glob("app.migrated-*")
    assert facts(aside) == (0, 0, 0o700)
    assert sorted(os.listdir(aside)) == sorted([account.name, *parts])
    assert sorted(os.listdir(host.path)) == sorted([account.name, *parts])
    assert not host.migrate(state="retired", layout=layout)["changed"]


@pytest.mark.parametrize("layout", ["openwa", "baileys_csharp"])
def test_a_root_that_holds_nothing_but_accounts_is_put_out_of_use_as_a_whole(host: Host, layout: str) -> None:
    host.account(layout)
    host.migrate(state="retired")
    assert host.app.is_file()
    assert not host.migrate(state="retired")["changed"]


def test_an_application_without_accounts_is_left_alone(host: Host) -> None:
    (host.app / "userDataDir").mkdir()
    put_file(host.app / "package.json", "{}")
    for layout in ("openwa", "baileys_csharp"):
        assert not host.migrate(state="retired", layout=layout)["changed"]
    assert host.migrate(state="retired", layout="wppconnect")["steps"] == ["retire"]
    assert (host.app / "package.json").exists()


# --- what seed 002 has ------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_setgid_directories_backslashes_and_deep_trees(host: Host, engine: str) -> None:
    account = host.app / "7afd5398-97c3-11eb-a990-f23c917564d6"
    account.mkdir()
    put_csharp(account, "paired", 1, backslash=True)
    deep = account / "session" / "/".join("d" * 20)
    deep.mkdir(parents=True)
    put_file(deep / "key\\1.json", CANARY)
    put_file(host.app / f"{account.name}\\store.db", CANARY)
    give(host.app, UID, GID)
    for directory in (host.app, account, account / "session"):
        directory.chmod(0o2755)
    source = content(host.app)
    result = host.migrate(engine=engine)
    assert (result["layout"], counts(result)) == ("baileys_csharp", {"migrated": 1})
    assert content(host.path) == source
    assert facts(host.path / account.name) == (UID, GID, 0o755)
    assert facts(host.path / account.name / "session") == (UID, GID, 0o755)
    assert not host.migrate(engine=engine)["changed"]


@pytest.mark.parametrize("engine", COPYING)
def test_the_first_sound_copy_of_several_places_wins(host: Host, engine: str) -> None:
    places = [host.place / name for name in ("netcoreapp", "base", "cwd")]
    for number, place in enumerate(places):
        put_account_of("baileys_csharp", place, "both")
        put_file(place / "both/session/1.json", f"{number}")
        give(place, UID, GID)
    put_file(places[0] / "both/both_creds.json", b"")
    put_account_of("baileys_csharp", places[2], "last")
    result = host.migrate(src=[*map(str, places)], engine=engine, owner="root")
    assert (result["layout"], counts(result)) == ("baileys_csharp", {"migrated": 2})
    assert content(host.path / "both") == content(places[1] / "both")
    assert content(host.path / "last") == content(places[2] / "last")
    assert not host.migrate(src=[*map(str, places)], engine=engine, owner="root")["changed"]


def test_the_owner_of_an_application_is_not_the_owner_of_its_sessions(host: Host) -> None:
    """Without a unit, and without a word about it, accounts stay with whom they belong to."""
    account = host.account("session_manager")
    os.chown(host.app, 0, 0)
    assert host.migrate(owner=None, layout="session_manager")["changed"]
    assert facts(host.at_path(account))[:2] == (UID, GID)
