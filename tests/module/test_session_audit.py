# SPDX-License-Identifier: GPL-3.0-or-later
"""session_audit, the real module on real directories: planted causes of owners, modes, filesystems and accounts, and a clean one."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest

from accounts import CANARY, give, looks, put_account, put_file
from conftest import Mount
from module_server import Server

UID, GID = 65534, 65534
FAR = "2999-12-31"
Result = dict[str, t.Any]
# Of every host without backups: these tests have none.
NO_BACKUP = "backup_missing"


class Audit(t.Protocol):
    def __call__(self, **options: t.Any) -> Result: ...


@pytest.fixture
def sessions(place: pathlib.Path) -> pathlib.Path:
    """Two linked accounts as the role persist leaves them."""
    made = place / "sessions"
    for number in (1, 2):
        put_account(made / f"wa{number}", number=number)
    give(made, UID, GID)
    made.chmod(0o750)
    return made


@pytest.fixture
def audit(server: Server, place: pathlib.Path, sessions: pathlib.Path) -> Audit:
    """Audit the sessions path at the highest verbosity; no canary may be seen, and looking changes nothing."""

    def run(**options: t.Any) -> Result:
        before = looks(place)
        told = {"_ansible_check_mode": False, "_ansible_diff": True, "_ansible_verbosity": 4}
        result = server.run("session_audit", {**told, "path": str(sessions), "min_free_bytes": 1 << 20, **options})
        assert CANARY not in json.dumps(result)
        assert not result.get("changed")
        assert looks(place) == before
        return result

    return run


def found(result: Result) -> dict[str, Result]:
    """Return the findings by ID, without that of missing backups."""
    assert "findings" in result, result
    return {finding["id"]: finding for finding in result["findings"] if finding["id"] != NO_BACKUP}


def words(finding: Result) -> str:
    return "; ".join(one["what"] for one in finding["evidence"])


def test_a_clean_directory_has_no_finding_but_the_missing_backup(audit: Audit, sessions: pathlib.Path) -> None:
    result = audit()
    assert found(result) == {}
    assert [finding["id"] for finding in result["findings"]] == [NO_BACKUP]
    assert (result["accounts"], result["linked_accounts"], result["worst"]) == (2, 2, "high")
    assert result["places"] == [str(sessions)]
    assert result["summary"] == "2 accounts, findings: 1 high"


# --- one planted cause each ---------------------------------------------------------------------------------

Plant = t.Callable[[pathlib.Path], t.Any]
PLANTED: dict[str, tuple[Plant, str, str]] = {
    "zero-length credentials": (
        lambda root: put_file(root / "wa1/creds.json", b""), "account_without_content", "has no content",
    ),
    "zero-length keys": (
        lambda root: [give(put_file(root / f"wa1/session-{number}.json", b"").parent, UID, GID) for number in (1, 2)],
        "account_without_content", "2 key files have no content",
    ),
    "half a file of credentials": (
        lambda root: os.truncate(root / "wa1/creds.json", 100), "account_corrupt", "not the JSON that the library reads",
    ),
    "a copy with another device": (
        lambda root: give(put_account(root / "wa1-backup", number=7), UID, GID), "copy_in_path", "that of a copy of w…1-",
    ),
    "the same device twice": (
        lambda root: give(put_account(root / "wa9", number=1), UID, GID), "account_twice", "same linked device as w…",
    ),
    "a key of root": (lambda root: os.chown(root / "wa1/pre-key-1.json", 0, 0), "account_foreign_owner", "1 of 5 examined"),
    "a hard link": (
        lambda root: os.link(root / "wa1/creds.json", root / "wa1/creds.json.bak"), "backup_hard_linked", "hard links",
    ),
    "not linked": (
        lambda root: give(put_account(root / "wa3", "fresh", number=3, keys=()), UID, GID), "account_not_linked", "fresh",
    ),
    "no keys": (
        lambda root: [path.unlink() for path in (root / "wa1").glob("*-*.json")], "account_partial", "only credentials",
    ),
    "a link to elsewhere": (
        lambda root: (root / "wa5").symlink_to(f"{root}/wa1"), "link_not_followed", "",
    ),
    "a dangling link": (lambda root: (root / "wa6").symlink_to("nowhere"), "link_not_followed", ""),
    "a git work tree": (lambda root: (root.parent / ".git").mkdir(), "path_in_git", "git work tree"),
    "a script that cleans up": (
        lambda root: put_file(root.parent / "package.json", json.dumps({"scripts": {"clean": "rimraf ./sessions"}})),
        "path_wiped_by_script", "the script clean of",
    ),
    "a parent that all can write": (
        lambda root: root.parent.chmod(0o777), "parent_of_others", "all users can write",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANTED)
def test_one_planted_cause(audit: Audit, sessions: pathlib.Path, case: str) -> None:
    plant, name, said = PLANTED[case]
    plant(sessions)
    findings = found(audit())
    assert name in findings, findings
    assert said in words(findings[name])
    # A package.json is the mark of a program, too.
    also = {"path_wiped_by_script": {"path_in_release"}, "parent_of_others": {"parent_of_backend"}}
    assert set(findings) - also.get(name, set()) == {name}


def test_keys_that_everybody_can_read(audit: Audit, sessions: pathlib.Path) -> None:
    sessions.chmod(0o755)
    assert set(found(audit())) == {"path_open"}  # the accounts themselves are closed
    (sessions / "wa1").chmod(0o755)
    for path in (sessions / "wa1").iterdir():
        path.chmod(0o644)
    findings = found(audit())
    assert set(findings) == {"path_open", "account_open"}
    assert "5 of 5 examined files can be read by all users" in words(findings["account_open"])
    sessions.chmod(0o750)
    assert found(audit()) == {}


def test_growth_and_the_limit_of_what_is_examined(audit: Audit, sessions: pathlib.Path) -> None:
    for number in range(30):
        put_file(sessions / f"wa1/pre-key-{number + 10}.json", "{}")
        os.chown(sessions / f"wa1/pre-key-{number + 10}.json", 0, 0)
    findings = found(audit(max_files=20, scan_files=10))
    assert "at least 20 files" in words(findings["account_growth"])
    assert "of 10 examined files" in words(findings["account_foreign_owner"])


def test_a_directory_in_memory(audit: Audit, sessions: pathlib.Path, mount: Mount) -> None:
    there = mount("tmpfs", sessions.parent / "memory", options="mode=0755")
    give(put_account(there / "wa1"), UID, GID)
    os.chown(there, UID, GID)
    there.chmod(0o750)
    result = audit(path=str(there))
    assert "tmpfs, which is memory" in words(found(result)["path_ephemeral"])
    assert result["worst"] == "critical"


def test_a_disk_that_is_almost_full(audit: Audit) -> None:
    findings = found(audit(min_free_bytes=1 << 50, min_free_inodes=1 << 40))
    assert set(findings) == {"disk_space", "disk_inodes"}


def test_accounts_that_are_still_at_the_former_path(audit: Audit, place: pathlib.Path) -> None:
    legacy = place / "app/releases/7/.baileys_auth"
    give(put_account(legacy / "wa1"), UID, GID)
    os.chown(legacy, UID, GID)
    legacy.chmod(0o700)
    result = audit(path=str(place / "none"), src=[str(legacy)])
    findings = found(result)
    assert set(findings) == {"path_elsewhere", "path_in_release"}
    assert findings["path_elsewhere"]["evidence"][0]["where"] == str(legacy)
    assert "(releases)" in words(findings["path_in_release"])
    assert result["places"] == [str(legacy)]


def test_nothing_at_all(audit: Audit, place: pathlib.Path) -> None:
    result = audit(path=str(place / "none"))
    assert set(found(result)) == {"nothing_found"}
    assert NO_BACKUP not in [finding["id"] for finding in result["findings"]]


def test_names_are_masked_unless_they_are_asked_for(audit: Audit, sessions: pathlib.Path) -> None:
    put_file(sessions / "wa1/creds.json", b"")
    masked = found(audit())["account_without_content"]["evidence"][0]["where"]
    plain = found(audit(show_accounts=True))["account_without_content"]["evidence"][0]["where"]
    assert masked.startswith("w…1-")
    assert plain == "wa1"


# --- backups ---------------------------------------------------------------------------------------------


def backed_up(server: Server, sessions: pathlib.Path) -> pathlib.Path:
    """Save every account as the playbook backup does; return the store."""
    result = server.run("session_backup", {"path": str(sessions)})
    assert result.get("saved") == 2, result
    return pathlib.Path(result["store"])


def test_what_is_backed_up_is_no_finding(audit: Audit, server: Server, sessions: pathlib.Path) -> None:
    backed_up(server, sessions)
    assert audit()["findings"] == []
    put_account(sessions / "wa3", number=3)
    give(sessions, UID, GID)
    result = audit()
    (finding,) = result["findings"]
    assert (finding["id"], finding["count"]) == (NO_BACKUP, 1)
    assert finding["evidence"][0]["where"].startswith("w…3-")


def test_an_old_backup_and_a_run_that_failed(audit: Audit, server: Server, sessions: pathlib.Path) -> None:
    store = backed_up(server, sessions)
    (store / "confirmed.json").unlink(missing_ok=True)
    manifest = next(store.glob("backup-wa1-*/snapshot.json"))
    snapshot = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**snapshot, "taken": snapshot["taken"] - 30 * 3600 * 10**9}))
    run = store / "last_run.json"
    run.write_text(json.dumps({**json.loads(run.read_text()), "failed": 1}))
    findings = {finding["id"]: finding for finding in audit()["findings"]}
    assert set(findings) == {"backup_old", "backup_failed"}
    assert findings["backup_old"]["count"] == 1
    assert "current 30 hours ago" in words(findings["backup_old"])
    assert "failed for 1 accounts" in words(findings["backup_failed"])
    assert "backup_old" not in [finding["id"] for finding in audit(backup_max_age=40 * 3600)["findings"]]


# --- exceptions ------------------------------------------------------------------------------------------


def test_an_accepted_finding_is_apart_until_its_last_day(audit: Audit, sessions: pathlib.Path) -> None:
    sessions.chmod(0o755)
    one = {"id": "path_open", "reason": "read by the monitoring"}
    accepted = audit(exceptions=[{**one, "until": FAR}])
    assert found(accepted) == {}
    assert accepted["accepted"] == [{**one, "until": FAR, "count": 1}]
    over = audit(exceptions=[{**one, "until": "2020-02-29"}])
    assert set(found(over)) == {"path_open", "exception_expired"}
    assert over["accepted"] == []


def test_a_threshold_that_cannot_be_meant(audit: Audit) -> None:
    result = audit(max_files=0)
    assert result["failed"]
    assert "max_files is 0, but must be at least 1" in result["msg"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "path_opn"}, "'path_opn', which is not the ID of a finding"),
        ({"reason": " "}, "has no reason"),
        ({"until": "soon"}, "has no valid end date"),
    ],
)
def test_an_exception_that_cannot_be_meant(audit: Audit, changes: dict[str, str], said: str) -> None:
    result = audit(exceptions=[{"id": "path_open", "reason": "x", "until": FAR, **changes}])
    assert result["failed"]
    assert said in result["msg"]
