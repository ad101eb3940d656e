# SPDX-License-Identifier: GPL-3.0-or-later
"""session_info, the real module on real filesystems: states and problems, counts, masks, and that nothing from inside gets out."""

from __future__ import annotations

import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import typing as t

import ansible
import pytest

from accounts import CANARY, OLD, content, credentials, give, looks, put_account, put_file, use
from conftest import Mount
from module_server import COLLECTIONS, MODULES, Server

UID, GID = 65534, 65534
PHONE = "4915112345678"
Result = dict[str, t.Any]


class Info(t.Protocol):
    def __call__(self, uid: int = 0, **options: t.Any) -> Result: ...


@pytest.fixture
def sessions(place: pathlib.Path) -> pathlib.Path:
    made = place / "sessions"
    made.mkdir(mode=0o750)
    return made


@pytest.fixture
def info(server: Server, sessions: pathlib.Path) -> Info:
    """Look at the sessions path, at the highest verbosity; no canary may be seen, and looking changes nothing."""

    def run(uid: int = 0, **options: t.Any) -> Result:
        before = looks(sessions) if sessions.is_dir() else {}
        told = {"_ansible_check_mode": True, "_ansible_diff": True, "_ansible_verbosity": 4}
        result = server.run("session_info", {**told, "path": str(sessions), **options}, uid)
        assert CANARY not in json.dumps(result)
        assert not result.get("changed")
        assert (looks(sessions) if sessions.is_dir() else {}) == before
        return result

    return run


def only(result: Result) -> Result:
    (account,) = result["accounts"]
    return account


# --- states and problems -------------------------------------------------------------------------------


def creds(account: pathlib.Path) -> pathlib.Path:
    return account / "creds.json"


def rewritten(account: pathlib.Path, **changes: t.Any) -> None:
    found = {**json.loads(creds(account).read_bytes()), **changes}
    creds(account).write_text(json.dumps({name: value for name, value in found.items() if value != "gone"}))


def replaced_by(make: t.Callable[[pathlib.Path], t.Any]) -> t.Callable[[pathlib.Path], None]:
    def change(account: pathlib.Path) -> None:
        creds(account).unlink()
        make(creds(account))

    return change


def as_socket(path: pathlib.Path) -> None:
    os.chdir(path.parent)  # the path of a socket is at most 108 bytes long
    with socket.socket(socket.AF_UNIX) as server_:
        server_.bind(path.name)
    os.chdir("/")


Change = t.Callable[[pathlib.Path], t.Any]

