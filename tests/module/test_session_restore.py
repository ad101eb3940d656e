# SPDX-License-Identifier: GPL-3.0-or-later
"""session_restore, the real module as root on real filesystems, where no systemd runs: all that does not need a unit.

Every call asks for the difference at the highest verbosity, and no canary may be in what it prints or leaves in the control directory.
"""

from __future__ import annotations

import fcntl
import json
import pathlib
import shutil
import stat
import time
import typing as t

import pytest

from accounts import CANARY, content, give, looks, put_account, put_file, use
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.tombstone import leave_tombstone
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.store import write_gone
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from areas import control_of
from module_server import Server
from snapshots import put_snapshot, store_of

UID, GID = 65534, 65534  # nobody and nogroup: a user whose group has another name
HOUR = 3600.0

Result = dict[str, t.Any]


class Host:
    """A sessions path with linked accounts, and the module that restores them."""

    def __init__(self, server: Server, place: pathlib.Path) -> None:
        self.server, self.place = server, place
        self.path = place / "var/sessions"
        self.path.mkdir(parents=True)
        for number in (1, 2):
            put_account(self.path / f"wa{number}", number=number)
        give(self.path, UID, GID)

    def restore(self, *names: str, check: bool = False, uid: int = 0, **options: t.Any) -> Result:
        told = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_verbosity": 4}
        given = {"path": str(self.path), "accounts": list(names), **options}
        result = self.server.run("session_restore", {**told, **given}, uid)
        assert CANARY not in json.dumps(result)
        return result

    def recover(self, **options: t.Any) -> Result:
        return self.restore(state="recovered", **options)

    @property
    def displaced(self) -> list[pathlib.Path]:
        folder = self.path.parent / ".sessions.whatsapp-ops/displaced"
        return sorted(entry for entry in folder.iterdir() if entry.is_dir()) if folder.exists() else []

    def damage(self, name: str = "wa1") -> None:
        """Leave a file of no bytes, as a full disk or a kill does."""
        (self.path / name / "creds.json").write_bytes(b"")

    def use(self, name: str = "wa1") -> None:
        use(self.path / name, time.time())


@pytest.fixture
def host(server: Server, place: pathlib.Path) -> Host:
    return Host(server, place)


def actions(result: Result) -> list[str]:
    assert "accounts" in result, result["msg"]
    return [account["action"] for account in result["accounts"]]


