# SPDX-License-Identifier: GPL-3.0-or-later
"""A service user who owns the directories around its accounts exchanges what root keeps there, in each phase of a cutover.

It wants root to run its program, or to follow its document: neither may happen, and the backend has to run in the end. On both Debian
releases, with the sessions path where its user owns the parent, below StateDirectory=, and as a mount of its own.
"""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import textwrap
import typing as t

import pytest
from hostkit import PATH, UNIT, Host, migration
from playkit import Play, play
from test_cutover import HELD, INTENT

SERVICE, LEGACY = "prey", "/opt/prey/app/sessions"
ACCOUNT = "15551112222"
OWNED = "/root/owned"
CRON = "/etc/cron.d/owned"
# Documents as root would write them, in which the attacker has root write what he likes.
PLANTED = {
    "version": 2,
    "committed": True,
    "path": "/nowhere",
    "boot": "",
    "folders": {},
    "moves": [],
    "files": [{"path": CRON, "content": "eA==", "mode": 420, "uid": 0, "gid": 0, "folder": None}],
}
RUN_BY_ROOT = f"import os; open({OWNED!r}, 'w').write(str(os.getuid()))"
# Opens its account, says that it is ready, and at the moment that it was told of exchanges what it can exchange and ends in failure.
PROGRAM = """
    import json, os, signal, socket, sys, time
    told = json.load(open(os.path.dirname(os.path.abspath(__file__)) + "/told.json"))
    def exchange():
        for area in told["areas"]:
            try:
                os.rename(area, area + ".mine")
            except OSError:
                pass
            try:
                os.mkdir(area, 0o700)
                open(area + "/rescue.py", "w").write(told["program"])
                for name in ("intent.json", "receipt.json"):
                    json.dump(told["document"], open(area + "/" + name, "w"))
            except OSError:
                pass
    def stop(*_):
        if told["when"] == "stop":
            exchange()
            os._exit(1)
        os._exit(0)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    place = os.environ.get("SESSIONS_PATH", told["legacy"])
    if place == told["fails_on"] and told["when"] == "start":
        exchange()
        os._exit(1)
    try:
        open(place + "/" + told["account"] + "/creds.json").close()
    except OSError:
        pass
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
    while True:
        time.sleep(1)
"""
UNIT_FILE = f"""
    [Service]
    Type=notify
    User=wa
    WorkingDirectory=/opt/{SERVICE}/app
    ExecStart=/usr/bin/python3 /opt/{SERVICE}/app/program.py
"""
CLEAR = (
    f"systemctl stop {SERVICE} 2>/dev/null; umount /srv/{SERVICE}/sessions 2>/dev/null; rm -rf /etc/systemd/system/{SERVICE}.service* "
    f"/etc/{SERVICE} /opt/{SERVICE} /opt/.{SERVICE}* /srv/{SERVICE}* /srv/disk /var/lib/{SERVICE}* /var/lib/.{SERVICE}* "
    f"/var/lib/whatsapp-ops /run/whatsapp-ops {OWNED} {CRON}; systemctl daemon-reload; systemctl reset-failed; true"
)


class Place(t.NamedTuple):
    """Where the sessions path is: its path, how it is made, what the unit says, and where root's area is then."""

    path: str
    made: str
    unit: str
    area: str


PLACES = {
    "parent of the user": Place(
        f"/srv/{SERVICE}/sessions",
        f"mkdir /srv/{SERVICE} && chown wa: /srv/{SERVICE}",
        "",
        f"/srv/{SERVICE}/.sessions.whatsapp-ops",
    ),
    "state directory": Place(
        f"/var/lib/{SERVICE}/sessions",
        "true",
        f"StateDirectory={SERVICE}\nStateDirectoryMode=0700\n",
        f"/var/lib/{SERVICE}/.sessions.whatsapp-ops",
    ),
    "mount": Place(
        f"/srv/{SERVICE}/sessions",
        f"mkdir -p /srv/{SERVICE}/sessions /srv/disk && chown wa: /srv/disk && mount --bind /srv/disk /srv/{SERVICE}/sessions",
        "",
        f"/srv/{SERVICE}/sessions/.whatsapp-ops",
    ),
}


