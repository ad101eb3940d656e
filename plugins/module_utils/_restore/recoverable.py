# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Decide which accounts are restored without anybody naming them: those that are certainly damaged or lost. Pure.

Old keys must never come back by themselves where somebody took an account away on purpose: the phone (a remote logout, after which the
program removes the account), an operator, or another host. When in doubt, an account is left alone, and the reason is reported.
"""

from __future__ import annotations

import typing as t

from .._layouts.layout import LINKED
from .evidence import MISSING, MOVED, Live, Log

_DAY = 86400.0


class Limits(t.NamedTuple):
    """How often one account may be recovered: seconds between two times, and times within a day."""

    interval: float
    at_most: int


class Verdict(t.NamedTuple):
    """Whether to restore an account, and why or why not. ``lost``: it is not damaged but missing, or no longer linked."""

    restore: bool
    reason: str
    lost: bool = False


def needs_log(live: Live) -> bool:
    """Whether the log of the backend decides about an account."""
    return live.state in (MISSING, "fresh")


def judged(
    live: Live, log: Log, unmounted: str, earlier: t.Sequence[float], limits: Limits, now: float
) -> Verdict | None:
    """Judge one account that has a sound snapshot; None if nothing is wrong with it.

    ``unmounted``: the volume that is missing, '' if none. ``earlier``: when it was recovered before, in seconds like ``now``.
    """
    if live.state in LINKED:
        return None
    why_not = _why_not(live, unmounted) or _why_unsure(live, log) or _too_often(earlier, limits, now)
    if why_not:
        return Verdict(False, why_not)
    if live.state == "corrupt":
        return Verdict(True, "it is damaged")
    words = "it is missing" if live.state == MISSING else "its credentials are gone"
    return Verdict(True, f"{words}, and its backend has logged no logout since the snapshot", lost=True)


def _why_not(live: Live, unmounted: str) -> str:
    if unmounted:
        return f"the volume of {unmounted} is not mounted, so its accounts are not lost: mount it"
    if live.state == MOVED:
        return "it was moved to another host"
    if live.state == "pending":
        return "somebody is linking a device to it now"
    if live.state == "unknown":
        return "its credentials are kept elsewhere, so nothing shows whether it is linked"
    if not live.readable:
        return "its files cannot be read, which a copy would not change: check the disk and the permissions"
    return "" if live.settled else "it is being written to"


def _why_unsure(live: Live, log: Log) -> str:
    """A damaged account was not removed by anybody: neither a program nor a person leaves half of one on purpose."""
    if not needs_log(live):
        return ""
    if log.logouts:
        return (
            f"the log of its backend has {log.logouts} line(s) about a logout since the snapshot, so WhatsApp or its program may have "
            "removed it: link it again, or restore it by name"
        )
    if log.unknown:
        return f"nothing shows that it was not removed on purpose, because {log.unknown}: restore it by name"
    return ""


def _too_often(earlier: t.Sequence[float], limits: Limits, now: float) -> str:
    past = [moment for moment in earlier if moment <= now]
    if past and now - max(past) < limits.interval:
        return (
            f"it was recovered {int(now - max(past)) // 60} min ago and is lost again, which is tried at most once in "
            f"{int(limits.interval)} s: find out what damages it"
        )
    today = sum(now - moment < _DAY for moment in past)
    if today >= limits.at_most:
        return f"it was recovered {today} times within a day and is lost again: find out what damages it"
    return ""
