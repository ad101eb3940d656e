# SPDX-License-Identifier: GPL-3.0-or-later
"""Every command of the first page, run in its order by somebody who has only ansible-core and the built collection."""

from __future__ import annotations

import pathlib
import re
import shlex
import subprocess
import typing as t

import pytest
from hostkit import PATH, REPOSITORY, UNIT, Host
from newcomer import Newcomer, commands

PERSIST = "ansible-playbook -i inventory whatsapp_ops.sessions.persist"
SECRETS = ("CANARY", "SessionEntry", "<Buffer", "PRIVATE KEY")
# What each playbook shows when it has done its work; with (check), in check mode.
SHOWS = {
    "persist (check)": r"3 accounts would be moved",
    "persist": r"wa1: 3 accounts moved, away for .* s, 3 accounts linked, backend healthy, nothing left to do",
    "verify": r"3 accounts linked",
    "restart": r"will briefly disconnect 3 active sessions on host wa1",
    "backup": r"wa1: 3 saved",
    "audit": r"wa1",
    "report": r"report\.html",
    "rollback": r"wa1: .*rolled back",
    "move": r"wa2: .*3 accounts? linked",
}


@pytest.fixture(scope="module")
def second(booted: Host) -> t.Iterator[Host]:
    """A host with a backend and without any account."""
    host = Host("second", booted.suite, pathlib.Path(booted.environment["LAB_DIR"]))
    host.boot()
    host.sh(f"systemctl start {UNIT}")
    try:
        yield host
    finally:
        booted.lab("down", host.name)


@pytest.fixture
def newcomer(host: Host, second: Host, tmp_path: pathlib.Path) -> t.Iterator[Newcomer]:
    """The environment, in which ``wa1`` has three accounts at a path that the next deployment replaces."""
    yield Newcomer(tmp_path, {"wa1": host, "wa2": second})
    host.module("session_timer", job="backup", options={"path": PATH}, state="absent")
    host.sh("rm -rf /etc/whatsapp-ops")


def test_each_command_does_what_the_page_says(newcomer: Newcomer, host: Host) -> None:
    for command in commands(REPOSITORY / "README.md"):
        run(newcomer, command, host)
    assert host.look()["connected"] == 0, "the accounts are on the other host"


def test_a_command_that_nobody_can_run_is_noticed() -> None:
    for command in ("podman run whatsapp", "ansible-playbook -i inventory whatsapp_ops.sessions.other", "make nothing"):
        with pytest.raises(AssertionError, match="cannot be run"):
            run(t.cast("Newcomer", None), command, t.cast("Host", None))


def run(newcomer: Newcomer, command: str, host: Host) -> None:
    """Run one command of the page. Fails for one that is of no known kind."""
    program, *words = shlex.split(command)
    if program == "make":
        assert words[0] in make_targets(), f"{command} cannot be run: there is no such target"
    elif program == "ansible-galaxy":
        newcomer.run(command)
    else:
        name = re.fullmatch(
            r"ansible-playbook -i inventory whatsapp_ops\.sessions\.(\w+)( --check --diff| -e .*)?", command
        )
        kind = f"{name[1]}{' (check)' if '--check' in command else ''}" if name else ""
        assert kind in SHOWS, f"{command} cannot be run: say in SHOWS what it shows"
        if kind == "move":
            newcomer.run(PERSIST)  # which the page requires, and the rollback before it has undone
        shown = newcomer.run(command)
        assert re.search(SHOWS[kind], shown), shown
        assert not [secret for secret in (*SECRETS, *host.before["legacy"]) if secret in shown]


def make_targets() -> list[str]:
    """Return the targets that ``make`` offers; what they do is tested where they are used."""
    listed = subprocess.run(["make", "help"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    return [line.split()[0] for line in listed.stdout.splitlines() if line.strip()]
