# SPDX-License-Identifier: GPL-3.0-or-later
"""The job of session_health: what counts as well, what a reply gives away, and that waiting ends in time.

Real answers over HTTP are in tests/module/test_session_health.py.
"""

from __future__ import annotations

import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.job import execute
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._health import job as health_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._health.conditions import (
    Observation,
    Params,
    failures,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.http import Answer, endpoint_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.json_query import (
    facts_of,
    is_equal,
    parsed,
    shown,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import journal
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.journal import Query, Reading
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import Unit

CANARY = "5511999990000"
URL = "http://127.0.0.1:8080/health"
OPTIONS: dict[str, t.Any] = {
    "url": None,
    "expect": {},
    "at_least": {},
    "equal_keys": {},
    "return_keys": [],
    "headers": {},
    "unit": None,
    "since": None,
    "signals": None,
    "require": {},
    "forbid": {},
    "timeout": 60.0,
    "interval": 2.0,
}
NOTHING_OF_A_UNIT: dict[str, t.Any] = {"unit": None, "signals": {}, "signal_accounts": {}, "cursor": None}


def params(**options: t.Any) -> Params:
    return health_job.read_params({**OPTIONS, **options})


def look(**seen: t.Any) -> Observation:
    return Observation(**{"started": 0.0, "ended": 0.1, **seen})


def unit(active: str, sub: str, age: float | None = None) -> dict[str, t.Any]:
    """What a look saw of the unit wa; ``age`` of its main process in seconds."""
    properties = {"ActiveState": active, "SubState": sub, "MainPID": "7", "InvocationID": "", "NeedDaemonReload": "no"}
    return {"unit": Unit("wa.service", properties), "main_process_age": age}


def heard(**counts: int) -> Reading:
    return Reading({"needs_qr": 0, "restored": 0, **counts})


@pytest.mark.parametrize(
    ("options", "seen", "complaint"),
    [
        ({"url": URL}, look(status=200), None),
        ({"url": URL}, look(status=503), f"{URL} answered 503 instead of 200"),
        ({"url": URL}, look(status=204), f"{URL} answered 204 instead of 200"),
        ({"url": URL}, look(status=302), f"{URL} answered 302 instead of 200 (redirects are not followed)"),
        ({"url": URL}, look(trouble="connection refused"), f"{URL} gave no answer (connection refused)"),
        ({"url": URL + "?key=" + CANARY}, look(status=500), f"{URL} answered 500 instead of 200"),
        ({"url": URL, "expect": {"a": 1}}, look(status=200, found={"a": 1}), None),
        ({"url": URL, "expect": {"a": 1}}, look(status=200, found={"a": 2}), f"{URL} says a=2 instead of 1"),
        (
            {"url": URL, "expect": {"a": 1, "b": True}},
            look(status=200, found={"b": False}),
            f"{URL} says a=missing instead of 1, b=False instead of True",
        ),
        (
            {"url": URL, "expect": {"a": 1}},
            look(status=200, trouble="it is not JSON"),
            f"{URL} gave a reply that cannot be compared (it is not JSON)",
        ),
        (
            {"url": URL, "expect": {"a": 1}},
            look(status=503, found={"a": 2}),
            f"{URL} answered 503 instead of 200; {URL} says a=2 instead of 1",
        ),
        ({"url": URL, "expect": {"a": None}}, look(status=200, found={"a": None}), None),
        (
            {"url": URL, "expect": {"a": "x"}},
            look(status=200, found={"a": {"keys": CANARY}}),
            f"{URL} says a='<object with 1 keys>' instead of 'x'",
        ),
        ({"unit": "wa"}, look(**unit("active", "running", 2.0)), None),
        ({"unit": "wa"}, look(**unit("active", "exited")), None),
        (
            {"unit": "wa"},
            look(**unit("activating", "auto-restart")),
            "the unit wa.service is activating (auto-restart)",
        ),
        ({"unit": "wa"}, look(**unit("failed", "failed")), "the unit wa.service is failed (failed)"),
        (
            {"unit": "wa"},
            look(**unit("active", "running", 0.4)),
            "the main process of wa.service is younger than 2 seconds",
        ),
        ({"unit": "wa", "interval": 0.3}, look(**unit("active", "running", 0.4)), None),
        ({"url": URL, "at_least": {"a": 3}}, look(status=200, found={"a": 3}), None),
        ({"url": URL, "at_least": {"a": "3"}}, look(status=200, found={"a": 3.5}), None),
        ({"url": URL, "at_least": {"a": 3}}, look(status=200, found={"a": 2}), f"{URL} says a=2 instead of at least 3"),
        (
            {"url": URL, "at_least": {"a": 1}},
            look(status=200, found={"a": True}),
            f"{URL} says a=True instead of at least 1",
        ),
        ({"url": URL, "at_least": {"a": 0}}, look(status=200), f"{URL} says a=missing instead of at least 0"),
        (
            {"url": URL, "at_least": {"a": 1}},
            look(status=200, trouble="it is not JSON"),
            f"{URL} gave a reply that cannot be compared (it is not JSON)",
        ),
        ({"url": URL, "equal_keys": {"a": "b"}}, look(status=200, found={"a": "x", "b": "x"}), None),
        (
            {"url": URL, "equal_keys": {"a": "b"}},
            look(status=200, found={"a": "x", "b": {"key": CANARY}}),
            f"{URL} says a='x' instead of b='<object with 1 keys>'",
        ),
        ({"url": URL, "equal_keys": {"a": "b"}}, look(status=200), f"{URL} says a=missing instead of b=missing"),
        (
            {"url": URL, "unit": "wa", "equal_keys": {"a": "$ID"}},
            look(status=200, found={"a": 1}, environment={"ID": "1"}),
            None,
        ),
        (
            {"url": URL, "unit": "wa", "equal_keys": {"a": "$ID"}},
            look(status=200, found={"a": "x"}, environment={"ID": CANARY}),
            f"{URL} says a='x' instead of ID of its process",
        ),
        (
            {"url": URL, "unit": "wa", "equal_keys": {"a": "$ID"}},
            look(status=200, found={"a": "x"}),
            f"{URL} says a='x' instead of ID of its process, which is not set",
        ),
        ({"url": URL, "return_keys": ["a"]}, look(status=200), None),
        ({"url": URL, "return_keys": ["a"]}, look(status=200, trouble="it is not JSON"), None),
        (
            {"unit": "wa", "require": {"restored": 2}, "forbid": {"needs_qr": 1}},
            look(journal=heard(restored=2, needs_qr=1)),
            None,
        ),
        (
            {"unit": "wa", "require": {"restored": "2"}, "forbid": {"needs_qr": 0}},
            look(journal=heard(restored=1, needs_qr=3)),
            "the journal has restored 1 times instead of at least 2, needs_qr 3 times instead of at most 0",
        ),
        ({"unit": "wa", "signals": {}}, look(journal=heard(needs_qr=9)), None),
        (
            {"unit": "wa", "forbid": {"needs_qr": 0}},
            look(journal=Reading({"needs_qr": 0}, complete=False)),
            "the journal could not be read to its end in time; set since to a later time",
        ),
    ],
)
def test_what_is_not_well(options: dict[str, t.Any], seen: Observation, complaint: str | None) -> None:
    chosen = params(**options)
    assert "; ".join(failures(seen, chosen)) == (complaint or "")
    assert bool(health_job.plan(seen, chosen)) is (complaint is not None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": "ftp://127.0.0.1/"}, "begin with http:// or https://"),
        ({"url": "file:///etc/shadow"}, "begin with http:// or https://"),
        ({"url": "127.0.0.1:8080/health"}, "begin with http:// or https://"),
        ({"url": "http:///health"}, "begin with http:// or https://"),
        ({"url": "http://127.0.0.1:99999/"}, "is not a valid URL"),
        ({"url": f"http://user:{CANARY}@127.0.0.1/"}, "contains a user name or password"),
        ({"url": f"http://127.0.0.1/\r\nX: {CANARY}"}, "control character"),
        ({"url": "http://127.0.0.1/é"}, "outside ASCII"),
        ({"url": URL, "headers": {"X-Key": f"{CANARY}\r\nHost: other"}}, "the header 'X-Key' cannot be sent"),
        ({"url": URL, "headers": {"X Key": CANARY}}, "the header 'X Key' cannot be sent"),
        ({"expect": {"a": 1}, "unit": "wa"}, "expect requires url"),
        ({"headers": {"a": "1"}, "unit": "wa"}, "headers requires url"),
        ({"unit": "a/b"}, "is not a valid unit name"),
        ({"url": URL, "timeout": -1}, "timeout must be 0 or more"),
        ({"url": URL, "interval": 0}, "interval at least 0.1"),
        ({"unit": "wa", "at_least": {"a": 1}}, "at_least requires url"),
        ({"unit": "wa", "equal_keys": {"a": "b"}}, "equal_keys requires url"),
        ({"unit": "wa", "return_keys": ["a"]}, "return_keys requires url"),
        (
            {"url": URL, "equal_keys": {"a": "$B"}},
            "equal_keys refers to a variable of the unit's process and requires unit",
        ),
        ({"url": URL, "at_least": {"a": "many"}}, "at_least must contain numbers of 0 or more, but 'a' has 'many'"),
        ({"url": URL, "at_least": {"a": True}}, "at_least must contain numbers"),
        ({"url": URL, "at_least": {"a": float("nan")}}, "at_least must contain numbers"),
        ({"url": URL, "at_least": {"a": -1}}, "at_least must contain numbers"),
        ({"url": URL, "since": "now"}, "read the journal of unit; set unit"),
        ({"url": URL, "signals": {}}, "read the journal of unit; set unit"),
        ({"url": URL, "require": {"needs_qr": 1}}, "read the journal of unit; set unit"),
        ({"unit": "wa", "require": {"restored": 1.5}}, "require must contain numbers"),
        ({"unit": "wa", "forbid": {"needs-qr": 0}}, "there is no signal 'needs-qr'; define it in signals"),
        ({"unit": "wa", "forbid": {"back_failed": 0}, "signals": {"back": "x"}}, "there is no signal 'back_failed'"),
    ],
)
def test_what_makes_no_sense_is_refused_without_telling_secrets(options: dict[str, t.Any], message: str) -> None:
    with pytest.raises(SessionsError) as refused:
        params(**options)
    assert message in str(refused.value)
    assert CANARY not in str(refused.value)


def test_an_endpoint_is_shown_without_query_and_headers() -> None:
    endpoint = endpoint_of(f"https://[::1]:8443/health?key={CANARY}#part", {"X-Key": CANARY})
    assert str(endpoint) == "https://[::1]:8443/health"
    assert CANARY not in repr(endpoint).replace(endpoint.target, "")
    assert endpoint.target == f"/health?key={CANARY}"


REPLY = {
    "status": "ok",
    "sessions_dir_writable": True,
    "lock": {"holder": "wa-1", "since": None, "last.seen": 7},
    "accounts": [{"state": "connected"}, {"state": "needs_qr"}],
    "a.b": {"c.d": 1},
    "empty": [],
    "numbers": [1, 2, 1, True],
    "a=b": {"*": 5},
}


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("status", "ok"),
        ("lock.holder", "wa-1"),
        ("lock.since", None),
        ("accounts.1.state", "needs_qr"),
        ("accounts", REPLY["accounts"]),
        ("a.b", {"c.d": 1}),
        ("lock.last.seen", 7),
        ("accounts.*.state=connected", 1),
        ("accounts.*.state=gone", 0),
        ("empty.*.state=connected", 0),
        ("numbers.*=1", 2),
        ("a=b.*", 5),
    ],
)
def test_dotted_keys_lead_into_the_reply(key: str, found: t.Any) -> None:
    assert facts_of(REPLY, [key]) == {key: found}


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "lock.",
        "lock.owner",
        "status.x",
        "accounts.2.state",
        "accounts.-1",
        "accounts.x",
        "0",
        "accounts.*.name=x",
        "status.*=x",
        "accounts.0.state=connected",
        "accounts.*",
    ],
)
def test_keys_that_are_not_there_are_not_found(key: str) -> None:
    assert facts_of(REPLY, [key]) == {}


