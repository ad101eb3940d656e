# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that are held still: by a run, and by whoever lets them go on after it was killed."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers import hold
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.hold import held_still, require_still
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import rescue
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.control_groups import Processes

# A process that counts; the file that it is given it has open all the time, or never.
PROGRAM = """
import sys, time
held = open(sys.argv[2], "w") if len(sys.argv) > 2 else None
number = 0
while True:
    number += 1
    with open(sys.argv[1], "w") as file:
        file.write(str(number))
    time.sleep(0.01)
"""


@pytest.fixture
def counter(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "counter"


@pytest.fixture
def start(counter: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[t.Callable[..., int]]:
    """Start the program; it is all that is in every control group."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: str) -> int:
        started.append(subprocess.Popen([sys.executable, "-c", PROGRAM, str(counter), *arguments]))
        pid = started[-1].pid
        monkeypatch.setattr(hold, "processes_of", lambda _groups: Processes((pid,), True))
        monkeypatch.setattr(rescue, "_pids_in", lambda _groups: iter([pid]))
        wait_for(lambda: goes_on(counter))
        return pid

    yield begin
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition: t.Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def goes_on(counter: pathlib.Path) -> bool:
    before = counter.read_text() if counter.exists() else ""
    time.sleep(0.1)
    return counter.exists() and counter.read_text() != before


def test_held_and_let_go(start: t.Callable[..., int], counter: pathlib.Path, tmp_path: pathlib.Path) -> None:
    start()
    with held_still(("/bot",), str(tmp_path / "auth")):
        assert not goes_on(counter)
    wait_for(lambda: goes_on(counter))


def test_let_go_after_an_error(start: t.Callable[..., int], counter: pathlib.Path, tmp_path: pathlib.Path) -> None:
    start()
    with pytest.raises(ValueError, match="x"), held_still(("/bot",), str(tmp_path / "auth")):
        raise ValueError("x")
    wait_for(lambda: goes_on(counter))


def test_a_file_that_is_open_all_the_time(
    start: t.Callable[..., int], counter: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold, "_CLOSED_WITHIN", 0.3)
    folder = tmp_path / "auth"
    folder.mkdir()
    start(str(folder / "store.db"))
    with pytest.raises(SessionsError, match=r"keeps files of its accounts open"), held_still(("/bot",), str(folder)):
        pytest.fail("it was not to come to this")
    wait_for(lambda: goes_on(counter))


def test_whether_it_is_still_held(start: t.Callable[..., int], counter: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """Somebody who lets it go on meanwhile (an engine that is asked to) has it write to the former place."""
    pid = start()
    with held_still(("/bot",), str(tmp_path / "auth")):
        require_still(("/bot",), str(tmp_path / "auth"))
        with pytest.raises(SessionsError, match="has opened files"):
            require_still(("/bot",), os.getcwd())
        os.kill(pid, signal.SIGCONT)
        wait_for(lambda: goes_on(counter))
        with pytest.raises(SessionsError, match="was resumed or started"):
            require_still(("/bot",), str(tmp_path / "auth"))


def test_a_look_that_takes_too_long(start: t.Callable[..., int], tmp_path: pathlib.Path) -> None:
    start()
    with pytest.raises(SessionsError, match="more open files"):
        hold._who_has_open(("/bot",), str(tmp_path / "auth"), 0.0)


def test_processes_that_cannot_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold, "processes_of", lambda _groups: Processes((), True))
    with (
        pytest.raises(SessionsError, match="not all processes of the container are visible"),
        held_still(("/bot",), "/app/auth"),
    ):
        pytest.fail("it was not to come to this")


@pytest.mark.parametrize(
    ("intent", "ended"),
    [({"committed": True}, True), ({"committed": False}, False), ({}, False), (None, False)],
)
def test_what_the_rescuer_does_with_held_processes(
    start: t.Callable[..., int], counter: pathlib.Path, tmp_path: pathlib.Path, intent: t.Any, ended: bool
) -> None:
    """Where accounts are published already, what is still held is ended: it would go on at the former place. Else it goes on."""
    pid = start()
    file = tmp_path / "intent.json"
    if intent is not None:
        file.write_text(json.dumps(intent))
    os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: not goes_on(counter))
    given = rescue.Rescue("", "", "", "", "", "", str(file), "bot.service", "yes", "0", "0", "1", frozen="/bot")
    assert rescue._end_hold(given) is ended
    if ended:
        wait_for(lambda: pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    else:
        wait_for(lambda: goes_on(counter))


def test_who_goes_on_already_is_not_ended(
    start: t.Callable[..., int], counter: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    start()
    file = tmp_path / "intent.json"
    file.write_text(json.dumps({"committed": True}))
    given = rescue.Rescue("", "", "", "", "", "", str(file), "bot.service", "yes", "0", "0", "1", frozen="/bot")
    assert rescue._end_hold(given)
    assert goes_on(counter)


@pytest.mark.parametrize("gone", [True, False])
def test_the_rescuer_takes_nothing_back_of_a_container_that_has_ended(
    start: t.Callable[..., int], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """Its layer went with it: the copies are the last ones, and the next run keeps them."""
    start()
    if gone:
        monkeypatch.setattr(rescue, "_pids_in", lambda _groups: iter([]))
    asked: list[tuple[str, ...]] = []
    taken: list[str] = []
    monkeypatch.setattr(rescue, "_wait_for_the_end", lambda _given: None)
    monkeypatch.setattr(rescue, "_systemctl", lambda *words: asked.append(words) or True)
    monkeypatch.setattr(rescue, "_take_back_all", taken.append)
    names = ("lock", "busy", "flag", "guard", "unit", "link", "intent")
    files = [tmp_path / name for name in names]
    for file in files:
        file.write_text("{}")
    rescue._main(rescue.Rescue(*map(str, files), "bot.service", "yes", "0", "0", "1", frozen="/bot"))
    assert taken == ([] if gone else [str(tmp_path / "intent")])
    assert ("start", "--", "bot.service") in asked
