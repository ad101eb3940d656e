# SPDX-License-Identifier: GPL-3.0-or-later
"""Cutovers that are disturbed, and units that misbehave: the backend runs in the end, and nothing is half done."""

from __future__ import annotations

import os
import signal
import time
import typing as t

import pytest
from hostkit import LEGACY, Host, State, migrate_options, migration
from test_killed import require_all_back, require_converged

DROP_INS = "/etc/systemd/system/whatsapp-backend.service.d"
FLAG = "/run/whatsapp-ops/whatsapp-backend.service.moving"
AREA = "/var/lib/whatsapp-backend/.sessions.whatsapp-ops"
# The first account is about to be put in place: guard, rescuer and intent are there, nothing is committed.
HELD = (
    "strace",
    "-f",
    "-qqq",
    "-o",
    "/dev/null",
    "-e",
    "trace=renameat2",
    "-e",
    "inject=renameat2:delay_enter=2000000:when=1",
)


RELOAD = ("sh", "systemctl daemon-reload")
RESTART = ("sh", "systemctl daemon-reload && systemctl restart whatsapp-backend")


def drop_in(name: str, text: str) -> tuple[str, str, str]:
    """Return the step that writes a drop-in."""
    return ("put", f"{DROP_INS}/{name}", f"[Service]\n{text}\n")


