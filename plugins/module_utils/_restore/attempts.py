# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""When accounts were recovered without anybody naming them, recorded before it is tried: a failed attempt interrupts the backend as well.

Digests of account names and times, in the control directory of the sessions path.
"""

from __future__ import annotations

import time
import typing as t

from .._accounts.control_directory import opened_control, write_document_at
from .._accounts.work_area import known_document
from .._core.masking import account_key

RECOVERIES = "recoveries.json"
KEPT = 7 * 86400.0  # seconds
_Attempts = dict[str, list[float]]


def earlier_attempts(path: str) -> _Attempts:
    """Return the times (seconds since the epoch) of recoveries within a week, by account key."""
    now = time.time()
    document = known_document(path, RECOVERIES)
    return {key: [moment for moment in _times(kept) if now - moment < KEPT] for key, kept in document.items()}


def record_attempt(path: str, accounts: t.Iterable[str]) -> None:
    """Record durably that these accounts are about to be recovered, and forget what is older than a week."""
    attempts = {key: times for key, times in earlier_attempts(path).items() if times}
    for account in accounts:
        attempts.setdefault(account_key(account), []).append(time.time())
    with opened_control(path) as control:
        write_document_at(control, RECOVERIES, attempts)


def _times(kept: t.Any) -> list[float]:
    return [float(moment) for moment in kept if isinstance(moment, (int, float))] if isinstance(kept, list) else []
