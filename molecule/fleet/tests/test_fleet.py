# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands on every host once the last rollout went through, and what each rollout has said."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
OUTPUT = Path(os.environ.get("LAB_DIR") or CHECKOUT / ".work" / "lab") / "output"
SESSIONS = "/var/lib/whatsapp-backend/sessions"
ACCOUNTS = 3


def test_all_accounts_are_connected_and_none_needs_a_qr_code(host):
    program = "from urllib.request import urlopen; print(urlopen('http://127.0.0.1:8080/health').read().decode())"
    health = json.loads(host.check_output("python3 -c %s", program))
    assert health["accounts"] == {"total": ACCOUNTS, "connected": ACCOUNTS, "needs_qr": 0}
    environment = host.check_output("tr '\\0' '\\n' </proc/%s/environ", str(health["pid"])).splitlines()
    assert f"SESSIONS_PATH={SESSIONS}" in environment


def test_accounts_are_who_they_were(host):
    now = host.check_output("cd /opt/whatsapp/current && runuser -u whatsapp -- node identity.mjs %s", SESSIONS)
    before = host.file("/root/lab/before.identity").content_string
    changed = {name for name, identity in json.loads(before).items() if json.loads(now)[name] != identity}
    # Linked anew, by a QR code, was the one that was lost before.
    assert changed == ({"15550100002"} if host.check_output("hostname") == "wa-4" else set())


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
    return re.findall(r'"msg": "(stopped [^"]*)"', output)
