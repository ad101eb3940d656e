# SPDX-License-Identifier: GPL-3.0-or-later
"""Cutovers that are disturbed, and units that misbehave: the backend runs in the end, and nothing is half done."""

from __future__ import annotations

import os
import re
import signal
import time
import typing as t

import pytest
from hostkit import DROP_INS, LEGACY, Host, State, migrate_options, migration, striking
from test_killed import require_all_back, require_converged

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import control_path

INTENT = f"{control_path('/var/lib/whatsapp-backend/sessions')}/intent.json"
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


def test_a_signal_does_not_end_a_cutover(booted: Host) -> None:
    numbers = [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]
    before, _pid, came, *_sent, ended, now = booted.steps(
        *(("reset",), ("begin", *migration(*HELD)[1:]), ("until", INTENT)),
        *(("signalled", number.value) for number in numbers),
        *(("end",), ("well", 20)),
    )
    assert came
    assert ended.get("changed"), ended
    require_converged(before, now)


def test_a_connection_that_drops_does_not_end_a_cutover(booted: Host) -> None:
    before = booted.reset()
    options = migrate_options()
    command = booted.module_command(wrapper=" ".join(HELD))
    running = booted.begin_module(command, options)
    announced = booted.root / INTENT.lstrip("/")
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
        *(("reset",), ("begin", *migration(*HELD)[1:]), ("until", INTENT)),
        *(
            (
                "sh",
                "systemctl start whatsapp-backend 2>/dev/null; echo $?; systemctl is-active whatsapp-backend",
            ),
            ("end",),
            ("well", 20),
        ),
    )
    assert came
    assert started["out"].split() == ["1", "inactive"], started
    assert ended["changed"]
    require_converged(before, now)


def injecting(*faults: str) -> tuple[str, ...]:
    """Return the wrapper that has system calls fail, or kill the run."""
    calls = ",".join(dict.fromkeys(f"?{fault.partition(':')[0]}" for fault in faults))
    injected = [word for fault in faults for word in ("-e", f"inject=?{fault}")]
    return ("strace", "-f", "-qqq", "-o", "/dev/null", "-e", f"trace={calls}", *injected)


# The disk fails while the unit is held stopped: when copies are made durable (moved accounts are not copied), in the middle of
# publishing, and when that is made durable.
FAILING = [
    ("native", "syncfs:error=EIO:when=2"),
    ("native", "renameat2:error=EROFS:when=2"),
    ("native", "syncfs:error=EIO:when=3+"),
    ("rename", "renameat2:error=EROFS:when=2"),
    ("rename", "syncfs:error=EIO:when=2+"),
]


@pytest.mark.parametrize(("engine", "fault"), FAILING)
def test_a_disk_that_fails_while_the_unit_is_held_stopped(booted: Host, engine: str, fault: str) -> None:
    before, failed, now, second, end = booted.steps(
        *(("reset",), migration(*injecting(fault), engine=engine), ("well", 20)),
        *(migration(engine=engine), ("well", 20)),
    )
    assert re.search("Read-only file system|Input/output error", failed.get("msg", "")), failed
    require_untouched(before, now)
    assert now["pid"] != before["pid"], "the unit was never stopped"
    assert second.get("changed"), second
    require_converged(before, end)


@pytest.mark.parametrize("engine", ["native", "rename"])
def test_killed_while_it_takes_back_what_the_disk_refused(booted: Host, engine: str) -> None:
    """All is published when the disk fails; accounts go back by one rename each, and the run is killed before the second of them."""
    refused = f"syncfs:error=EIO:when={2 if engine == 'rename' else 3}"
    listening = [*injecting(refused, "renameat:delay_enter=0:when=1")]
    listening[listening.index("/dev/null")] = "/run/calls"
    for _ in range(
        3
    ):  # how often the live backend is copied, and thus how often a copy is renamed, differs between runs
        _before, failed, calls = booted.steps(
            ("reset",), migration(*listening, engine=engine), ("sh", "cat /run/calls")
        )
        assert "Input/output error" in failed.get("msg", ""), failed
        until = calls["out"].partition(" EIO ")[0]
        process = until.splitlines()[-1].split()[0]  # strace counts the calls of each process
        renamed_before = sum(line.startswith(f"{process} ") and " renameat(" in line for line in until.splitlines())
        killing = injecting(refused, f"renameat:signal=KILL:when={renamed_before + 2}")
        before, killed, now, second, end = booted.steps(
            *(("reset",), migration(*killing, engine=engine), ("well", 20)),
            *(migration(engine=engine), ("well", 20)),
        )
        if not killed:
            break
    assert not killed, killed
    require_untouched(before, now)
    assert second.get("changed"), second
    require_converged(before, end)


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


