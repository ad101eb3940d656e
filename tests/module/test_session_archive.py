# SPDX-License-Identifier: GPL-3.0-or-later
"""session_archive, the real module as root: archives of other tools become snapshots, a snapshot becomes one file."""

from __future__ import annotations

import io
import json
import os
import pathlib
import shutil
import stat
import tarfile
import time
import typing as t

import pytest

from accounts import CANARY, content, give, looks, put_account, put_file
from layouts import put_account_of, put_profile
from module_server import Server
from snapshots import put_snapshot, store_of

Result = dict[str, t.Any]


class Host:
    """A sessions path, archives beside it, and the module."""

    def __init__(self, server: Server, place: pathlib.Path) -> None:
        self.server, self.place = server, place
        self.path = place / "var/sessions"
        self.path.mkdir(parents=True)
        self.archive = place / "old.tar.gz"

    def run(self, module: str = "session_archive", *, check: bool = False, **options: t.Any) -> Result:
        told = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_verbosity": 4}
        result = self.server.run(module, {**told, "path": str(self.path), **options})
        assert CANARY not in json.dumps(result)
        return result

    def bring(self, src: pathlib.Path | None = None, **options: t.Any) -> Result:
        return self.run(state="imported", src=str(src or self.archive), **options)

    def restore(self, *names: str, **options: t.Any) -> Result:
        return self.run("session_restore", accounts=list(names), owner="nobody", **options)

    def pack(self, *sources: pathlib.Path, top: str = "") -> None:
        with tarfile.open(self.archive, "w:gz") as tar:
            for source in sources:
                tar.add(source, f"{top}{source.name}")


@pytest.fixture
def host(server: Server, place: pathlib.Path) -> Host:
    return Host(server, place)


def done(result: Result) -> list[str]:
    assert "accounts" in result, result["msg"]
    return [account["action"] for account in result["accounts"]]


def snapshots(host: Host) -> list[pathlib.Path]:
    return sorted(store_of(host.path).glob("backup-*"))


def test_an_archive_becomes_snapshots_once_and_can_be_restored(host: Host) -> None:
    sound = put_account(host.place / "auth/wa1")
    (put_account(host.place / "auth/wa2", number=2) / "creds.json").write_bytes(b"")
    host.pack(sound, sound.with_name("wa2"), top="whatsapp/auth/")
    before = looks(host.path)
    foreseen = host.bring(check=True)
    assert not store_of(host.path).exists()
    made, again = host.bring(), host.bring()
    assert [result["changed"] for result in (foreseen, made, again)] == [True, True, False]
    assert (done(made), made["summary"]) == (["imported", "skipped"], "1 account imported")
    assert looks(host.path) == before
    assert len(snapshots(host)) == 1
    assert stat.S_IMODE(snapshots(host)[0].stat().st_mode) == 0o700
    assert not list(store_of(host.path).glob(".partial-*"))
    restored = host.restore("wa1")
    assert done(restored) == ["restored"]
    assert content(host.path / "wa1") == content(sound)
    assert restored["accounts"][0]["age_seconds"] > 86400


def test_an_import_is_never_newer_than_a_backup(host: Host) -> None:
    saved = put_account(host.path / "wa1", at=time.time())
    put_snapshot(host.path, "wa1")
    host.pack(put_account(host.place / "old/wa1", number=2, device=1))
    assert done(host.bring()) == ["imported"]
    before = content(saved)
    shutil.rmtree(saved)
    host.restore("wa1")
    assert content(saved) == before


def test_the_emergency_copies_of_a_session_manager(host: Host) -> None:
    """A folder in which a program keeps its own copies; the names of accounts are those of the library."""
    put_profile(host.path / "sessions/session-1", "paired")
    (host.path / "session-state.json").write_text("{}")
    cache = host.place / ".session-cache"
    put_profile(cache / "backup-1-1707340001234", "paired")
    put_profile(cache / "backup-2-1707426401234", "paired", 2)
    give(cache, 65534, 65534)
    assert done(host.bring(cache)) == ["imported", "imported"]
    manifests = [json.loads((one / "snapshot.json").read_text()) for one in snapshots(host)]
    assert sorted((one["account"], one["taken"]) for one in manifests) == [
        ("sessions/session-1", 1707340001234 * 10**6),
        ("sessions/session-2", 1707426401234 * 10**6),
    ]
    assert not host.bring(cache)["changed"]


