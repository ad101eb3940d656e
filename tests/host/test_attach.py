# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that reads no variable, on a host with real systemd: the sessions path is mounted where it looks for its accounts."""

from __future__ import annotations

import json
import shlex
import time
import typing as t

import pytest
from hostkit import LEGACY, PATH, SECONDS, UNIT, Host, State, migrate_options
from playkit import Play, module_calls, play

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import control_path
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.bindings import Binding, written

DROP_INS = f"/etc/systemd/system/{UNIT}.d"
BINDING = f"BindPaths={PATH}:{LEGACY}"
# The directory is written into the program: what the variable says is not passed on to it.
HARD_CODED = "ExecStart=\nExecStart=/usr/bin/env -u SESSIONS_PATH node server.mjs"
# The backend's directories: whose they are, and which.
LOOK = "cd /opt/whatsapp/current && find .baileys_auth -type d -printf '%p %u %g %m %i\\n' | sort"
SETTINGS = f"cd {DROP_INS} && grep --recursive '' . | grep -v 10-graceful | sort; ls /etc/whatsapp-backend"
BY_HAND = "cd /opt/whatsapp/current && runuser -u whatsapp -- node pair.mjs .baileys_auth"


@pytest.fixture
def hard_coded(host: Host) -> State:
    """How things stand with a backend that reads no variable."""
    return with_setting(host, HARD_CODED)


def with_setting(host: Host, text: str) -> State:
    host.put(f"{DROP_INS}/06-test.conf", f"[Service]\n{text}\n")
    host.sh(f"systemctl daemon-reload; systemctl restart {UNIT}")
    return well(host)


def well(host: Host) -> State:
    now = host.well()
    assert (now["well"], now["needs_qr"]) == (True, 0), now
    return now


def unchanged(host: Host, **settings: t.Any) -> None:
    """Another run changes nothing, interrupts nothing, and costs one call."""
    pid, calls = host.look()["pid"], module_calls(host)
    played = play(host, "persist", **settings)
    assert (played.rc, played.changed) == (0, 0), played.output
    assert (host.look()["pid"], module_calls(host) - calls) == (pid, 1)


def refused(played: Play, *words: str) -> None:
    assert played.rc != 0, played.output
    text = " ".join(played.output.split())
    assert "nothing was changed" in text, text
    for word in words:
        assert word in text, text


def test_accounts_stay_linked_whatever_happens_to_the_server(host: Host, before: State, hard_coded: State) -> None:
    first = play(host, "persist")

    assert first.rc == 0, first.output
    assert well(host)["path"] == before["legacy"]
    assert BINDING in host.sh(f"cat {DROP_INS}/20-sessions.conf")
    assert play(host, "verify").rc == 0
    unchanged(host)
    assert "EACCES" in host.sh(f"{BY_HAND} 2>&1", may_fail=True)
    for _release in range(3):
        host.sh("redeploy")
        assert well(host)["path"] == before["legacy"]
    assert "releases/1/" not in host.sh("ls -d /opt/whatsapp/releases/*/")
    assert "EACCES" in host.sh(f"{BY_HAND} 2>&1", may_fail=True)
    unchanged(host)
    host.sh(f"kill -KILL {well(host)['pid']}")
    well(host)
    host.sh("touch /run/before-the-reboot; systemctl reboot", may_fail=True)
    host.wait_for_boot()
    assert well(host)["path"] == before["legacy"]
    unchanged(host)
    assert play(host, "verify").rc == 0


def test_a_way_back_leaves_nothing_behind(host: Host, before: State, hard_coded: State) -> None:
    directories, settings = host.sh(LOOK), host.sh(SETTINGS)

    forth = play(host, "persist")
    closed = host.sh(f"stat --format='%U %G %a' {LEGACY}/").split()
    back = play(host, "rollback")

    assert forth.rc == 0, forth.output
    assert closed == ["root", "root", "700"]
    assert back.rc == 0, back.output
    now = well(host)
    assert now["legacy"] == before["legacy"]
    assert without_inodes(host.sh(LOOK)) == without_inodes(directories)
    assert host.sh(LOOK).split("\n")[0] == directories.split("\n")[0]
    assert host.sh(SETTINGS) == settings

    assert play(host, "persist").rc == 0
    host.sh("redeploy; redeploy")  # the mount point of this release was made by systemd
    well(host)
    later = play(host, "rollback")
    assert later.rc == 0, later.output
    assert well(host)["legacy"] == before["legacy"]
    assert host.sh(f"stat --format='%U %G %a' {LEGACY}/").split() == directories.split()[1:4]


def without_inodes(listing: str) -> list[str]:
    return [line.rpartition(" ")[0] for line in listing.split("\n")]