# Starts on the sessions path fail once the backend has written a key there.
FAILS_LATE = (
    "ExecStartPre=+/bin/touch /run/started\n"
    "ExecStartPost=/bin/sh -c 'test -z $${SESSIONS_PATH} && exit 0; timeout 20 sh -c \"until find $${SESSIONS_PATH} -name creds.json "
    "-newer /run/started | grep -q .; do sleep 0.1; done\"; exit 1'"
)


def test_keys_that_were_written_before_the_start_failed_go_back_with_the_backend(booted: Host) -> None:
    before, _put, _done, there, failed, now, _removed, second, end = booted.steps(
        *(("reset",), drop_in("06-refuses.conf", FAILS_LATE), RESTART, ("well", 20), migration(), ("well", 20)),
        *(REFUSES_NO_MORE, migration(), ("well", 20)),
    )
    assert there["well"], there
    assert "with the keys that it has written since" in failed["msg"], failed["msg"]
    require_all_back(before, now)
    assert now["sessions_path"] is None
    assert "20-sessions.conf" not in now["drop_ins"]
    assert now["legacy"] == before["legacy"]
    assert second.get("changed"), second
    require_converged(before, end)


@pytest.mark.parametrize("number", range(9, 26) if os.environ.get("WA_EVERYWHERE") else [11, 14])
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


def test_killed_while_accounts_that_are_no_copies_go_back(booted: Host) -> None:
    """The unit did not start on the new path; one account is at its old place again, two are in the staging area."""
    struck = migration(*striking("renameat", 2, LEGACY), engine="rename")
    before, _put, _done, _well, killed, now, _removed, second, end = booted.steps(
        *(("reset",), REFUSES, RESTART, ("well", 20), struck, ("well", 20)),
        *(REFUSES_NO_MORE, migration(engine="rename"), ("well", 20)),
    )
    assert killed == {}, "no kill: the run renames otherwise than it did"
    require_all_back(before, now)
    assert (now["sessions_path"], now["path"]) == (None, {})
    assert "failed" not in second, second
    require_converged(before, end)


# The same once: the next start on the sessions path succeeds, and the run, which goes back with the keys, stops that backend again.
FAILS_LATE_ONCE = FAILS_LATE.replace("exit 1", "test -e failed || { touch failed; exit 1; }")


@pytest.mark.parametrize("number", range(17, 31) if os.environ.get("WA_EVERYWHERE") else [20, 24])
def test_killed_while_keys_go_back(booted: Host, number: int) -> None:
    """The backend is stopped for the way back, and the run is killed: before the second cutover, in it, or after it."""
    killing = (
        *("strace", "-f", "-qqq", "-o", "/dev/null", "-e", "trace=vfork"),
        *("-e", f"inject=vfork:signal=KILL:when={number}"),
    )
    before, _put, _done, _restarted, _well, killed, now, _removed, _second, end = booted.steps(
        *(
            ("reset",),
            drop_in("06-refuses.conf", FAILS_LATE_ONCE),
            ("sh", "rm -f /opt/whatsapp/current/failed"),
            RESTART,
            ("well", 20),
        ),
        *(migration(*killing), ("well", 60), REFUSES_NO_MORE, migration(), ("well", 20)),
    )
    print(number, killed.get("msg", "killed"), now["ActiveState"], now["sessions_path"])
    require_all_back(before, now)
    # What is left may be the intent of the way back, which is committed and so nobody's concern, beside the legacy path's receipt.
    require_converged(before, {**end, "control": []})


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
    assert any(f"stray.service (PID {one}, " in failed.get("msg", "") for one in pid["out"].split()), (failed, pid)
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
        *(("reset",), ("begin", *migration(*held, engine=engine)[1:]), ("until", INTENT)),
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
