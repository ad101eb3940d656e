# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What happened to the accounts and the backend of a host, from receipts, accounts put aside and entries of systemd. Pure.

Counts and times only: no names.
"""

from __future__ import annotations

import calendar
import time
import typing as t

from .._accounts.receipts import Entry
from .._systemd.starts import Start

_SAME_RUN = 60.0  # seconds between two accounts of one migration
_MOMENT = "%Y%m%dT%H%M%S"
_TEXT = "%Y-%m-%dT%H:%M:%SZ"
_LAST_SECOND = 253402300799  # 9999-12-31T23:59:59Z


class Event(t.NamedTuple):
    """One event: ``kind`` is migrated, displaced, started or failed; ``time`` in seconds since the epoch; ``accounts``: how many."""

    kind: str
    time: float
    accounts: int = 0


def events(
    entries: t.Iterable[Entry], displaced: t.Iterable[str], starts: t.Iterable[Start], since: float
) -> tuple[Event, ...]:
    """Return the events after ``since`` (seconds since the epoch), oldest first. ``displaced``: when accounts were put aside."""
    found = [
        *_in_runs("migrated", (entry.time for entry in entries if not entry.damaged)),
        *_in_runs("displaced", filter(None, map(seconds_of, displaced))),
        *(Event("failed" if start.failed else "started", start.time) for start in starts),
    ]
    return tuple(sorted((event for event in found if event.time >= since), key=lambda event: event.time))


def seconds_of(moment: str) -> float:
    """Return the seconds since the epoch of a moment in a name (``20260102T030405``, perhaps with more digits), 0 if it is invalid."""
    try:
        return float(calendar.timegm(time.strptime(moment[:15], _MOMENT)))
    except ValueError:
        return 0.0


def seconds_of_text(text: str) -> int:
    """Return a time as ``text_of`` writes it in seconds since the epoch. Raises ValueError."""
    return calendar.timegm(time.strptime(text, _TEXT))


def text_of(seconds: float) -> str:
    """Return a time in UTC as text. Times of files are arbitrary, but years have four digits."""
    return time.strftime(_TEXT, time.gmtime(min(max(seconds, 0), _LAST_SECOND)))


def _in_runs(kind: str, times: t.Iterable[float]) -> t.Iterator[Event]:
    """Yield one event for the accounts of each run: their times are close to each other."""
    runs: list[list[float]] = []
    for moment in sorted(times):
        if runs and moment - runs[-1][-1] <= _SAME_RUN:
            runs[-1].append(moment)
        else:
            runs.append([moment])
    return (Event(kind, run[-1], len(run)) for run in runs)
