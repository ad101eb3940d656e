# SPDX-License-Identifier: GPL-3.0-or-later
"""Stands in for the person with the phone: lays the browser profiles of sessions where LocalAuth looks for them.

link.py DIRECTORY SESSION_ID...

The profiles are made up, with canaries in their contents and file names and a random key where a browser keeps it; real ones
are in tests/backends/wwebjs.
"""

from __future__ import annotations

import base64
import os
import sys
from pathlib import Path

sys.path.insert(0, "/srv/build/tools")

from layouts import put_account_of

root, *sessions = sys.argv[1:]
for number, session in enumerate(sessions, 1):
    profile = put_account_of("wwebjs", Path(root), f"session-{session}", number=number)
    with (profile / "Default/Local Storage/leveldb/000003.log").open("ab") as log:
        log.write(b"\0WANoiseInfo\1" + base64.b64encode(os.urandom(96)) + b"\0")
print(f"{len(sessions)} sessions are linked")
