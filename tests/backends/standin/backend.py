# SPDX-License-Identifier: GPL-3.0-or-later
"""Replaces a backend whose library is not available: a service with accounts in a configured directory, or in its working directory.

backend.py DIRECTORY

The accounts are in SESSIONS_PATH, else in DIRECTORY, which is relative to the working directory. It looks into the directory like any
backend, keeps it open, and touches nothing: what its library would do, nobody here knows.
"""

from __future__ import annotations

import os
import signal
import socket
import sys


def main() -> None:
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda _number, _frame: sys.exit(0))
    sessions = os.path.realpath(os.environ.get("SESSIONS_PATH") or sys.argv[1])
    os.open(sessions, os.O_RDONLY | os.O_DIRECTORY)
    print(f"Keeps what is in {sessions}: {len(os.listdir(sessions))} entries", flush=True)
    tell_systemd("READY=1")
    signal.pause()


def tell_systemd(state: str) -> None:
    """Say that the start is over (sd_notify)."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.sendto(state.encode(), address)


if __name__ == "__main__":
    main()