def test_retiring_leaves_a_mount_point(host: Host, before: State, hard_coded: State) -> None:
    first = play(host, "persist", wa_retire=True)

    assert first.rc == 0, first.output
    assert well(host)["path"] == before["legacy"]
    assert host.sh(f"stat --format='%F %U %a' {LEGACY}/; ls -A {LEGACY}/").strip() == "directory root 700"
    aside = host.sh(f"stat --format='%U %a' {LEGACY}.migrated-*; ls {LEGACY}.migrated-*").split()
    assert aside == ["root", "700", *sorted(before["legacy"])]
    unchanged(host, wa_retire=True)
    host.sh(f"systemctl restart {UNIT}")
    well(host)
    back = play(host, "rollback")
    assert back.rc == 0, back.output
    assert well(host)["legacy"] == before["legacy"]


def test_a_run_that_was_killed_before_the_directory_was_closed_is_completed(host: Host, hard_coded: State) -> None:
    """It dies with the note written and the directory still open."""
    options = migrate_options()
    options["switch"]["attach"] = "auto"
    receipt = f"{control_path(PATH)}/receipt.json"
    assert host.module(**options)["attached_by"] == "bind"
    host.sh(f"chown --reference=/opt/whatsapp/current {LEGACY}/; chmod 755 {LEGACY}/")
    note = json.loads(host.sh(f"cat {receipt}"))["closed"]
    pid = well(host)["pid"]

    again = host.module(**options)

    assert (again["changed"], again["steps"]) == (True, ["close"]), again
    assert host.sh(f"stat --format='%U %G %a' {LEGACY}/").split() == ["root", "root", "700"]
    assert json.loads(host.sh(f"cat {receipt}"))["closed"].keys() == note.keys()
    assert (well(host)["pid"], host.module(**options)["changed"]) == (pid, False)


def test_the_variable_that_leads_to_the_accounts_is_the_one_that_is_set(host: Host, before: State) -> None:
    starts = """/bin/sh -c 'SESSIONS_PATH="$$WA_DATA" exec node server.mjs'"""
    with_setting(host, f"Environment=WA_DATA=.baileys_auth\nExecStart=\nExecStart={starts}")

    played = play(host, "persist")

    assert played.rc == 0, played.output
    assert (well(host)["sessions_path"], host.look()["path"]) == (PATH, before["legacy"])
    drop_in = host.sh(f"cat {DROP_INS}/20-sessions.conf")
    assert f'"WA_DATA={PATH}"' in drop_in
    assert "BindPaths" not in drop_in
    unchanged(host)
    assert play(host, "verify").rc == 0


def test_a_binding_of_the_operators_is_respected_or_named(host: Host, before: State, hard_coded: State) -> None:
    host.sh(f"install -d -o whatsapp -g whatsapp {PATH} /srv/other")
    drop_in = f"{DROP_INS}/07-mine.conf"
    host.put(drop_in, f"[Service]\nBindPaths=/srv/other:{LEGACY}\n")
    host.sh("systemctl daemon-reload")
    pid = host.look()["pid"]
    refused(play(host, "persist"), f"{drop_in} line 2 mounts /srv/other at {LEGACY}")
    assert host.look()["pid"] == pid

    host.put(drop_in, f"[Service]\n{BINDING}\n")
    host.sh("systemctl daemon-reload")
    played = play(host, "persist")

    assert played.rc == 0, played.output
    assert well(host)["path"] == before["legacy"]
    assert "BindPaths" not in host.sh(f"cat {DROP_INS}/20-sessions.conf")
    unchanged(host)


@pytest.mark.parametrize("closed", ["ProtectSystem=strict\nReadWritePaths=/opt/whatsapp", "PrivateUsers=yes", ""])
def test_what_a_unit_has_beside_it(host: Host, before: State, closed: str) -> None:
    with_setting(host, f"{HARD_CODED}\n{closed or 'ExecStartPre=!/bin/true'}")

    played = play(host, "persist", wa_attach="bind")

    if not closed:
        refused(played, "06-test.conf line 4 runs commands as root with the unit's mounts")
        return
    assert played.rc == 0, played.output
    assert well(host)["path"] == before["legacy"]


def test_where_the_variable_is_demanded_a_file_that_beats_it_is_named(host: Host, before: State) -> None:
    starts = "/bin/sh -c '. ./.env; export SESSIONS_PATH; exec node server.mjs'"
    host.put("/opt/whatsapp/current/.env", "TOKEN=secret\nexport SESSIONS_PATH='./.baileys_auth'\n")
    with_setting(host, f"ExecStart=\nExecStart={starts}")

    played = play(host, "persist", wa_attach="variable")

    assert played.rc != 0
    assert ".env sets SESSIONS_PATH, which leads to the legacy path" in " ".join(played.output.split())
    assert "secret" not in played.output
    assert well(host)["legacy"] == before["legacy"]
    assert "20-sessions.conf" not in host.look()["drop_ins"]
    host.sh("rm /opt/whatsapp/current/.env")


# --- several programs in one unit -------------------------------------------------------------------------

PROGRAMS = ("bot1", "bot2")
MANAGER = "pm2-bots"


