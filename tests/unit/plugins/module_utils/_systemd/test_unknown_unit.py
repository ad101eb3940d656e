# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a unit that systemd does not know, and of processes that use accounts without a unit."""

from __future__ import annotations

import os
import pathlib
import pwd
import subprocess
import sys
import types
import typing as t

import pytest

from accounts import put_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers import (
    loose_backends as containers_loose_backends,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.loose_backends import (
    loose_backends,
    what_to_do,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.control_groups import unit_in
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.open_files import Holder, named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import unit as systemd_unit
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import unknown_unit
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unknown_unit import why_unknown

UNIT = "bot.service"
MANAGER = "user.slice/user-1234.slice/user@1234.service/app.slice"


class System:
    """A host's units, users and control groups."""

    def __init__(self, place: pathlib.Path, patch: pytest.MonkeyPatch) -> None:
        self.units: dict[str, list[str]] = {}
        self.home, self.groups = place / "home", place / "cgroup"
        person = types.SimpleNamespace(pw_name="anna", pw_dir=str(self.home), pw_uid=1234)
        patch.setattr(pwd, "getpwall", lambda: [person])
        patch.setattr(pwd, "getpwuid", {1234: person}.__getitem__)
        patch.setattr(unknown_unit, "_CONTROL_GROUPS", (str(self.groups),))
        patch.setattr(unknown_unit, "_UNITS_OF_ALL_USERS", (str(place / "all"),))
        patch.setattr(unknown_unit, "run", self.run)

    def run(self, argv: t.Sequence[str]) -> types.SimpleNamespace:
        lines = [f"{name} loaded" for name in self.units.get(f"{argv[1]} {argv[-1]}", [])]
        return types.SimpleNamespace(rc=0, stdout="\n".join(lines))


@pytest.fixture
def system(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(tmp_path, monkeypatch)


def test_nothing_is_said_where_nothing_is_known(system: System) -> None:
    assert why_unknown(UNIT) == ""


@pytest.mark.parametrize("place", [".config/systemd/user", ".local/share/systemd/user"])
def test_a_unit_of_a_user_s_own_manager_is_said_to_be_one(system: System, place: str) -> None:
    file = system.home / place / UNIT
    file.parent.mkdir(parents=True)
    file.write_text("[Service]\n")
    said = why_unknown(UNIT)
    assert "it is a unit of the user manager of the user anna (systemctl --user)" in said
    assert f"copy {file} to /etc/systemd/system with User=anna" in said
    assert f"systemctl --user disable --now {UNIT}, as anna" in said


def test_a_running_one_is_found_wherever_its_file_is(system: System) -> None:
    (system.groups / MANAGER / "app-bot.slice" / UNIT).mkdir(parents=True)
    said = why_unknown(UNIT)
    assert "the user anna" in said
    assert f"create /etc/systemd/system/{UNIT}" in said


def test_a_template_of_that_name_has_its_instances_named(system: System) -> None:
    system.units = {"list-unit-files bot@.service": ["bot@.service"], "list-units bot@*.service": ["bot@2.service"]}
    said = why_unknown(UNIT)
    assert "bot@.service is a template: name one instance in 'unit', such as bot@2.service" in said


def test_units_of_similar_names_are_named(system: System) -> None:
    system.units = {"list-unit-files *bot*.service": ["whatsapp-bot.service"]}
    assert why_unknown(UNIT) == "; there are whatsapp-bot.service"


def test_a_template_is_no_backend(system: System) -> None:
    with pytest.raises(SessionsError, match=r"wa@.service is a template, which never runs itself: name one instance"):
        systemd_unit.read_unit("wa@")


@pytest.mark.parametrize(
    ("group", "unit"),
    [
        ("/system.slice/bot.service", "bot.service"),
        ("/system.slice/system-wa.slice/wa@1.service/payload", "wa@1.service"),
        ("/user.slice/user-1000.slice/session-3.scope", ""),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/bot.service", "bot.service"),
        ("/user.slice/user-1000.slice/user@1000.service/init.scope", ""),
        ("/system.slice/cron.service", ""),
        ("/", ""),
        ("", ""),
    ],
)
def test_the_unit_of_a_process_is_told_by_its_control_group(group: str, unit: str) -> None:
    assert unit_in(group) == unit


def test_units_are_named_before_processes_and_once() -> None:
    found = [
        Holder(5, "node", "named"),
        Holder(7, "node", "copy", "wa@2.service"),
        Holder(8, "sh", "copy", "wa@2.service"),
    ]
    assert named(found) == "wa@2.service (PID 7, node), PID 5 (node)"


@pytest.fixture
def backend(tmp_path: pathlib.Path) -> t.Iterator[t.Callable[..., subprocess.Popen[bytes]]]:
    """Start a program that waits, with a command line of no account."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**variables: str) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-c", "print(flush=True); input()"]
        running = subprocess.Popen(
            words, cwd=tmp_path, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )
        started.append(running)
        assert running.stdout
        running.stdout.readline()
        return running

    yield start
    for running in started:
        running.communicate(b"\n")


def test_a_process_that_uses_accounts_is_found_by_where_its_library_looks(
    tmp_path: pathlib.Path, backend: t.Callable[..., subprocess.Popen[bytes]]
) -> None:
    put_account(tmp_path / "auth_info_baileys")
    running = backend()
    found = [each for each in loose_backends([], None) if each.pid == running.pid]
    assert [each.directory for each in found] == [f"{tmp_path}/auth_info_baileys"]
    said = what_to_do([], None)
    assert f"PID {running.pid} (" in said
    assert "'src' and without 'unit'" in said


def test_it_is_found_by_its_environment(
    tmp_path: pathlib.Path, backend: t.Callable[..., subprocess.Popen[bytes]]
) -> None:
    put_account(tmp_path / "elsewhere/wa1")
    running = backend(WHERE=f"{tmp_path}/elsewhere")
    assert running.pid in {each.pid for each in loose_backends([], None)}


def test_a_process_without_accounts_is_not_named(backend: t.Callable[..., subprocess.Popen[bytes]]) -> None:
    running = backend(WHERE="/nowhere", HOME="/")
    assert running.pid not in {each.pid for each in loose_backends([], None)}


def test_a_unit_of_that_process_is_what_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    process = containers_loose_backends.Loose(7, "node", "/opt/app/sessions", "app.service")
    monkeypatch.setattr(containers_loose_backends, "loose_backends", lambda *_asked: [process])
    assert "app.service uses accounts in /opt/app/sessions (PID 7, node): set 'unit' to that unit" in what_to_do(
        [], None
    )


def test_our_own_line_is_left_out() -> None:
    assert {os.getpid(), os.getppid()} - {1} <= containers_loose_backends._line(os.getpid())