ACCOUNTS: dict[str, tuple[Change, str, list[str]]] = {
    "paired": (lambda account: None, "paired", []),
    "paired by a code": (lambda account: rewritten(account, registered=True), "paired", []),
    "pending": (lambda account: put_account(account, "pending"), "pending", []),
    "fresh": (lambda account: put_account(account, "fresh", keys=()), "fresh", []),
    "me is null": (lambda account: rewritten(account, me=None), "fresh", []),
    "0 bytes": (lambda account: put_file(creds(account), b""), "corrupt", ["credentials_empty"]),
    "NULs": (lambda account: put_file(creds(account), b"\0" * 1850), "corrupt", ["credentials_not_json"]),
    "half": (lambda account: os.truncate(creds(account), 100), "corrupt", ["credentials_not_json"]),
    "a list": (lambda account: put_file(creds(account), "[]"), "corrupt", ["credentials_not_json"]),
    "a number": (lambda account: put_file(creds(account), "1"), "corrupt", ["credentials_not_json"]),
    "no UTF-8": (lambda account: put_file(creds(account), b'{"me": "\xff"}'), "pending", []),
    "a byte-order mark": (
        lambda account: put_file(creds(account), b"\xef\xbb\xbf" + creds(account).read_bytes()),
        "corrupt",
        ["credentials_not_json"],
    ),
    "very deep": (lambda account: put_file(creds(account), "[" * 99999), "corrupt", ["credentials_not_json"]),
    "too large": (lambda account: os.truncate(creds(account), 17 << 20), "corrupt", ["credentials_unreadable"]),
    "odd letters": (lambda account: rewritten(account, me={"id": "\ud800"}), "paired", []),
    "a huge number": (lambda account: rewritten(account, nextPreKeyId=10**300), "paired", []),
    "no number": (lambda account: rewritten(account, nextPreKeyId=[]), "paired", []),
    "me has no id": (lambda account: rewritten(account, me={"name": "x"}), "corrupt", ["credentials_incomplete"]),
    "me is a text": (lambda account: rewritten(account, me="x"), "corrupt", ["credentials_incomplete"]),
    **{
        f"no {part}": (
            lambda account, part=part: rewritten(account, **{part: "gone"}),  # type: ignore[misc]
            "corrupt",
            ["credentials_incomplete"],
        )
        for part in ("noiseKey", "signedIdentityKey", "signedPreKey", "registrationId", "advSecretKey")
    },
    "no keys": (
        lambda account: [path.unlink() for path in account.iterdir() if path.name != "creds.json"],
        "paired",
        ["keys_missing"],
    ),
    "no credentials": (lambda account: creds(account).unlink(), "corrupt", ["credentials_missing"]),
    "a link": (replaced_by(lambda path: path.symlink_to("/etc/hostname")), "corrupt", ["credentials_not_a_file"]),
    "a dangling link": (replaced_by(lambda path: path.symlink_to("nowhere")), "corrupt", ["credentials_not_a_file"]),
    "a directory": (replaced_by(lambda path: path.mkdir()), "corrupt", ["credentials_not_a_file"]),
    "a FIFO": (replaced_by(os.mkfifo), "corrupt", ["credentials_not_a_file"]),
    "a socket": (replaced_by(as_socket), "corrupt", ["credentials_not_a_file"]),
    "a hard link": (
        lambda account: os.link(creds(account), account / "creds.json.bak"),
        "paired",
        ["credentials_hard_linked"],
    ),
    "its owner may not": (lambda account: creds(account).chmod(0o000), "corrupt", ["credentials_unreadable_by_owner"]),
    "of root alone": (lambda account: os.chown(creds(account), 0, 0), "corrupt", ["credentials_unreadable_by_owner"]),
    "of root, for the group": (
        lambda account: (os.chown(creds(account), 0, GID), creds(account).chmod(0o640)),
        "paired",
        ["credentials_foreign_owner"],
    ),
    "of root, for all": (
        lambda account: (os.chown(creds(account), 0, 0), creds(account).chmod(0o644)),
        "paired",
        ["credentials_foreign_owner"],
    ),
}


@pytest.mark.parametrize("name", ACCOUNTS)
def test_states_and_problems(info: Info, sessions: pathlib.Path, name: str) -> None:
    change, state, problems = ACCOUNTS[name]
    account = put_account(sessions / "wa1")
    give(account, UID, GID)
    change(account)
    result = info()
    assert (only(result)["state"], only(result)["problems"]) == (state, problems)
    assert result["total"] == 1
    assert result["linked_accounts"] == (state == "paired")
    assert result["states"] == {**dict.fromkeys(["paired", "pending", "fresh", "corrupt"], 0), state: 1}
    assert only(info(inspect="metadata"))["state"] == "unknown"


def test_a_wide_mode_is_a_problem_only_where_others_get_in(info: Info, sessions: pathlib.Path) -> None:
    account = put_account(sessions / "wa1")
    account.chmod(0o755)
    creds(account).chmod(0o644)
    assert only(info())["problems"] == []
    sessions.chmod(0o755)
    assert only(info())["problems"] == ["readable_by_everybody"]


def test_an_account_of_root_is_readable_for_root(info: Info, sessions: pathlib.Path) -> None:
    os.chown(creds(put_account(sessions / "wa1")), UID, GID)
    assert only(info())["state"] == "paired"


# --- what is told ----------------------------------------------------------------------------------------


