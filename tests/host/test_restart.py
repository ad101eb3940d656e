# SPDX-License-Identifier: GPL-3.0-or-later
"""What an operator sees when a real backend is restarted whose library prints private keys into the journal."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import typing as t

import pytest
from hostkit import ENVIRONMENT_FILE, PATH, UNIT, Host
from playkit import Play, command, environment, module_calls, play, play_at_terminal

DROP_IN = f"/etc/systemd/system/{UNIT}.d/zz-test.conf"
IMPACT = "will briefly disconnect 3 active sessions on host backend; they reconnect automatically"
QUESTION = "Proceed with the restart? Type yes"
LOST = "15550100002"


@pytest.fixture(scope="module")
def persisted(booted: Host) -> Host:
    """The host after persist, with a copy of its accounts aside."""
    booted.reset()
    played = play(booted, "persist")
    assert played.rc == 0, played.output
    booted.sh(f"systemctl stop {UNIT}; rm -rf /srv/persisted; cp -a {PATH} /srv/persisted; systemctl start {UNIT}")
    return booted


@pytest.fixture
def host(persisted: Host) -> t.Iterator[Host]:
    """The host with its three accounts connected; what a test did to it is undone."""
    persisted.before = persisted.well()
    assert persisted.before["well"], persisted.before
    yield persisted
    persisted.sh(
        f"systemctl stop {UNIT}; rm -rf {PATH} {DROP_IN}; cp -a /srv/persisted {PATH}; "
        f"sed --in-place 's,^SESSIONS_PATH=.*,SESSIONS_PATH={PATH},' {ENVIRONMENT_FILE}; "
        f"systemctl daemon-reload; systemctl reset-failed {UNIT}; systemctl start {UNIT}"
    )


def restart(host: Host, *options: str, **settings: t.Any) -> Play:
    """Run the playbook, as loudly as can be; nothing from inside a session may be in what it shows."""
    played = play(host, "restart", "-vvv", "--diff", *options, **settings)
    for secret in ("CANARY", "SessionEntry", "<Buffer", *host.before["path"]):
        assert secret.lower() not in played.output.lower(), secret
    return played


def test_every_account_comes_back_at_four_calls(host: Host) -> None:
    host.sh(f"systemctl kill --signal=KILL {UNIT}")  # it prints keys when it starts again
    host.before = host.well()
    calls = module_calls(host)

    played = restart(
        host,
        wa_health_expect={"sessions_dir_writable": True, "waMode": "active"},
        wa_health_equal_keys={"lock.holder": "instance"},
        wa_back_signal="restored_from_disk",
    )

    now = host.look()
    assert played.rc == 0, played.output
    assert played.changed == 1
    assert IMPACT in played.output
    assert module_calls(host) - calls == 3  # and the restart itself, which may write nothing of it to the journal
    assert (now["well"], now["needs_qr"]) == (True, 0)
    assert now["pid"] != host.before["pid"]


def test_check_mode_predicts_and_interrupts_nothing(host: Host) -> None:
    played = restart(host, "--check", wa_restart_confirm=True)

    assert played.rc == 0, played.output
    assert played.changed == 1
    assert IMPACT in played.output
    assert host.look()["pid"] == host.before["pid"]


def test_an_account_that_needs_a_qr_code_is_named_in_masked_form_with_the_remedy(host: Host) -> None:
    accounts = host.module("session_info", path=PATH)["accounts"]
    lost = next(account["id"] for account in accounts if account["id"].startswith("1…2-"))
    host.put(DROP_IN, f"[Service]\nExecStartPre=rm --force {PATH}/{LOST}/creds.json\n")

    played = restart(host, wa_health_timeout=4)

    now = host.well(1)
    assert played.rc != 0
    message = " ".join(played.output.split())
    assert f"not every account is back: {lost};" in message
    assert (
        "accounts.connected=2 instead of at least 3; the journal has needs_qr 1 times instead of at most 0" in message
    )
    assert "otherwise link the account again with its QR code" in message
    assert "stopped at backend (failed, the backend runs)" in message
    assert (now["ActiveState"], now["connected"], now["needs_qr"]) == ("active", 2, 1)


def test_it_asks_at_a_terminal_only_and_goes_on_with_yes_only(host: Host) -> None:
    began = time.monotonic()
    nobody_there = restart(host, wa_restart_confirm=True)
    assert time.monotonic() - began < 60
    no = play_at_terminal(host, "restart", question=QUESTION, answer="no", wa_restart_confirm=True)
    in_awx = play_at_terminal(host, "restart", question=QUESTION, answer="yes", wa_restart_confirm=True, awx_job_id=7)
    for played in (nobody_there, no, in_awx):
        assert played.rc != 0
        assert "the restart was not confirmed at a terminal, so nothing was restarted" in " ".join(
            played.output.split()
        )
    assert QUESTION not in in_awx.output
    assert host.look()["pid"] == host.before["pid"]

    yes = play_at_terminal(host, "restart", question=QUESTION, answer="yes", wa_restart_confirm=True)

    assert yes.rc == 0, yes.output
    assert host.well()["pid"] != host.before["pid"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            f"mkdir {PATH}/49012; : >{PATH}/49012/creds.json; chown -R whatsapp: {PATH}/49012",
            f"1 are corrupt at {PATH}",
        ),
        (f"mv {PATH}/{LOST} /srv/aside; rm -r /srv/aside", f"3 are connected and 2 are linked at {PATH}"),
        (
            f"sed -i s,=/.*,=/elsewhere, {ENVIRONMENT_FILE}",
            f"{ENVIRONMENT_FILE} line 1 sets SESSIONS_PATH to another path",
        ),
    ],
)
def test_what_would_come_back_worse_is_not_restarted(host: Host, spoil: str, message: str) -> None:
    host.sh(spoil)

    played = restart(host)

    assert played.rc != 0
    assert message in " ".join(played.output.split())
    assert "49012" not in played.output
    assert host.look()["pid"] == host.before["pid"]


def test_a_stopped_backend_is_left_alone_unless_it_is_to_be_started(host: Host) -> None:
    host.sh(f"systemctl stop {UNIT}")
    left = restart(host)
    assert (left.rc, left.changed) == (0, 0), left.output
    assert "is stopped and stays stopped: backend" in left.output
    assert host.look()["ActiveState"] == "inactive"

    started = restart(host, wa_restart_stopped=True)

    assert started.rc == 0, started.output
    assert host.well()["well"]


def test_files_that_systemd_has_not_read_are_told_and_a_refused_start_is_made_good(host: Host) -> None:
    refuse_once = "ExecStartPre=+/bin/sh -c 'rm /run/refuse && exit 1 || exit 0'"
    host.put(DROP_IN, f"[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n[Service]\nRestart=no\n{refuse_once}\n")
    host.sh("touch /run/refuse")
    played = restart(host)
    again = restart(host)

    assert played.rc == 0, played.output
    assert (
        "Files of the unit have changed since systemd read them, and take effect with the restart: backend"
        in played.output
    )
    assert "Files of the unit have changed" not in again.output
    assert again.rc == 0, again.output
    assert not host.sh("ls /run/refuse", may_fail=True)  # or this has shown nothing
    assert host.well()["well"]


def test_a_restart_goes_on_when_the_connection_drops_half_way(host: Host) -> None:
    host.put(DROP_IN, "[Service]\nExecStop=/bin/sh -c 'until [ -e /run/may-stop ]; do sleep 0.05; done'\n")
    host.sh("rm -f /run/may-stop; systemctl daemon-reload")
    with subprocess.Popen(
        command("restart"),
        env=environment(host),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as running:
        host.sh(f"timeout 60 sh -c 'until systemctl is-active {UNIT} | grep -q deactivating; do sleep 0.05; done'")
        os.killpg(running.pid, signal.SIGKILL)
    host.sh("touch /run/may-stop")

    now = host.well()
    assert now["well"]
    assert now["pid"] != host.before["pid"]


def test_a_host_that_cannot_be_reached_any_more_counts_as_failed_and_its_backend_runs(host: Host) -> None:
    again = host.root / "srv/ssh-again"
    again.unlink(missing_ok=True)
    cut = "systemctl stop ssh; pkill sshd; until [ -e /srv/ssh-again ]; do sleep 0.1; done; systemctl start ssh"
    host.put("/usr/local/sbin/cut", f"#!/bin/sh\n{cut}\n")
    host.put(DROP_IN, "[Service]\nExecStop=+systemd-run --quiet --collect sh /usr/local/sbin/cut\n")
    host.sh("systemctl daemon-reload")

    played = restart(host)
    again.touch()
    host.lab("wait", host.name)
    host.sh(f"rm {DROP_IN}; systemctl daemon-reload")  # the next stop would cut the connection, too

    message = " ".join(played.output.split())
    assert played.rc != 0
    assert "backend cannot be reached since its restart began, which systemd completes nevertheless" in message
    assert "stopped at backend (cannot be reached)" in message
    assert host.well()["pid"] != host.before["pid"]


def test_a_backend_is_not_interrupted_while_it_writes_or_outside_of_its_window(host: Host) -> None:
    busy = restart(host, wa_quiet_seconds=3, wa_quiet_timeout=3)  # messages arrive every 2 s
    assert busy.rc != 0
    said = " ".join(busy.output.split())
    assert "accounts were written to all the time, never 3 s apart within 3 s, so nothing was changed" in said
    assert "'quiet_timeout' is wa_quiet_timeout" in said

    far = (int(host.sh("date +%H")) + 12) % 24
    calls = module_calls(host)
    closed = restart(host, wa_window=f"{far:02}:00-{far:02}:30")
    assert closed.rc != 0
    assert (
        f"outside of the maintenance window {far:02}:00-{far:02}:30, so whatsapp-backend was not restarted"
        in closed.output
    )
    assert module_calls(host) - calls == 1
    predicted = restart(host, "--check", wa_window=f"{far:02}:00-{far:02}:30")
    assert predicted.rc == 0, predicted.output
    assert "so a run would stop before it changes anything" in " ".join(predicted.output.split())
    assert host.look()["pid"] == host.before["pid"]
