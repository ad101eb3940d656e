# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Summarises what a call found and did for the one line per host that an operator reads. Counts only, no names."""

from __future__ import annotations

import typing as t

_VERBS = {"staged": "copied ahead", "rolled_back": "rolled back"}


def accounts(number: int) -> str:
    """Return a number of accounts with its noun."""
    return f"{number} account{'' if number == 1 else 's'}"


def of_migration(state: str, moved: int, downtime: float | None) -> str:
    """Return how many accounts were moved and how long the backend was down; ``downtime``: in seconds, None if nothing was done yet."""
    verb = _VERBS.get(state, "moved")
    if downtime is None:
        return f"{accounts(moved)} would be {verb}" if moved else f"no account to be {verb}"
    return f"{accounts(moved) if moved else 'no account'} {verb}, away for {downtime:.1f} s"


def of_restore(restored: int, downtime: float | None) -> str:
    """Return how many accounts were restored and how long the backend was down; ``downtime``: in seconds, None if nothing was done."""
    if downtime is None:
        return f"{accounts(restored)} would be restored" if restored else "no account to be restored"
    return f"{accounts(restored) if restored else 'no account'} restored, away for {downtime:.1f} s"


def of_plan(linked: int | None, health: t.Mapping[str, t.Any] | None, left: t.Mapping[str, bool]) -> str:
    """Return how many accounts are linked, the health of the backend and what is left to do, as far as requested."""
    said = [f"{accounts(linked)} linked"] if linked is not None else []
    if health is not None:
        stopped = health["unit"] is not None and not health["unit"]["active"]
        said.append(f"backend {'healthy' if health['healthy'] else 'stopped' if stopped else 'not healthy'}")
    if left:
        todo = [name for name, wanted in left.items() if wanted]
        said.append(f"left to do: {' '.join(todo)}" if todo else "nothing left to do")
    return ", ".join(said)
