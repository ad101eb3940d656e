# SPDX-License-Identifier: GPL-3.0-or-later
"""Which control group a process is in, as different hosts and engines write it down, and who is in a group."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.control_groups import (
    Processes,
    group_of,
    is_of,
    parse_group,
    processes_of,
)

UNIT = "/system.slice/whatsapp-backend.service"

TEXTS: dict[str, tuple[str, str]] = {
    "version 2 (Debian 12 and 13)": (f"0::{UNIT}\n", UNIT),
    "both versions (nspawn on a host with version 1)": (
        f"9:name=systemd:{UNIT}\n8:pids:/\n4:memory:/\n1:cpu:/\n0::{UNIT}\n",
        UNIT,
    ),
    "version 1": (f"12:cpu,cpuacct:/\n1:name=systemd:{UNIT}\n", UNIT),
    "PM2 as a unit": ("0::/system.slice/pm2-deploy.service\n", "/system.slice/pm2-deploy.service"),
    "Quadlet": (f"0::{UNIT}/libpod-payload-4f\n", f"{UNIT}/libpod-payload-4f"),
    "Docker, version 2": ("0::/system.slice/docker-4f.scope\n", "/system.slice/docker-4f.scope"),
    "Docker, version 1": ("7:memory:/docker/4f\n1:name=systemd:/docker/4f\n0::/\n", "/docker/4f"),
    "a group with a colon": ("0::/system.slice/wa:1.service\n", "/system.slice/wa:1.service"),
    "nothing": ("", ""),
    "other hierarchies only": ("8:pids:/user.slice\n", ""),
    "no such line": ("garbage\n::\n", ""),
}


@pytest.mark.parametrize("text", TEXTS)
def test_the_group_is_the_one_that_systemd_keeps(text: str) -> None:
    lines, group = TEXTS[text]
    assert parse_group(lines) == group


@pytest.mark.parametrize(
    ("group", "groups", "expected"),
    [
        (UNIT, [UNIT], True),
        (f"{UNIT}/libpod-payload-4f", [UNIT], True),
        (UNIT, ["/other", UNIT], True),
        (f"{UNIT}2", [UNIT], False),
        ("/user.slice/user-1000.slice" + UNIT, [UNIT], False),
        ("/system.slice", [UNIT], False),
        (UNIT, [], False),
        (UNIT, ["", "/"], False),
        ("", [UNIT], False),
    ],
)
def test_a_group_is_of_a_unit_from_the_top_on(group: str, groups: list[str], expected: bool) -> None:
    assert is_of(group, groups) is expected


def test_a_process_is_in_some_group_and_one_that_is_gone_in_none() -> None:
    assert group_of(os.getpid()).startswith("/")
    assert group_of(2**22 + 1) == ""


def put_group(path: pathlib.Path, *pids: int) -> None:
    path.mkdir(parents=True)
    (path / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids), encoding="ascii")


def test_all_processes_of_a_group_and_below_it_are_found(tmp_path: pathlib.Path) -> None:
    put_group(tmp_path / "one/a.service", 1, 0)  # 0: a process outside of this PID namespace
    put_group(tmp_path / "one/a.service/payload", 2)
    put_group(tmp_path / "one/a.service/payload/deeper", 3)
    put_group(tmp_path / "one/b.service", 4)
    put_group(tmp_path / "one/a.service2", 5)
    put_group(tmp_path / "two/docker/4f", 6)
    hierarchies = [f"{tmp_path}/{name}" for name in ("two", "one", "none")]
    found = processes_of(["/a.service", "/docker/4f", "", "/"], hierarchies)
    assert (sorted(found.pids), found.complete) == ([1, 2, 3, 6], True)


def test_a_group_that_is_gone_or_of_threads_has_no_processes(tmp_path: pathlib.Path) -> None:
    (tmp_path / "threads.service").mkdir()
    assert processes_of(["/threads.service", "/gone.service"], [str(tmp_path)]) == Processes((), True)


def test_more_than_can_be_looked_at_is_not_taken_for_all(tmp_path: pathlib.Path) -> None:
    put_group(tmp_path / "a.service", *range(1, 20000))
    (tmp_path / "a.service/below").mkdir()
    found = processes_of(["/a.service"], [str(tmp_path)])
    assert (len(found.pids), found.complete) == (10000, False)
