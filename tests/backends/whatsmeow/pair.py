# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the person with the phone: makes a store, by the real library, and links devices in it.

pair.py [--wal] [--canaries] FILE [NUMBER...]

Without a number the store is what a backend makes before anybody has scanned its QR code. With --wal everything, even the tables, is
only in its -wal file, as after a backend that exited without closing. With canaries, the contents contain recognizable strings
(CANARY...): output with one of them has revealed the content of a session.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sqlite3
from pathlib import Path

from library import devices_of

PRE_KEYS = 60
CONTACTS = 5


def main() -> None:
    options = parser().parse_args()
    options.file.parent.mkdir(parents=True, exist_ok=True)
    store = sqlite3.connect(options.file)
    if options.wal:
        # On an empty store, so that the library's tables go to the -wal file too; our connection keeps it from being folded in.
        store.execute("PRAGMA journal_mode = WAL")
    devices_of(options.file)
    store.execute("PRAGMA foreign_keys = ON")
    word = f"CANARY_{secrets.token_hex(6)}" if options.canaries else "Test shop"
    for number in options.number:
        link(store, number, word)
        talk(store, number, word)
    store.commit()
    print(f"{len(options.number)} devices are linked", flush=True)
    # No clean exit, because the last process that closes the store merges the -wal file.
    os._exit(0)


def parser() -> argparse.ArgumentParser:
    described = argparse.ArgumentParser(description="make a store of whatsmeow and link devices in it")
    described.add_argument("--wal", action="store_true")
    described.add_argument("--canaries", action="store_true")
    described.add_argument("file", type=Path)
    described.add_argument("number", nargs="*")
    return described


def jid(number: str) -> str:
    return f"{number}:3@s.whatsapp.net"


def link(store: sqlite3.Connection, number: str, word: str) -> None:
    """Enter what the library enters when a phone has scanned the QR code. It checks the sizes of keys, not the signatures."""
    insert(
        store,
        "whatsmeow_device",
        jid=jid(number),
        lid=f"9{number}:3@lid",
        registration_id=secrets.randbelow(1 << 14),
        noise_key=os.urandom(32),
        identity_key=os.urandom(32),
        signed_pre_key=os.urandom(32),
        signed_pre_key_id=1,
        signed_pre_key_sig=os.urandom(64),
        adv_key=os.urandom(32),
        adv_details=os.urandom(12),
        adv_account_sig=os.urandom(64),
        adv_account_sig_key=os.urandom(32),
        adv_device_sig=os.urandom(64),
        platform="android",
        push_name=word,
    )
    for key_id in range(1, PRE_KEYS + 1):
        insert(store, "whatsmeow_pre_keys", jid=jid(number), key_id=key_id, key=os.urandom(32), uploaded=True)


def talk(store: sqlite3.Connection, number: str, word: str) -> None:
    """Enter what messages to some contacts leave behind."""
    for contact in range(CONTACTS):
        theirs = f"1555020{contact:04}"
        insert(store, "whatsmeow_identity_keys", our_jid=jid(number), their_id=f"{theirs}:0", identity=os.urandom(32))
        insert(store, "whatsmeow_sessions", our_jid=jid(number), their_id=f"{theirs}:0", session=os.urandom(700))
        insert(
            store,
            "whatsmeow_contacts",
            our_jid=jid(number),
            their_jid=f"{theirs}@s.whatsapp.net",
            full_name=f"{word} {contact}",
        )


def insert(store: sqlite3.Connection, table: str, **values: object) -> None:
    """Enter one row; table and columns are ours, never from outside."""
    marks = ", ".join("?" * len(values))
    store.execute(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})", tuple(values.values()))


if __name__ == "__main__":
    main()
