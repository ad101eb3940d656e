# SPDX-License-Identifier: GPL-3.0-or-later
"""What engines say about a container, as Podman 5.4 and Docker 26.1 were heard to say it."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers import inspect
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.inspect import (
    BoxMount,
    inspected,
    parse_box,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.command import Completed

ID = "7" * 64
DOCKER: dict[str, t.Any] = {
    "Id": ID,
    "Name": "/bot",
    "State": {"Status": "running", "Running": True, "Paused": False, "Pid": 688},
    "HostConfig": {"AutoRemove": True},
    "Config": {"Labels": {"com.docker.compose.project": "shop"}},
    "GraphDriver": {
        "Name": "overlay2",
        "Data": {
            "LowerDir": "/var/lib/docker/overlay2/a-init/diff:/var/lib/docker/overlay2/b/diff",
            "UpperDir": "/var/lib/docker/overlay2/a/diff",
        },
    },
    "Mounts": [
        {"Type": "bind", "Source": "/srv/a", "Destination": "/app/auth", "Mode": "ro", "RW": False},
        {
            "Type": "volume",
            "Name": "accounts",
            "Source": "/var/lib/docker/volumes/accounts/_data",
            "Destination": "/b",
            "RW": True,
        },
        {
            "Type": "volume",
            "Name": ID,
            "Source": f"/var/lib/docker/volumes/{ID}/_data",
            "Destination": "/c",
            "RW": True,
        },
        {"Type": "tmpfs", "Source": "", "Destination": "/d"},
    ],
}


def test_a_container() -> None:
    box = parse_box("docker", DOCKER)
    assert (box.id, box.name, box.pid, box.paused, box.removed) == (ID, "bot", 688, False, True)
    assert box.upper == "/var/lib/docker/overlay2/a/diff"
    assert box.lowers == ("/var/lib/docker/overlay2/a-init/diff", "/var/lib/docker/overlay2/b/diff")
    assert box.labels == {"com.docker.compose.project": "shop"}
    assert box.mounts[0] == BoxMount("bind", "/srv/a", "/app/auth", "", writable=False)
    assert [mount.lasting for mount in box.mounts] == [True, True, False, False]


@pytest.mark.parametrize(
    ("changed", "pid", "upper"),
    [
        ({"State": {"Running": False, "Pid": 0}}, 0, "/var/lib/docker/overlay2/a/diff"),
        ({"State": {"Running": False, "Pid": 12}}, 0, "/var/lib/docker/overlay2/a/diff"),
        ({"GraphDriver": None}, 688, ""),  # Docker with the image store of containerd
        ({"GraphDriver": {"Name": "btrfs", "Data": None}}, 688, ""),
        ({"GraphDriver": {"Data": {"UpperDir": "relative"}}}, 688, ""),
    ],
)
def test_what_may_be_missing(changed: dict[str, t.Any], pid: int, upper: str) -> None:
    box = parse_box("docker", {**DOCKER, **changed})
    assert (box.pid, box.upper) == (pid, upper)


def answered(monkeypatch: pytest.MonkeyPatch, rc: int, output: bytes, words: str = "") -> list[list[str]]:
    asked: list[list[str]] = []

    def run(argv: list[str], take: t.Callable[[bytes], None], **_limits: float) -> Completed:
        asked.append(argv)
        take(output)
        return Completed(tuple(argv), rc, "", words)

    monkeypatch.setattr(inspect, "run_for_lines", run)
    return asked


@pytest.mark.parametrize(
    "words", ["Error: no such container bot", "Error response from daemon: No such container: bot"]
)
def test_no_such_container(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    answered(monkeypatch, 1, b"[]\n", words)
    assert inspected("docker", "bot") is None


@pytest.mark.parametrize("name", ["", "-all", "a b", "../x", "a\nb", "$NAME"])
def test_what_is_no_name_is_not_asked_about(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    asked = answered(monkeypatch, 0, b"[]")
    assert inspected("docker", name) is None
    assert not asked


@pytest.mark.parametrize("output", [b"", b"[]", b"{}", b"[1]", b'[{"Id": "1"}]', b"[" * 100_000])
def test_an_answer_that_is_none(monkeypatch: pytest.MonkeyPatch, output: bytes) -> None:
    answered(monkeypatch, 0, output)
    with pytest.raises(SessionsError, match="nothing was changed"):
        inspected("docker", "bot")


def test_an_engine_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch, 1, b"", "Cannot connect to the Docker daemon. Is the docker daemon running?")
    with pytest.raises(SessionsError, match=r"Cannot connect .* nothing was changed"):
        inspected("docker", "bot")
