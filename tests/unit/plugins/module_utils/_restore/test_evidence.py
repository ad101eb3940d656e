# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known about accounts that may be lost: lines about logouts, volumes that are not mounted, a program that is just writing."""

from __future__ import annotations

import pathlib
import threading
import types
import typing as t

import pytest

from accounts import put_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.command import Completed
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._restore import evidence
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.journal import Reading
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import Unit

BAILEYS = layout_named("baileys")
UNIT = Unit("wa.service", {"LogNamespace": "", "Id": "wa.service", "InvocationID": ""})


@pytest.mark.parametrize(
    "line",
    [
        "Connection closed. You are logged out.",
        "[wa1] loggedOut, removing its directory",
        "connection closed, reason: Logged Out",
        'stream errored out {"attrs":{"code":"401"},"content":[{"tag":"conflict","attrs":{"type":"device_removed"}}]}',
        "statusCode: 401",
        '{"status": 401, "message": "..."}',
        "Client was disconnected: LOGOUT",
        "POST /sessions/wa1/log-out",
        "session unpaired by the phone",
        "401 Unauthorized",
    ],
)
def test_lines_that_mean_a_logout(line: str) -> None:
    assert any(pattern.search(line) for pattern in evidence.compiled(()))


@pytest.mark.parametrize(
    "line",
    [
        "[wa1] Session restored from disk",
        "[wa1] connected",
        "[wa1] needs_qr: no credentials, waiting for somebody to scan a QR code",
        "listening on port 4010",
        "sent message 4011 to 2 devices",
        "restart required (515)",
        "SIGTERM: flushed 3 of 3 accounts",
    ],
)
def test_lines_that_do_not(line: str) -> None:
    assert not any(pattern.search(line) for pattern in evidence.compiled(()))


def test_further_patterns_are_added() -> None:
    assert any(pattern.search("tschuess wa1") for pattern in evidence.compiled(["tschuess"]))
    with pytest.raises(SessionsError, match="invalid regular expression"):
        evidence.compiled(["("])


@pytest.mark.parametrize(
    ("path", "name"),
    [("/srv", "srv"), ("/srv/wa-1/a b", r"srv-wa\x2d1-a\x20b"), ("/.hidden/.x", r"\x2ehidden-.x"), ("/ä", r"\xc3\xa4")],
)
def test_a_path_in_the_name_of_a_unit(path: str, name: str) -> None:
    assert evidence._escaped(path) == name


SHOWN = "LoadState={}\nActiveState={}\nWhere=/srv\n\nLoadState=not-found\nActiveState=inactive\nWhere=/srv/wa\n"


@pytest.mark.parametrize(
    ("load", "active", "found"),
    [
        ("loaded", "inactive", "/srv"),
        ("loaded", "failed", "/srv"),
        ("loaded", "active", ""),
        ("not-found", "inactive", ""),
    ],
)
def test_a_mount_that_systemd_knows_must_be_active(
    monkeypatch: pytest.MonkeyPatch, load: str, active: str, found: str
) -> None:
    asked: list[list[str]] = []

    def run(argv: list[str]) -> Completed:
        asked.append(argv)
        return Completed(tuple(argv), 0, SHOWN.format(load, active), "")

    monkeypatch.setattr(evidence, "run", run)
    assert evidence.unmounted_volume("/srv/wa") == found
    assert asked[0][-2:] == ["srv.mount", "srv-wa.mount"]


def test_without_systemd_no_volume_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str]) -> t.NoReturn:
        raise SessionsError("systemctl is not installed")

    monkeypatch.setattr(evidence, "run", run)
    assert evidence.unmounted_volume("/srv/wa") == ""


def look(path: pathlib.Path, *names: str, running: bool = True) -> dict[str, evidence.Live]:
    return evidence.look_at(str(path), names, BAILEYS, running=running)


def test_states_of_accounts(tmp_path: pathlib.Path) -> None:
    for state in ("paired", "pending", "fresh"):
        put_account(tmp_path / state, state)
    (tmp_path / "empty").mkdir()
    found = look(tmp_path, "paired", "pending", "fresh", "empty", "gone")
    assert [live.state for live in found.values()] == ["paired", "pending", "fresh", "missing", "missing"]
    assert look(tmp_path / "nowhere", "wa1") == {"wa1": evidence.Live("missing")}


@pytest.mark.parametrize("running", [True, False])
def test_a_damaged_account_is_settled_if_nobody_writes(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    monkeypatch.setattr(evidence, "_BETWEEN_LOOKS", 0.01)
    (put_account(tmp_path / "wa1") / "creds.json").write_bytes(b"")
    found = look(tmp_path, "wa1", running=running)["wa1"]
    assert (found.state, found.settled) == ("corrupt", True)


def test_an_account_that_is_being_written_is_not_damaged_for_certain(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = put_account(tmp_path / "wa1") / "creds.json"
    whole = credentials.read_bytes()
    credentials.write_bytes(b"")
    slept = threading.Event()

    def sleep(_seconds: float) -> None:
        credentials.write_bytes(whole)
        slept.set()

    monkeypatch.setattr(evidence, "time", types.SimpleNamespace(sleep=sleep))
    assert look(tmp_path, "wa1")["wa1"].settled is False
    assert slept.is_set()


def reading(monkeypatch: pytest.MonkeyPatch, *, reaches: bool = True, complete: bool = True, logouts: int = 0) -> None:
    monkeypatch.setattr(evidence, "compose_of", lambda _unit: None)
    monkeypatch.setattr(evidence, "container_of", lambda _unit: None)
    monkeypatch.setattr(evidence, "reaches_back", lambda _unit, moment: reaches and moment == "@7")
    counted = Reading({"logged_out": logouts}, complete=complete)
    monkeypatch.setattr(evidence, "read_on", lambda *_given: counted)


def log() -> evidence.Log:
    return evidence.log_since(UNIT, 7_900_000_000, evidence.compiled(()))


def test_a_log_that_was_read_to_its_end_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    reading(monkeypatch, logouts=3)
    assert log() == evidence.Log(logouts=3)


def test_what_leaves_a_doubt_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no unit" in evidence.log_since(None, 7, ()).unknown
    reading(monkeypatch, reaches=False)
    assert "does not reach back" in log().unknown
    reading(monkeypatch, complete=False)
    assert "too long" in log().unknown
    monkeypatch.setattr(evidence, "container_of", lambda _unit: object())
    assert "in a container" in log().unknown
    reading(monkeypatch)

    def refuse(*_given: t.Any) -> t.NoReturn:
        raise SessionsError("this host keeps no journal")

    monkeypatch.setattr(evidence, "read_on", refuse)
    assert "keeps no journal" in log().unknown