def test_all_that_is_told_of_an_account(info: Info, sessions: pathlib.Path) -> None:
    account = put_account(sessions / PHONE, at=OLD - 50)
    put_file(account / f"session-{CANARY}.1.json", "x", at=OLD)
    os.utime(account, (OLD - 50, OLD - 50))
    give(sessions, UID, GID)
    told = only(info())
    assert PHONE not in json.dumps(told)
    assert told["id"].startswith("4…8-")
    expected = {"state": "paired", "problems": [], "owner": "nobody", "mode": "0700", "locked": False}
    assert {name: told[name] for name in expected} == expected
    assert (told["files"], told["bytes"]) == (None, None)
    assert told["newest"] == "2023-11-14T22:12:30Z"
    measured = only(info(sizes=True))
    assert (measured["files"], measured["newest"]) == (6, "2023-11-14T22:13:20Z")
    assert measured["bytes"] == sum(path.stat().st_size for path in account.iterdir())
    assert only(info(show_accounts=True))["id"] == PHONE


def test_missing_orphaned_and_duplicates(info: Info, sessions: pathlib.Path) -> None:
    for name, number in (("wa1", 1), ("wa2", 2), ("wa1-backup", 1)):
        put_account(sessions / name, number=number)
    put_account(sessions / "wa3", "fresh")
    put_account(sessions / "wa4", "fresh")
    told = info(expected=["wa1", "wa2", "gone", "0123"], show_accounts=True)
    assert told["missing"] == ["0123", "gone"]
    assert told["orphaned"] == ["wa1-backup", "wa3", "wa4"]
    assert told["duplicates"] == [["wa1", "wa1-backup"]]
    masked = info(expected=[PHONE])
    assert PHONE not in json.dumps({name: value for name, value in masked.items() if name != "invocation"})
    assert len(masked["missing"]) == 1
    assert len(masked["orphaned"]) == 5
    assert [len(group) for group in masked["duplicates"]] == [2]
    unasked = info()
    assert (unasked["missing"], unasked["orphaned"]) == ([], [])
    assert info(expected=[])["missing"] == []
    assert len(info(expected=[])["orphaned"]) == 5


class Application(http.server.ThreadingHTTPServer):
    """A web application that tells which sessions are active to whoever has the key."""

    def __init__(self, *active: str) -> None:
        super().__init__(("127.0.0.1", 0), Reply)
        self.body = json.dumps({"data": {"sessions": [{"session_id": name} for name in active]}}).encode()
        self.source = {
            "url": f"http://127.0.0.1:{self.server_port}/api/v1/sessions/active-sessions/",
            "headers": {"x-api-key": CANARY},
        }

    def __enter__(self) -> Application:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self.shutdown()
        self.server_close()


class Reply(http.server.BaseHTTPRequestHandler):
    server: Application

    def do_GET(self) -> None:
        self.send_response(200 if self.headers["x-api-key"] == CANARY else 403)
        self.end_headers()
        self.wfile.write(self.server.body if self.headers["x-api-key"] == CANARY else CANARY.encode())

    def log_message(self, *words: t.Any) -> None:
        """Tests tell what went wrong."""


def test_a_web_application_tells_what_is_expected_and_neither_its_key_nor_its_names_are_told(
    info: Info, sessions: pathlib.Path
) -> None:
    put_account(sessions / "wa1")
    put_account(sessions / "wa2", "fresh")
    put_account(sessions / "wa3", number=3)
    with Application("wa1", "wa2", PHONE) as application:
        told = info(expected_from=application.source, show_accounts=True)
        assert (told["missing"], told["unlinked"], told["orphaned"]) == ([PHONE], ["wa2"], ["wa3"])
        masked = info(expected_from=application.source)
        assert PHONE not in json.dumps(masked)
        assert len(masked["missing"]) == 1
        without_key = info(expected_from={**application.source, "headers": {"x-api-key": f"{CANARY}0"}})
        assert "answered 403 instead of 200; check the URL and the key in headers" in without_key["msg"]
        both = info(expected=[], expected_from=application.source)
        assert "mutually exclusive" in both["msg"]


