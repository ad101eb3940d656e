# SPDX-License-Identifier: GPL-3.0-or-later
"""What a web application's reply tells about accounts, and what is said when it does not tell."""

from __future__ import annotations

import json
import typing as t

import pytest

from accounts import CANARY
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts import expected
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.http import Answer
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.json_query import all_at

URL = "http://127.0.0.1:8000/api/v1/sessions/active-sessions/"
OPTIONS = {
    "url": f"{URL}?key={CANARY}",
    "headers": {"x-api-key": CANARY},
    "names": "data.sessions.*.session_id",
    "timeout": 5.0,
}
# The reply as a Django application gives it (seed 001).
REPLY = {
    "success": True,
    "data": {"sessions": [{"session_id": "user_1_instance_main", "user_id": 1}, {"session_id": "b", "user_id": 2}]},
}


def asked(monkeypatch: pytest.MonkeyPatch, answer: Answer, **changes: t.Any) -> tuple[str, ...]:
    source = expected.read_source({**OPTIONS, **changes})
    assert source is not None
    monkeypatch.setattr(expected, "fetched", lambda endpoint, seconds, *, with_body: answer)
    return expected.names_from(source)


def answer(reply: t.Any) -> Answer:
    return Answer(200, json.dumps(reply).encode())


@pytest.mark.parametrize(
    ("names", "reply", "found"),
    [
        ("data.sessions.*.session_id", REPLY, ("user_1_instance_main", "b")),
        ("data.sessions.*.user_id", REPLY, ("1", "2")),
        ("data.sessions.0.session_id", REPLY, ("user_1_instance_main",)),
        ("data.sessions.*.session_id", {"data": {"sessions": []}}, ()),
        ("*", ["a", "b"], ("a", "b")),
        ("*.id", [{"id": "a"}], ("a",)),
        ("groups.*.ids.*", {"groups": [{"ids": ["a"]}, {"ids": []}, {"ids": ["b", "c"]}]}, ("a", "b", "c")),
        ("*.id", {"*": {"id": "a"}}, ("a",)),
    ],
)
def test_names_are_found(monkeypatch: pytest.MonkeyPatch, names: str, reply: t.Any, found: tuple[str, ...]) -> None:
    assert asked(monkeypatch, answer(reply), names=names) == found


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (
            Answer(trouble="connection refused"),
            "gave no answer (connection refused); check that the web application is running",
        ),
        (Answer(403, CANARY.encode()), "answered 403 instead of 200; check the URL and the key in headers"),
        (Answer(200, trouble="it is larger than 1 bytes"), "a reply that cannot be read (it is larger than 1 bytes)"),
        (Answer(200, CANARY.encode() + b"{"), "a reply that cannot be read (it is not JSON)"),
        (answer({"data": {CANARY: []}}), "has nothing at 'data.sessions.*.session_id'"),
        (answer({"data": {"sessions": [{"session_id": CANARY}, {"id": CANARY}]}}), "has nothing at 'data.sessions"),
        (answer({"data": {"sessions": {"session_id": CANARY}}}), "has nothing at 'data.sessions.*.session_id'"),
        (answer({"data": {"sessions": [{"session_id": {"a": CANARY}}]}}), "values other than names"),
        (answer({"data": {"sessions": [{"session_id": True}]}}), "values other than names"),
        (answer({"data": {"sessions": [{"session_id": None}]}}), "values other than names"),
    ],
)
def test_what_is_not_told_is_an_error_and_tells_nothing(
    monkeypatch: pytest.MonkeyPatch, given: Answer, sentence: str
) -> None:
    with pytest.raises(SessionsError) as raised:
        asked(monkeypatch, given)
    message = str(raised.value)
    assert message.startswith(f"cannot find out which accounts are expected: {URL} ")
    assert sentence in message
    assert CANARY not in message
    assert raised.value.__context__ is None  # it would hold the reply, and Ansible shows what is pending


@pytest.mark.parametrize("changes", [{"timeout": 0.0}, {"url": "ftp://x"}, {"headers": {"a b": CANARY}}])
def test_sources_that_make_no_sense_are_refused(changes: dict[str, t.Any]) -> None:
    with pytest.raises(SessionsError) as raised:
        expected.read_source({**OPTIONS, **changes})
    assert CANARY not in str(raised.value)


def test_no_source_is_none() -> None:
    assert expected.read_source(None) is None


@pytest.mark.parametrize("way", ["a.b", "a.*.b", "*", "c.*.x"])
def test_a_part_that_is_not_there_is_an_error(way: str) -> None:
    with pytest.raises(LookupError):
        all_at({"a": "text", "c": [{}]}, way)