def facts(path: pathlib.Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def test_check_mode_foresees_then_a_lost_account_is_back_then_nothing_changes(host: Host) -> None:
    saved, before = content(host.path / "wa1"), facts(host.path / "wa1")
    put_snapshot(host.path, "wa1", taken=time.time() - HOUR)
    shutil.rmtree(host.path / "wa1")
    untouched = looks(host.place)
    foreseen = host.restore("wa1", check=True)
    assert looks(host.place) == untouched
    made, again = host.restore("wa1"), host.restore("wa1")
    assert [actions(result) for result in (foreseen, made, again)] == [["restored"], ["restored"], ["unchanged"]]
    assert [result["changed"] for result in (foreseen, made, again)] == [True, True, False]
    assert content(host.path / "wa1") == saved
    assert facts(host.path / "wa1") == before
    assert facts(host.path / "wa1/creds.json") == (UID, GID, 0o600)
    assert HOUR <= made["accounts"][0]["age_seconds"] < HOUR + 60
    assert any("1 h old" in warning for warning in made["warnings"])


def test_the_whole_directory_comes_back_for_a_named_owner(host: Host) -> None:
    saved = content(host.path)
    for name in ("wa1", "wa2"):
        put_snapshot(host.path, name)
    shutil.rmtree(host.path)
    refused = host.restore("wa1", "wa2")
    assert refused["failed"] and "neither 'unit' nor 'owner'" in refused["msg"]
    assert actions(host.restore("wa1", "wa2", owner="nobody")) == ["restored", "restored"]
    assert content(host.path) == saved
    assert facts(host.path) == (UID, GID, 0o750)


def test_a_damaged_account_is_replaced_and_kept_aside(host: Host) -> None:
    put_snapshot(host.path, "wa1")
    host.damage()
    made = host.restore("wa1")
    assert made["accounts"][0]["reason"] == "the account was corrupt"
    assert (host.path / "wa1/creds.json").stat().st_size > 0
    assert [(entry / "creds.json").stat().st_size for entry in host.displaced] == [0]


def test_what_is_left_of_an_account_without_credentials_is_kept_aside(host: Host) -> None:
    put_snapshot(host.path, "wa1")
    (host.path / "wa1/creds.json").unlink()
    left = content(host.path / "wa1")
    assert actions(host.restore("wa1")) == ["restored"]
    assert [content(entry) for entry in host.displaced] == [left]


def test_a_linked_account_with_newer_keys_is_replaced_only_by_force_and_only_once(host: Host) -> None:
    put_snapshot(host.path, "wa1", taken=time.time() - HOUR)
    saved = content(host.path / "wa1")
    host.use()
    newer, untouched = content(host.path / "wa1"), looks(host.place)
    refused = host.restore("wa1")
    assert refused["failed"]
    assert "cannot be decrypted" in refused["msg"] and "force=true" in refused["msg"]
    assert looks(host.place) == untouched
    made = host.restore("wa1", force=True)
    assert actions(made) == ["restored"] and content(host.path / "wa1") == saved
    assert [content(entry) for entry in host.displaced] == [newer]
    host.use()
    assert actions(host.restore("wa1", force=True)) == actions(host.restore("wa1")) == ["unchanged"]


def test_a_device_that_was_linked_after_a_restore_is_another_one(host: Host) -> None:
    put_snapshot(host.path, "wa1")
    host.use()
    host.restore("wa1", force=True)
    put_account(host.path / "wa1", number=7, at=time.time())
    give(host.path, UID, GID)
    assert "is linked" in host.restore("wa1")["msg"]
    assert actions(host.restore("wa1", force=True)) == ["restored"]


def test_an_equal_account_is_left_alone(host: Host) -> None:
    put_snapshot(host.path, "wa1")
    untouched = looks(host.path)
    made = host.restore("wa1", force=True)
    assert (made["changed"], actions(made)) == (False, ["unchanged"])
    assert looks(host.path) == untouched


def test_a_snapshot_can_be_named_by_its_moment(host: Host) -> None:
    older = put_snapshot(host.path, "wa1", taken=time.time() - HOUR)
    first = content(host.path / "wa1")
    host.use()
    put_snapshot(host.path, "wa1")
    shutil.rmtree(host.path / "wa1")
    made = host.restore("wa1", snapshot=older.moment)
    assert made["accounts"][0]["snapshot"] == older.moment
    assert content(host.path / "wa1") == first
    unknown = host.restore("wa1", snapshot="20200101T000000.000000Z")
    assert unknown["failed"] and older.moment in unknown["msg"]


def test_the_latest_sound_snapshot_counts(host: Host) -> None:
    sound = put_snapshot(host.path, "wa1", taken=time.time() - HOUR)
    host.damage()
    damaged = put_snapshot(host.path, "wa1")
    refused = host.restore("wa1", snapshot=damaged.moment)
    assert refused["failed"] and "was corrupt" in refused["msg"]
    assert host.restore("wa1")["accounts"][0]["snapshot"] == sound.moment


def truncate_credentials(root: pathlib.Path) -> None:
    (root / "wa1/creds.json").write_bytes(b"")


def remove_a_key(root: pathlib.Path) -> None:
    next((root / "wa1").glob("pre-key*")).unlink()


def add_an_account(root: pathlib.Path) -> None:
    shutil.copytree(root / "wa1", root / "wa9")


def replace_by_a_link(root: pathlib.Path) -> None:
    shutil.move(root / "wa1", root.parent / "elsewhere")
    (root / "wa1").symlink_to("../elsewhere")


def open_to_others(root: pathlib.Path) -> None:
    root.parent.chmod(0o755)


@pytest.mark.parametrize(
    "harm", [truncate_credentials, remove_a_key, add_an_account, replace_by_a_link, open_to_others]
)
def test_a_snapshot_that_is_not_whole_is_refused(host: Host, harm: t.Callable[[pathlib.Path], None]) -> None:
    snapshot = put_snapshot(host.path, "wa1")
    harm(store_of(host.path) / snapshot.name / "root")
    shutil.rmtree(host.path / "wa1")
    untouched = looks(host.path)
    refused = host.restore("wa1")
    assert refused["failed"] and "nothing was changed" in refused["msg"], refused
    assert looks(host.path) == untouched


def test_locks_are_not_restored(server: Server, place: pathlib.Path) -> None:
    host = Host(server, place)
    put_file(host.path / "wa1/creds.json.lock", "1")
    put_snapshot(host.path, "wa1")
    shutil.rmtree(host.path / "wa1")
    custom = {"markers": ["creds.json"], "locks": ["creds.json.lock"]}
    refused = host.restore("wa1", layout="custom", custom=custom)
    assert refused["failed"] and "layout baileys" in refused["msg"]
    snapshot = store_of(host.path).glob("backup-*/snapshot.json").__next__()
    snapshot.write_text(snapshot.read_text().replace('"baileys"', '"custom"'))
    assert actions(host.restore("wa1", layout="custom", custom=custom)) == ["restored"]
    assert not (host.path / "wa1/creds.json.lock").exists()


def test_an_account_that_was_moved_to_another_host_stays_away(host: Host) -> None:
    put_snapshot(host.path, "wa1")
    shutil.rmtree(host.path / "wa1")
    with opened_directory(str(host.path)) as path:
        leave_tombstone(path, "wa1", "moved to wa2")
    for refused in (host.restore("wa1"), host.restore("wa1", force=True)):
        assert refused["failed"] and "moved to another host" in refused["msg"]
    assert "moved to another host" in host.recover()["accounts"][0]["reason"]
    assert (host.path / "wa1").is_file()


def test_a_store_elsewhere_and_a_path_elsewhere(host: Host) -> None:
    other = host.place / "copied"
    put_snapshot(host.path, "wa1", place=other)
    given = {"backup_path": str(other), "path": str(host.place / "new"), "owner": "nobody"}
    refused = host.restore("wa1", **given)
    assert refused["failed"] and "snapshot_path" in refused["msg"]
    assert actions(host.restore("wa1", snapshot_path=str(host.path), **given)) == ["restored"]
    assert content(host.place / "new/wa1") == content(host.path / "wa1")


def test_a_store_that_others_can_change_is_not_trusted(host: Host) -> None:
    other = host.place / "copied"
    put_snapshot(host.path, "wa1", place=other)
    other.chmod(0o777)
    refused = host.restore("wa1", backup_path=str(other))
    assert refused["failed"] and "cannot be trusted" in refused["msg"]


def test_a_store_in_the_sessions_path_is_refused(host: Host) -> None:
    refused = host.restore("wa1", backup_path=str(host.path / "backups"))
    assert refused["failed"] and "at, in or above the sessions path" in refused["msg"]


def test_without_a_store_a_restore_fails_and_a_recovery_has_nothing_to_do(host: Host) -> None:
    refused = host.restore("wa1")
    assert refused["failed"] and "no store of snapshots" in refused["msg"]
    assert not host.recover()["changed"]


def test_names_are_masked_unless_they_are_asked_for(host: Host) -> None:
    put_account(host.path / f"s{CANARY}", number=3)
    put_snapshot(host.path, f"s{CANARY}")
    told = {"path": str(host.path), "accounts": [f"s{CANARY}"], "show_accounts": True}
    assert host.restore(f"s{CANARY}")["accounts"][0]["id"] != f"s{CANARY}"
    assert host.server.run("session_restore", told)["accounts"][0]["id"] == f"s{CANARY}"


def test_what_is_recorded_has_no_names_and_leaves_the_receipt_alone(host: Host) -> None:
    put_snapshot(host.path, "wa1")
    shutil.rmtree(host.path / "wa1")
    host.restore("wa1")
    control = control_of(host.path)
    assert facts(control / "restores.json") == (0, 0, 0o600)
    assert not (control / "receipt.json").exists()
    assert "wa1" not in (control / "restores.json").read_text()


def test_a_run_that_prunes_the_store_is_waited_for_by_nobody_else(host: Host) -> None:
    """The store is only read, so that two restores of different paths do not wait for each other."""
    put_snapshot(host.path, "wa1")
    shutil.rmtree(host.path / "wa1")
    with open(store_of(host.path) / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert actions(host.restore("wa1")) == ["restored"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "names no account"),
        ({"all_accounts": True, "force": True}, "neither 'accounts' nor 'force'"),
        ({"all_accounts": True, "state": "recovered"}, "nor state=recovered"),
        ({"state": "recovered", "force": True}, "neither 'force' nor 'snapshot'"),
        ({"state": "recovered", "snapshot": "20200101T000000.000000Z"}, "neither 'force' nor 'snapshot'"),
        ({"state": "recovered", "recover_at_most": 0}, "at least 1"),
        ({"state": "recovered", "logout_patterns": ["("]}, "invalid regular expression"),
    ],
)
def test_options_that_contradict_each_other_are_refused(host: Host, options: dict[str, t.Any], words: str) -> None:
    refused = host.restore(**options)
    assert refused["failed"] and words in refused["msg"]