def test_ids_tell_accounts_of_a_host_apart(info: Info, sessions: pathlib.Path) -> None:
    for number in range(20):
        put_account(sessions / f"4{number:010}8", "fresh", keys=())
    assert len({account["id"] for account in info()["accounts"]}) == 20


@pytest.mark.parametrize("name", [b"new\nline", b"\n", b"\xff\xfe", "Jos\u00e9".encode(), b"-rf", b" ", b"\x1b[31m"])
def test_odd_names(info: Info, sessions: pathlib.Path, name: bytes) -> None:
    put_account(sessions / os.fsdecode(name))
    told = only(info())["id"]
    assert told.isprintable()
    assert "\udcff" not in told
    assert only(info(show_accounts=True))["state"] == "paired"


@pytest.mark.parametrize("at", [-5_000_000_000, 0, 4_000_000_000, 300_000_000_000, 9_000_000_000_000_000])
def test_times_are_what_anybody_says_they_are(info: Info, sessions: pathlib.Path, mount: Mount, at: int) -> None:
    mount("tmpfs", sessions)  # which keeps any number of seconds, as btrfs does
    put_account(sessions / "wa1")
    with_nanoseconds = at * 1_000_000_000
    if abs(with_nanoseconds) < 1 << 63:
        os.utime(creds(sessions / "wa1"), ns=(with_nanoseconds, with_nanoseconds))
    else:
        subprocess.run(["touch", "-d", f"@{at}", str(creds(sessions / "wa1"))], check=True)
    assert len(only(info())["newest"]) == len("2023-11-14T22:12:30Z")


# --- what counts as an account ----------------------------------------------------------------------------


def test_no_directory_no_accounts(info: Info, sessions: pathlib.Path) -> None:
    assert (info()["exists"], info()["total"], info()["count"]) == (True, 0, 0)
    sessions.rmdir()
    told = info()
    assert (told["exists"], told["total"], told["count"], told["layout"]) == (False, 0, 0, "baileys")


def test_one_account_in_the_root_itself(info: Info, sessions: pathlib.Path) -> None:
    put_account(sessions)
    told = info(show_accounts=True)
    assert (only(told)["id"], only(told)["state"], told["count"]) == (".", "paired", 1)


def test_deeper_accounts_and_what_is_none(info: Info, sessions: pathlib.Path, place: pathlib.Path) -> None:
    put_account(sessions / "tenant/wa1")
    put_account(sessions / "wa2", number=2)
    put_account(sessions / "_orphaned/old", number=3)
    put_account(sessions / "lost+found/x", number=4)
    put_account(sessions / ".whatsapp-ops/displaced/x", number=5)
    put_account(sessions / "a/b/c", number=6)
    (sessions / "linked").symlink_to(put_account(place / "elsewhere", number=7))
    (sessions / "empty").mkdir()
    put_file(sessions / "file", "")
    told = info(show_accounts=True)
    assert [account["id"] for account in told["accounts"]] == ["linked", "tenant/wa1", "wa2"]
    assert [account["is_link"] for account in told["accounts"]] == [True, False, False]


def test_a_directory_with_keys_and_no_credentials_is_a_broken_account(info: Info, sessions: pathlib.Path) -> None:
    (sessions / "wa1").mkdir()
    put_file(sessions / "wa1/pre-key-1.json", "{}")
    assert only(info())["problems"] == ["credentials_missing"]


