# SPDX-License-Identifier: GPL-3.0-or-later
"""session_plan, the real module where no systemd runs: it says what the other modules would do, and does nothing."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pathlib
import threading
import typing as t

import pytest

from accounts import CANARY, give, looks, put_account, put_file
from areas import control_of
from conftest import Mount
from module_server import Server

UID, GID = 65534, 65534
ETC, LIB = pathlib.Path("/etc/systemd/system"), pathlib.Path("/usr/local/lib/systemd/system")
Result = dict[str, t.Any]


class Host:
    """A legacy path with two accounts, a sessions path, and the modules."""

    def __init__(self, server: Server, place: pathlib.Path) -> None:
        self.server, self.place = server, place
        self.legacy, self.path = place / "opt/.baileys_auth", place / "var/sessions"
        self.path.parent.mkdir()
        for number in (1, 2):
            put_account(self.legacy / f"wa{number}", number=number)
        give(self.legacy, UID, GID)
        self.dir = {"path": str(self.path), "owner": "nobody"}
        self.migrate = {"src": [str(self.legacy)], "path": str(self.path), "owner": "nobody"}
        self.info = {"path": str(self.path)}
        self.file = {"path": str(place / "env"), "values": {"SESSIONS_PATH": str(self.path)}}

    def run(self, module: str, *, check: bool = False, **options: t.Any) -> Result:
        told = {"_ansible_check_mode": check, "_ansible_diff": True, "_ansible_verbosity": 4}
        result = self.server.run(module, {**told, **options})
        assert CANARY not in json.dumps(result)
        return result

    def plan(self, **options: t.Any) -> Result:
        """Ask twice, in check mode and not: there must be no difference, and nothing changed."""
        before = looks(self.place)
        result, checked = self.run("session_plan", **options), self.run("session_plan", check=True, **options)
        assert looks(self.place) == before
        assert {**result, "health": None} == {**checked, "health": None}
        assert not result.get("changed")
        return result


@pytest.fixture
def host(server: Server, place: pathlib.Path) -> Host:
    return Host(server, place)


def test_all_is_to_be_done_then_nothing(host: Host) -> None:
    asked = {"dir": host.dir, "migrate": host.migrate, "info": host.info, "environment_file": host.file}
    plan = host.plan(**asked)
    assert plan["todo"] == ["dir", "environment_file", "migrate"]
    assert plan["steps"] == {"dir": True, "environment_file": True, "migrate": True}
    assert plan["linked_accounts"] == 2  # what a restart has to bring back, wherever it lies now
    assert (plan["info"]["exists"], plan["info"]["linked_accounts"]) == (False, 0)
    host.run("session_dir", **host.dir)
    host.run("session_migrate", **host.migrate, switch={"environment_file": host.file})
    plan = host.plan(**asked)
    assert plan["todo"] == []
    assert set(plan["steps"].values()) == {False}
    assert (plan["linked_accounts"], plan["info"]["linked_accounts"], plan["migrate"]["counts"]["unchanged"]) == (
        2,
        2,
        2,
    )


def test_each_part_says_what_the_module_for_it_says(host: Host) -> None:
    plan = host.plan(dir=host.dir, migrate=host.migrate, info=host.info)
    for module, option in (("session_dir", "dir"), ("session_migrate", "migrate"), ("session_info", "info")):
        alone = host.run(module, check=True, **getattr(host, option))
        for name, value in plan[option].items():
            if not isinstance(value, dict) or "free_bytes" not in value:
                assert alone[name] == value, (option, name)
        assert plan["steps"].get(option, False) is alone.get("changed", False)


def test_what_was_not_asked_is_not_told(host: Host) -> None:
    assert {"dir", "migrate", "info", "health", "stop", "in_force"} & set(host.plan()) == set()
    assert host.plan()["todo"] == []
    assert host.plan(info=host.info)["steps"] == {}


def test_an_account_at_both_paths_counts_once_and_a_removed_one_not_at_all(host: Host) -> None:
    host.run("session_migrate", **host.migrate)
    put_account(host.path / "wa3", number=3)
    put_account(host.path / "wa4", "fresh")
    assert host.plan(migrate=host.migrate, info=host.info)["linked_accounts"] == 3
    for file in (host.path / "wa1").iterdir():
        file.unlink()
    (host.path / "wa1").rmdir()
    plan = host.plan(migrate=host.migrate, info=host.info)
    assert (plan["linked_accounts"], plan["migrate"]["counts"]["skipped"]) == (2, 1)


def test_what_is_only_written_down_is_nothing_to_do(host: Host) -> None:
    host.run("session_migrate", **host.migrate)
    (control_of(host.path) / "receipt.json").unlink()
    assert host.plan(migrate=host.migrate)["todo"] == []


def test_drop_ins_are_planned_without_systemd(host: Host, mount: Mount) -> None:
    mount("tmpfs", ETC)
    mount("tmpfs", LIB)
    (LIB / "wa.service").write_text("[Service]\nExecStart=/bin/sleep infinity\n")
    drop_in = {
        "unit": "wa",
        "name": "20-sessions",
        "daemon_reload": False,
        "sections": {"Service": {"UMask": "0077", "Environment": {"A": "b"}}},
    }
    assert host.plan(overrides=[drop_in])["steps"] == {"overrides": True}
    assert list(ETC.iterdir()) == []
    assert host.run("systemd_override", **drop_in)["changed"]
    assert host.plan(overrides=[drop_in])["steps"] == {"overrides": False}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dir": {"path": "sessions"}}, "a relative path"),
        ({"dir": {"pth": "/srv/x"}}, "in option 'dir'"),
        ({"dir": {}}, "in option 'dir'"),
        ({"info": {"path": "/srv/x", "layout": "telegram"}}, "the layout 'telegram' is unknown"),
        ({"migrate": {"path": "/srv/x"}}, "neither 'src' nor 'unit'"),
        ({"migrate": {"path": "/srv/x", "src": ["/srv/x"], "engine": "scp"}}, "in option 'migrate'"),
        ({"migrate": {"path": "/srv/x", "src": ["x"]}}, "a relative path"),
        ({"health": {}}, "in option 'health'"),
        ({"overrides": [{"unit": "wa"}]}, "in option 'overrides'"),
        (
            {"migrate": {"path": "/srv/x", "unit": "wa", "switch": {"overrides": [{"sectons": {}}]}}},
            "in option 'overrides'",
        ),
        ({"environment_file": {"path": "env", "values": {}}}, "a relative path"),
        ({"environment_file": {"path": "/srv/env", "values": {"A-B": "x"}}}, "'A-B' is not a valid name"),
        ({"in_force": {"unit": "wa", "values": {}}}, "systemd does not run on this host"),
        ({"migrate": {"path": "/srv/x", "unit": "wa"}}, "systemd does not run on this host"),
    ],
)
def test_bad_input_is_one_clear_sentence(host: Host, options: dict[str, t.Any], words: str) -> None:
    refused = host.plan(**options)
    assert refused["failed"]
    assert words in refused["msg"], refused["msg"]
    assert "\n" not in refused["msg"]
    assert "unexpected error" not in refused["msg"]


def test_accounts_that_diverged_fail_the_plan_as_they_would_the_migration(host: Host) -> None:
    put_account(host.path / "wa1", number=9)
    refused = host.plan(migrate={**host.migrate, "on_conflict": "fail"})
    assert "decide with on_conflict=keep or on_conflict=replace" in refused["msg"]


def test_accounts_that_are_missing_fail_a_plan_before_anything_is_interrupted_and_afterwards(host: Host) -> None:
    asked = {"migrate": host.migrate, "info": host.info, "expected_accounts": 3}
    assert "2 accounts would be linked" in host.plan(**asked)["msg"]
    host.run("session_migrate", **host.migrate)
    assert "2 accounts are linked" in host.plan(**asked)["msg"]
    assert "failed" not in host.plan(**{**asked, "expected_accounts": 2})


def test_a_directory_that_the_owner_cannot_write_to_fails_a_plan_with_nothing_left_to_do(
    host: Host, mount: Mount
) -> None:
    host.run("session_dir", **host.dir)
    assert "failed" not in host.plan(dir=host.dir)
    mount("tmpfs", host.path, options="nr_inodes=1")  # no entry can be made in it
    os.chown(host.path, UID, GID)
    host.path.chmod(0o750)
    assert "nobody cannot write to" in host.plan(dir={**host.dir, "allow_ephemeral": True})["msg"]


# --- health ------------------------------------------------------------------------------------------------


class Backend(http.server.ThreadingHTTPServer):
    """Answers 503 a number of times, then 200."""

    def __init__(self, bad: int) -> None:
        super().__init__(("127.0.0.1", 0), Reply)
        self.bad, self.asked = bad, 0


class Reply(http.server.BaseHTTPRequestHandler):
    server: Backend

    def do_GET(self) -> None:
        self.server.asked += 1
        body = json.dumps({"connected": self.server.asked > self.server.bad, "note": CANARY}).encode()
        self.send_response(200 if self.server.asked > self.server.bad else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: t.Any) -> None:
        """Tests tell what went wrong."""


@contextlib.contextmanager
def backend(bad: int) -> t.Iterator[tuple[Backend, dict[str, t.Any]]]:
    with Backend(bad) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"http://127.0.0.1:{running.server_port}/health"
        yield running, {"url": url, "expect": {"connected": True}, "timeout": 20, "interval": 0.1}
        running.shutdown()


def test_it_waits_for_a_backend_only_when_nothing_else_is_left(host: Host) -> None:
    with backend(bad=3) as (running, health):
        plan = host.run("session_plan", migrate=host.migrate, health=health)
        assert (plan["todo"], plan["health"]["healthy"], running.asked) == (["migrate"], False, 1)
        host.run("session_migrate", **host.migrate)
        plan = host.run("session_plan", migrate=host.migrate, health=health)
        assert (plan["todo"], plan["health"]["healthy"], plan["changed"]) == ([], True, False)
        assert running.asked >= 4


def test_a_backend_that_stays_ill_fails_the_plan(host: Host) -> None:
    with backend(bad=1000) as (_running, health):
        refused = host.run("session_plan", health={**health, "timeout": 0.3})
    assert refused["failed"]
    assert "503" in refused["msg"]


def test_no_secret_of_an_environment_file_is_told(host: Host) -> None:
    put_file(pathlib.Path(host.file["path"]), f"TOKEN={CANARY}\n")
    assert host.plan(environment_file=host.file)["todo"] == ["environment_file"]
    assert os.path.exists(host.file["path"])


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"dir": {"path": "/var/lib/x", "nonsense": 1}},
        {"overrides": [{"nonsense": 1}]},
        {"overrides": ["no dict"]},
        {"migrate": {"path": "/var/lib/x", "unit": "wa", "switch": {"overrides": [{"nonsense": 1}]}}},
    ],
    ids=["nothing", "dir", "an override", "no options at all", "migrate"],
)
def test_headers_are_told_nowhere_whatever_else_is_wrong(host: Host, wrong: dict[str, t.Any]) -> None:
    refused = host.run(
        "session_plan", **wrong, health={"url": "http://127.0.0.1:1/", "timeout": 0, "headers": {"k": CANARY}}
    )
    assert refused["failed"]
