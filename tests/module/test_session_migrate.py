# SPDX-License-Identifier: GPL-3.0-or-later
"""session_migrate, the real module as root on real filesystems, where no systemd runs: all that does not need a unit.

Every call asks for the difference at the highest verbosity, and no canary may be in what it prints or leaves in the area.
"""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import socket
import stat
import subprocess
import sys
import typing as t

import ansible
import pytest

from accounts import CANARY, OLD, content, give, looks, put_account, put_file, use
from areas import control_of
from conftest import Mount
from module_server import COLLECTIONS, MODULES, Server

UID, GID = 65534, 65534  # nobody and nogroup: a user whose group has another name
ENGINES = ("native", "rsync", "rename")
COPYING = ("native", "rsync")

Result = dict[str, t.Any]


class Host:
    """A legacy path, a sessions path, and the module that goes from one to the other."""

    def __init__(self, server: Server, place: pathlib.Path) -> None:
        self.server, self.place = server, place
        self.legacy = place / "opt/current/.baileys_auth"
        self.path = place / "var/sessions"
        self.legacy.mkdir(parents=True)
        self.path.parent.mkdir()

    def account(self, name: str, state: str = "paired", **options: t.Any) -> pathlib.Path:
        put_account(self.legacy / name, state, **options)
        give(self.legacy, UID, GID)
        return self.legacy / name

    def migrate(self, *, check: bool = False, uid: int = 0, **options: t.Any) -> Result:
        told = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_verbosity": 4}
        given = {"src": [str(self.legacy)], "path": str(self.path), "owner": "nobody", **options}
        result = self.server.run("session_migrate", {**told, **given}, uid)
        assert CANARY not in json.dumps(result)
        return result

    @property
    def control(self) -> pathlib.Path:
        return control_of(self.path)

    @property
    def area(self) -> pathlib.Path:
        return self.path.parent / ".sessions.whatsapp-ops"

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path))

    def displaced(self) -> list[pathlib.Path]:
        return sorted(entry for entry in (self.area / "displaced").iterdir() if entry.is_dir())


@pytest.fixture
def host(server: Server, place: pathlib.Path) -> Host:
    return Host(server, place)


