# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's user makes something that has no end, or stops who works on it: the run ends, and the backend runs."""

from __future__ import annotations

import time

import pytest
from hostkit import PATH, UNIT, Host
from playkit import play

STORES = "/srv/stores"
# Seconds: the limit of one database, and what Ansible itself takes on a busy machine.
ENDS_WITHIN = 90.0
SERVICE_USER = "whatsapp"
FOLDER = "/srv/of-the-user"
USERS_FILE = f"{FOLDER}/env"
ROOTS_FILE = f"{FOLDER}/other.env"

# SQLite computes the column when it checks the table, in one step that takes days.
MAKE_STORE = """
import sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None)
store.execute("CREATE TABLE whatsmeow_device (jid TEXT)")
store.execute("INSERT INTO whatsmeow_device VALUES ('15550100001:1@s.whatsapp.net')")
store.execute("CREATE TABLE crafted (a TEXT)")
store.execute("INSERT INTO crafted VALUES ('x')")
if sys.argv[2] == "endless":
    store.execute("PRAGMA writable_schema=1")
    column = "b INTEGER NOT NULL AS (instr(zeroblob(100000000), zeroblob(50000000) || x'01'))"
    store.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'crafted'", (f"CREATE TABLE crafted (a TEXT, {column})",))
"""

# Stops and kills all that it may, again and again.
STRIKER = """
import os, signal, sys, time
print(os.getpid(), flush=True)
deadline = time.monotonic() + 300
while time.monotonic() < deadline:
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            for kind in (signal.SIGSTOP, signal.SIGKILL):
                try:
                    os.kill(int(name), kind)
                except OSError:
                    pass
"""


@pytest.fixture
def stores(host: Host) -> Host:
    """The host with two accounts in databases, one of which is crafted."""
    host.put("/root/make_store.py", MAKE_STORE)
    host.sh(
        f"rm -rf {STORES}; mkdir -p {STORES}/sound {STORES}/crafted; chmod 755 {STORES};"
        f" python3 /root/make_store.py {STORES}/sound/whatsapp.db sound;"
        f" python3 /root/make_store.py {STORES}/crafted/whatsapp.db endless; chown -R {SERVICE_USER}: {STORES}"
    )
    return host


def test_a_store_that_sqlite_checks_for_days_is_a_problem_of_its_account_alone(stores: Host) -> None:
    begun = time.monotonic()
    result = stores.module("session_info", path=STORES, layout="whatsmeow", show_accounts=True)
    assert time.monotonic() - begun < ENDS_WITHIN
    states = {account["id"]: (account["state"], account["problems"][:1]) for account in result["accounts"]}
    assert states["sound"][0] == "paired"
    assert states["crafted"] == ("unknown", ["store_not_judged"])
    assert stores.sh("ls /tmp | grep -c whatsapp-ops || true").strip() == "0"


def test_such_a_store_is_refused_before_the_backend_is_stopped(stores: Host) -> None:
    """Where nobody has to judge it (of this layout only the database says so), its copy is tried while the backend runs."""
    pid = stores.well()["pid"]
    custom = {"markers": ["whatsapp.db"], "databases": ["*.db"]}
    begun = time.monotonic()
    result = stores.migrate(src=[STORES], layout="custom", custom=custom, switch={})
    assert time.monotonic() - begun < ENDS_WITHIN
    assert result["failed"], result
    assert "could not be checked within" in result["msg"]
    assert "restore a backup of it, or move it away" in result["msg"]
    assert stores.well()["pid"] == pid
    assert stores.sh(f"ls {PATH} 2>/dev/null || true").strip() == ""


def test_no_process_of_the_service_user_reaches_who_checks_a_store(stores: Host) -> None:
    stores.put("/srv/striker.py", STRIKER)
    stores.sh(f"rm -rf {STORES}/crafted")
    striking = stores.begin(f"cd /; exec runuser -u {SERVICE_USER} -- python3 /srv/striker.py")
    try:
        assert striking.stdout is not None
        number = int(striking.stdout.readline())
        result = stores.module("session_info", path=STORES, layout="whatsmeow", show_accounts=True)
    finally:
        stores.sh(f"kill -KILL {number}")
        striking.wait()
    assert [account["state"] for account in result["accounts"]] == ["paired"]
    stores.sh(f"systemctl kill --signal=KILL {UNIT}; systemctl restart {UNIT}")


# --- the environment file in a directory of the backend's user ------------------------------------------------


def environment_file_of_the_user(host: Host, at_stop: str) -> None:
    """An environment file where the backend's user rules, who does ``at_stop`` (a shell command) once the backend has stopped.

    Beside it lies a private file of root, and a link to it, which some kernels do not let that user make.
    """
    host.sh(
        f"rm -rf {FOLDER}; mkdir {FOLDER}; cd {FOLDER}; (umask 077; echo PASSWORD=OF-ROOT >{ROOTS_FILE}); ln {ROOTS_FILE} link.env;"
        f" echo A=1 >{USERS_FILE};"
        f" chown {SERVICE_USER}: {FOLDER} {USERS_FILE}; mkdir -p /etc/systemd/system/{UNIT}.d"
    )
    host.put("/srv/at-stop", "#!/bin/sh\n")
    drop_in = f"[Service]\nEnvironmentFile=-{USERS_FILE}\nExecStopPost=/bin/sh /srv/at-stop\n"
    host.put(f"/etc/systemd/system/{UNIT}.d/05-attack.conf", drop_in)
    host.sh(f"systemctl daemon-reload; systemctl restart {UNIT}")
    host.well()
    host.put("/srv/at-stop", f"#!/bin/sh\ncd {FOLDER}\n{at_stop}\n")


# What the backend's user does once the backend has stopped.
AT_STOP = [
    "rm -f env; mkfifo env",
    "rm -f env; mkdir env",
    "rm -f env; ln -s /etc/shadow env",
    "mv -f link.env env",
    "printf 'A=2\\n' >env",
    "mv -f other.env env",
    "dd if=/dev/zero of=env bs=1M count=64 2>/dev/null",
]


def test_whatever_takes_the_place_of_the_environment_file_once_the_backend_is_down(host: Host) -> None:
    for at_stop in AT_STOP:
        environment_file_of_the_user(host, at_stop)
        begun = time.monotonic()
        played = play(host, "persist", wa_environment_file=USERS_FILE)
        assert time.monotonic() - begun < 2 * ENDS_WITHIN, at_stop
        assert played.rc != 0, played.output
        assert FOLDER in played.output, (
            at_stop,
            played.output,
        )  # for this reason, and not for what is left of the one before
        assert host.sh(f"systemctl is-active {UNIT}").strip() == "active", at_stop
        readable = host.sh(f"runuser -u {SERVICE_USER} -- cat {USERS_FILE} {ROOTS_FILE} 2>/dev/null || true")
        assert "OF-ROOT" not in readable, at_stop