# --- all accounts ---------------------------------------------------------------------------------------


def test_all_accounts_that_are_not_linked_come_back_then_nothing_changes(host: Host) -> None:
    saved = content(host.path)
    for name in ("wa1", "wa2"):
        put_snapshot(host.path, name, taken=time.time() - HOUR)
    whole = put_snapshot(host.path, "wa1")
    spoiled = put_snapshot(host.path, "wa1")
    truncate_credentials(store_of(host.path) / spoiled.name / "root")
    shutil.rmtree(host.path)
    made = host.restore(all_accounts=True, owner="nobody")
    assert (actions(made), content(host.path)) == (["restored", "restored"], saved)
    assert whole.moment in [account["snapshot"] for account in made["accounts"]]
    host.use()
    again = host.restore(all_accounts=True)
    assert (again["changed"], actions(again), again["sound"]) == (False, [], 2)


def test_accounts_that_may_be_elsewhere_are_restored_only_by_name(host: Host) -> None:
    for name in ("wa1", "wa2"):
        put_snapshot(host.path, name)
    with opened_directory(str(store_of(host.path))) as store:
        write_gone(store, ["wa1", "wa2"])
    shutil.rmtree(host.path / "wa1")
    left = host.restore(all_accounts=True)
    assert (left["changed"], actions(left)) == (False, ["skipped"])
    assert "may have been moved to another host" in left["accounts"][0]["reason"]
    assert actions(host.restore("wa1")) == ["restored"]


