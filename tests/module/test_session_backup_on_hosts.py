# SPDX-License-Identifier: GPL-3.0-or-later
"""session_backup and a real systemd: a backend that writes all the time is held for its difference, and always runs again."""

from __future__ import annotations

import typing as t

import pytest

from conftest import Host, Result

pytestmark = pytest.mark.slow
SESSIONS = "/var/lib/wa/sessions"
# It rewrites a key file and the credentials in place without a pause, and ends between two writes.
PROGRAM = """\
import itertools, json, pathlib, signal, sys, time
ending = []
signal.signal(signal.SIGTERM, lambda *_: ending.append(1))
account = pathlib.Path("/var/lib/wa/sessions/a")
parts = dict.fromkeys(("noiseKey", "signedIdentityKey", "signedPreKey", "registrationId", "advSecretKey"), {"k": 1})
for number in itertools.count():
    whole = {**parts, "me": {"id": "1:1@s.whatsapp.net"}, "account": {"details": "x"}, "nextPreKeyId": number}
    for name, held in (("session-1.json", {"n": number}), ("creds.json", whole)):
        (account / name).write_text(json.dumps(held))
    time.sleep(0.002)
    if ending:
        sys.exit()
"""
UNIT = "[Service]\nExecStart=/usr/bin/python3 /etc/wa/program\n"
# Holds the backend as the module does, and is killed while it holds it.
KILLED = """\
import os, signal, sys
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup import quiesce
hold = quiesce.hold_of("wa.service", sys.argv[1], 30)
if sys.argv[2] != "as it is":
    hold = hold._replace(action=sys.argv[2])
with quiesce.held(hold, "/var/lib/wa/sessions", quiesce.Interruption()):
    os.kill(os.getpid(), signal.SIGKILL)
"""
NUMBER = f'python3 -c \'import json;print(json.load(open("{SESSIONS}/a/session-1.json"))["n"])\''
RELEASED = "[ -z \"$(systemctl list-units --plain --no-legend 'whatsapp-ops-release-*')\" ]"


class Backend:
    """The unit ``wa`` on a booted throw-away host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def run(self, command: str) -> str:
        return self._host.ssh(command).strip()

    def put(self, path: str, text: str) -> None:
        self._host.ssh(f"cat >{path}", stdin=text)

    def backup(self, **options: t.Any) -> Result:
        return self._host.run_module("session_backup", path=SESSIONS, unit="wa", layout="baileys", **options)

    def killed_while_holding(self, how: str, action: str) -> None:
        self.put("/etc/wa/killed", KILLED)
        self._host.python(f"/etc/wa/killed {how} '{action}' || true")

    def require_that_it_writes(self) -> None:
        """Wait until the process that releases it has ended, and until a further generation is written."""
        self.run(f"until {RELEASED}; do sleep 0.05; done")
        waits = f'n=0; until [ -n "$({NUMBER} 2>/dev/null)" ] && [ "$({NUMBER} 2>/dev/null)" != "$was" ]'
        self.run(f"was=$({NUMBER} 2>/dev/null); {waits}; do n=$((n+1)); [ $n -lt 200 ] || exit 1; sleep 0.05; done")
        assert self.run("systemctl show --value --property=ActiveState wa") == "active"


@pytest.fixture
def wa(host: Host) -> t.Iterator[Backend]:
    backend = Backend(host)
    backend.run(f"mkdir -p /etc/wa {SESSIONS}/a && chmod 700 {SESSIONS}/a")
    backend.put("/etc/wa/program", PROGRAM)
    backend.put("/etc/systemd/system/wa.service", UNIT)
    backend.run(
        f"systemctl daemon-reload; systemctl start wa; until [ -s {SESSIONS}/a/creds.json ]; do sleep 0.05; done"
    )
    yield backend
    backend.run("systemctl stop wa; rm -rf /etc/wa /var/lib/wa /var/lib/whatsapp-ops /etc/systemd/system/wa.service")


def test_a_busy_account_is_saved_while_its_backend_is_held(wa: Backend) -> None:
    skipped = wa.backup()
    assert [account["action"] for account in skipped["accounts"]] == ["skipped"], skipped
    assert "quiesce=freeze" in skipped["warnings"][0]
    first = wa.run("systemctl show --value --property=MainPID wa")
    frozen = wa.backup(quiesce="freeze")
    assert "accounts" in frozen, frozen["msg"]
    assert [account["action"] for account in frozen["accounts"]] == ["saved"], frozen
    assert 0 < frozen["interruption_seconds"] < 10
    assert wa.run("systemctl show --value --property=MainPID wa") == first
    wa.require_that_it_writes()
    stopped = wa.backup(quiesce="stop")
    assert [account["action"] for account in stopped["accounts"]] == ["saved"], stopped
    assert wa.run("systemctl show --value --property=MainPID wa") != first
    wa.require_that_it_writes()


@pytest.mark.parametrize(("how", "action"), [("freeze", "as it is"), ("freeze", "resume"), ("stop", "as it is")])
def test_a_run_that_is_killed_while_it_holds_the_backend(wa: Backend, how: str, action: str) -> None:
    wa.killed_while_holding(how, action)
    wa.require_that_it_writes()
