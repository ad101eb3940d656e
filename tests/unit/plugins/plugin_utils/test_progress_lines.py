# SPDX-License-Identifier: GPL-3.0-or-later
"""What is shown of a progress file: numbers and words of phases, whatever the host sends."""

from __future__ import annotations

import json
import threading
import types
import typing as t

import pytest
from ansible.utils.display import Display

from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils import _progress
from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._progress import line_of

FACTS: dict[str, t.Any] = {"work": "restore", "phase": "stage", "accounts": 0, "files": 0}
NOTHING = "examining the accounts"


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({}, "restore: stage"),
        ({"accounts_total": 3}, "restore: stage, 0 of 3 accounts"),
        ({"accounts": 2, "accounts_total": 3, "files": 1234567}, "restore: stage, 2 of 3 accounts, 1,234,567 files"),
        ({"files": 7, "files_total": 9, "backend": "down"}, "restore: stage, 7 of 9 files, backend down"),
        ({"backend": "\x1b[2J"}, "restore: stage"),
        ({"phase": "\x1b[2J"}, NOTHING),
        ({"work": "4915112345678@s.whatsapp.net"}, NOTHING),
        ({"files": "\x1b[2J"}, NOTHING),
        ({"accounts": [1]}, NOTHING),
    ],
)
def test_only_numbers_and_plain_words_are_shown(facts: dict[str, t.Any], line: str) -> None:
    assert line_of(json.dumps({**FACTS, **facts})) == line


@pytest.mark.parametrize("printed", ["", "{", "[]", "[" * 100_000, "{}", '{"work": 1}'])
def test_what_is_not_a_progress_file_says_that_the_module_still_runs(printed: str) -> None:
    assert line_of(printed) == NOTHING


def test_what_a_shell_prints_before_it_is_left_out() -> None:
    assert line_of(f"Welcome to wa1\r\n{json.dumps(FACTS)}\r\n") == "restore: stage"


class Queue:
    """The queue of a worker process. One that is in use while its process ends would block all others."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.entered, self.go_on = threading.Event(), threading.Event()

    def send_display(self, method: str, text: str, **options: t.Any) -> None:
        self.entered.set()
        assert self.go_on.wait(10)
        self.texts.append(text)


class Reader:
    """An action whose connection says at -vvv what it does, as that of ssh."""

    def __init__(self) -> None:
        self._connection = types.SimpleNamespace(become=None)
        self.reads = 0

    def _low_level_execute_command(self, command: str) -> dict[str, str]:
        self.reads += 1
        Display()._final_q.send_display("display", f"ESTABLISH CONNECTION {command}")
        return {"stdout": json.dumps(FACTS)}


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    made = Queue()
    monkeypatch.setattr(Display(), "_final_q", made)
    return made


def test_a_module_does_not_end_while_a_line_of_it_is_in_the_queue(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_progress, "_PATIENCE", 0.0)
    ended = threading.Event()

    def module() -> None:
        with _progress._Watch(Reader(), "wa1", "7", 0.01).shown():
            assert queue.entered.wait(10)
        ended.set()

    worker = threading.Thread(target=module)
    worker.start()
    assert queue.entered.wait(10)
    assert not ended.wait(0.2)
    queue.go_on.set()
    worker.join(10)
    assert ended.is_set()
    assert queue.texts[0].startswith("wa1: restore: stage (")


def test_a_look_that_takes_longer_than_the_module_displays_nothing(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_progress, "_PATIENCE", 0.0)
    reading, go_on = threading.Event(), threading.Event()

    class Slow(Reader):
        def _low_level_execute_command(self, command: str) -> dict[str, str]:
            reading.set()
            assert go_on.wait(10)
            return super()._low_level_execute_command(command)

    queue.go_on.set()
    before = set(threading.enumerate())
    with _progress._Watch(Slow(), "wa1", "7", 0.01).shown():
        assert reading.wait(10)
        (looking,) = set(threading.enumerate()) - before
    go_on.set()
    looking.join(10)
    assert queue.texts == []
