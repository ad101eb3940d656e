# SPDX-License-Identifier: GPL-3.0-or-later
"""Holding a backend: what releases it is ready before it is held, and it is released whatever happens in between."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import subprocess
import sys
import time
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup import quiesce, release
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.quiesce import Hold, Interruption
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.command import Completed
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit

UNIT = "wa.service"


class Host:
    """Stands for systemd: what it was told, and what it answers."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.freezer = "CanFreeze=yes\nFreezerState=running\n"
        self.version = 2
        self.active = "active"
        self.failing = ""

    def run(self, argv: t.Sequence[str], **options: t.Any) -> Completed:
        verb = "systemd-run" if argv[0] == "systemd-run" else argv[1]
        self.told.append(verb)
        return Completed(tuple(argv), int(verb in self.failing.split()), self.freezer if verb == "show" else "", "")

    def run_checked(self, argv: t.Sequence[str], **options: t.Any) -> Completed:
        done = self.run(argv)
        if done.rc:
            raise SessionsError(f"cannot {self.told[-1]}")
        return done

    def unit(self, name: str) -> Unit:
        return Unit(name, {**dict.fromkeys(PROPERTIES, ""), "ActiveState": self.active, "ControlGroup": "/wa"})


@pytest.fixture(name="host")
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, control_home: pathlib.Path) -> Host:
    host = Host()
    monkeypatch.setattr(quiesce, "_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setattr(quiesce, "read_service", host.unit)
    monkeypatch.setattr(quiesce, "container_of", lambda unit: None)
    monkeypatch.setattr(quiesce, "can_freeze", lambda group: host.version == 2 and group == "/wa")
    monkeypatch.setattr(quiesce, "write_atomic", lambda path, held, mode: pathlib.Path(path).write_bytes(held))
    for name in ("run", "run_checked"):
        monkeypatch.setattr(quiesce, name, getattr(host, name))
    monkeypatch.setattr(quiesce, "start", lambda unit, timeout: host.told.append("start"))
    monkeypatch.setattr(quiesce, "stop_all", lambda groups: host.told.append("suspend"))
    monkeypatch.setattr(quiesce, "continue_all", lambda groups: host.told.append("resume"))
    return host


def hold(host: Host, how: str = "freeze") -> Hold:
    found = quiesce.hold_of(UNIT, how, 30)
    assert found is not None
    host.told.clear()
    return found


@pytest.mark.parametrize(
    ("how", "freezer", "told"),
    [
        ("freeze", "CanFreeze=yes\nFreezerState=running\n", ["systemd-run", "freeze", "thaw"]),
        ("freeze", "CanFreeze=no\nFreezerState=running\n", ["systemd-run", "suspend", "resume"]),
        ("freeze", "", ["systemd-run", "suspend", "resume"]),
        ("stop", "", ["systemd-run", "stop", "start"]),
    ],
)
@pytest.mark.parametrize("fails", [False, True])
def test_it_is_released_in_the_end(
    host: Host, tmp_path: pathlib.Path, how: str, freezer: str, told: list[str], fails: bool
) -> None:
    host.freezer = freezer
    interruption = Interruption()
    with contextlib.suppress(ZeroDivisionError), quiesce.held(hold(host, how), str(tmp_path / "wa"), interruption):
        assert host.told == told[:2]
        print(1 / (not fails))
    assert host.told == told
    assert interruption.seconds > 0


def test_control_groups_of_version_1_cannot_be_frozen(host: Host) -> None:
    host.version = 1
    assert hold(host).action == quiesce.RESUME


def test_the_first_error_is_raised(host: Host, tmp_path: pathlib.Path) -> None:
    host.failing = "freeze thaw"
    with (
        pytest.raises(SessionsError, match="cannot freeze"),
        quiesce.held(hold(host), str(tmp_path / "wa"), Interruption()),
    ):
        pass


def test_one_that_cannot_be_watched_over_is_not_held(host: Host, tmp_path: pathlib.Path) -> None:
    host.failing = "systemd-run"
    with pytest.raises(SessionsError), quiesce.held(hold(host), str(tmp_path / "wa"), Interruption()):
        pass
    assert host.told == ["systemd-run"]


def test_one_that_was_held_half_is_released(host: Host, tmp_path: pathlib.Path) -> None:
    host.failing = "stop"
    with pytest.raises(SessionsError), quiesce.held(hold(host, "stop"), str(tmp_path / "wa"), Interruption()):
        pass
    assert host.told == ["systemd-run", "stop", "start"]


@pytest.mark.parametrize("how", ["freeze", "stop"])
def test_one_that_does_not_run_is_left_alone(host: Host, how: str) -> None:
    host.active = "inactive"
    assert quiesce.hold_of(UNIT, how, 30) is None


def test_one_that_was_frozen_by_others_is_left_alone(host: Host) -> None:
    host.freezer = "CanFreeze=yes\nFreezerState=frozen\n"
    assert quiesce.hold_of(UNIT, "freeze", 30) is None


def test_another_run_on_the_path_comes_first(host: Host, tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "wa")
    first = hold(host)
    with (
        quiesce.held(first, path, Interruption()),
        pytest.raises(SessionsError, match="another run is working"),
        quiesce.held(first._replace(unit="other.service"), path, Interruption()),
    ):
        pass


# --- the process that systemd starts ---------------------------------------------------------------------


@pytest.fixture
def systemctl(tmp_path: pathlib.Path) -> pathlib.Path:
    """A program that records what it is told."""
    program = tmp_path / "bin/systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/told\n')
    program.chmod(0o755)
    return tmp_path / "told"


@pytest.mark.parametrize(
    ("action", "told"),
    [("thaw", ["thaw -- wa.service"]), ("start", ["reset-failed -- wa.service", "start -- wa.service"])],
)
@pytest.mark.parametrize("seconds", ["60", "0.1"])
def test_it_acts_when_the_run_has_ended_or_takes_too_long(
    tmp_path: pathlib.Path, systemctl: pathlib.Path, action: str, told: list[str], seconds: str
) -> None:
    lock = tmp_path / "lock"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    argv = [sys.executable, "-I", release.__file__, str(lock), seconds, action, UNIT]
    with subprocess.Popen(argv, env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}) as process:
        if seconds == "60":
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.5)
            assert not systemctl.exists()
            os.close(descriptor)
        assert process.wait(30) == 0
    if seconds != "60":
        os.close(descriptor)
    assert systemctl.read_text().splitlines() == told


def test_it_resumes_suspended_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    (tmp_path / "lock").touch()
    group = tmp_path / "wa/below"
    group.mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"]) as process:
        (group / "cgroup.procs").write_text(f"{process.pid}\n")
        os.kill(process.pid, 19)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        monkeypatch.setattr(release, "_HIERARCHIES", (str(tmp_path),))
        release.main(str(tmp_path / "lock"), "5", release.RESUME, UNIT, "/wa")
        os.waitid(os.P_PID, process.pid, os.WCONTINUED)
        process.kill()


def test_waiting_for_a_free_lock_takes_no_time(tmp_path: pathlib.Path) -> None:
    (tmp_path / "lock").touch()
    begin = time.monotonic()
    release.wait_for(str(tmp_path / "lock"), begin + 60)
    assert time.monotonic() - begin < 30