class Prey:
    """A unit of the user wa, whose program is the attacker's."""

    def __init__(self, host: Host, place: Place) -> None:
        self.host, self.place = host, place
        host.sh(f"{CLEAR}; id wa >/dev/null 2>&1 || useradd --create-home wa")
        host.sh(f"mkdir -p {LEGACY}; {place.made}; ls -d /etc/cron.d >/dev/null 2>&1 || mkdir /etc/cron.d")
        host.put(f"/opt/{SERVICE}/app/program.py", textwrap.dedent(PROGRAM))
        host.put("/root/put_account.py", ACCOUNT_MAKER)
        host.sh(f"python3 /root/put_account.py {LEGACY}/{ACCOUNT}; chown -R wa: /opt/{SERVICE}")

    def begin(self, when: str, *, fails_on: str = "", unit: str = "") -> None:
        """Start the unit; its program strikes ``when`` it is to ``stop`` or, on the path ``fails_on``, to ``start``."""
        areas = [self.place.area, f"{LEGACY.rpartition('/')[0]}/.sessions.whatsapp-ops"]
        told = {"areas": areas, "program": RUN_BY_ROOT, "document": PLANTED, "when": when, "legacy": LEGACY}
        told["account"] = ACCOUNT
        self.host.put(f"/opt/{SERVICE}/app/told.json", json.dumps({**told, "fails_on": fails_on}))
        text = textwrap.dedent(UNIT_FILE) + self.place.unit + unit
        self.host.put(f"/etc/systemd/system/{SERVICE}.service", text)
        self.host.sh(f"systemctl daemon-reload && systemctl restart {SERVICE}")

    def play(self, name: str, **settings: t.Any) -> Play:
        own = {"wa_service": SERVICE, "wa_sessions_path": self.place.path, "wa_health_url": ""}
        return play(self.host, name, "--limit", self.host.name, **{**own, **settings})

    def require_held(self) -> None:
        """Nothing of the attacker's was run or followed, the backend runs, and its account is whole at one of its places."""
        there = self.host.sh(f"ls -d {OWNED} {CRON} 2>/dev/null", may_fail=True)
        assert there == "", "root did what the service user wrote"
        assert self.host.sh(f"systemctl is-active {SERVICE}", may_fail=True).strip() == "active"
        held = f"cat {LEGACY}/{ACCOUNT}/creds.json {self.place.path}/{ACCOUNT}/creds.json 2>/dev/null"
        assert "registrationId" in self.host.sh(held, may_fail=True)
        units = self.host.sh("ls /etc/systemd/system | grep whatsapp-ops-undo", may_fail=True)
        assert units == "", "what runs at boot is left behind"


ACCOUNT_MAKER = """
import json, os, sys
os.makedirs(sys.argv[1])
keys = {"noiseKey": {"private": "k"}, "signedIdentityKey": {"private": "k"}, "signedPreKey": {"keyId": 1}, "registrationId": 7}
me = {"me": {"id": "15551112222:1@s.whatsapp.net"}, "account": {"details": "d"}, "advSecretKey": "k", "nextPreKeyId": 2}
json.dump({**keys, **me}, open(sys.argv[1] + "/creds.json", "w"))
open(sys.argv[1] + "/pre-key-1.json", "w").write("{}")
"""


@pytest.fixture(scope="module", params=["bookworm", *(["trixie"] if os.environ.get("WA_EVERYWHERE") else [])])
def attacked(request: pytest.FixtureRequest, booted: Host) -> t.Iterator[Host]:
    """A host of each Debian release; the backend of the other tests is of no use here."""
    if request.param == booted.suite:
        yield booted
        return
    other = Host("attacked", request.param, pathlib.Path(booted.environment["LAB_DIR"]))
    other.lab("up", other.name, other.suite)
    other.lab("wait", other.name)
    try:
        yield other
    finally:
        other.lab("down", other.name)


