# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks every host after the last rollout, and the message of each rollout."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
OUTPUT = Path(os.environ.get("LAB_DIR") or CHECKOUT / ".work" / "lab") / "output"
SESSIONS = "/var/lib/whatsapp-backend/sessions"
ACCOUNTS = 3
MOVED = "15550100003"  # from wa-5 to wa-6
RELINKED = "15550100002"  # on wa-4, by a QR code


def test_all_accounts_are_connected_and_none_needs_a_qr_code(host):
    program = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8080/health').read().decode())"
    health = json.loads(host.check_output("python3 -c %s", program))
    connected = ACCOUNTS - (host.check_output("hostname") == "wa-5")
    assert health["accounts"] == {"total": ACCOUNTS, "connected": connected, "needs_qr": 0}
    environment = host.check_output("tr '\\0' '\\n' </proc/%s/environ", str(health["pid"])).splitlines()
    assert f"SESSIONS_PATH={SESSIONS}" in environment


def test_accounts_are_who_they_were(host):
    name = host.check_output("hostname")
    now = json.loads(
        host.check_output("cd /opt/whatsapp/current && runuser -u whatsapp -- node identity.mjs %s", SESSIONS)
    )
    before = identities(name)
    changed = {account for account, identity in before.items() if now[account] != identity}
    assert changed == {"wa-4": {RELINKED}, "wa-5": {MOVED}, "wa-6": {MOVED}}.get(name, set())
    if name == "wa-5":
        assert now[MOVED] is None
    if name == "wa-6":
        assert now[MOVED] == identities("wa-5")[MOVED]


def identities(name: str) -> dict[str, str]:
    """Return the identities of a host's accounts before anything was changed."""
    root = subprocess.run([CHECKOUT / "tests/lab/lab", "root", name], check=True, capture_output=True, text=True).stdout
    return json.loads(Path(root.strip(), "root/lab/before.identity").read_text())


def test_nothing_holds_a_start_back(host):
    assert host.run("ls /run/whatsapp-ops/*.moving /run/systemd/system/whatsapp-backend.service.d").stdout == ""


def test_every_rollout_that_stopped_has_said_so_once():
    said = sorted(sentence for file in OUTPUT.iterdir() for sentence in _sentences(file.read_text()))
    assert [sentence.partition(":")[0] for sentence in said] == [
        "stopped at wa-3 (cannot be reached)",
        "stopped at wa-4 (failed, the backend runs)",
        "stopped at wa-4 (failed, the backend runs)",  # the rolling restart
        "stopped before anything was changed",
    ]


def _sentences(output: str) -> list[str]:
    return re.findall(r'^ +(?:"msg": )?"(stopped [^"]*)"', output, re.MULTILINE)