def require_untouched(before: State, now: State) -> None:
    """The backend runs on its old path, with its old configuration, and nothing is published."""
    require_all_back(before, now)
    assert now["sessions_path"] is None
    assert (now["path"], now["environment_file"]) == ({}, False)
    assert "20-sessions.conf" not in now["drop_ins"]
    assert now["legacy"] == before["legacy"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_does_not_end_a_cutover(booted: Host, number: signal.Signals) -> None:
    before, _pid, came, _sent, ended, now = booted.steps(
        *(("reset",), ("begin", *migration(*HELD)[1:]), ("until", f"{AREA}/intent.json")),
        *(("signalled", number.value), ("end",), ("well", 20)),
    )
    assert came
    assert ended.get("changed"), ended
    require_converged(before, now)


def test_a_connection_that_drops_does_not_end_a_cutover(booted: Host) -> None:
    before = booted.reset()
    options = migrate_options()
    command = booted.module_command(wrapper=" ".join(HELD))
    running = booted.begin_module(command, options)
    announced = booted.root / AREA.lstrip("/") / "intent.json"
    try:
        deadline = time.monotonic() + 60
        while not announced.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.communicate()
    now, third = booted.steps(("well", 20), migration())
    require_all_back(before, now)
    deadline = time.monotonic() + 20
    while now["sessions_path"] is None and time.monotonic() < deadline:
        now = booted.well()
    require_converged(before, now)
    assert third.get("changed") is False or "another run" in third.get("msg", ""), third


def test_nobody_can_start_the_unit_meanwhile(booted: Host) -> None:
    before, _pid, came, started, ended, now = booted.steps(
        *(("reset",), ("begin", *migration(*HELD)[1:]), ("until", f"{AREA}/intent.json")),
        *(
            (
                "sh",
                f"test -e {FLAG} && systemctl start whatsapp-backend; echo $?; systemctl is-active whatsapp-backend",
            ),
            ("end",),
            ("well", 20),
        ),
    )
    assert came
    assert started["out"].split()[-2:] == ["1", "inactive"], started
    assert ended["changed"]
    require_converged(before, now)


@pytest.mark.parametrize("timeout", ["1", "4"])
def test_a_unit_that_does_not_stop(booted: Host, timeout: str) -> None:
    """It ignores the signal. It is killed before or after the module's patience ends: its last writes may be torn in both cases."""
    stubborn = drop_in("06-stubborn.conf", f"KillSignal=SIGCONT\nTimeoutStopSec={timeout}")
    before, _put, _done, _well, failed, now = booted.steps(
        *(("reset",), stubborn, RESTART, ("well", 20)),
        *(migration(unit_timeout=2 if timeout == "4" else 30), ("well", 20)),
    )
    assert "whatsapp-backend.service did not stop" in failed.get("msg", ""), failed
    require_untouched(before, now)


REFUSES = drop_in("06-refuses.conf", 'ExecStartPre=/bin/sh -c "test -z $${SESSIONS_PATH}"')
REFUSES_NO_MORE = ("sh", f"rm {DROP_INS}/06-refuses.conf; systemctl daemon-reload")


def test_a_unit_that_does_not_start_on_the_new_path(booted: Host) -> None:
    before, _put, _done, there, failed, now, _removed, second, end = booted.steps(
        *(("reset",), REFUSES, RESTART, ("well", 20), migration(), ("well", 20)),
        *(REFUSES_NO_MORE, migration(), ("well", 20)),
    )
    assert there["well"], there
    assert "runs on the legacy path again" in failed["msg"], failed
    require_untouched(before, now)
    assert second.get("changed"), second
    require_converged(before, end)


@pytest.mark.parametrize("number", range(9, 26) if os.environ.get("WA_EVERYWHERE") else [11, 12, 14])
def test_killed_while_it_goes_back(booted: Host, number: int) -> None:
    """The unit did not start on the new path, and the run is killed on its way back to the old one."""
    killing = (
        "strace",
        "-f",
        "-qqq",
        "-o",
        "/dev/null",
        "-e",
        "trace=vfork",
        "-e",
        f"inject=vfork:signal=KILL:when={number}",
    )
    before, _put, _done, _well, killed, now, _removed, _second, end = booted.steps(
        *(("reset",), REFUSES, RESTART, ("well", 20), migration(*killing), ("well", 20)),
        *(REFUSES_NO_MORE, migration(), ("well", 20)),
    )
    print(number, killed.get("msg", "killed"), now["ActiveState"], now["sessions_path"])
    require_all_back(before, now)
    require_converged(before, end)


STRAYS = {
    "a second backend": "cd /opt/whatsapp/current && PORT=8099 exec runuser -u whatsapp -- /usr/local/bin/node server.mjs",
    "somebody inside": f"cd {LEGACY}/15550100001 && exec sleep 60",
    "an editor": f"exec 3>>{LEGACY}/15550100001/.creds.json.swp; exec sleep 60",
}


@pytest.mark.parametrize("kind", STRAYS)
def test_a_stray_process_is_named_and_nothing_happens(booted: Host, kind: str) -> None:
    command = f"systemd-run --quiet --unit=stray --collect sh -c '{STRAYS[kind]}'"
    before, started, pid, failed, now, _stopped = booted.steps(
        *(
            ("reset",),
            ("sh", command),
            ("sh", "sleep 1; systemctl show -P MainPID stray; pgrep -P $(systemctl show -P MainPID stray)"),
        ),
        *(migration(), ("well", 20), ("sh", "systemctl stop stray")),
    )
    assert started["rc"] == 0
    assert any(f"PID {one} (" in failed.get("msg", "") for one in pid["out"].split()), (failed, pid)
    require_untouched(before, now)
    assert now["pid"] == before["pid"]


def test_a_contradiction_is_reported_by_file_and_line_before_anything_happens(booted: Host) -> None:
    override = drop_in("override.conf", "# by hand\nEnvironment=SESSIONS_PATH=/elsewhere")
    before, _put, _done, failed, now = booted.steps(
        *(("reset",), override, RELOAD),
        *(migration(switch={"overrides": migrate_options()["switch"]["overrides"]}), ("well", 20)),
    )
    assert f"{DROP_INS}/override.conf line 3" in failed["msg"], failed
    assert now["pid"] == before["pid"]
    require_untouched(before, now)


@pytest.mark.parametrize("engine", ["native", "rename"])
def test_power_lost_in_the_middle(booted: Host, engine: str) -> None:
    """Run and rescuer are gone at once, and the host boots: the enabled unit starts with its accounts, and the next run finishes."""
    held = [*HELD[:-1], f"inject=renameat2:delay_enter=9000000:when={1 if engine == 'native' else 4}"]
    before, _pid, came, _killed = booted.steps(
        *(("reset",), ("begin", *migration(*held, engine=engine)[1:]), ("until", f"{AREA}/intent.json")),
        (
            "sh",
            "sleep 0.5; sync; echo x >/run/before-the-reboot; (sleep 0.5; systemctl reboot --force --force) >/dev/null 2>&1 &",
        ),
    )
    assert came
    booted.wait_for_boot()
    now: t.Any = booted.well()
    second, end, third = booted.steps(migration(engine=engine), ("well", 20), migration(engine=engine))
    print(now, second)
    require_all_back(before, now)
    require_converged(before, end)
    assert third["changed"] is False
