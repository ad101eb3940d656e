# SPDX-License-Identifier: GPL-3.0-or-later
"""When a unit was started: what is asked of the journal, and entries that are not as expected."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.command import Completed
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import starts
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import Unit

UNIT = Unit("wa.service", {})


def entry(seconds: float, message: str) -> str:
    return json.dumps({"__REALTIME_TIMESTAMP": str(int(seconds * 1e6)), "MESSAGE_ID": message, "__CURSOR": "x"})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were run; the journal has two entries, and lines that are none."""
    commands: list[list[str]] = []

    def run(argv: list[str], **_options: t.Any) -> Completed:
        commands.append(argv)
        lines = [
            entry(20, starts.FAILED),
            "{}",
            "[1]",
            "no JSON",
            '{"__REALTIME_TIMESTAMP": "x"}',
            entry(10, starts.STARTED),
        ]
        return Completed(tuple(argv), 0, "\n".join(lines), "")

    monkeypatch.setattr(starts, "run", run)
    return commands


def test_starts_and_failures_come_in_their_order(asked: list[list[str]]) -> None:
    assert starts.starts_of(UNIT, 30) == (starts.Start(10, failed=False), starts.Start(20, failed=True))


def test_only_systemd_is_asked_and_within_bounds(asked: list[list[str]]) -> None:
    starts.starts_of(UNIT, 30)
    assert {"_PID=1", "UNIT=wa.service"} <= set(asked[0])
    assert [word for word in asked[0] if word.startswith(("--since=@", "--lines="))]
    assert "--output-fields=MESSAGE_ID" in asked[0]


def test_without_days_nothing_is_asked(asked: list[list[str]]) -> None:
    assert starts.starts_of(UNIT, 0) == ()
    assert asked == []


def test_a_journal_that_does_not_answer_has_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str], **_options: t.Any) -> Completed:
        raise SessionsError("it did not end within 10 seconds")

    monkeypatch.setattr(starts, "run", run)
    assert starts.starts_of(UNIT, 30) == ()
