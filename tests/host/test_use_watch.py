# SPDX-License-Identifier: GPL-3.0-or-later
"""Which place a unit opens accounts at, seen from before its start on: set-ups as people have them, on both Debian releases."""

from __future__ import annotations

import json
import pathlib
import tempfile
import typing as t

import pytest
from hostkit import REPOSITORY, Host

SECONDS = 10.0
NEW, OLD, ONE, TWO = "/var/lib/wa/sessions", "/opt/app/current/auth", "/opt/one/auth", "/opt/two/auth"
UNIT = "wa.service"

# What the program reads: the directory that a variable names, or one that is written into it.
BACKEND = """
import os, sys, time
root = sys.argv[1] if len(sys.argv) > 1 else os.environ["SESSIONS_PATH"]
for name in os.listdir(root):
    open(f"{root}/{name}/creds.json").close()
while True:
    time.sleep(60)
"""
# Starts several programs, each in a directory of its own, and is gone: as 'pm2 resurrect' does.
MANAGER = """#!/bin/sh
for directory in /opt/one /opt/two; do
    (cd "$directory" && exec setsid python3 /opt/backend.py ./auth </dev/null >/dev/null 2>&1 &)
done
sleep 1000 </dev/null >/dev/null 2>&1 &
echo $! >/run/wa.pid
"""
SERVICE = "[Service]\nUser=daemon\nWorkingDirectory=/opt/app/current\n"

# How each set-up is called, what its unit says, and what is to be seen: the verdict of the watch, that on the running unit.
CASES: dict[str, tuple[str, list[str], list[t.Any], list[t.Any]]] = {
    "variable": (
        f"{SERVICE}Environment=SESSIONS_PATH={NEW}\nExecStart=python3 /opt/backend.py\n",
        [NEW],
        ["used", []],
        ["used", []],
    ),
    "written into it": (
        f"{SERVICE}Environment=SESSIONS_PATH={NEW}\nExecStart=python3 /opt/backend.py ./auth\n",
        [OLD],
        ["elsewhere", [OLD]],
        ["used", []],  # which is why the watch decides, where there is one
    ),
    "written into it, no variable": (
        f"{SERVICE}ExecStart=python3 /opt/backend.py ./auth\n",
        [OLD],
        ["elsewhere", [OLD]],
        ["nowhere", []],
    ),
    "bound": (
        f"{SERVICE}BindPaths={NEW}:/opt/app/current/auth\nExecStart=python3 /opt/backend.py ./auth\n",
        [NEW],
        ["used", []],
        ["used", []],
    ),
    "manager": (
        "[Service]\nType=forking\nPIDFile=/run/wa.pid\nExecStart=/opt/manager\n",
        [ONE, TWO],
        ["elsewhere", [ONE, TWO]],
        ["nowhere", []],
    ),
    "a shell around it": (
        f"{SERVICE}ExecStart=bash -lc 'cd /opt/app/current && export SESSIONS_PATH={NEW} && python3 /opt/backend.py'\n",
        [NEW],
        ["used", []],
        ["used", []],
    ),
    "nothing": (f"{SERVICE}ExecStart=sleep 1000\n", [NEW], ["nowhere", []], ["nowhere", []]),
}

# The kernel shows who opens files, and it is the same for both; systemd starts processes and resolves mounts.
ON_RELEASES = [
    *(("bookworm", case) for case in ("variable", "bound", "manager")),
    *(("trixie", case) for case in CASES),
]


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> t.Iterator[Host]:
    """A host that may use fanotify, as a server may."""
    work = REPOSITORY / ".work"
    host = Host("watched", request.param, pathlib.Path(tempfile.mkdtemp(prefix="lab-watch-", dir=work)))
    calls = [word for call in ("fanotify_init", "fanotify_mark") for word in ("--system-call", call)]
    try:
        host.lab("up", host.name, host.suite, *calls, f"--bind-ro={REPOSITORY}:/repository")
        host.lab("wait", host.name)
        host.put("/opt/backend.py", BACKEND)
        host.put("/opt/manager", MANAGER)
        roots = (NEW, "/opt/app/release-1/auth", ONE, TWO)
        made = "; ".join(f"mkdir -p {root}/wa1; echo '{{}}' >{root}/wa1/creds.json" for root in roots)
        host.sh(
            f"chmod +x /opt/manager; {made}; ln -s release-1 /opt/app/current; chown -R daemon /var/lib/wa /opt/app"
        )
        yield host
    finally:
        host.lab("destroy")


def watched(host: Host, case: str, wrapper: str = "") -> dict[str, t.Any]:
    """Start the unit of a case while it is watched; the unit is gone afterwards."""
    text, at, *_expected = CASES[case]
    host.put(f"/etc/systemd/system/{UNIT}", text)
    host.sh("systemctl daemon-reload")
    given = {"places": [NEW, OLD, ONE, TWO], "unit": UNIT, "at": at, "seconds": 0.5 if case == "nothing" else SECONDS}
    given["mounted"] = OLD if case == "bound" else None
    try:
        printed = host.sh(f"{wrapper} python3 -I /repository/tests/host/watch_on_host.py", given=json.dumps(given))
        return t.cast("dict[str, t.Any]", json.loads(printed))
    finally:
        host.sh(f"systemctl stop {UNIT}; systemctl reset-failed {UNIT} || :", may_fail=True)


@pytest.mark.parametrize(("server", "case"), ON_RELEASES, indirect=["server"])
def test_the_place_that_a_unit_uses_is_seen(server: Host, case: str) -> None:
    _text, at, seen, running = CASES[case]
    found = watched(server, case)
    print(server.suite, case, found)
    assert found["named"]
    assert (found["verdict"], found["running"]) == (seen, running)
    if seen[0] != "nowhere":
        assert found["came"]
        assert found["took"] < 5
        assert found["accounts"] == {place: ["wa1"] for place in at}
    assert found["processes"] >= (3 if case == "manager" else 1)
    # As systemd resolved it: through the link to the release of today.
    assert found["bound"] == ([True, "/opt/app/release-1/auth"] if case == "bound" else None)


@pytest.mark.parametrize("server", ["trixie"], indirect=True)
def test_an_operator_who_looks_is_not_taken_for_the_unit(server: Host) -> None:
    look = f"systemd-run --quiet --collect --unit=look sh -c 'while :; do read l <{OLD}/wa1/creds.json; read l <{NEW}/wa1/creds.json; done'"
    server.sh(look)
    try:
        found = watched(server, "nothing")
        assert found["verdict"] == ["nowhere", []]
        assert found["others"] == ["/system.slice/look.service"]
    finally:
        server.sh("systemctl stop look")


@pytest.mark.parametrize(("server", "case"), [("trixie", case) for case in CASES], indirect=["server"])
def test_where_openers_have_no_names_the_place_is_seen_all_the_same(server: Host, case: str) -> None:
    filtered = "-p SystemCallFilter=~fanotify_init -p SystemCallErrorNumber=EPERM"
    found = watched(server, case, f"systemd-run --quiet --pipe --wait --collect {filtered}")
    assert not found["named"]
    assert found["verdict"] == CASES[case][2]
