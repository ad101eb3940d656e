# SPDX-License-Identifier: GPL-3.0-or-later
"""A real backend on each of two hosts, between which accounts are moved."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import typing as t

from hostkit import PATH, UNIT, Host
from playkit import Play, command, environment, play

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import control_path

HOME = os.path.dirname(PATH)
CONTROLS = "/var/lib/whatsapp-ops"
OUTBOX = f"{control_path(PATH)}/outbox"
INBOX = f"{control_path(PATH)}/inbox"
ONE, *OTHERS = ACCOUNTS = ("15550100002", "15550100001", "15550100003")
DROP_IN = f"/etc/systemd/system/{UNIT}.d/zz-test.conf"


class Pair(t.NamedTuple):
    """The host that has three accounts, connected, and the one that has none; what each account is by its own keys."""

    first: Host
    second: Host
    identities: dict[str, str]


def identities(host: Host) -> dict[str, str]:
    """A fingerprint of the public identity key of each account that is linked, as the library reads it."""
    known = json.loads(host.sh(f"node /srv/build/app/identity.mjs {PATH}"))
    return {account: identity for account, identity in known.items() if identity}


def connected(host: Host) -> tuple[int, int]:
    """How many accounts are connected, and how many wait for somebody to scan a QR code."""
    now = host.look()
    return now["connected"], now["needs_qr"]


def move(pair: Pair, *options: str, back: bool = False, **settings: t.Any) -> Play:
    """Run the playbook, as loudly as can be; neither accounts nor what is inside of them may be in what it shows."""
    names = [pair.first.name, pair.second.name]
    from_to = dict(zip(("wa_move_from", "wa_move_to"), reversed(names) if back else names, strict=True))
    played = play(pair.first, "move", "-vvv", "--diff", *options, **from_to, **settings)
    for secret in ("CANARY", "SessionEntry", "<Buffer", "PRIVATE KEY", *ACCOUNTS):
        assert secret.lower() not in played.output.lower(), secret
    return played


def changed(played: Play) -> int:
    """How many tasks changed something on either host."""
    return sum(map(int, re.findall(r"changed=(\d+)", played.output.rpartition("PLAY RECAP")[2])))


def left_behind(pair: Pair) -> str:
    """What should not be there after a move, on either host: keys and what was on its way."""
    look = f"grep -c whatsapp_ops /root/.ssh/authorized_keys; ls -d {OUTBOX}/*.way {OUTBOX}/{pair.second.name} {INBOX}/* 2>/dev/null"
    return "".join(host.sh(look, may_fail=True) for host in (pair.first, pair.second)).replace("0\n", "")


def begin(pair: Pair, **settings: t.Any) -> subprocess.Popen[bytes]:
    """Start the playbook in a session of its own, so that it can be killed."""
    return subprocess.Popen(
        command("move", wa_move_from=pair.first.name, wa_move_to=pair.second.name, **settings),
        env=environment(pair.first),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def kill(running: subprocess.Popen[bytes]) -> None:
    """Kill the controller, with all that it has started on this machine."""
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
