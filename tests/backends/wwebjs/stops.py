#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a host with the backend: stops its unit right after every account has sent a message, and reports the remaining data.

Reads one way to stop as JSON ({"service": ["KillMode=mixed", ...], "repeats": 3, "wait": 0}, waiting that many seconds before the
stop). Prints one JSON line for each repeat: how many accounts have the newest message in which store after the next start, how
many profiles kept their locks, how many seconds the stop took, how it ended.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

UNIT = "whatsapp-backend.service"
BACKEND = "http://127.0.0.1:8080"
PROFILES = Path("/opt/whatsapp/current/.wwebjs_auth")
DROP_IN = Path(f"/run/systemd/system/{UNIT}.d/50-measured.conf")
LOCKS = ("SingletonLock", "SingletonCookie", "SingletonSocket")
SECONDS = 60.0


def main() -> None:
    way = json.load(sys.stdin)
    write_drop_in(way["service"])
    systemctl("restart", UNIT)
    for _ in range(way["repeats"]):
        print(json.dumps(stop_and_look(way["wait"])), flush=True)
    systemctl("stop", UNIT)
    DROP_IN.unlink()


def write_drop_in(service: list[str]) -> None:
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text("\n".join(["[Service]", *service]) + "\n")
    systemctl("daemon-reload")


def stop_and_look(wait: float) -> dict[str, object]:
    newest = {account: send(account) for account in wait_for_accounts()}
    time.sleep(wait)
    began = time.monotonic()
    systemctl("stop", UNIT)
    seconds = time.monotonic() - began
    ended = systemctl("show", "--property=Result", "--value", UNIT).strip()
    locked = sum(any((PROFILES / f"session-{account}" / lock).is_symlink() for lock in LOCKS) for account in newest)
    systemctl("reset-failed", UNIT)
    systemctl("start", UNIT)
    found = wait_for_accounts()
    return {
        "accounts": len(newest),
        **{
            store: sum(found[account][store] == message[store] for account, message in newest.items())
            for store in ("local_storage", "indexed_db")
        },
        "locked": locked,
        "seconds": seconds,
        "ended": ended,
    }


def wait_for_accounts() -> dict[str, dict[str, object]]:
    """What every account says of itself, once all are connected."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        try:
            shown = ask("GET", "/sessions")
        except OSError:  # it does not listen yet
            shown = {}
        if shown and all(account["state"] == "connected" for account in shown.values()):
            return shown
        time.sleep(0.1)
    raise SystemExit(f"the accounts were not connected within {SECONDS:.0f} s")


def send(account: str) -> dict[str, int]:
    """How far each store of the account is by this message."""
    return ask("POST", f"/send?session={account}")


def ask(method: str, path: str) -> dict:
    with urllib.request.urlopen(urllib.request.Request(BACKEND + path, method=method), timeout=SECONDS) as answer:
        return json.load(answer)


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
