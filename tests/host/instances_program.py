# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands for Evolution API: accounts in `./instances/NAME` of wherever it is started, no variable read, a new device where none is found.

It says in status.json beside itself who it is, and writes the same into the account's keys.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import sys
import threading

ACCOUNT = pathlib.Path("instances") / "shop"


def main() -> None:
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stopped.set())
    ACCOUNT.mkdir(parents=True, exist_ok=True)
    credentials = ACCOUNT / "creds.json"
    if not credentials.exists():
        credentials.write_text(json.dumps({"registered": False}))
    identity = json.loads(credentials.read_text()).get("me", {}).get("id", "")
    write("status.json", {"pid": os.getpid(), "identity": identity})
    while not stopped.wait(0.2):
        try:
            write(str(ACCOUNT / "session-15550100001.0.json"), {"pid": os.getpid()})
        except OSError as error:  # a release that is taken away under it takes its directory with it
            print(error.strerror, file=sys.stderr)


def write(path: str, document: dict[str, object]) -> None:
    pathlib.Path(f"{path}.new").write_text(json.dumps(document))
    os.replace(f"{path}.new", path)


if __name__ == "__main__":
    main()
