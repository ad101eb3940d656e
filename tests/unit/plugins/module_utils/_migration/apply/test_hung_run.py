# SPDX-License-Identifier: GPL-3.0-or-later
"""A run that hangs while it holds the backend stopped is ended by its rescuer, and nothing else is."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import rescue

RUN = """
import fcntl, sys, time
lock = open(sys.argv[1], "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("locked", flush=True)
time.sleep(60)
"""
FILES = ("lock", "busy", "flag", "guard", "boot_unit", "boot_link")


class Hung:
    """A run that holds its lock and never ends, and its rescuer; systemctl is one that writes down its arguments."""

    def __init__(self, place: pathlib.Path) -> None:
        self.place = place
        self.calls = place / "calls"
        self.calls.touch()
        (place / "bin").mkdir()
        systemctl = place / "bin/systemctl"
        systemctl.write_text(f'#!/bin/sh\necho "$@" >>{self.calls}\n')
        systemctl.chmod(0o755)
        for name in FILES:
            (place / name).touch()
        program = [sys.executable, "-I", "-c", RUN, str(place / "lock")]
        self.run = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        assert self.run.stdout is not None
        assert self.run.stdout.readline() == "locked\n"

    def held_since(self, seconds: float) -> None:
        """Have the backend held stopped for so long already."""
        began = time.time() - seconds
        os.utime(self.place / "flag", (began, began))

    def rescuer(self, since: str) -> subprocess.Popen[bytes]:
        """Start the program as systemd does; it ends a run that holds the backend stopped for 30 seconds."""
        files = [str(self.place / name) for name in FILES]
        words = [*files, str(self.place / "intent.json"), "wa.service", "yes", str(self.run.pid), since, "30"]
        environment = {"PATH": f"{self.place}/bin:{os.environ['PATH']}"}
        return subprocess.Popen([sys.executable, "-I", rescue.__file__, *words], env=environment)


@pytest.fixture
def hung(tmp_path: pathlib.Path) -> t.Iterator[Hung]:
    made = Hung(tmp_path)
    try:
        yield made
    finally:
        made.run.kill()
        made.run.communicate()


def test_a_run_that_holds_the_backend_stopped_for_too_long_is_killed_and_the_backend_started(hung: Hung) -> None:
    hung.held_since(31)
    rescuer = hung.rescuer(rescue.started_at(hung.run.pid))
    assert hung.run.wait(20) == -signal.SIGKILL
    assert rescuer.wait(20) == 0
    assert hung.calls.read_text().splitlines()[-1] == "start -- wa.service"
    assert sorted(name for name in FILES if (hung.place / name).exists()) == ["lock"]


@pytest.mark.parametrize("spared", ["not held yet", "held for a moment", "another process with its number"])
def test_no_other_run_is_killed(hung: Hung, spared: str) -> None:
    since = rescue.started_at(hung.run.pid)
    if spared == "not held yet":
        (hung.place / "flag").unlink()
    elif spared == "held for a moment":
        hung.held_since(1)
    else:
        hung.held_since(31)
        since = "1"
    rescuer = hung.rescuer(since)
    with pytest.raises(subprocess.TimeoutExpired):
        hung.run.wait(2.5)  # the rescuer looks once a second
    assert hung.calls.read_text() == ""
    hung.run.kill()
    assert rescuer.wait(20) == 0
