# SPDX-License-Identifier: GPL-3.0-or-later
"""session_info, the real module, on the trees of every library: what it tells, what it leaves alone, and what never gets out."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import typing as t

import ansible
import pytest

from accounts import CANARY, OLD, give, looks, put_file
from layouts import KINDS, age, put_account_of, put_evolution_2, put_profile, put_root_of, put_store
from module_server import COLLECTIONS, MODULES, Server

UID, GID = 65534, 65534
PHONE = "971505760056"
Result = dict[str, t.Any]


class Info(t.Protocol):
    def __call__(self, uid: int = 0, **options: t.Any) -> Result: ...


@pytest.fixture
def sessions(place: pathlib.Path) -> pathlib.Path:
    return place / "sessions"


@pytest.fixture
def info(server: Server, sessions: pathlib.Path) -> Info:
    """Look at the sessions path, at the highest verbosity; looking changes nothing, and leaves nothing anywhere."""

    def run(uid: int = 0, **options: t.Any) -> Result:
        before, left = looks(sessions), set(os.listdir(tempfile.gettempdir()))
        told = {"_ansible_check_mode": True, "_ansible_diff": True, "_ansible_verbosity": 4}
        result = server.run("session_info", {**told, "path": str(sessions), **options}, uid)
        assert not result.get("changed")
        assert looks(sessions) == before
        assert not [name for name in set(os.listdir(tempfile.gettempdir())) - left if name.startswith("whatsapp-ops")]
        assert options.get("show_accounts") or CANARY not in json.dumps(result)
        return result

    return run


@pytest.mark.parametrize("layout", KINDS)
def test_every_layout(info: Info, sessions: pathlib.Path, layout: str) -> None:
    made = put_root_of(layout, sessions)
    give(sessions, UID, GID)
    told = info(layout="auto")
    assert told["layout"] == layout
    assert told["layout_reason"]
    assert told["total"] == len(told["accounts"]) == len(made)
    paired = sum(account.state == "paired" for account in made)
    unknown = {"unknown": 1} if layout == "evolution" else {}
    assert told["states"] == {"paired": paired, "pending": 1, "fresh": 0, "corrupt": 1, **unknown}
    assert (told["linked_accounts"], told["linked"]) == (paired, paired)
    assert (told["duplicates"], told["copies"]) == ([], [])
    named = {account["id"]: account for account in info(layout=layout, show_accounts=True)["accounts"]}
    for account in made:
        seen = named[account.name]
        assert (seen["state"], seen["lock"], seen["locked"]) == (account.state, account.lock, account.lock != "")
        blocked = {"foreign": ["lock_of_another_host"], "damaged": ["lock_damaged"]}.get(account.lock, [])
        open_to_all = ["writable_by_everybody"] if layout == "venom" else []
        elsewhere = ["credentials_in_sql"] if account.state == "unknown" else []
        assert account.state == "corrupt" or seen["problems"] == open_to_all + blocked + elsewhere, account


@pytest.mark.parametrize("layout", KINDS)
def test_the_owner_of_the_accounts_sees_the_same(info: Info, sessions: pathlib.Path, layout: str) -> None:
    put_root_of(layout, sessions)
    give(sessions, UID, GID)
    as_owner, as_root = (info(uid, layout=layout) for uid in (UID, 0))
    assert as_owner["accounts"] == as_root["accounts"]


@pytest.mark.parametrize("layout", KINDS)
def test_metadata_opens_no_file_of_any_layout(sessions: pathlib.Path, tmp_path: pathlib.Path, layout: str) -> None:
    put_root_of(layout, sessions)
    log = tmp_path / "log"
    search_path = [str(COLLECTIONS), str(pathlib.Path(ansible.__file__).parents[1])]
    done = subprocess.run(
        [
            *("strace", "-f", "-qq", "-o", str(log), "-e", "trace=open,openat,openat2"),
            *(os.environ.get("WA_MODULE_PYTHON", sys.executable), "-m", f"{MODULES}.session_info"),
        ],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {"path": str(sessions), "inspect": "metadata"}}).encode(),
        capture_output=True,
        cwd="/",
        env={**os.environ, "PYTHONPATH": os.pathsep.join(search_path), "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["states"]["unknown"] == told["total"] > 0
    opened = log.read_text()
    files = {path.name for path in sessions.rglob("*") if path.is_file()}
    assert [name for name in files if f'"{name}"' in opened] == []


def test_a_browser_that_runs(info: Info, sessions: pathlib.Path) -> None:
    profile = put_account_of("wwebjs", sessions, f"session-{PHONE}")
    waiting = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", f"--user-data-dir={profile}"]
    with subprocess.Popen(waiting, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as browser:
        assert browser.stdout is not None
        browser.stdout.readline()
        (profile / "SingletonLock").symlink_to(f"{os.uname().nodename}-{browser.pid}")
        (account,) = info()["accounts"]
        assert (account["locked"], account["lock"], account["problems"]) == (True, "live", [])
        assert PHONE not in json.dumps(account)
        browser.communicate()
    assert info()["accounts"][0]["lock"] == "stale"


def test_copies_that_a_gateway_would_start(info: Info, sessions: pathlib.Path) -> None:
    original = put_account_of("wwebjs", sessions, "session-shop", number=1)
    shutil.copytree(original, sessions / "session-shop-backup")
    put_account_of("wwebjs", sessions, "session-2", number=2)
    put_account_of("wwebjs", sessions, "session-shop.bak", "pending", number=3)
    shutil.copytree(sessions / "session-2", sessions / "session-other")
    age(sessions / "session-other", OLD + 60)
    for path in (sessions / "session-other").rglob("CURRENT"):
        os.utime(path, (OLD + 90, OLD + 90))
    told = info(show_accounts=True)
    assert told["copies"] == [
        {"id": "session-2", "of": "session-other"},
        {"id": "session-shop-backup", "of": "session-shop"},
        {"id": "session-shop.bak", "of": "session-shop"},
    ]
    assert told["duplicates"] == [["session-2", "session-other"], ["session-shop", "session-shop-backup"]]
    assert "shop" not in json.dumps({name: info()[name] for name in ("copies", "duplicates", "accounts")})


def test_one_store_with_many_devices(info: Info, sessions: pathlib.Path) -> None:
    put_store(sessions / "shops/whatsapp.db", (1, 2, 3), wal=True)
    put_store(sessions / "other/whatsapp.db", (3, 4))
    told = info(show_accounts=True)
    assert (told["total"], told["linked_accounts"], told["linked"], told["count"]) == (2, 2, 5, 2)
    assert told["duplicates"] == [["other", "shops"]]


def test_credentials_in_sql_are_explained(info: Info, sessions: pathlib.Path) -> None:
    put_evolution_2(sessions / "7afd5398-97c3-11eb-a990-f23c917564d6")
    told = info()
    assert (told["layout"], told["linked_accounts"], told["states"]["unknown"]) == ("evolution", 0, 1)
    assert told["accounts"][0]["problems"] == ["credentials_in_sql"]


def test_what_is_expected_may_be_named_as_the_web_application_does(info: Info, sessions: pathlib.Path) -> None:
    put_account_of("session_manager", sessions, f"sessions/session-{PHONE}")
    put_file(sessions / "session-state.json", "{}")
    for name in (PHONE, f"session-{PHONE}", f"sessions/session-{PHONE}"):
        told = info(expected=[name, "gone"], show_accounts=True)
        assert (told["missing"], told["orphaned"]) == (["gone"], [])


def test_an_exact_name_means_that_account_alone(info: Info, sessions: pathlib.Path) -> None:
    for name in ("t1/wa", "t2/wa"):
        put_account_of("baileys", sessions, name)
    assert info(expected=["t1/wa"], show_accounts=True)["orphaned"] == ["t2/wa"]
    assert info(expected=["wa"], show_accounts=True)["orphaned"] == []


def test_more_than_one_layout_is_an_error_that_names_no_account(info: Info, sessions: pathlib.Path) -> None:
    put_account_of("baileys", sessions, PHONE)
    put_account_of("wwebjs", sessions, f"session-{PHONE}")
    result = info()
    assert result["failed"]
    assert "baileys, because a directory holds creds.json; wwebjs, because" in result["msg"]
    assert PHONE not in json.dumps(result)
    assert [info(layout=name)["total"] for name in ("baileys", "wwebjs")] == [1, 1]


def test_a_described_layout(info: Info, sessions: pathlib.Path) -> None:
    put_profile(sessions / "one", "paired", origin="http_127.0.0.1_8080")
    put_file(sessions / "one/pid", str(os.getpid()))
    told = info(layout="custom", custom={"origin": "http_127.0.0.1_8080", "locks": ["pid"]})
    assert (told["layout"], told["linked_accounts"], told["accounts"][0]["lock"]) == ("custom", 1, "live")
    refused = info(layout="custom", custom={"markers": ["/etc"]})
    assert "custom.markers contains '/etc'" in refused["msg"]
    assert "Unsupported parameters" in info(layout="custom", custom={"marker": ["x"]})["msg"]
    assert "set layout=custom" in info(custom={"markers": ["x"]})["msg"]
