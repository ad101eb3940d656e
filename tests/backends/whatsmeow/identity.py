# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints the identities in a store, as the real library reads it, for comparison on the host.

identity.py FILE

Prints JSON: a fingerprint of each device that the library finds, and one of all that SQL finds in all tables. Fingerprints are keyed
with the host's machine id: a list of phone numbers cannot be tried against them elsewhere. Works on a copy of store and -wal,
for looking into a store folds one into the other.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from library import devices_of

KEY = Path("/etc/machine-id").read_bytes().strip()


def main() -> None:
    original = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        # The library accepts any name in any directory; the real one may be sensitive.
        copy = Path(folder) / "store"
        shutil.copyfile(original, copy)
        if (beside := Path(f"{original}-wal")).exists():
            shutil.copyfile(beside, f"{copy}-wal")
        told = {"devices": sorted(fingerprint([jid]) for jid in devices_of(copy)), "content": content_of(copy)}
    print(json.dumps(told), flush=True)
    # The library's threads have no end of their own.
    os._exit(0)


def content_of(store: Path) -> str:
    """One fingerprint of all tables and all rows, however the pages of the file are arranged."""
    return fingerprint(sqlite3.connect(store).iterdump())


def fingerprint(parts: Iterable[str]) -> str:
    keyed = hashlib.blake2b(key=KEY, digest_size=16)
    for part in parts:
        keyed.update(part.encode() + b"\0")
    return keyed.hexdigest()


if __name__ == "__main__":
    main()
