# SPDX-License-Identifier: GPL-3.0-or-later
"""session_backup, the real module on real filesystems: what is saved, what is shared, what is refused, and that nothing gets out."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import stat
import subprocess
import sys
import typing as t

import pytest

from accounts import CANARY, content, give, put_account, put_file, use
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import control_path
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.account import opened_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import LAYOUTS
from conftest import Mount
from layouts import KINDS, damage_store, put_root_of, put_store
from module_server import Server

UID, GID = 65534, 65534
Result = dict[str, t.Any]


class Backup(t.Protocol):
    def __call__(self, check: bool = False, **options: t.Any) -> Result: ...


@pytest.fixture
def sessions(place: pathlib.Path) -> pathlib.Path:
    made = place / "sessions"
    made.mkdir(mode=0o750)
    return made


@pytest.fixture
def store(sessions: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(control_path(str(sessions)), "backups")


@pytest.fixture
def backup(server: Server, sessions: pathlib.Path) -> Backup:
    """Run the module at the highest verbosity; no canary may be seen."""

    def run(check: bool = False, **options: t.Any) -> Result:
        told = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_verbosity": 4}
        result = server.run("session_backup", {**told, "path": str(sessions), **options})
        assert CANARY not in json.dumps(result, ensure_ascii=False)
        return result

    return run


def saved(store: pathlib.Path, account: str = "a") -> list[pathlib.Path]:
    """Return the copies of an account, oldest first."""
    found = sorted(store.glob(f"backup-{account}-2*"), key=lambda path: path.name.rpartition("-")[2])
    return [path / "root" / account for path in found]


def actions(result: Result) -> list[str]:
    assert "accounts" in result, result
    return [account["action"] for account in result["accounts"]]


def test_changed_accounts_are_saved_and_others_are_not(
    backup: Backup, sessions: pathlib.Path, store: pathlib.Path
) -> None:
    for name in ("a", "b"):
        give(put_account(sessions / name), UID, GID)
    first = backup()
    assert first["changed"], first
    assert actions(first) == ["saved", "saved"]
    assert content(saved(store)[0]) == content(sessions / "a")
    second = backup()
    assert not second["changed"]
    assert actions(second) == ["unchanged", "unchanged"]
    assert len(saved(store)) == 1
    use(sessions / "a", 0)
    third = backup()
    assert actions(third) == ["saved", "unchanged"]
    old, new = saved(store)
    assert content(new) == content(sessions / "a") != content(old)
    shared = {path.name for path in old.iterdir() if path.stat().st_ino == (new / path.name).stat().st_ino}
    assert shared == {path.name for path in old.iterdir()} - {"creds.json"}
    assert third["new_bytes"] == (sessions / "a/creds.json").stat().st_size
    assert [one["files"] for one in third["snapshots"]] == [5, 5, 5]


def test_snapshots_belong_to_root_alone(backup: Backup, sessions: pathlib.Path, store: pathlib.Path) -> None:
    give(put_account(sessions / "a"), UID, GID)
    (sessions / "a/creds.json").chmod(0o4644)
    backup()
    for path in (store, *store.rglob("*")):
        status = path.lstat()
        assert (status.st_uid, status.st_gid) == (0, 0)
        assert stat.S_IMODE(status.st_mode) == (0o700 if path.is_dir() else 0o600), path.name


def test_a_file_that_claims_to_be_old_is_saved(backup: Backup, sessions: pathlib.Path, store: pathlib.Path) -> None:
    """Size and mtime are as before, and neither credentials nor directory were written: only the ctime shows it."""
    put_account(sessions / "a")
    backup()
    key = sessions / "a/pre-key-1.json"
    before = key.stat()
    changed = key.read_bytes()[::-1]
    key.write_bytes(changed)
    os.utime(key, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert actions(backup()) == ["saved"]
    old, new = saved(store)
    assert (new / key.name).read_bytes() == changed
    assert (old / key.name).read_bytes() != changed


def test_check_mode_predicts_and_writes_nothing(backup: Backup, sessions: pathlib.Path, store: pathlib.Path) -> None:
    put_account(sessions / "a")
    predicted = backup(check=True, keep_days=0, keep_last=1)
    assert predicted["changed"]
    assert actions(predicted) == ["saved"]
    assert not store.exists()
    backup()
    use(sessions / "a", 0)
    predicted = backup(check=True, keep_days=0, keep_last=1)
    assert (actions(predicted), predicted["pruned"]) == (["saved"], 1)
    done = backup(keep_days=0, keep_last=1)
    assert (done["diff"], done["pruned"]) == (predicted["diff"], 1)
    assert len(saved(store)) == 1
    assert content(saved(store)[0]) == content(sessions / "a")
    assert not backup(keep_days=0, keep_last=1)["changed"]


@pytest.mark.parametrize("layout", KINDS)
def test_each_layout(backup: Backup, sessions: pathlib.Path, store: pathlib.Path, layout: str) -> None:
    """Copies are judged as the accounts are, with their parts elsewhere, whether all of one is copied or part of it is shared."""
    made = [one.name for one in put_root_of(layout, sessions) if one.state in ("paired", "unknown")]
    assert backup(layout=layout)["saved"] == len(made)
    assert not backup(layout=layout)["changed"]
    for name in made:
        put_file(sessions / name / "zz-later.json", "{}")
    assert backup(layout=layout)["saved"] == len(made)
    for name in made:
        tops = list(store.glob(f"backup-*/root/{name}"))
        assert len(tops) == 2
        for account in tops:
            top = str(account)[: -len(name) - 1]
            with opened_directory(str(sessions)) as root, opened_account(root, name) as directory:
                live = LAYOUTS[layout].judged(directory)
            with opened_directory(top) as root, opened_account(root, name) as directory:
                assert LAYOUTS[layout].judged(directory).fingerprints == live.fingerprints
            for part in LAYOUTS[layout].sidecars_of(name):
                assert os.path.exists(f"{top}/{part}") == (sessions / part).exists()


def test_a_database_is_saved_with_its_log_and_shared_while_it_is_unchanged(
    backup: Backup, sessions: pathlib.Path, store: pathlib.Path
) -> None:
    account = sessions / "a"
    account.mkdir()
    put_store(account / "whatsapp.db", wal=True)
    assert actions(backup(layout="whatsmeow")) == ["saved"]
    (copy,) = saved(store)
    assert {path.name for path in copy.iterdir()} == {"whatsapp.db"}
    put_file(account / "note.txt", "x")
    assert actions(backup(layout="whatsmeow")) == ["saved"]
    old, new = saved(store)
    assert (old / "whatsapp.db").stat().st_ino == (new / "whatsapp.db").stat().st_ino
    (account / "whatsapp.db").touch()
    assert actions(backup(layout="whatsmeow")) == ["saved"]
    assert saved(store)[2].joinpath("whatsapp.db").stat().st_ino != (new / "whatsapp.db").stat().st_ino


def test_a_damaged_account_does_not_replace_its_snapshots(
    backup: Backup, sessions: pathlib.Path, store: pathlib.Path
) -> None:
    put_account(sessions / "a")
    put_account(sessions / "b", "pending")
    backup()
    (sessions / "a/creds.json").write_bytes(b"")
    result = backup(keep_days=0, keep_last=1)
    assert actions(result) == ["skipped", "skipped"]
    assert result["accounts"][0]["reason"].startswith("it is damaged")
    assert len(result["warnings"]) == 1
    assert len(saved(store)) == 1
    assert not result["changed"]


def test_a_removed_account_keeps_its_last_snapshot(backup: Backup, sessions: pathlib.Path, store: pathlib.Path) -> None:
    account = put_account(sessions / "a")
    put_account(sessions / "b", number=2)
    for _turn in range(3):
        backup()
        use(account, 0)
    subprocess.run(["rm", "-r", str(account)], check=True)
    result = backup(keep_days=0, keep_last=1)
    assert result["pruned"] == 2
    assert len(saved(store)) == 1
    assert any("no longer at" in warning for warning in result["warnings"])
    assert json.loads((store / "gone.json").read_text()) == {"accounts": ["a"]}
    assert not backup(state="pruned", keep_days=0, keep_last=0)["changed"]
    put_account(sessions / "a")
    backup()
    assert json.loads((store / "gone.json").read_text()) == {"accounts": []}


def test_only_named_accounts(backup: Backup, sessions: pathlib.Path, store: pathlib.Path) -> None:
    for name in ("a", "b"):
        put_account(sessions / name)
    assert actions(backup(accounts=["b"])) == ["saved"]
    assert not saved(store)
    refused = backup(accounts=[CANARY, "a"])
    assert refused["msg"].startswith("1 of the accounts in 'accounts' are neither at")


def test_a_store_of_another_path_is_refused(backup: Backup, sessions: pathlib.Path, place: pathlib.Path) -> None:
    put_account(sessions / "a")
    other = place / "other"
    put_account(other / "a")
    assert backup(backup_path=f"{place}/store")["changed"]
    refused = backup(path=str(other), backup_path=f"{place}/store")
    assert "holds snapshots of" in refused["msg"]
    assert len(saved(place / "store")) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quiesce": "freeze"}, "needs the backend"),
        ({"keep_last": -1}, "give 0 or more"),
        ({"path": "/srv/nothing-here"}, "there is no directory /srv/nothing-here"),
        ({"min_free_bytes": 1 << 60}, "nothing was changed: free space"),
    ],
)
def test_what_is_refused(
    backup: Backup, sessions: pathlib.Path, store: pathlib.Path, options: dict[str, t.Any], message: str
) -> None:
    put_account(sessions / "a")
    for check in (True, False):
        assert message in backup(check=check, **options)["msg"]
    assert not store.exists()


def test_another_users_file_is_not_saved(backup: Backup, sessions: pathlib.Path, store: pathlib.Path) -> None:
    """A user can hard-link a file of root into an account; a restored copy would be given to that user."""
    give(put_account(sessions / "a"), UID, GID)
    put_file(sessions / "a/shadow.json", "{}")
    os.chown(sessions / "a/shadow.json", 0, 0)
    give(put_account(sessions / "b"), UID, GID)
    failed = backup()
    assert "private file of another user" in failed["msg"]
    assert (failed["saved"], failed["failed"]) == (1, 1)
    assert not saved(store)
    assert len(saved(store, "b")) == 1
    assert json.loads((store / "last_run.json").read_text())["failed"] == 1


def test_links_out_of_an_account_are_left_out(backup: Backup, sessions: pathlib.Path, store: pathlib.Path) -> None:
    put_account(sessions / "a")
    (sessions / "a/link.json").symlink_to("/etc/shadow")
    os.mkfifo(sessions / "a/pipe.json")
    assert actions(backup()) == ["saved"]
    assert len(list(saved(store)[0].iterdir())) == 5
    assert not backup()["changed"]


def test_a_disk_that_is_too_full(backup: Backup, sessions: pathlib.Path, place: pathlib.Path, mount: Mount) -> None:
    account = put_account(sessions / "a")
    disk = mount("ext4", place / "disk", megabytes=8)
    disk.chmod(0o755)
    options: dict[str, t.Any] = {"backup_path": f"{disk}/store"}
    assert backup(**options)["changed"]
    before = content(saved(disk / "store")[0])
    (account / "large.json").write_bytes(os.urandom(12 << 20))
    refused = backup(**options)
    assert "nothing was changed: free space" in refused["msg"]
    (account / "large.json").write_bytes(b"")
    os.truncate(account / "large.json", 0)
    use(account, 0)
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 16))
    failed = backup(**options)
    assert failed["failed"], failed
    assert [content(path) for path in saved(disk / "store")] == [before]
    filler.unlink()
    assert backup(**options)["changed"]
    assert len(saved(disk / "store")) == 2
    assert not list((disk / "store").glob(".partial-*"))


@pytest.mark.parametrize("damage", ["rotten", "emptied", "removed"])
def test_a_damaged_snapshot_does_not_spoil_the_following_ones(
    backup: Backup, sessions: pathlib.Path, store: pathlib.Path, damage: str
) -> None:
    put_account(sessions / "a")
    backup()
    (old,) = saved(store)
    if damage == "removed":
        subprocess.run(["rm", "-r", str(old)], check=True)
    else:
        size = (old / "creds.json").stat().st_size
        (old / "creds.json").write_bytes(b"\0" * (size if damage == "rotten" else 0))
    put_file(sessions / "a/pre-key-2.json", "{}")
    assert actions(backup()) == ["saved"]
    assert content(saved(store)[-1]) == content(sessions / "a")


def test_a_path_that_is_one_account(backup: Backup, sessions: pathlib.Path, store: pathlib.Path) -> None:
    put_account(sessions)
    assert actions(backup()) == ["saved"]
    (copy,) = store.glob("backup-*/root")
    assert content(copy) == content(sessions)
    assert not backup()["changed"]


def test_half_a_snapshot_is_removed_by_the_next_run(
    backup: Backup, sessions: pathlib.Path, store: pathlib.Path
) -> None:
    put_account(sessions / "a")
    backup()
    (store / ".partial-left/root").mkdir(parents=True)
    assert not backup()["changed"]
    assert not list(store.glob(".partial-*"))


def test_two_runs_at_once(backup: Backup, sessions: pathlib.Path, store: pathlib.Path) -> None:
    put_account(sessions / "a")
    backup()
    holding = [
        sys.executable,
        "-c",
        "import fcntl,sys,time;f=open(sys.argv[1]);fcntl.flock(f,2);print(1,flush=True);time.sleep(60)",
    ]
    with subprocess.Popen([*holding, str(store / "lock")], stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        use(sessions / "a", 0)
        assert "another run is writing" in backup()["msg"]
        other.kill()
    assert backup()["changed"]


def test_large_files_share_their_blocks_where_the_filesystem_can(
    backup: Backup, place: pathlib.Path, mount: Mount
) -> None:
    disk = mount("xfs", place / "disk", megabytes=320)
    disk.chmod(0o755)
    account = put_account(disk / "sessions/a")
    (account / "large.json").write_bytes(os.urandom(64 << 20))
    os.sync()
    before = os.statvfs(disk).f_bfree
    result = backup(path=str(disk / "sessions"), backup_path=f"{disk}/store")
    assert actions(result) == ["saved"], result
    assert (saved(disk / "store")[0] / "large.json").read_bytes() == (account / "large.json").read_bytes()
    os.sync()
    assert (before - os.statvfs(disk).f_bfree) * os.statvfs(disk).f_frsize < 8 << 20


def test_a_damaged_database_is_not_saved(backup: Backup, sessions: pathlib.Path, store: pathlib.Path) -> None:
    account = sessions / "a"
    account.mkdir()
    put_store(account / "whatsapp.db")
    assert actions(backup(layout="whatsmeow")) == ["saved"]
    damage_store(account / "whatsapp.db")
    result = backup(layout="whatsmeow")
    assert actions(result) == ["skipped"]
    assert len(saved(store)) == 1