def facts(path: pathlib.Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def actions(result: Result) -> list[str]:
    return [account["action"] for account in result["accounts"]]


def counts(result: Result) -> dict[str, int]:
    return {action: number for action, number in result["counts"].items() if number}


def assert_clean(host: Host, area: pathlib.Path | None = None) -> None:
    """Nothing but displaced accounts may hold what sessions hold, and nobody but root gets in."""
    area = area or host.area
    assert facts(area) == facts(host.control) == (0, 0, 0o700)
    assert sorted(os.listdir(area)) == ["displaced", "staging"]
    assert list((area / "staging").iterdir()) == []
    assert set(os.listdir(host.control)) - {"displaced"} == {"area.json", "lock", "receipt.json"}
    assert facts(host.control / "receipt.json") == (0, 0, 0o600)
    for file in host.control.glob("**/*.json"):
        assert CANARY not in file.read_text()


# --- the sessions path itself ---------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "bits"), [(None, 0o750), ("0700", 0o700), (0o2770, 0o2770), ("u=rwx,g=,o=", 0o700)])
def test_a_missing_path_is_made_with_the_mode_that_was_asked_for(host: Host, mode: str | int | None, bits: int) -> None:
    host.account("wa1")
    asked = {} if mode is None else {"mode": mode}
    foreseen, made, again = host.migrate(check=True, **asked), host.migrate(**asked), host.migrate(**asked)
    assert [result["path_made"] for result in (foreseen, made, again)] == [True, True, False]
    assert facts(host.path) == (UID, GID, bits)


def test_a_path_that_is_there_keeps_its_mode(host: Host) -> None:
    host.account("wa1")
    host.path.mkdir(0o700)
    assert not host.migrate(mode="0755")["path_made"]
    assert facts(host.path)[2] == 0o700


def test_a_mode_that_keeps_the_owner_out_is_refused_before_anything_is_made(host: Host) -> None:
    host.account("wa1")
    refused = host.migrate(mode=750)
    assert refused["failed"] and "locks the owner out" in refused["msg"]
    assert not host.path.exists()


# --- the main job, by each engine ---------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_check_mode_foresees_then_a_run_migrates_then_nothing_changes(host: Host, engine: str) -> None:
    for number in (1, 2, 3):
        host.account(f"wa{number}", number=number)
    source, before = content(host.legacy), looks(host.place)
    foreseen = host.migrate(engine=engine, check=True)
    assert looks(host.place) == before
    made = host.migrate(engine=engine)
    after = looks(host.place)
    again = host.migrate(engine=engine)
    assert [foreseen["changed"], made["changed"], again["changed"]] == [True, True, False]
    assert looks(host.place) == after
    assert content(host.path) == source
    for name in ("diff", "accounts", "counts", "steps", "layout", "receipt", "src", "path"):
        assert foreseen[name] == made[name], name
    assert (made["steps"], counts(made)) == (["stage", "publish"], {"migrated": 3})
    assert again["steps"] == []
    assert counts(again) == ({} if engine == "rename" else {"unchanged": 3})
    assert again["diff"][0]["before"] == again["diff"][0]["after"]
    assert made["downtime_seconds"] == 0
    assert {facts(path) for path in host.path.rglob("creds.json")} == {(UID, GID, 0o600)}
    assert {facts(path) for path in host.path.iterdir()} == {(UID, GID, 0o700)}
    assert facts(host.path) == (UID, GID, 0o750)
    assert_clean(host)
    if engine != "rename":
        assert content(host.legacy) == source
        assert looks(host.legacy) == {
            name: seen for name, seen in before.items() if name.startswith(os.fsencode(host.legacy))
        }
    else:
        assert content(host.legacy) == {}


@pytest.mark.parametrize("engine", ENGINES)
def test_staged_then_migrated(host: Host, engine: str) -> None:
    host.account("wa1")
    host.account("wa2", number=2)
    source = content(host.legacy)
    foreseen = host.migrate(engine=engine, state="staged", check=True)
    assert not host.path.exists()
    staged = host.migrate(engine=engine, state="staged")
    after = looks(host.place)
    again = host.migrate(engine=engine, state="staged")
    copies = engine != "rename"  # which cannot be done ahead
    assert [foreseen["changed"], staged["changed"], again["changed"]] == [copies, copies, False]
    assert foreseen["steps"] == staged["steps"] == (["stage"] if copies else [])
    assert looks(host.place) == after
    assert content(host.legacy) == source
    assert not host.path.exists() or host.names() == []
    use(host.legacy / "wa1", OLD + 60)
    assert host.migrate(engine=engine, state="staged", check=True)["changed"] is copies
    source = content(host.legacy)
    assert counts(host.migrate(engine=engine)) == {"migrated": 2}
    assert content(host.path) == source
    assert_clean(host)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_staged_for_another_owner_is_given_to_the_right_one(host: Host, engine: str) -> None:
    host.account("wa1")
    host.migrate(state="staged", owner="daemon", group="daemon")
    host.migrate(engine=engine)
    assert {facts(path)[:2] for path in host.path.rglob("*")} == {(UID, GID)}


@pytest.mark.parametrize(("first", "then"), [(one, other) for one in COPYING for other in ENGINES if one != other])
def test_what_one_engine_staged_another_one_can_publish(host: Host, first: str, then: str) -> None:
    host.account("wa1")
    host.migrate(state="staged", engine=first)
    use(host.legacy / "wa1", OLD + 60)
    source = content(host.legacy)
    assert counts(host.migrate(engine=then)) == {"migrated": 1}
    assert content(host.path) == source
    assert_clean(host)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_copy_without_an_index_is_no_obstacle(host: Host, engine: str) -> None:
    """As a killed run, or one before a reboot, leaves it."""
    host.account("wa1")
    host.migrate(state="staged")
    for file in (host.area / "staging").glob("*.json"):
        file.unlink()
    source = content(host.legacy)
    assert counts(host.migrate(engine=engine)) == {"migrated": 1}
    assert content(host.path) == source


@pytest.mark.parametrize("engine", ENGINES)
def test_retired_leaves_a_tombstone_and_a_second_run_changes_nothing(host: Host, engine: str) -> None:
    host.account("wa1")
    source = content(host.legacy)
    foreseen = host.migrate(engine=engine, state="retired", check=True)
    retired = host.migrate(engine=engine, state="retired")
    assert foreseen["steps"] == retired["steps"] == ["stage", "publish", "retire"]
    assert content(host.path) == source
    assert facts(host.legacy) == (0, 0, 0o444)
    assert host.legacy.is_file()
    assert str(host.path) in host.legacy.read_text()
    (aside,) = host.legacy.parent.glob(".baileys_auth.migrated-*")
    assert facts(aside) == (0, 0, 0o700)
    assert content(aside) == ({} if engine == "rename" else source)
    after = looks(host.place)
    for state in ("retired", "migrated", "staged"):
        again = host.migrate(engine=engine, state=state)
        assert (again["changed"], again["src"]) == (False, [])
    assert looks(host.place) == after


def test_what_was_migrated_can_be_retired_later(host: Host) -> None:
    host.account("wa1")
    host.migrate()
    assert host.migrate(state="retired")["steps"] == ["retire"]
    assert not host.migrate(state="retired")["changed"]


def test_a_legacy_path_that_is_a_mount_cannot_be_retired(host: Host, mount: Mount) -> None:
    mount("tmpfs", host.legacy)
    host.account("wa1")
    refused = host.migrate(state="retired")
    assert "cannot be retired: Device or resource busy" in refused["msg"]
    assert host.names() == ["wa1"]
    assert not host.migrate()["changed"]


def test_a_legacy_path_behind_a_link_is_retired_for_good(host: Host) -> None:
    host.account("wa1")
    link = host.place / "auth"
    link.symlink_to(host.legacy)
    assert host.migrate(src=[str(link)], state="retired")["changed"]
    assert host.legacy.is_file()
    assert not host.migrate(src=[str(link)], state="retired")["changed"]


# --- what is carried over, and what is not -------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
def test_odd_names_and_kinds_of_files(host: Host, engine: str) -> None:
    account = host.account("wa\n1 -")
    for name in (b"-rf", b"new\nline", b"\xff\xfe", b" ", b"a" * 255):
        put_file(account / os.fsdecode(name), f"{CANARY}")
    put_file(account / "empty", b"")
    put_file(account / "large", os.urandom(1 << 20))
    (account / "deep/er/still").mkdir(parents=True)
    put_file(account / "deep/er/still/key", CANARY)
    (account / "hollow").mkdir()
    with (account / "sparse").open("wb") as file:
        file.truncate(1 << 24)
        file.seek(1 << 22)
        file.write(b"data")
    source = content(host.legacy)
    put_file(account / "creds.json.tmp", CANARY)
    put_file(account / ".write-test", CANARY)
    (account / "link").symlink_to("/etc/shadow")
    os.mkfifo(account / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(account)  # the path of a socket is at most 108 bytes long
        server.bind("socket")
        os.chdir("/")
    os.mknod(account / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    give(account, UID, GID)
    assert counts(host.migrate(engine=engine)) == {"migrated": 1}
    assert content(host.path) == source
    assert (host.path / "wa\n1 -/sparse").stat().st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("engine", ENGINES)
def test_no_set_id_bit_is_ever_made_for_the_owner(host: Host, engine: str) -> None:
    account = host.account("wa1")
    (account / "creds.json").chmod(0o6755)
    account.chmod(0o3777)
    host.migrate(engine=engine)
    assert facts(host.path / "wa1/creds.json") == (UID, GID, 0o755)
    assert facts(host.path / "wa1") == (UID, GID, 0o777)


@pytest.mark.parametrize("engine", ENGINES)
def test_attributes_of_the_user_are_kept(host: Host, engine: str) -> None:
    account = host.account("wa1")
    os.setxattr(account / "creds.json", "user.note", b"mine")
    os.setxattr(account / "creds.json", "trusted.note", b"root's")
    host.migrate(engine=engine)
    assert os.getxattr(host.path / "wa1/creds.json", "user.note") == b"mine"
    if engine != "rename":
        assert "trusted.note" not in os.listxattr(host.path / "wa1/creds.json")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_private_file_of_another_user_is_not_handed_out(host: Host, engine: str) -> None:
    account = host.account("wa1")
    foreign = put_file(account / "foreign", "root:secret")
    os.chown(foreign, 0, 0)
    before = content(host.legacy)
    refused = host.migrate(engine=engine)
    assert refused["failed"]
    assert "private file of another user" in refused["msg"]
    assert "foreign" not in refused["msg"]
    assert content(host.legacy) == before
    assert not host.path.exists()
    foreign.chmod(0o644)
    assert counts(host.migrate(engine=engine)) == {"migrated": 1}
    assert facts(host.path / "wa1/foreign") == (UID, GID, 0o644)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_failed_leaves_nothing_for_the_next_one_to_fix(host: Host, engine: str) -> None:
    host.account("wa1")
    account = host.account("wa2", number=2)
    os.chown(put_file(account / "foreign", "root's"), 0, 0)
    put_account(host.path / "wa3", number=3)
    legacy, path = content(host.legacy), looks(host.path)
    assert host.migrate(engine=engine)["failed"]
    assert content(host.legacy) == legacy
    assert looks(host.path) == path
    assert sorted(os.listdir(host.area)) == ["displaced", "staging"]
    assert sorted(os.listdir(host.control)) == ["area.json", "lock"]
    assert list((host.area / "staging").iterdir()) == []
    (account / "foreign").unlink()
    assert host.migrate(engine=engine)["steps"] == ["stage", "publish"]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_mounted_inside_an_account_is_no_part_of_it(host: Host, mount: Mount, engine: str) -> None:
    account = host.account("wa1")
    disk = mount("tmpfs", account / CANARY)
    put_file(disk / "file", "x")
    give(host.legacy, UID, GID)
    before = content(host.legacy)
    refused = host.migrate(engine=engine)
    assert refused["failed"]
    assert "another filesystem is mounted inside it" in refused["msg"] or engine == "rename"
    assert content(host.legacy) == before
    assert not host.path.exists()


@pytest.mark.parametrize("engine", COPYING)
def test_hard_links_become_files_of_their_own(host: Host, engine: str) -> None:
    account = host.account("wa1")
    os.link(account / "creds.json", host.place / "elsewhere")
    os.link(account / "creds.json", account / "second")
    host.migrate(engine=engine)
    assert (host.path / "wa1/creds.json").stat().st_nlink == (host.path / "wa1/second").stat().st_nlink == 1


def test_a_file_with_a_second_name_does_not_change_hands_by_renaming(host: Host) -> None:
    account = host.account("wa1")
    secret = put_file(host.place / "secret", "root's")
    secret.chmod(0o644)
    os.link(secret, account / "linked")
    before = content(host.legacy)
    refused = host.migrate(engine="rename")
    assert "another hard link" in refused["msg"]
    assert facts(secret) == (0, 0, 0o644)
    assert content(host.legacy) == before


def test_companions_travel_along_and_what_is_there_stays(host: Host) -> None:
    host.account("wa1")
    put_file(host.legacy / "index.json", CANARY)
    put_file(host.legacy / "settings.json", "legacy")
    (host.legacy / "stats").mkdir()
    put_file(host.legacy / "stats/2026", "1")
    (host.legacy / "link").symlink_to("/etc/shadow")
    (host.legacy / "lost+found").mkdir()
    give(host.legacy, UID, GID)
    host.path.mkdir()
    put_file(host.path / "settings.json", "present")
    made = host.migrate()
    assert made["steps"] == ["stage", "publish", "companions"]
    assert host.names() == ["index.json", "settings.json", "stats", "wa1"]
    assert (host.path / "settings.json").read_text() == "present"
    assert facts(host.path / "stats/2026") == (UID, GID, 0o600)
    assert_clean(host)
    assert not host.migrate()["changed"]


def test_accounts_may_lie_deeper(host: Host) -> None:
    host.account("tenant/wa1")
    host.account("wa2", number=2)
    source = content(host.legacy)
    assert counts(host.migrate()) == {"migrated": 2}
    assert content(host.path) == source
    assert facts(host.path / "tenant") == (UID, GID, 0o700)
    assert not host.migrate()["changed"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_root_that_is_one_account(host: Host, engine: str) -> None:
    host.account(".")
    source = content(host.legacy)
    assert counts(host.migrate(engine=engine)) == {"migrated": 1}
    assert content(host.path) == source
    assert facts(host.path) == (UID, GID, 0o750)
    assert facts(host.path / "creds.json") == (UID, GID, 0o600)
    assert_clean(host)
    assert not host.migrate(engine=engine)["changed"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_root_that_is_one_account_never_takes_the_place_of_others(host: Host, engine: str) -> None:
    host.account(".")
    put_account(host.path / "wa1", number=1)
    put_account(host.path / "wa2", number=2)
    before = looks(host.place)
    refused = host.migrate(engine=engine)
    assert refused["failed"]
    assert "contains other accounts" in refused["msg"]
    assert looks(host.place) == before


@pytest.mark.parametrize("engine", ENGINES)
def test_a_root_that_is_an_account_and_holds_others_is_moved_as_a_whole(host: Host, engine: str) -> None:
    host.account(".")
    host.account("wa1", number=2)
    before = content(host.legacy)
    made = host.migrate(engine=engine)
    assert made["counts"]["migrated"] == len(made["accounts"])
    assert content(host.path) == before
    assert not host.migrate(engine=engine)["changed"]


def test_an_account_in_such_a_root_that_is_newer_at_the_sessions_path_is_not_replaced(host: Host) -> None:
    host.account(".")
    host.account("wa1", number=2)
    host.migrate()
    use(host.path / "wa1", OLD + 3600)
    use(host.legacy, OLD + 7200)
    before = looks(host.place)
    refused = host.migrate(on_conflict="replace")
    assert "1 other account(s), first 'w…1-" in refused["msg"]
    assert "accounts=['.']" in refused["msg"]
    assert looks(host.place) == before


# --- conflicts -----------------------------------------------------------------------------------------

AGES = {"newer": OLD + 3600, "older": OLD - 3600, "same": OLD}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("on_conflict", "legacy", "present", "action"),
    [
        ("newest", ("paired", "newer"), ("paired", "same"), "migrated"),
        ("newest", ("paired", "older"), ("paired", "same"), "kept"),
        ("newest", ("paired", "same"), ("paired", "same"), "diverged"),
        ("newest", ("fresh", "newer"), ("paired", "same"), "kept"),
        ("newest", ("paired", "older"), ("fresh", "same"), "migrated"),
        ("keep", ("paired", "newer"), ("paired", "same"), "kept"),
        ("replace", ("paired", "older"), ("paired", "same"), "migrated"),
        ("fail", ("paired", "newer"), ("paired", "same"), "diverged"),
    ],
)
def test_an_account_at_both_paths(
    host: Host, engine: str, on_conflict: str, legacy: tuple[str, str], present: tuple[str, str], action: str
) -> None:
    host.account("wa1", legacy[0], number=1, at=AGES[legacy[1]])
    put_account(host.path / "wa1", present[0], number=2, device=1, at=AGES[present[1]])
    give(host.path, UID, GID)
    source, target, before = content(host.legacy), content(host.path), looks(host.place)
    foreseen = host.migrate(engine=engine, on_conflict=on_conflict, check=True)
    assert looks(host.place) == before
    result = host.migrate(engine=engine, on_conflict=on_conflict)
    assert actions(result) == actions(foreseen) == [action]
    if action == "diverged":
        assert result["failed"]
        assert foreseen["failed"]
        assert "ago" in result["msg"]
        assert looks(host.place) == before
        return
    assert foreseen["changed"] == result["changed"] == (action == "migrated")
    assert content(host.path) == (source if action == "migrated" else target)
    displaced = host.displaced()
    assert [content(path) for path in displaced] == ([content_of(target, b"wa1")] if action == "migrated" else [])
    assert_clean(host)
    again = host.migrate(engine=engine)  # what was decided is remembered
    assert not again["changed"]


def content_of(tree: dict[bytes, bytes | None], name: bytes) -> dict[bytes, bytes | None]:
    return {path[len(name) + 1 :]: held for path, held in tree.items() if path.startswith(name + b"/")}


def test_what_is_displaced_is_counted_and_has_a_note(host: Host) -> None:
    host.account("wa1", at=AGES["newer"])
    put_account(host.path / "wa1", number=2, device=1)
    result = host.migrate()
    assert result["counts"]["displaced"] == 1
    (displaced,) = host.displaced()
    note = json.loads((host.control / f"displaced/{displaced.name}.json").read_text())
    assert (note["account"], note["from"]) == ("wa1", str(host.path))
    assert "wa1" not in displaced.name


def test_one_account_is_displaced_several_times_within_a_second(host: Host) -> None:
    host.account("wa1")
    host.migrate()
    for number in range(5):
        use(host.legacy / "wa1", OLD + number + 1)
        assert counts(host.migrate()) == {"migrated": 1, "displaced": 1}
    assert len(host.displaced()) == 5


@pytest.mark.parametrize("engine", COPYING)
def test_used_since_at_one_path_only(host: Host, engine: str) -> None:
    host.account("wa1")
    host.account("wa2", number=2)
    host.migrate(engine=engine)
    use(host.path / "wa1", OLD + 60)
    use(host.legacy / "wa2", OLD + 30)
    newest = {**content_of(content(host.path), b"wa1")}, {**content_of(content(host.legacy), b"wa2")}
    result = host.migrate(engine=engine)
    assert actions(result) == ["unchanged", "migrated"]
    assert (content(host.path / "wa1"), content(host.path / "wa2")) == newest
    assert len(host.displaced()) == 1
    assert not host.migrate(engine=engine)["changed"]


@pytest.mark.parametrize(
    ("on_conflict", "action"), [("newest", "diverged"), ("fail", "diverged"), ("keep", "kept"), ("replace", "migrated")]
)
def test_used_since_at_both_paths(host: Host, on_conflict: str, action: str) -> None:
    host.account("wa1")
    host.migrate()
    use(host.path / "wa1", OLD + 60)
    use(host.legacy / "wa1", OLD + 7200)
    before = looks(host.place)
    result = host.migrate(on_conflict=on_conflict)
    assert actions(result) == [action]
    if action == "diverged":
        assert looks(host.place) == before
        assert "on_conflict=keep or on_conflict=replace" in result["msg"]
    else:
        assert not host.migrate()["changed"]


def test_a_copy_that_only_got_new_keys_does_not_beat_a_linked_one(host: Host) -> None:
    """An old release that finds torn credentials makes a new identity: newer, and worth nothing."""
    account = host.account("wa1")
    host.migrate()
    good = content(host.path)
    put_account(account, "fresh", at=OLD + 60)
    give(account, UID, GID)
    assert actions(host.migrate()) == ["kept"]
    assert content(host.path) == good
    assert actions(host.migrate(on_conflict="replace")) in (["unchanged"], ["migrated"])


def test_an_account_that_was_removed_since_stays_removed_unless_asked_for(host: Host) -> None:
    host.account("wa1")
    host.account("wa2", number=2)
    host.migrate()
    remove(host.path / "wa1")
    assert actions(host.migrate()) == ["skipped", "unchanged"]
    assert host.names() == ["wa2"]
    assert actions(host.migrate(on_conflict="replace")) == ["migrated", "unchanged"]
    assert host.names() == ["wa1", "wa2"]


def test_a_sessions_path_made_anew_is_an_alarm(host: Host) -> None:
    host.account("wa1")
    host.migrate()
    remove(host.path)
    keep = host.path.with_name("keep")  # or the new directory might get the number of the old one
    keep.mkdir()
    host.path.mkdir()
    refused = host.migrate()
    assert "was emptied or recreated" in refused["msg"]
    assert host.names() == []
    assert actions(host.migrate(on_conflict="replace")) == ["migrated"]


def remove(path: pathlib.Path) -> None:
    subprocess.run(["rm", "-r", str(path)], check=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_damaged_account_stays_and_never_beats_a_sound_one(host: Host, engine: str) -> None:
    torn = host.account("torn", number=1)
    put_file(torn / "creds.json", b"", at=OLD + 60)
    lone = host.account("lone", number=2)
    put_file(lone / "creds.json", b"{", at=OLD + 60)
    host.account("sound", number=3)
    give(host.legacy, UID, GID)
    put_account(host.path / "torn", number=1)
    good = content(host.path)
    result = host.migrate(engine=engine)
    assert counts(result) == {"migrated": 1, "corrupt": 2}
    assert "2 damaged accounts stay" in result["warnings"][0]
    assert host.names() == ["sound", "torn"]
    assert content_of(content(host.path), b"torn") == content_of(good, b"torn")
    assert (lone / "creds.json").exists()
    assert (torn / "creds.json").exists()
    assert not host.migrate(engine=engine, on_conflict="replace")["changed"]


def test_a_damaged_account_at_the_sessions_path_gives_way(host: Host) -> None:
    host.account("wa1", at=AGES["older"])
    put_account(host.path / "wa1")
    put_file(host.path / "wa1/creds.json", b"\0" * 100)
    assert actions(host.migrate()) == ["migrated"]
    assert len(host.displaced()) == 1


def test_equal_copies_need_nothing(host: Host) -> None:
    host.account("wa1")
    put_account(host.path / "wa1")
    give(host.path, UID, GID)
    after = looks(host.path)
    result = host.migrate()
    assert (result["changed"], actions(result)) == (False, ["unchanged"])
    assert looks(host.path) == after
    use(host.legacy / "wa1", OLD + 60)  # it was remembered that both were equal
    assert actions(host.migrate()) == ["migrated"]


def test_of_several_sources_the_most_trusted_one_counts(host: Host) -> None:
    other = host.place / "old"
    host.account("wa1", number=1)
    put_account(other / "wa1", number=9, device=1, at=AGES["newer"])
    put_account(other / "wa2", number=2)
    source = content(host.legacy / "wa1")
    assert counts(host.migrate(src=[str(host.legacy), str(other)])) == {"migrated": 2}
    assert content(host.path / "wa1") == source
    assert host.names() == ["wa1", "wa2"]


def test_a_receipt_says_nothing_about_another_source(host: Host) -> None:
    """An older copy elsewhere was not used since the migration just because it differs from the one that was migrated."""
    other = host.place / "older-release"
    host.account("wa1", number=1)
    put_account(other / "wa1", number=1, at=AGES["older"])
    use(other / "wa1", AGES["older"])
    host.migrate()
    good = content(host.path)
    result = host.migrate(src=[str(other)])
    assert actions(result) == ["kept"]
    assert content(host.path) == good
    remove(host.path / "wa1")
    assert actions(host.migrate(src=[str(other)])) == ["skipped"]


# --- places ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", COPYING)
def test_a_path_that_is_a_mount_has_its_area_inside(host: Host, mount: Mount, engine: str) -> None:
    host.account("wa1")
    source = content(host.legacy)
    mount("ext4", host.path)
    (host.path / "lost+found").rmdir()
    staged = host.migrate(engine=engine, state="staged")
    area = host.path / ".whatsapp-ops"
    assert staged["receipt"] == str(host.control / "receipt.json")
    found = subprocess.run(
        ["find", str(host.path), "-maxdepth", "3", "-name", "creds.json"], capture_output=True, check=True
    )
    assert found.stdout == b""  # three levels down a copy is in nobody's way
    result = host.migrate(engine=engine)
    assert counts(result) == {"migrated": 1}
    assert content(host.path / "wa1") == content_of(source, b"wa1")
    assert_clean(host, area)
    assert not host.area.exists()
    use(host.legacy / "wa1", OLD + 60)
    host.migrate(engine=engine)
    displaced = [path for path in (area / "displaced").iterdir() if path.is_dir()]
    assert len(displaced) == 1
    found = subprocess.run(
        ["find", str(host.path), "-maxdepth", "3", "-name", "creds.json"], capture_output=True, check=True
    )
    assert found.stdout.count(b"\n") == 1
    info = host.server.run("session_info", {"path": str(host.path)})
    assert (info["total"], info["count"]) == (1, 1)


def test_one_account_cannot_become_a_mount(host: Host, mount: Mount) -> None:
    host.account(".")
    mount("ext4", host.path)
    (host.path / "lost+found").rmdir()
    for check in (True, False):
        refused = host.migrate(check=check)
        assert "is a mount point, which cannot be replaced in one step" in refused["msg"]
    assert [name for name in host.names() if not name.startswith(".")] == []


def test_renaming_works_within_one_filesystem_only(host: Host, mount: Mount) -> None:
    host.account("wa1")
    mount("ext4", host.path)
    before = content(host.legacy)
    refused = host.migrate(engine="rename")
    assert "works within one filesystem" in refused["msg"]
    assert content(host.legacy) == before


@pytest.fixture
def coarse(place: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """A filesystem that stamps with whole seconds, as ext2 to ext4 do with small inodes."""
    image, disk = place / "image", place / "disk"
    image.touch()
    disk.mkdir()
    os.truncate(image, 8 << 20)
    subprocess.run(["mkfs.ext2", "-q", "-I", "128", str(image)], check=True, stderr=subprocess.DEVNULL)
    subprocess.run(["mount", "-o", "loop", str(image), str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.mark.parametrize("engine", COPYING)
def test_times_in_whole_seconds_do_not_look_like_a_writer(server: Server, coarse: pathlib.Path, engine: str) -> None:
    """A backend flushes at its stop: what it wrote then is told from what is still being written only two seconds later."""
    host = Host(server, coarse)
    account = host.account("wa1")
    (account / "creds.json").touch()
    assert (account / "creds.json").stat().st_ctime_ns % 10**9 == 0
    assert counts(host.migrate(engine=engine)) == {"migrated": 1}
    assert content(host.path) == content(host.legacy)


@pytest.mark.parametrize("engine", COPYING)
@pytest.mark.parametrize("kind", ["bytes", "inodes"])
def test_a_disk_that_is_too_small_is_said_before_anything_is_copied(
    host: Host, mount: Mount, engine: str, kind: str
) -> None:
    account = host.account("wa1", keys=[f"pre-key-{number}" for number in range(60)])
    if kind == "bytes":
        put_file(account / "large", os.urandom(6 << 20))
    give(host.legacy, UID, GID)
    disk = mount("ext4", host.path.parent, megabytes=4, inodes=32 if kind == "inodes" else 0)
    before, free = looks(host.legacy), os.statvfs(disk)
    refused = host.migrate(engine=engine)
    assert "free space and run again" in refused["msg"]
    assert "nothing was changed" in refused["msg"]
    assert looks(host.legacy) == before
    assert not host.path.exists()
    assert os.statvfs(disk).f_bfree == free.f_bfree


@pytest.mark.parametrize("engine", COPYING)
def test_a_disk_that_fills_up_meanwhile_is_not_left_full(host: Host, mount: Mount, engine: str) -> None:
    """Directories are not counted beforehand: many of them take what was left."""
    account = host.account("wa1")
    for number in range(400):
        (account / f"folder{number}").mkdir()
    give(host.legacy, UID, GID)
    disk = mount("ext4", host.path.parent, megabytes=4, inodes=200)
    before, free = looks(host.legacy), os.statvfs(disk)
    refused = host.migrate(engine=engine)
    # Whichever is first: the run sees that its reserve is about to be used, or the kernel has nothing left.
    assert "would fill up the disk" in refused["msg"] or "No space left" in refused["msg"]
    assert looks(host.legacy) == before
    assert free.f_ffree - os.statvfs(disk).f_ffree < 10
    assert not host.path.exists() or host.names() == []


def test_what_is_staged_already_needs_no_space_again(host: Host, mount: Mount) -> None:
    account = host.account("wa1")
    put_file(account / "large", os.urandom(5 << 20))
    give(host.legacy, UID, GID)
    mount("ext4", host.path.parent, megabytes=9)
    host.migrate(state="staged")
    assert counts(host.migrate()) == {"migrated": 1}


def test_a_read_only_disk_is_said(host: Host, mount: Mount) -> None:
    host.account("wa1")
    disk = mount("ext4", host.path.parent)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    before = looks(host.legacy)
    refused = host.migrate()
    assert "Read-only file system" in refused["msg"]
    assert looks(host.legacy) == before


def test_a_path_behind_a_link_of_root(host: Host) -> None:
    host.account("wa1")
    (host.place / "link").symlink_to(host.path.parent)
    path = host.place / "link/sessions"
    assert counts(host.migrate(path=str(path))) == {"migrated": 1}
    assert host.names() == ["wa1"]
    assert not host.migrate(path=str(path))["changed"]
    assert not host.migrate()["changed"]


# --- runs that were cut short ----------------------------------------------------------------------------


@pytest.fixture
def interrupted(host: Host) -> t.Callable[[str, str, int], bool]:
    """Run the module and kill it at its ``number``-th ``call``; tell whether it got that far."""

    def run(engine: str, call: str, number: int) -> bool:
        arguments = {"src": [str(host.legacy)], "path": str(host.path), "owner": "nobody", "engine": engine}
        search_path = [str(COLLECTIONS), str(pathlib.Path(ansible.__file__).parents[1])]
        done = subprocess.run(
            [
                *("taskset", "--cpu-list", "0"),  # one process does it all, so that calls can be counted
                *("strace", "-qq", "-o", "/dev/null"),
                *("-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={number}"),
                *(os.environ.get("WA_MODULE_PYTHON", sys.executable), "-m", f"{MODULES}.session_migrate"),
            ],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode(),
            capture_output=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(search_path), "PYTHONDONTWRITEBYTECODE": "1"},
            check=False,
        )
        return done.returncode != 0

    return run


Interrupted = t.Callable[[str, str, int], bool]


@pytest.mark.parametrize(
    ("engine", "call", "number"),
    [
        ("native", "syncfs", 3),
        ("native", "renameat2", 2),
        ("rsync", "syncfs", 3),
        ("rename", "syncfs", 1),
        ("rename", "syncfs", 2),
    ],
)
def test_a_run_that_was_killed_is_finished_by_the_next_one(
    host: Host, interrupted: Interrupted, engine: str, call: str, number: int
) -> None:
    """Killing it anywhere else, and with what is then there, is in tests/fault."""
    host.account("wa1")
    host.account("wa2", number=2)
    wanted = content(host.legacy)
    assert interrupted(engine, call, number)
    assert (host.control / "intent.json").exists()
    assert host.migrate(engine=engine, check=True)["steps"][0] == "recover"
    assert "recover" in host.migrate(engine=engine)["steps"]
    assert content(host.path) == wanted
    assert_clean(host)
    assert not host.migrate(engine=engine)["changed"]


def test_what_cannot_be_put_back_is_never_overwritten(host: Host, interrupted: Interrupted) -> None:
    """The host went down while accounts were moved, and the backend made a new one in the old place since."""
    account = host.account("wa1")
    good = content(account)
    assert interrupted("rename", "syncfs", 1)
    assert not account.exists()
    host.account("wa1", "fresh", number=5)
    for engine in ENGINES:
        refused = host.migrate(engine=engine)
        assert "move the new one away and run again" in refused["msg"]
    remove(account)
    assert counts(host.migrate()) == {"migrated": 1}
    assert content(host.path / "wa1") == good


def test_two_runs_at_once_do_not_mix(host: Host) -> None:
    host.account("wa1")
    host.migrate(state="staged")
    with (host.control / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = host.migrate()
    assert "another run is working on" in refused["msg"]
    assert counts(host.migrate()) == {"migrated": 1}


def test_somebody_in_the_legacy_path_is_named_and_nothing_happens(host: Host) -> None:
    account = host.account("wa1")
    with subprocess.Popen(["sleep", "60"], cwd=account) as holder:
        try:
            refused = host.migrate()
        finally:
            holder.kill()
    assert f"PID {holder.pid} (sleep)" in refused["msg"]
    assert not host.path.exists() or host.names() == []
    assert counts(host.migrate()) == {"migrated": 1}


@pytest.mark.parametrize(
    "content_", [b"[]", b"{", b'{"accounts": []}', b'{"accounts": {"x": {"source": "/"}}}', b"\xff"]
)
def test_a_damaged_receipt_is_said(host: Host, content_: bytes) -> None:
    host.account("wa1")
    host.migrate()
    put_file(host.control / "receipt.json", content_)
    refused = host.migrate()
    assert "receipt.json" in refused["msg"]
    assert "damaged; move it away and run again" in refused["msg"]


# --- bad input ------------------------------------------------------------------------------------------


def refusals(place: pathlib.Path) -> dict[str, tuple[dict[str, t.Any], str]]:
    """What is not accepted: options, and words of the sentence that says why."""
    legacy, path = str(place / "opt/current/.baileys_auth"), str(place / "var/sessions")
    twice = {
        "overrides": [
            {
                "name": "20-sessions",
                "unit": "wa",
                "daemon_reload": False,
                "sections": {"Service": {"Environment": {"S": "/one"}}},
            }
        ],
        "environment_file": {"path": f"{place}/env", "values": {"S": "/two"}},
    }
    two_drop_ins = {
        "overrides": [
            {
                "name": name,
                "unit": "wa",
                "daemon_reload": False,
                "sections": {"Service": {"Environment": {"S": f"/{name}"}}},
            }
            for name in ("a", "b")
        ]
    }
    return {
        "relative path": ({"path": "var/sessions"}, "a relative path"),
        "path with newline": ({"path": f"{path}\n"}, "control character"),
        "path with dots": ({"path": f"{path}/../x"}, "'..'"),
        "the root": ({"path": "/"}, "root of the file system"),
        "a link": ({"path": str(place / "link")}, "is a symbolic link"),
        "a dangling link": ({"path": str(place / "dangling")}, "is a symbolic link"),
        "a file": ({"path": str(place / "file")}, "is not a directory"),
        "below a file": ({"path": str(place / "file/sessions")}, "not a directory"),
        "relative source": ({"src": [".baileys_auth"]}, "src is '.baileys_auth': a relative path"),
        "source with newline": ({"src": [f"{legacy}\n"]}, "control character"),
        "source is path": ({"path": legacy}, "is the sessions path itself"),
        "source is path by a link": ({"path": f"{place}/linked/.baileys_auth"}, "is the sessions path itself"),
        "source inside path": ({"path": str(place / "opt/current")}, "lies inside the sessions path"),
        "path inside source": ({"path": f"{legacy}/new"}, "lies inside the source"),
        "path inside source by a link": ({"path": f"{place}/linked/.baileys_auth/new"}, "lies inside the source"),
        "source inside source": ({"src": [legacy, f"{legacy}/wa1"]}, "lies inside the source"),
        "source is a file": ({"src": [str(place / "file")]}, "is not a directory"),
        "unknown user": ({"owner": "nosuchuser"}, "the user 'nosuchuser' does not exist"),
        "unknown group": ({"group": "nosuchgroup"}, "the group 'nosuchgroup' does not exist"),
        "number without group": ({"owner": "4242"}, "set 'group'"),
        "unknown layout": ({"layout": "telegram"}, "the layout 'telegram' is unknown; choose one of baileys"),
        "unit without systemd": ({"unit": "whatsapp-backend"}, "systemd does not run on this host"),
        "bad unit": ({"unit": "a/b"}, "is not a valid unit name"),
        "drop-in for another unit": (
            {"unit": "wa", "switch": {"overrides": [{"unit": "other", "sections": {"Service": {"UMask": "0077"}}}]}},
            "is for other, but the sessions belong to wa.service",
        ),
        "drop-in without unit": ({"switch": {"overrides": [{"sections": {"Service": {"UMask": "0077"}}}]}}, "has no unit"),
        "two values": ({"switch": twice}, "sets S to different values in two files"),
        "two values in drop-ins": ({"switch": two_drop_ins}, "sets S to different values in two files"),
        "newline in a value": (
            {"switch": {"environment_file": {"path": f"{place}/env", "values": {"S": "a\nb"}}}}, "S"
        ),
        "bad variable": ({"switch": {"environment_file": {"path": f"{place}/env", "values": {"A B": "a"}}}}, "'A B' is not a valid name"),
        "misspelt drop-in option": ({"unit": "wa", "switch": {"overrides": [{"section": {}}]}}, "in option 'overrides'"),
        "no source and no unit": ({"src": []}, "neither 'src' nor 'unit'"),
    }  # fmt: skip


@pytest.mark.parametrize("name", refusals(pathlib.Path("/")))
def test_bad_input_is_one_clear_sentence_and_changes_nothing(host: Host, name: str) -> None:
    host.account("wa1")
    put_file(host.place / "file", "")
    (host.place / "link").symlink_to(host.place / "opt")
    (host.place / "linked").symlink_to(host.legacy.parent)
    (host.place / "dangling").symlink_to(host.place / "nowhere")
    options, words = refusals(host.place)[name]
    before = looks(host.place)
    for check in (True, False):
        refused = host.migrate(check=check, **options)
        assert refused["failed"], refused
        assert words in refused["msg"], refused["msg"]
        assert "\n" not in refused["msg"]
        assert "unexpected error" not in refused["msg"]
        assert not refused.get("changed")
    assert looks(host.place) == before


def test_a_source_that_does_not_exist_is_nothing_to_do(host: Host) -> None:
    result = host.migrate(src=["/nowhere/at/all", str(host.legacy.parent / "gone")])
    assert (result["changed"], result["src"], result["accounts"]) == (False, [], [])
    assert not host.path.exists()
    host.account("wa1")
    assert counts(host.migrate(src=["/nowhere", str(host.legacy)])) == {"migrated": 1}


def test_an_empty_source_is_nothing_to_do(host: Host) -> None:
    assert not host.migrate()["changed"]
    assert not host.path.exists()


@pytest.mark.parametrize("locked", ["source", "path"])
def test_who_may_not_read_is_told_so(host: Host, locked: str) -> None:
    host.account("wa1")
    if locked == "source":
        os.chown(host.legacy, 0, 0)
        host.legacy.chmod(0o700)
        host.path.parent.chmod(0o777)
    else:
        host.path.parent.chmod(0o700)
    before = looks(host.place)
    refused = host.migrate(uid=UID)
    assert refused["failed"]
    assert "Permission denied" in refused["msg"]
    assert "unexpected error" not in refused["msg"]
    assert looks(host.place) == before


def test_who_owns_both_paths_needs_no_root(host: Host) -> None:
    host.account("wa1")
    give(host.path.parent, UID, GID)
    source = content(host.legacy)
    assert counts(host.migrate(uid=UID)) == {"migrated": 1}
    assert content(host.path) == source
    assert not host.migrate(uid=UID)["changed"]