@pytest.mark.parametrize(
    ("expected", "seen", "equal"),
    [
        (True, True, True),
        (True, 1, False),
        (1, True, False),
        (1, 1.0, True),
        (None, None, True),
        (None, False, False),
        ("active", "active", True),
        ("Active", "active", False),
        ("true", True, True),
        ("True", True, True),
        ("false", True, False),
        ("3", 3, True),
        ("null", None, True),
        ("1", True, False),
        (["a", True], ["a", True], True),
        (["a", 1], ["a", True], False),
        ({"a": "1"}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ("{}", {}, False),
    ],
)
def test_values_are_compared_as_in_json(expected: t.Any, seen: t.Any, equal: bool) -> None:
    assert is_equal(expected, seen) is equal


@pytest.mark.parametrize(
    ("expected", "seen", "told"),
    [
        ("x", "y", "y"),
        ("x", CANARY * 40, "<text of 520 characters>"),
        ("x", {"noiseKey": CANARY, "me": 1}, "<object with 2 keys>"),
        (2, [CANARY] * 3, "<list of 3>"),
        ({"a": 1}, {"a": 2, "key": CANARY}, "<object with 2 keys>"),
        ({"a": 1}, {"a": 1}, {"a": 1}),
        (None, 7, 7),
    ],
)
def test_no_more_is_told_than_was_asked_for(expected: t.Any, seen: t.Any, told: t.Any) -> None:
    assert shown(expected, seen) == told


@pytest.mark.parametrize(
    "body", [b"", b"<html>" + CANARY.encode(), b"\xff\xfe", b"[" * 200_000, b'{"a": NaN}', b'{"a": 1} x', b"9" * 5000]
)
def test_what_is_no_json_is_told_in_words_only(body: bytes) -> None:
    try:
        parsed(body)
    except ValueError as error:
        assert str(error) == "it is not JSON"
        assert error.__context__ is None
    else:  # a Python without a limit on digits reads the long number, and that is JSON
        assert body == b"9" * 5000


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.text(),
)
def test_any_reply_and_any_key_can_be_met(reply: t.Any, key: str) -> None:
    for value in facts_of(parsed(json.dumps(reply).encode()), [key]).values():
        assert is_equal(value, value)
        shown("x", value)


