# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend of the test hosts: a service that keeps whatsmeow stores open, as Go programs do.

The stores are below SESSIONS_PATH, else below `storages` in the working directory: whatsapp.db, or one in each directory. They are
in WAL mode and opened by the real library, which never connects here. It ends without closing, on any signal, as most such
programs do: what was written last stays in the -wal file.
"""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
from pathlib import Path

from library import UnusableStore, devices_of


def main() -> None:
    folder = Path(os.environ.get("SESSIONS_PATH") or "storages")
    folder.mkdir(parents=True, exist_ok=True)
    stores = [open_store(file) for file in sorted(folder.glob("*/whatsapp.db")) or [folder / "whatsapp.db"]]
    print(f"Keeps {len(stores)} stores in {folder.resolve()}", flush=True)
    tell_systemd("READY=1")
    signal.pause()


def open_store(file: Path) -> sqlite3.Connection | None:
    try:
        devices = devices_of(file)
    except UnusableStore as error:
        print(f"{file.resolve()}: {error}", flush=True)
        return None
    if devices:
        print(f"Session restored from disk: {len(devices)} devices of {file.resolve()}", flush=True)
    else:
        print(f"needs_qr: no device of {file.resolve()} is linked, waiting for somebody to scan a QR code", flush=True)
    store = sqlite3.connect(file)
    store.execute("PRAGMA journal_mode = WAL")
    return store


def tell_systemd(state: str) -> None:
    """Report the end of the start (sd_notify), when everything is written."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.sendto(state.encode(), address)


if __name__ == "__main__":
    main()
