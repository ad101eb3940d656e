# SPDX-License-Identifier: GPL-3.0-or-later
"""The job of session_info beyond what its module tests show: what vanishes meanwhile, and what may be told."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import socket
import typing as t

import pytest

from accounts import CANARY, looks, put_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts import info as accounts_info
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.info import AccountFacts, Params, State
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import job as core_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named

BAILEYS = layout_named("baileys")


def params(**changes: t.Any) -> Params:
    return accounts_info.read_params({"path": "/srv/sessions"})._replace(**changes)


def account(name: str, state: str = "paired", **changes: t.Any) -> AccountFacts:
    return dataclasses.replace(AccountFacts(name, state, (), 0, "wa", "0700", "", (name,)), **changes)


def told(*accounts: AccountFacts, expected: tuple[str, ...] | None = None, **options: t.Any) -> t.Mapping[str, t.Any]:
    return accounts_info.report(
        params(**options), State(True, BAILEYS, len(accounts), accounts, expected), (), None
    ).values


@pytest.mark.parametrize("gone", ["account", "swapped for a file", "swapped for a link"])
def test_an_account_that_vanishes_meanwhile_is_not_the_end_of_all(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    for name in ("wa1", "wa2", "wa3"):
        put_account(tmp_path / name)
    listed = accounts_info.found_in

    def listing(root: int, layout: t.Any) -> list[t.Any]:
        found = list(listed(root, layout))
        for name, *_rest in found:
            if name == "wa2":
                (tmp_path / name).rename(tmp_path.parent / f"{tmp_path.name}-{name}")
                if gone == "swapped for a file":
                    (tmp_path / name).touch()
                elif gone == "swapped for a link":
                    (tmp_path / name).symlink_to("/etc")
        return found

    monkeypatch.setattr(accounts_info, "found_in", listing)
    values = core_job.execute(
        accounts_info, {"path": str(tmp_path), "show_accounts": True}, check_mode=False
    ).report.values
    assert values["exists"]
    assert [account["id"] for account in values["accounts"]] == ["wa1", "wa3"]


def test_states_are_counted_and_unknown_ones_only_where_nobody_looked() -> None:
    accounts = [account("a"), account("b", "fresh"), account("c", "corrupt"), account("d", "pending"), account("e")]
    assert told(*accounts)["states"] == {"paired": 2, "pending": 1, "fresh": 1, "corrupt": 1}
    assert (told(*accounts)["total"], told(*accounts)["linked_accounts"]) == (5, 2)
    assert told(account("a", "unknown"), inspect="metadata")["states"]["unknown"] == 1


def test_duplicates_are_linked_devices_only() -> None:
    accounts = [
        account(name, fingerprints=(mark,) if mark else ())
        for name, mark in (("a", "1"), ("b", ""), ("c", "1"), ("d", ""), ("e", "2"))
    ]
    assert told(*accounts, show_accounts=True)["duplicates"] == [["a", "c"]]


@pytest.mark.parametrize(
    ("expected", "missing", "unlinked", "orphaned"),
    [
        (None, [], [], []),
        ((), [], [], ["a", "b", "new"]),
        (("a", "b"), [], [], ["new"]),
        (("b", "c"), ["c"], [], ["a", "new"]),
        (("c", "c"), ["c"], [], ["a", "b", "new"]),
        (("a", "b", "new"), [], ["new"], []),
    ],
)
def test_expected(
    expected: tuple[str, ...] | None, missing: list[str], unlinked: list[str], orphaned: list[str]
) -> None:
    values = told(account("a"), account("b"), account("new", "fresh"), expected=expected, show_accounts=True)
    assert (values["missing"], values["unlinked"], values["orphaned"]) == (missing, unlinked, orphaned)


def test_others_are_not_orphaned_where_only_some_are_named() -> None:
    state = State(True, BAILEYS, 2, (account("a"), account("b")), ("a", "c"))
    report = accounts_info.report(params(show_accounts=True, expected_are_all=False), state, (), None)
    assert (report.values["missing"], report.values["orphaned"], report.warnings) == (["c"], [], ())


@pytest.mark.parametrize(
    ("layout", "account_name", "known_as"),
    [
        ("wwebjs", "session-user_1_instance_main", "user_1_instance_main"),
        ("session_manager", "sessions/session-4711", "4711"),
        ("wppconnect", "userDataDir/shop", "shop"),
        ("openwa", "_IGNORE_shop", "shop"),
        ("waha", "noweb/shop", "shop"),
        ("baileys", "session-1", "session-1"),
    ],
)
def test_a_database_does_not_know_what_a_library_puts_before_a_name(
    layout: str, account_name: str, known_as: str
) -> None:
    for expected in (known_as, account_name):
        state = State(True, layout_named(layout), 1, (account(account_name, "pending"),), (expected, "gone"))
        values = accounts_info.report(params(show_accounts=True), state, (), None).values
        assert (values["missing"], values["unlinked"], values["orphaned"]) == (["gone"], [account_name], [])


def test_a_web_application_that_does_not_answer_is_an_error_wherever_the_accounts_are(tmp_path: pathlib.Path) -> None:
    # A port that is bound and does not listen refuses.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/sessions"
        source = {"url": url, "headers": {}, "names": "*", "timeout": 5.0}
        for path in (tmp_path, tmp_path / "missing"):
            with pytest.raises(SessionsError, match=r"which accounts are expected: .* gave no answer"):
                core_job.execute(accounts_info, {"path": str(path), "expected_from": source}, check_mode=True)


def test_names_are_masked_unless_asked_for() -> None:
    accounts = account(CANARY, fingerprints=("1",)), account(f"{CANARY}-backup", fingerprints=("1",))
    shown = told(*accounts, expected=(CANARY, f"{CANARY}1"))
    assert CANARY not in json.dumps(shown)
    assert [len(shown[name]) for name in ("accounts", "missing", "orphaned", "duplicates")] == [2, 1, 1, 1]
    assert [each["id"] for each in told(*accounts, show_accounts=True)["accounts"]] == [CANARY, f"{CANARY}-backup"]


def test_a_fingerprint_is_never_told() -> None:
    assert CANARY not in json.dumps(told(account("a", fingerprints=(CANARY,)), account("b", fingerprints=(CANARY,))))


@pytest.mark.parametrize("newest", [-(10**30), -1, 0, 10**18, 10**30])
def test_any_time_can_be_told(newest: int) -> None:
    (shown,) = told(account("a", newest=newest))["accounts"]
    assert len(shown["newest"]) == len("2026-11-20T12:00:00Z")


def test_there_is_never_anything_to_do(tmp_path: pathlib.Path) -> None:
    put_account(tmp_path / "wa1")
    before = looks(tmp_path)
    outcome = core_job.execute(accounts_info, {"path": str(tmp_path)}, check_mode=False)
    assert (outcome.changed, outcome.diff) == (False, {})
    assert looks(tmp_path) == before


def test_what_is_on_disk_and_not_expected_is_warned_of() -> None:
    state = State(True, BAILEYS, 1, (account(CANARY), account("a")), ("a",))
    (warning,) = accounts_info.report(params(), state, (), None).warnings
    assert warning.startswith("1 accounts on disk are not expected (")
    assert CANARY not in warning
    assert CANARY in accounts_info.report(params(show_accounts=True), state, (), None).warnings[0]
    assert not accounts_info.report(params(), dataclasses.replace(state, expected=None), (), None).warnings