@given(st.dictionaries(st.text(min_size=1), st.integers(), min_size=1))
def test_every_name_at_the_top_is_found_whatever_it_looks_like(reply: dict[str, int]) -> None:
    assert facts_of(reply, list(reply)) == reply


class Backend:
    """Answers one after the other, and a clock that moves only when somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.now = 1000.0
        monkeypatch.setattr(health_job, "fetched", self.answer)
        monkeypatch.setattr(health_job.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(health_job.time, "sleep", self.sleep)

    def answer(self, _endpoint: t.Any, seconds: float, *, with_body: bool) -> Answer:
        assert seconds > 0
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def sleep(self, seconds: float) -> None:
        self.now += seconds


WELL = Answer(200, json.dumps({"mode": "active", "key": CANARY}).encode())
STARTING = Answer(503, json.dumps({"mode": "starting", "key": CANARY}).encode())
DEAD = Answer(trouble="connection refused")


def test_a_backend_that_is_well_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend(monkeypatch, WELL)
    outcome = execute(health_job, {**OPTIONS, "url": URL, "expect": {"mode": "active"}}, check_mode=False)
    assert (backend.asked, outcome.changed) == (1, False)
    assert outcome.report.values == {
        "healthy": True,
        "status": 200,
        "facts": {"mode": "active"},
        "elapsed_seconds": 0.0,
        **NOTHING_OF_A_UNIT,
    }


def test_waiting_ends_as_soon_as_all_is_well_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend(monkeypatch, DEAD, STARTING, STARTING, WELL)
    outcome = execute(health_job, {**OPTIONS, "url": URL, "expect": {"mode": "active"}}, check_mode=False)
    assert not outcome.changed
    assert outcome.report.values["healthy"]
    assert outcome.report.values["elapsed_seconds"] == 6.0
    assert backend.now == 1006.0


def test_when_the_time_is_over_the_last_look_is_told_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend(monkeypatch, DEAD, STARTING)
    with pytest.raises(SessionsError) as failed:
        execute(health_job, {**OPTIONS, "url": URL, "expect": {"mode": "active"}, "timeout": 5.0}, check_mode=False)
    assert backend.now == 1005.0
    assert f"{URL} answered 503 instead of 200; {URL} says mode='starting' instead of 'active'" in str(failed.value)
    assert failed.value.facts == {
        "healthy": False,
        "status": 503,
        "facts": {"mode": "starting"},
        "elapsed_seconds": 5.0,
        **NOTHING_OF_A_UNIT,
    }
    assert CANARY not in str(failed.value) + str(failed.value.facts)


def test_without_time_there_is_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend(monkeypatch, DEAD)
    with pytest.raises(SessionsError, match="connection refused"):
        execute(health_job, {**OPTIONS, "url": URL, "timeout": 0}, check_mode=False)
    assert backend.asked == 1


def test_check_mode_looks_once_and_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend(monkeypatch, STARTING)
    outcome = execute(health_job, {**OPTIONS, "url": URL, "expect": {"mode": "active"}}, check_mode=True)
    assert (backend.asked, outcome.changed, outcome.report.values["healthy"]) == (1, False, False)


def test_a_unit_that_crashes_again_and_again_is_never_well(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend(monkeypatch, WELL)

    def crashing(_name: str) -> Unit:
        """Active, and its main process has always been started 0.2 seconds ago."""
        begun = str(int((backend.now - 0.2) * 1e6))
        properties = unit("active", "running")["unit"].properties
        return Unit("wa.service", {**properties, "ExecMainStartTimestampMonotonic": begun})

    monkeypatch.setattr(health_job, "read_service", crashing)
    with pytest.raises(SessionsError, match="is younger than 2 seconds"):
        execute(health_job, {**OPTIONS, "url": URL, "unit": "wa", "timeout": 30.0}, check_mode=False)


def test_keys_that_are_only_told_are_told_and_no_more_than_their_size(monkeypatch: pytest.MonkeyPatch) -> None:
    Backend(monkeypatch, Answer(200, json.dumps({"up": 3, "accounts": [CANARY], "holder": "x", "me": "x"}).encode()))
    options = {"url": URL, "return_keys": ["up", "accounts", "gone"], "equal_keys": {"holder": "me"}}
    told = execute(health_job, {**OPTIONS, **options}, check_mode=False).report.values["facts"]
    assert told == {"holder": "x", "me": "x", "up": 3, "accounts": "<list of 1>"}


def test_the_journal_is_read_on_from_look_to_look_and_told_as_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Backend(monkeypatch, WELL)
    readings = [
        heard(),
        heard(restored=1),
        Reading(heard(restored=2, key_material=4).counts, {"restored": frozenset("ba")}, "s=1"),
    ]
    asked: list[tuple[Reading | None, float]] = []

    def read_on(_unit: Unit, _query: Query, before: Reading | None, seconds: float) -> Reading:
        asked.append((before, seconds))
        return readings[min(len(asked), len(readings)) - 1]

    monkeypatch.setattr(journal, "read_on", read_on)
    monkeypatch.setattr(health_job, "read_service", lambda _name: Unit("wa.service", running(backend.now - 100)))
    outcome = execute(health_job, {**OPTIONS, "url": URL, "unit": "wa", "require": {"restored": 2}}, check_mode=False)
    assert [before for before, _seconds in asked] == [None, readings[0], readings[1], None]
    assert all(1 <= seconds <= 10 for _before, seconds in asked)
    values = outcome.report.values
    assert (values["healthy"], values["cursor"], values["elapsed_seconds"]) == (True, "s=1", 4.0)
    assert values["signals"] == {"needs_qr": 0, "restored": 2, "key_material": 4}
    assert values["signal_accounts"] == {"restored": ["a", "b"]}
    assert [warning.partition(" lines that look like private keys")[0] for warning in outcome.report.warnings] == [
        "the journal of wa.service has 4"
    ]


def running(since: float) -> dict[str, str]:
    properties = unit("active", "running")["unit"].properties
    return {**properties, "ExecMainStartTimestampMonotonic": str(int(since * 1e6))}


def test_a_process_that_was_too_young_at_the_last_look_is_still_too_young_when_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend = Backend(monkeypatch, WELL)
    monkeypatch.setattr(health_job, "read_service", lambda _name: Unit("wa.service", running(backend.now - 1.5)))
    with pytest.raises(SessionsError, match="is younger than 2 seconds"):
        execute(health_job, {**OPTIONS, "url": URL, "unit": "wa", "timeout": 1.0}, check_mode=False)
