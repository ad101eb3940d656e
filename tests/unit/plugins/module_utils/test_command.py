# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that print more than memory holds, or do not end: real ones."""

from __future__ import annotations

import time

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._command import CUT_OFF, run_for_lines
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._errors import SessionsError


def test_lines_come_one_by_one_and_long_ones_in_pieces() -> None:
    lines: list[bytes] = []
    script = "printf 'one\\ntwenty-letters-in-all\\nlast'; echo 'what it says' >&2; exit 3"
    done = run_for_lines(["sh", "-c", script], lines.append, timeout=10, longest=10)
    assert lines == [b"one\n", b"twenty-let", b"ters-in-al", b"l\n", b"last"]
    assert (done.rc, done.stdout, done.stderr) == (3, "", "what it says\n")


def test_a_program_that_does_not_end_is_cut_off_and_what_it_printed_was_handed_over() -> None:
    lines: list[bytes] = []
    began = time.monotonic()
    done = run_for_lines(["sh", "-c", "echo first; exec sleep 60"], lines.append, timeout=0.5, longest=100)
    assert time.monotonic() - began < 10
    assert (done.rc, lines) == (CUT_OFF, [b"first\n"])


def test_a_program_ends_when_nobody_wants_its_lines_any_more() -> None:
    class Enough(Exception):
        pass

    def take(_line: bytes) -> None:
        raise Enough

    began = time.monotonic()
    with pytest.raises(Enough):
        run_for_lines(["yes"], take, timeout=60, longest=100)
    assert time.monotonic() - began < 10


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(SessionsError, match="the program 'no-such-program' is not on this host"):
        run_for_lines(["no-such-program"], lambda _line: None, timeout=1, longest=1)