def test_metadata_opens_no_file(sessions: pathlib.Path, tmp_path: pathlib.Path) -> None:
    for number in (1, 2):
        put_account(sessions / f"wa{number}", number=number)
    log = tmp_path / "log"

    def opened(inspect: str) -> set[str]:
        arguments = {"path": str(sessions), "inspect": inspect, "sizes": True}
        search_path = [str(COLLECTIONS), str(pathlib.Path(ansible.__file__).parents[1])]
        subprocess.run(
            [
                *("strace", "-f", "-qq", "-o", str(log), "-e", "trace=open,openat,openat2"),
                *(os.environ.get("WA_MODULE_PYTHON", sys.executable), "-m", f"{MODULES}.session_info"),
            ],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode(),
            capture_output=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(search_path), "PYTHONDONTWRITEBYTECODE": "1"},
            check=True,
        )
        lines = log.read_text().splitlines()
        assert any('"wa1"' in line for line in lines)
        return {name for name in os.listdir(sessions / "wa1") if any(f'"{name}"' in line for line in lines)}

    assert opened("structure") == {"creds.json", "pre-key-1.json"}  # the newest key, to see that it is not empty
    assert opened("metadata") == set()


# --- the plain count ----------------------------------------------------------------------------------------


def found(sessions: pathlib.Path) -> int:
    listed = subprocess.run(
        ["find", str(sessions), "-maxdepth", "3", "-name", "creds.json", "-printf", "x"],
        capture_output=True,
        check=True,
    )
    return len(listed.stdout)


@pytest.mark.parametrize("kind", ["ext4", "tmpfs", "overlay", "xfs"])
def test_the_plain_count_is_that_of_find(info: Info, sessions: pathlib.Path, mount: Mount, kind: str) -> None:
    """Whatever lies at whatever depth; what one filesystem says about links of directories another one does not."""
    mount(kind, sessions, megabytes=320 if kind == "xfs" else 16)
    if (sessions / "lost+found").exists():
        (sessions / "lost+found").rmdir()
    numbers = 0
    for folder in ("", "a", "a/b", "a/b/c", "d/creds.json", "e", "e/.f", "\n", "-name"):
        (sessions / folder).mkdir(parents=True, exist_ok=True)
        for make in (lambda path: put_file(path, ""), lambda path: path.symlink_to("nowhere"), os.mkfifo, os.mkdir):
            target = sessions / folder / "creds.json"
            if not target.exists() and not target.is_symlink():
                make(target)
                numbers += 1
                assert info(inspect="metadata")["count"] == found(sessions)
            if target.is_file() or target.is_fifo() or target.is_symlink():
                target.unlink()
    put_file(sessions / "creds.json.bak", "")
    assert info()["count"] == found(sessions)
    assert numbers > 20


# --- bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path": "sessions"}, "a relative path"),
        ({"path": "/srv/a\nb"}, "control character"),
        ({"path": "/etc/hostname"}, "is not a directory"),
        ({"path": "/etc/hostname/x"}, "is not a directory"),
        ({"layout": "telegram"}, "the layout 'telegram' is unknown"),
        ({"inspect": "all"}, "value of inspect must be one of"),
    ],
)
def test_bad_input(info: Info, options: dict[str, t.Any], words: str) -> None:
    result = info(**options)
    assert result["failed"]
    assert words in result["msg"]
    assert "unexpected error" not in result["msg"]


def test_who_may_not_read_is_told_so(info: Info, sessions: pathlib.Path) -> None:
    put_account(sessions / "wa1")
    sessions.chmod(0o755)
    refused = info(uid=UID)
    assert "run as root" in refused["msg"]
    give(sessions, UID, GID)
    assert info(uid=UID)["linked_accounts"] == 1


def test_a_link_that_a_user_made_to_somebody_else_is_refused(
    info: Info, sessions: pathlib.Path, place: pathlib.Path
) -> None:
    put_account(place / "private/wa1")
    link = place / "link"
    link.symlink_to(place / "private")
    os.chown(link, UID, GID, follow_symlinks=False)
    assert "symbolic link of an unprivileged user" in info(path=str(link))["msg"]


def test_an_account_that_is_used_stays_what_it_is(info: Info, sessions: pathlib.Path) -> None:
    use(put_account(sessions / "wa1"), OLD + 60)
    assert only(info())["newest"] == "2023-11-14T22:14:20Z"
    assert content(sessions)
    assert credentials("paired")["registered"] is False