def test_all_of_nothing_is_an_error(host: Host) -> None:
    shutil.rmtree(store_of(host.path) / put_snapshot(host.path, "wa1").name)
    refused = host.restore(all_accounts=True)
    assert refused["failed"] and "has no sound snapshot" in refused["msg"]


# --- recovering -----------------------------------------------------------------------------------------


def test_only_what_is_damaged_is_recovered_then_nothing_changes(host: Host) -> None:
    for name in ("wa1", "wa2"):
        put_snapshot(host.path, name)
    host.damage("wa1")
    host.use("wa2")
    used = looks(host.path / "wa2")
    made, again = host.recover(), host.recover()
    assert (made["changed"], actions(made), made["sound"]) == (True, ["restored"], 2)
    assert (again["changed"], actions(again), again["sound"]) == (False, [], 2)
    assert looks(host.path / "wa2") == used


def test_a_missing_account_is_not_recovered_while_nothing_shows_why(host: Host) -> None:
    put_snapshot(host.path, "wa1")
    shutil.rmtree(host.path / "wa1")
    made = host.recover()
    assert (made["changed"], actions(made)) == (False, ["skipped"])
    assert "restore it by name" in made["accounts"][0]["reason"]
    assert any("restore it by name" in warning for warning in made["warnings"])


def test_an_account_is_not_recovered_again_and_again(host: Host) -> None:
    put_snapshot(host.path, "wa1")
    for number in range(2):
        host.damage()
        assert actions(host.recover(recover_interval=0, recover_at_most=2)) == ["restored"], number
    host.damage()
    assert "2 times within a day" in host.recover(recover_interval=0, recover_at_most=2)["accounts"][0]["reason"]
    assert "at most once in 3600 s" in host.recover(recover_at_most=9)["accounts"][0]["reason"]
    assert actions(host.restore("wa1")) == ["restored"]


def test_a_recovery_takes_the_next_older_snapshot_if_the_newest_is_not_whole(host: Host) -> None:
    older = put_snapshot(host.path, "wa1", taken=time.time() - HOUR)
    newest = put_snapshot(host.path, "wa1")
    remove_a_key(store_of(host.path) / newest.name / "root")
    host.damage()
    assert host.recover()["accounts"][0]["snapshot"] == older.moment


def test_an_account_that_is_being_linked_is_left_alone(host: Host) -> None:
    put_snapshot(host.path, "wa1")
    put_account(host.path / "wa1", "pending", number=9)
    made = host.recover()
    assert (made["changed"], actions(made)) == (False, ["skipped"])
    assert "linking a device" in made["accounts"][0]["reason"]


def test_only_the_named_accounts_are_considered(host: Host) -> None:
    for name in ("wa1", "wa2"):
        put_snapshot(host.path, name)
        host.damage(name)
    assert actions(host.restore("wa2", state="recovered")) == ["restored"]
    assert (host.path / "wa1/creds.json").stat().st_size == 0