@pytest.fixture(params=PLACES)
def prey(request: pytest.FixtureRequest, attacked: Host) -> t.Iterator[Prey]:
    yield Prey(attacked, PLACES[request.param])
    attacked.sh(CLEAR)


@pytest.fixture
def anywhere(attacked: Host) -> t.Iterator[Prey]:
    """For what does not depend on where the sessions path is."""
    yield Prey(attacked, PLACES["state directory"])
    attacked.sh(CLEAR)


def test_exchanged_when_the_backend_is_stopped(prey: Prey) -> None:
    prey.begin("stop")
    played = prey.play("persist")
    assert played.rc != 0
    assert "did not stop cleanly" in " ".join(played.output.split())
    prey.require_held()


def test_exchanged_when_the_backend_is_started_on_the_new_path(prey: Prey) -> None:
    prey.begin("start", fails_on=prey.place.path)
    played = prey.play("persist")
    assert played.rc != 0
    prey.require_held()
    prey.begin("never")
    assert (after := prey.play("persist")).rc == 0, after.output
    prey.require_held()


def test_exchanged_on_the_way_back(anywhere: Prey) -> None:
    """There root's area lies beside the legacy path, in the release."""
    prey = anywhere
    prey.begin("never")
    assert (there := prey.play("persist")).rc == 0, there.output
    for when in ("stop", "start"):
        prey.begin(when, fails_on=LEGACY)
        prey.play("rollback")
        prey.require_held()
    prey.begin("never")
    assert (back := prey.play("rollback")).rc == 0, back.output
    prey.require_held()
    assert "registrationId" in prey.host.sh(f"cat {LEGACY}/{ACCOUNT}/creds.json")


def test_no_process_of_root_has_the_environment_of_the_backend(anywhere: Prey) -> None:
    """The dynamic loader writes down, as the user of the process, who is started with this in its environment."""
    prey = anywhere
    file = f"/opt/{SERVICE}/app/.env"
    prey.host.put(file, f"LD_DEBUG=libs\nLD_DEBUG_OUTPUT=/opt/{SERVICE}/app/loaded\n")
    prey.host.sh(f"chown wa: {file}")
    prey.begin("stop", unit=f"EnvironmentFile={file}\n")
    prey.play("persist")
    prey.require_held()
    users = prey.host.sh(f"stat -c %U /opt/{SERVICE}/app/loaded.*").split()
    assert set(users) == {"wa"}


def test_exchanged_before_a_boot_in_the_middle_of_a_cutover(booted: Host) -> None:
    """The host loses power while accounts are on their way, and where root left them lies something else then."""
    area = PATH.rpartition("/")[0] + "/.sessions.whatsapp-ops"
    held = [*HELD[:-1], "inject=renameat2:delay_enter=9000000:when=1"]
    before, _pid, came = booted.steps(("reset",), ("begin", *migration(*held)[1:]), ("until", INTENT))
    assert came
    booted.sh(f"rm -f {OWNED} {CRON}; chown whatsapp: {area.rpartition('/')[0]}")
    exchange = f"mv {area} {area}.mine && mkdir {area} && cat >{area}/intent.json && echo {shlex.quote(RUN_BY_ROOT)} >{area}/rescue.py"
    booted.sh(
        f"runuser -u whatsapp -- sh -c {shlex.quote(exchange)}", given=json.dumps({**PLANTED, "committed": False})
    )
    booted.sh("sync; echo x >/run/before-the-reboot; (sleep 0.2; systemctl reboot --force --force) >/dev/null 2>&1 &")
    booted.wait_for_boot()
    now = booted.well()
    assert booted.sh(f"ls -d {OWNED} {CRON} 2>/dev/null", may_fail=True) == ""
    assert now["legacy"] == before["legacy"]
    assert now["boot_units"] == []
    booted.sh(f"chown root: {area.rpartition('/')[0]}; systemctl is-active {UNIT}")
    booted.reset()
