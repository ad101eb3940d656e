# SPDX-License-Identifier: GPL-3.0-or-later
"""Real programs with their directory written in, attached by a mount: whatsapp-web.js with a browser, and the layout of Evolution API."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import time
import typing as t

import ansible
import pytest
from hostkit import REPOSITORY, SECONDS, Host
from playkit import HEALTH, module_calls, play

BROWSERS, INSTANCES = "whatsapp-backend", "evolution"
SETTINGS: dict[str, dict[str, t.Any]] = {
    BROWSERS: {"wa_health_url": HEALTH},
    INSTANCES: {"wa_service": INSTANCES, "wa_health_url": ""},
}
# LocalAuth without `dataPath`: nothing says where, and what a variable says does not reach the program.
UNTOLD = "[Service]\nExecStart=\nExecStart=/usr/bin/env -u SESSIONS_PATH node server.mjs\n"
UNIT = """[Unit]
StartLimitIntervalSec=0
[Service]
User=whatsapp
WorkingDirectory=/opt/evolution/current
ExecStart=/usr/bin/python3 /opt/evolution/current/program.py
Restart=always
RestartSec=1
[Install]
WantedBy=multi-user.target
"""
# What `redeploy` of the backend with browsers does, for the other one: a new directory, the link, a restart, the old ones removed.
DEPLOY = """
cd /opt/evolution/releases && new=$(($(ls | sort -n | tail -n 1) + 1)) && install -d -o whatsapp -g whatsapp $new
install /repository/tests/host/instances_program.py $new/program.py
ln -sfn releases/$new ../current.new && mv -T ../current.new ../current
systemctl try-restart evolution
ls | grep -vx $new | xargs --no-run-if-empty rm -rf
"""
DEVICE = {
    **{name: {"private": "CANARY", "public": "CANARY"} for name in ("noiseKey", "signedIdentityKey")},
    "signedPreKey": {"keyId": 1, "keyPair": {"private": "CANARY", "public": "CANARY"}},
    "registrationId": 7,
    "advSecretKey": "CANARY",
    "account": {"details": "CANARY"},
    "me": {"id": "15550400001:1@s.whatsapp.net"},
}
# Who each program says that it is, as which process, and, of what lies at its sessions path, which process keeps it.
LOOK = """
import json, os, pathlib, urllib.request
def asked(path):
    return json.load(urllib.request.urlopen("http://127.0.0.1:8080" + path, timeout=5))
