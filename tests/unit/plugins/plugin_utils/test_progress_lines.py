# SPDX-License-Identifier: GPL-3.0-or-later
"""What is shown of a progress file: numbers and words of phases, whatever the host sends."""

from __future__ import annotations

import json
import typing as t

import pytest

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
