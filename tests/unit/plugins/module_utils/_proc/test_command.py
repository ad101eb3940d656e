# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs that print more than memory holds, or do not end: real ones."""

from __future__ import annotations

import threading
import types
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc import command
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.command import CUT_OFF, run_for_lines


def test_lines_come_one_by_one_and_long_ones_in_pieces() -> None:
    lines: list[bytes] = []
    script = "printf 'one\\ntwenty-letters-in-all\\nlast'; echo 'what it says' >&2; exit 3"
    done = run_for_lines(["sh", "-c", script], lines.append, timeout=10, longest=10, at_most=1 << 20)
    assert lines == [b"one\n", b"twenty-let", b"ters-in-al", b"l\n", b"last"]
    assert (done.rc, done.stdout, done.stderr) == (3, "", "what it says\n")


def test_a_program_that_does_not_end_is_cut_off_and_what_it_printed_was_handed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines: list[bytes] = []
    timers = collect_timers(monkeypatch)

    def take(line: bytes) -> None:
        lines.append(line)
        timers[0].function()  # the time is over

    done = run_for_lines(["sh", "-c", "echo first; exec sleep 600"], take, timeout=500, longest=100, at_most=1 << 20)
    assert (done.rc, lines) == (CUT_OFF, [b"first\n"])
    assert timers[0].interval == 500


def collect_timers(monkeypatch: pytest.MonkeyPatch) -> list[threading.Timer]:
    """Return the timers that the code makes; they run out when a test says so, not when the machine is slow."""
    made: list[threading.Timer] = []

    def timer(interval: float, function: t.Callable[[], None]) -> threading.Timer:
        made.append(threading.Timer(interval, function))
        return made[-1]

    monkeypatch.setattr(command, "threading", types.SimpleNamespace(Timer=timer))
    return made


def test_a_program_ends_when_nobody_wants_its_lines_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    class Enough(Exception):
        pass

    def take(_line: bytes) -> None:
        raise Enough

    timers = collect_timers(monkeypatch)
    with pytest.raises(Enough):
        run_for_lines(["yes"], take, timeout=600, longest=100, at_most=1 << 30)
    timers[0].join(100)
    assert not timers[0].is_alive()  # it was not the timer that ended the program


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(SessionsError, match="the program 'no-such-program' is not on this host"):
        run_for_lines(["no-such-program"], lambda _line: None, timeout=1, longest=1, at_most=1 << 20)


def test_a_flood_is_cut_off() -> None:
    lines: list[bytes] = []
    done = run_for_lines(["yes"], lines.append, timeout=60, longest=100, at_most=1000)
    assert (done.rc, len(lines)) == (CUT_OFF, 500)


def test_what_is_left_in_the_pipe_has_no_time_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program has ended, and its lines take long."""
    lines: list[bytes] = []
    clock = types.SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(command, "time", clock)

    def take(line: bytes) -> None:
        lines.append(line)
        clock.now += 10

    done = run_for_lines(["seq", "1000"], take, timeout=600, longest=100, at_most=1 << 20)
    assert done.rc == CUT_OFF
    assert len(lines) == 61
