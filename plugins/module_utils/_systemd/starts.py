# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""When systemd started a unit, and when the unit failed. Reads only entries of systemd itself, never a line of the unit."""

from __future__ import annotations

import json
import time
import typing as t

from .._core.errors import SessionsError
from .._proc.command import run
from .unit import Unit

# Message IDs of systemd, systemd.journal-fields(7) and `journalctl --catalog`.
STARTED, FAILED = "39f53479d3a045ac8e11786248231fbf", "d9b373ed55a64feb8242e02dbe79a49c"
_AT_MOST = 200  # newest entries: a unit that systemd restarts all the time has thousands
_SECONDS = 10.0


class Start(t.NamedTuple):
    """One entry of systemd: the time in seconds since the epoch, and whether the unit failed instead of started."""

    time: float
    failed: bool


def starts_of(unit: Unit, days: float) -> tuple[Start, ...]:
    """Return the starts and failures of ``unit`` in the last ``days`` days, oldest first.

    Empty if the journal does not have them or cannot be read in time: this is a view of the past, not a check.
    """
    if days <= 0:
        return ()
    since = f"@{int(time.time() - days * 86400)}"
    command = ["journalctl", "--no-pager", "--quiet", "--output=json", "--output-fields=MESSAGE_ID", f"--since={since}"]
    # Other processes cannot log as PID 1.
    matches = ["_PID=1", f"UNIT={unit.name}", f"MESSAGE_ID={STARTED}", f"MESSAGE_ID={FAILED}"]
    try:
        done = run([*command, "--reverse", f"--lines={_AT_MOST}", *matches], timeout=_SECONDS)
    except SessionsError:
        return ()
    return tuple(reversed([start for start in map(_start, done.stdout.splitlines()) if start]))


def _start(line: str) -> Start | None:
    try:
        entry = json.loads(line)
        return Start(int(entry["__REALTIME_TIMESTAMP"]) / 1e6, entry["MESSAGE_ID"] == FAILED)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