health, (account,) = asked("/health"), asked("/sessions").values()
lock = pathlib.Path("/var/lib/whatsapp-backend/sessions/session-shop/SingletonLock")
browser = os.readlink(lock).rpartition("-")[2] if lock.is_symlink() else "self"
told = json.loads(pathlib.Path("/opt/evolution/current/status.json").read_text())
keys = pathlib.Path("/var/lib/evolution/sessions/shop/session-15550100001.0.json")
print(json.dumps({
    "whatsapp-backend": {
        "pid": health["pid"], "identity": account.get("fingerprint"), "written": account.get("local_storage"),
        "at_path": "whatsapp-backend.service" in pathlib.Path(f"/proc/{browser}/cgroup").read_text(),
    },
    "evolution": {**told, "at_path": keys.exists() and json.loads(keys.read_text())["pid"] == told["pid"]},
}))
"""

Seen = dict[str, dict[str, t.Any]]


class Programs(Host):
    """One throw-away host with both programs, each linked to a device below its release."""

    def boot(self) -> None:
        install = REPOSITORY / "tests" / "backends" / "wwebjs" / "install"
        words = subprocess.run([str(install)], check=True, capture_output=True, text=True, timeout=600).stdout.split()
        packages = pathlib.Path(ansible.__file__).parents[1]
        views = [f"--bind-ro={REPOSITORY}:/repository", f"--bind-ro={packages}:/controller"]
        self.lab("up", self.name, self.suite, *words, *views)
        self.lab("wait", self.name)

    def deploy_first(self) -> None:
        """Lay both programs with a linked device each, whose directories are found by nothing but the working directory."""
        self.put(f"/etc/systemd/system/{BROWSERS}.service.d/06-test.conf", UNTOLD)
        self.sh("/srv/build/app/setup")
        self.put("/etc/whatsapp-backend/accounts.json", '[{"id": "shop", "number": "15550300001"}]')
        self.sh("cd /opt/whatsapp/current && runuser -u whatsapp -- node pair.mjs --canaries")
        self.put("/etc/systemd/system/evolution.service", UNIT)
        self.sh(f"mkdir -p /opt/evolution/releases; {DEPLOY}")
        self.put("/opt/evolution/current/instances/shop/creds.json", json.dumps(DEVICE))
        self.sh(f"chown -R whatsapp: /opt/evolution; systemctl enable --quiet --now {BROWSERS} {INSTANCES}")

    def pids(self) -> dict[str, int]:
        """Ask systemd for the main processes."""
        shown = self.sh(f"systemctl show --property=MainPID --value {BROWSERS} {INSTANCES}").split()
        return dict(zip((BROWSERS, INSTANCES), map(int, shown), strict=True))

    def linked(self, at_path: bool = True) -> Seen:
        """Wait until both programs run with their device, seen to be kept at the sessions path if that is said."""
        deadline = time.monotonic() + SECONDS
        while True:
            seen: Seen = {}
            with contextlib.suppress(ValueError):
                seen = json.loads(self.sh(f"python3 -c '{LOOK}'", may_fail=True))
            pids = self.pids()
            if seen and all(
                one["pid"] == pids[name] and one["identity"] and one["at_path"] is at_path for name, one in seen.items()
            ):
                return seen
            assert time.monotonic() < deadline, (seen, pids)
            time.sleep(0.3)


@pytest.fixture
def programs() -> t.Iterator[Programs]:
    kept = os.environ.get("WA_HOST_LAB")
    lab = pathlib.Path(kept).resolve() if kept else REPOSITORY / ".work" / f"lab-program-tests-{os.getpid()}"
    host = Programs("programs", os.environ.get("WA_HOST_SUITE", "bookworm"), lab)
    try:
        host.boot()
        host.deploy_first()
        yield host
    finally:
        host.lab("down", host.name) if kept else host.lab("destroy")


def test_devices_stay_linked_whatever_happens_to_the_server(programs: Programs) -> None:
    before = programs.linked(at_path=False)

    for name, settings in SETTINGS.items():
        played = play(programs, "persist", **settings)
        assert played.rc == 0, played.output
        assert "BindPaths=" in programs.sh(f"cat /etc/systemd/system/{name}.service.d/20-sessions.conf")
    require_same(before, programs.linked())
    for _release in range(3):
        programs.sh(f"{{ {DEPLOY} }} & KEEP_RELEASES=1 redeploy; wait")
        assert len(programs.sh("ls -d /opt/whatsapp/releases/* /opt/evolution/releases/*").split()) == 2
        require_same(before, programs.linked())
    programs.sh(f"kill -KILL {' '.join(map(str, programs.pids().values()))}")
    require_same(before, programs.linked())
    programs.sh("touch /run/before-the-reboot; systemctl reboot", may_fail=True)
    programs.wait_for_boot()
    after = programs.linked()
    require_same(before, after)

    calls = module_calls(programs)
    for settings in SETTINGS.values():
        again = play(programs, "persist", **settings)
        assert (again.rc, again.changed) == (0, 0), again.output
    assert module_calls(programs) == calls + len(SETTINGS)
    assert programs.pids() == {name: one["pid"] for name, one in after.items()}


def require_same(before: Seen, now: Seen) -> None:
    """Each device is the one that it was, and what the browser had stored is there: a new one would count from 0 and ask for a QR code."""
    assert {name: one["identity"] for name, one in now.items()} == {
        name: one["identity"] for name, one in before.items()
    }
    assert now[BROWSERS]["written"] >= before[BROWSERS]["written"] > 0
