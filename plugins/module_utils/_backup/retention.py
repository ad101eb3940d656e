# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Which snapshots are no longer needed. Pure: neither reads the clock nor the store. Never names the last sound snapshot of an account."""

from __future__ import annotations

import itertools
import typing as t

from .store import Snapshot

_DAY = 86_400_000_000_000  # ns


def expired(found: t.Iterable[Snapshot], now: int, *, keep_days: int, keep_last: int) -> tuple[Snapshot, ...]:
    """Return the snapshots to remove, oldest first per account. ``now``: ns since the epoch.

    An account keeps the snapshots of the last ``keep_days`` days, the last ``keep_last`` sound ones, and always the last sound one, or
    the last one of all if none is sound. Whether the account still exists does not matter.
    """
    by_account = sorted(found, key=lambda one: (one.account, one.order))
    grouped = itertools.groupby(by_account, key=lambda one: one.account)
    return tuple(one for _account, own in grouped for one in _expired(list(own), now, keep_days, keep_last))


def _expired(own: t.Sequence[Snapshot], now: int, keep_days: int, keep_last: int) -> t.Iterator[Snapshot]:
    """Yield the expired ones among the snapshots of one account, which are in order."""
    sound = [one for one in own if one.is_sound]
    kept = {one.name for one in (sound or own)[-max(keep_last, 1) :]}
    moments = _plausible_moments(own, now)
    for one, moment in zip(own, moments):
        if one.name not in kept and now - moment > keep_days * _DAY:
            yield one


def _plausible_moments(own: t.Sequence[Snapshot], now: int) -> list[int]:
    """Return until when each snapshot was the state of its account. A moment in the future is replaced by that of the following one.

    A clock that was fast for a while would otherwise keep its snapshots for as long. A clock that was slow makes only its own look old.
    """
    following, moments = now, []
    for one in reversed(own):
        following = next((moment for moment in (one.confirmed, one.taken) if moment <= now), following)
        moments.append(following)
    return moments[::-1]
