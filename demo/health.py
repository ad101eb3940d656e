# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the host of the demo and reads the health page of the backend.

wait KEY     print the page once all accounts are KEY (connected, needs_qr)
watch        print at the end of the input for how long not all accounts were connected
"""

from __future__ import annotations

import json
import select
import sys
import time
import urllib.request

URL = "http://127.0.0.1:8080/health"
EVERY = 0.02
PATIENCE = 60.0


def main(command: str, *arguments: str) -> None:
    if command == "wait":
        print(json.dumps(wait_until_all_are(*arguments)))
    else:
        print(f"{seconds_not_connected():.2f}")


def wait_until_all_are(key: str) -> dict:
    deadline = time.monotonic() + PATIENCE
    while not all_are(key, page := read()):
        if time.monotonic() > deadline:
            sys.exit(f"not all accounts are {key} after {PATIENCE:.0f} s: {page.get('accounts', 'no answer')}")
        time.sleep(EVERY)
    return page


def seconds_not_connected() -> float:
    """Return the total time between the last check with all accounts connected and the next such check."""
    lost, last_good = 0.0, time.monotonic()
    while not select.select([sys.stdin], [], [], EVERY)[0]:
        good = all_are("connected", read())
        now = time.monotonic()
        if good and now - last_good > 10 * EVERY:
            lost += now - last_good
        if good:
            last_good = now
    return lost


def read() -> dict:
    try:
        with urllib.request.urlopen(URL, timeout=1) as answer:
            return json.load(answer)
    except OSError:
        return {}


def all_are(key: str, page: dict) -> bool:
    accounts = page.get("accounts", {})
    return accounts.get("total", 0) > 0 and accounts["total"] == accounts[key]


if __name__ == "__main__":
    main(*sys.argv[1:])
