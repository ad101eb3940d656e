# SPDX-License-Identifier: GPL-3.0-or-later
"""session_dir and session_health with real units, on real hosts: who a unit runs as, and what its sandbox lets it write."""

from __future__ import annotations

import json
import runpy
import typing as t

import pytest

from conftest import REPOSITORY, Host

PATH = "/var/lib/wa/sessions"
TABLE = runpy.run_path(str(REPOSITORY / "tests/unit/plugins/module_utils/_systemd/test_sandbox.py"))["CASES"]


def install(host: Host, unit: str, *lines: str, start: bool = False) -> None:
    service = "\n".join(["[Service]", *(lines or ["User=nobody"])])
    if not any(line.startswith("ExecStart=") for line in lines):
        service += "\nExecStart=/usr/bin/sleep infinity"
    host.ssh(f"cat >/etc/systemd/system/{unit}.service && systemctl daemon-reload", stdin=f"{service}\n")
    if start:
        host.ssh(f"systemctl restart {unit}")


@pytest.fixture(autouse=True)
def _clean(host: Host) -> t.Iterator[None]:
    yield
    host.ssh(
        "systemctl stop 'wa-*'; rm -rf /etc/systemd/system/wa-* /var/lib/wa; systemctl daemon-reload; systemctl reset-failed"
    )


def test_owner_and_group_come_from_the_unit(host: Host) -> None:
    install(host, "wa-plain", "User=nobody")
    for name in ("wa-plain", "wa-plain.service"):
        result = host.run_module("session_dir", path=PATH, unit=name)
        assert (result["owner"], result["group"], result["mode"]) == ("nobody", "nogroup", "0750")
        assert result["writable_by_owner"] is True
    assert host.ssh(f"stat -c '%U %G %a' {PATH} /var/lib/wa").split("\n")[:2] == ["nobody nogroup 750", "root root 755"]
    install(host, "wa-group", "User=nobody", "Group=daemon")
    assert host.run_module("session_dir", path=PATH, unit="wa-group")["group"] == "daemon"
    install(host, "wa-root", "Nice=0")
    assert host.run_module("session_dir", path=PATH, unit="wa-root")["owner"] == "root"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["DynamicUser=yes"], "use StateDirectory="),
        (["User=nobody-here"], "the user 'nobody-here' does not exist"),
        (["User=nobody", "ProtectSystem=strict"], f"add ReadWritePaths={PATH} to [Service]"),
        (["User=nobody", "ReadOnlyPaths=/var/lib"], f"add ReadWritePaths={PATH} to [Service]"),
        (["User=nobody", "TemporaryFileSystem=/var"], f"add BindPaths={PATH} to [Service]"),
        (
            ["User=nobody", "InaccessiblePaths=/var/lib"],
            "InaccessiblePaths=/var/lib keeps the unit wa-bad.service from writing",
        ),
    ],
)
def test_units_that_cannot_use_it_are_refused_and_nothing_is_made(host: Host, lines: list[str], words: str) -> None:
    install(host, "wa-bad", *lines)
    for check in (True, False):
        result = host.run_module("session_dir", check=check, path=PATH, unit="wa-bad")
        assert result["failed"]
        assert words in result["msg"]
    assert host.ssh("ls /var/lib | grep -c '^wa$' || true").strip() == "0"


def test_the_line_that_is_named_makes_it_pass(host: Host) -> None:
    install(host, "wa-strict", "User=nobody", "ProtectSystem=strict", f"ReadWritePaths={PATH}")
    assert host.run_module("session_dir", path=PATH, unit="wa-strict")["changed"]


def test_a_unit_that_does_not_exist(host: Host) -> None:
    result = host.run_module("session_dir", path=PATH, unit="wa-typo")
    assert "the unit wa-typo.service does not exist on this host" in result["msg"]


def test_groups_of_the_unit_let_it_pass(host: Host) -> None:
    install(host, "wa-groups", "User=nobody", "SupplementaryGroups=daemon")
    host.ssh("install -d -o root -g daemon -m 0710 /var/lib/wa")
    assert host.run_module("session_dir", path=PATH, unit="wa-groups")["writable_by_owner"] is True
    host.ssh(f"rmdir {PATH}; chgrp bin /var/lib/wa")
    assert "it may not enter /var/lib/wa" in host.run_module("session_dir", path=PATH, unit="wa-groups")["msg"]


def test_the_sandbox_is_judged_as_systemd_itself_behaves(host: Host) -> None:
    """Each case of the unit test's table as a real unit: could it write, and could it once the lines were added."""
    cases = [case for case in TABLE if "RootImage" not in case[0]]  # needs an image of a whole system
    if host.suite == "bookworm":
        cases = [case for case in cases if case[0].get("PrivateTmp") != "disconnected"]  # systemd 257 and newer
    given = json.dumps([[properties, path] for properties, path, _expected in cases])
    found = json.loads(host.python("/opt/checkout/tests/module/sandbox_on_host.py", stdin=given))
    assert len(found) == len(cases)
    for case, real in zip(cases, found, strict=True):
        assert real["writable"] is real["wrote"], (case, real)
        assert real["wrote_with_lines"], (case, real)


def test_a_unit_that_runs_is_well_and_one_that_crashes_is_not(host: Host) -> None:
    install(host, "wa-well", "User=nobody", start=True)
    result = host.run_module("session_health", unit="wa-well", timeout=10, interval=0.5)
    assert (result["healthy"], result["changed"], result["status"]) == (True, False, None)
    install(
        host, "wa-crash", "ExecStart=/bin/sh -c 'sleep 0.3; exit 1'", "Restart=always", "RestartSec=100ms", start=True
    )
    crashing = host.run_module("session_health", unit="wa-crash", timeout=4, interval=1)
    assert crashing["failed"]
    assert "wa-crash.service" in crashing["msg"]
    assert "\n" not in crashing["msg"]
    host.ssh("systemctl stop wa-well")
    stopped = host.run_module("session_health", unit="wa-well", timeout=0)
    assert "the unit wa-well.service is inactive (dead)" in stopped["msg"]
    assert "does not exist" in host.run_module("session_health", unit="wa-typo", timeout=5)["msg"]