def test_a_single_account_needs_a_name(host: Host) -> None:
    account = put_account(host.place / "wa1")
    with tarfile.open(host.archive, "w:gz") as tar:
        tar.add(account, ".")
    assert "name it in 'accounts'" in host.bring()["msg"]
    assert done(host.bring(accounts=["mine"])) == ["imported"]
    assert done(host.restore("mine")) == ["restored"]


def test_a_token_beside_a_profile_comes_with_it(host: Host) -> None:
    put_account_of("wppconnect", host.place / "saved/userDataDir", "paired")
    names = [entry.name for entry in (host.place / "saved").iterdir()]
    host.pack(*(host.place / "saved" / name for name in names), top="./")
    made = host.bring(layout="wppconnect", show_accounts=True)
    assert done(made) == ["imported"], made


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, **fields: t.Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.size = kind, size
    for field, value in fields.items():
        setattr(made, field, value)
    return made


BAD = [
    member("/etc/whatsapp-import"),
    member("wa1/../../../whatsapp-import"),
    member("wa1/link", tarfile.SYMTYPE, linkname="/etc/passwd"),
    member("wa1/hard", tarfile.LNKTYPE, linkname="wa1/creds.json"),
    member("wa1/device", tarfile.CHRTYPE),
    member("wa1/pipe", tarfile.FIFOTYPE),
    member("/".join("d" * 70), tarfile.DIRTYPE),
    member("wa1/" + "n" * 2000),
]


@pytest.mark.parametrize("bad", BAD, ids=range(len(BAD)))
def test_an_archive_with_anything_else_is_refused_as_a_whole(host: Host, bad: tarfile.TarInfo) -> None:
    with tarfile.open(host.archive, "w:gz") as tar:
        tar.add(put_account(host.place / "wa1"), "wa1")
        tar.addfile(bad, io.BytesIO(b"x" * bad.size))
    refused = host.bring()
    assert refused["failed"] and "nothing was imported" in refused["msg"]
    assert snapshots(host) == []
    assert not list(store_of(host.path).glob(".partial-*"))
    assert not os.path.lexists("/etc/whatsapp-import") and not list(host.place.rglob("whatsapp-import"))


def test_what_is_no_archive_is_refused(host: Host) -> None:
    host.pack(put_account(host.place / "wa1"))
    whole = host.archive.read_bytes()
    for held in (b"", b"nothing", whole[: len(whole) // 2]):
        host.archive.write_bytes(held)
        refused = host.bring()
        assert refused["failed"] and "nothing was imported" in refused["msg"], (held[:9], refused)
    host.archive.unlink()
    assert "does not exist" in host.bring()["msg"]
    host.archive.symlink_to("/etc/passwd")
    assert host.bring()["failed"]


def test_an_archive_without_accounts_is_refused(host: Host) -> None:
    put_account(host.place / "auth/wa1", "fresh")
    host.pack(host.place / "auth/wa1")
    assert "can be restored" in host.bring()["msg"]
    host.pack(put_file(host.place / "words", "nothing"))
    assert "no account was found" in host.bring()["msg"]


def test_a_snapshot_becomes_a_file_of_root_and_back(host: Host) -> None:
    saved = put_account(host.path / "wa1")
    put_snapshot(host.path, "wa1")
    before, file = content(saved), host.place / "out.tar.gz"
    options = {"state": "exported", "accounts": ["wa1"], "dest": str(file)}
    foreseen = host.run(check=True, **options)
    assert not file.exists()
    made, again = host.run(**options), host.run(**options)
    assert [result["changed"] for result in (foreseen, made, again)] == [True, True, False], made
    status = file.stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o600)
    assert sorted(entry.name for entry in host.place.iterdir()) == ["out.tar.gz", "var"]
    shutil.rmtree(store_of(host.path))
    shutil.rmtree(saved)
    assert done(host.bring(file)) == ["imported"]
    host.restore("wa1")
    assert content(saved) == before


def test_an_export_replaces_nothing_and_never_lies_among_accounts(host: Host) -> None:
    put_account(host.path / "wa1")
    put_snapshot(host.path, "wa1")
    file = put_file(host.place / "mine.tar.gz", "mine")
    assert "exists and is not" in host.run(state="exported", accounts=["wa1"], dest=str(file))["msg"]
    assert file.read_text() == "mine"
    inside = str(host.path / "out.tar.gz")
    assert "is in the sessions path" in host.run(state="exported", accounts=["wa1"], dest=inside)["msg"]
    assert "no sound snapshot" in host.run(state="exported", accounts=["wa9"], dest=str(host.place / "x"))["msg"]
