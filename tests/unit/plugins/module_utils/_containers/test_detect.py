# SPDX-License-Identifier: GPL-3.0-or-later
"""Which units run their program in a container, told by their files and by the processes that they have."""

from __future__ import annotations

import os

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers import detect
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.detect import _may_be_one
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.control_groups import Processes
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit


def unit(**properties: str) -> Unit:
    return Unit("bot.service", {**dict.fromkeys(PROPERTIES, ""), **properties})


def started(command: str) -> str:
    program = command.partition(" ")[0]
    return f"{{ path={program} ; argv[]={command} ; ignore_errors=no ; start_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }}"


@pytest.mark.parametrize(
    "properties",
    [
        {"SourcePath": "/etc/containers/systemd/bot.container"},
        {"SourcePath": "/etc/containers/systemd/bot.kube"},
        {"ExecStart": started("/usr/bin/podman run --rm base")},
        {"ExecStart": started("/usr/bin/docker run --rm base")},
        {"ExecStart": started("/usr/local/bin/docker-compose up")},
    ],
)
def test_told_by_its_files(properties: dict[str, str]) -> None:
    assert _may_be_one(unit(**properties))


@pytest.mark.parametrize(
    ("main", "engines", "is_one"),
    [
        ("node", [], False),
        ("node", [("docker", 12)], False),  # a program that calls an engine now and then
        ("bash", [("docker", 12)], True),
        ("bash", [], False),
        ("conmon", [("conmon", 12)], True),
    ],
)
def test_told_by_its_processes(
    monkeypatch: pytest.MonkeyPatch, main: str, engines: list[tuple[str, int]], is_one: bool
) -> None:
    monkeypatch.setattr(detect, "_program", lambda _pid: main)
    monkeypatch.setattr(detect, "engine_processes", lambda _unit: engines)
    seen = unit(ExecStart=started("/usr/local/bin/start-bot"), MainPID="11")
    assert _may_be_one(seen) is is_one


def test_a_unit_that_does_not_run() -> None:
    assert not _may_be_one(unit(ExecStart=started("/usr/bin/node app.js"), MainPID="0"))


@pytest.mark.parametrize(
    ("namespace", "root", "is_counted"), [("1", "/", True), ("2", "/", False), ("1", "/proc", False)]
)
def test_processes_of_the_container_that_are_called_as_an_engine(
    monkeypatch: pytest.MonkeyPatch, namespace: str, root: str, is_counted: bool
) -> None:
    """Its root calls one conmon, with the id of another container."""
    looked_at, stat = {"/proc/12/ns/pid": namespace, "/proc/self/ns/pid": "1"}, os.stat
    monkeypatch.setattr(detect, "processes_of", lambda _groups: Processes((12,), True))
    monkeypatch.setattr(detect, "_program", lambda _pid: "conmon")
    monkeypatch.setattr(detect.os, "readlink", looked_at.__getitem__)
    places = {"/proc/12": "/", "/proc/12/root": root, "/proc/self/root": "/"}
    monkeypatch.setattr(detect.os, "stat", lambda path: stat(places[path]))
    assert bool(detect.engine_processes(unit(ControlGroup="/bot"))) is is_counted