@pytest.fixture
def manager(booted: Host) -> t.Iterator[Host]:
    """A host with PM2 as a unit, which runs two programs."""
    booted.sh("/srv/build/pm2/app/setup")
    linked_since(booted, 0)
    yield booted
    remove = f"/etc/systemd/system/{MANAGER}.service* /opt/pm2 /opt/bot[12]* /var/lib/{MANAGER}"
    booted.sh(f"systemctl disable --now --quiet {MANAGER}; rm -rf {remove}; systemctl daemon-reload")


def linked_since(host: Host, since: float) -> float:
    """Wait until both programs were started after ``since`` (of the clock that they tell) and are linked; return when the later one was."""
    deadline = time.monotonic() + SECONDS
    while True:
        texts = host.sh("cat /opt/bot[12]/status.json 2>/dev/null", may_fail=True).replace("}{", "}\n{").split("\n")
        told = [json.loads(text) for text in texts if text]
        if len(told) == len(PROGRAMS) and all(one["since"] > since for one in told):
            assert all(one["linked"] for one in told), "a program asks for a QR code"
            return max(float(one["since"]) for one in told)
        assert time.monotonic() < deadline, told
        time.sleep(0.1)


def used(host: Host, since: float) -> list[str]:
    """Return which sessions paths have keys that their program saved after it was started at ``since`` or later."""
    keys = f"/var/lib/{MANAGER}/sessions/*/session-15550100001.0.json"
    found = (
        line.split(" ", 1) for line in host.sh(f"for file in {keys}; do echo $file $(cat $file); done").splitlines()
    )
    return [name.split("/")[5] for name, text in found if json.loads(text)["since"] >= since]


def test_programs_of_a_process_manager_are_listed_and_each_gets_its_own_directory(manager: Host) -> None:
    of = {
        name: {
            "wa_service": MANAGER,
            "wa_attach": "bind",
            "wa_drop_in": f"20-sessions-{name}",
            "wa_sessions_path": f"/var/lib/{MANAGER}/sessions/{name}",
            "wa_legacy_paths": [f"/opt/{name}/auth_info_baileys"],
            "wa_health_url": "",
        }
        for name in PROGRAMS
    }
    since = linked_since(manager, 0)
    all_at_once = play(manager, "persist", wa_service=MANAGER, wa_health_url="")
    refused(all_at_once, "in 2 directories (/opt/bot1/auth_info_baileys, /opt/bot2/auth_info_baileys)")
    assert linked_since(manager, 0) == since

    for name in PROGRAMS:
        played = play(manager, "persist", **of[name])
        assert played.rc == 0, played.output
    since = linked_since(manager, since)
    for name in PROGRAMS:
        again = play(manager, "persist", **of[name])
        assert (again.rc, again.changed) == (0, 0), again.output
        assert play(manager, "verify", **of[name]).rc == 0
    assert linked_since(manager, 0) == since
    remove = "rm -rf $bot; install -d -o whatsapp -g whatsapp $bot; install /srv/build/pm2/app/program.mjs $bot"
    for event in (
        f"systemctl restart {MANAGER}",
        # A new release in the place of the old one, with nothing of it.
        f"for bot in /opt/bot1 /opt/bot2; do {remove}; done; systemctl restart {MANAGER}",
        f"kill -KILL $(systemctl show --property=MainPID --value {MANAGER})",
    ):
        manager.sh(event)
        since = linked_since(manager, since)
    manager.sh("touch /run/before-the-reboot; systemctl reboot", may_fail=True)
    manager.wait_for_boot()
    since = linked_since(manager, since)
    deadline = time.monotonic() + SECONDS
    while used(manager, since - 60_000) != list(PROGRAMS):
        assert time.monotonic() < deadline
        time.sleep(0.1)

    first, second = (of[name] for name in PROGRAMS)
    back = play(
        manager, "rollback", **{name: second[name] for name in ("wa_service", "wa_sessions_path", "wa_health_url")}
    )
    assert back.rc == 0, back.output
    linked_since(manager, since)
    assert manager.sh("stat --format=%U /opt/bot2/auth_info_baileys/creds.json").strip() == "whatsapp"
    again = play(manager, "persist", **first)
    assert (again.rc, again.changed) == (0, 0), again.output


def test_systemd_reads_what_is_written(booted: Host) -> None:
    """Paths with all that means something in a unit file."""
    source, directory = "/srv/a b%n:c\\d$e", "/srv/w x%i:y\\z`ü"
    text = f"[Service]\nExecStart=/bin/sleep infinity\n{'BindPaths=' + written(Binding(source, directory))}\n"
    booted.put("/etc/systemd/system/strange.service", text)
    booted.sh(f"mkdir -p {shlex.quote(source)}; touch {shlex.quote(source)}/there; systemctl daemon-reload")
    booted.sh("systemctl start strange.service")
    pid = booted.sh("systemctl show --property=MainPID --value strange.service").strip()
    assert booted.sh(f"ls /proc/{pid}/root{shlex.quote(directory)}").strip() == "there"
    booted.sh("systemctl stop strange.service; rm /etc/systemd/system/strange.service; systemctl daemon-reload")
