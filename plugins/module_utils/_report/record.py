# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The record of one host: what a report and metrics show about it, as plain JSON. Pure.

Metadata only: masked names, states, counts, sizes and times. docs/report.md describes each field.
"""

from __future__ import annotations

import typing as t

from .._core.masking import account_id
from .._layouts.layout import LINKED
from .history import Event, text_of

VERSION = 1


class Backend(t.NamedTuple):
    """The backend: ``state`` is running, stopped or failed; ``since`` in seconds since the epoch; ``use`` and ``where`` as session_plan
    returns them; ``problem``: a sentence if it does not use the sessions path.
    """

    state: str
    since: float | None
    use: str
    where: tuple[str, ...]
    problem: str


class Backups(t.NamedTuple):
    """The store: ``newest`` is when each account was last found saved (seconds since the epoch); ``bytes`` counts shared files each time;
    ``last``: the last run, ``progress``: of the present one, None if there is none.
    """

    exists: bool
    newest: t.Mapping[str, float]
    snapshots: int
    bytes: int
    last: t.Any
    progress: t.Mapping[str, t.Any] | None = None


class Seen(t.NamedTuple):
    """What a record is made of. ``names``: of the accounts, in the order of ``info``, which is the result of session_info.

    ``accepted``: IDs of findings that the operator accepts.
    """

    taken: float
    unit: str
    names: tuple[str, ...]
    info: t.Mapping[str, t.Any]
    backend: Backend | None
    backups: Backups | None
    history: tuple[Event, ...]
    progress: t.Mapping[str, t.Any] | None
    problems: tuple[str, ...] = ()
    findings: tuple[t.Mapping[str, str], ...] = ()
    accepted: tuple[str, ...] = ()


def record_of(seen: Seen) -> dict[str, t.Any]:
    """Return the record as JSON values."""
    info = seen.info
    described = [_account(one, name, seen) for name, one in zip(seen.names, info["accounts"])]
    return {
        "version": VERSION,
        "taken": text_of(seen.taken),
        "unit": seen.unit,
        "path": info["path"],
        "exists": info["exists"],
        "layout": info["layout"],
        "states": dict(info["states"]),
        "total": info["total"],
        "linked": info["linked_accounts"],
        "files": sum(one["files"] or 0 for one in described),
        "bytes": sum(one["bytes"] or 0 for one in described),
        "accounts": described,
        "displaced": len(info["displaced"]),
        "duplicates": len(info["duplicates"]),
        "backend": _backend(seen.backend),
        "backups": _backups(seen),
        "history": [
            {"event": event.kind, "time": text_of(event.time), "accounts": event.accounts} for event in seen.history
        ],
        "findings": [dict(finding) for finding in seen.findings],
        "accepted": list(seen.accepted),
        "progress": dict(seen.progress) if seen.progress else None,
        "problems": list(seen.problems),
    }


def _account(one: t.Mapping[str, t.Any], name: str, seen: Seen) -> dict[str, t.Any]:
    kept = ("id", "state", "problems", "files", "bytes", "newest", "locked")
    saved = seen.backups.newest.get(name) if seen.backups else None
    return {
        **{field: one[field] for field in kept},
        "key": account_id(name),
        "saved": None if saved is None else text_of(saved),
        "backup_age_seconds": None if saved is None else max(0, int(seen.taken - saved)),
    }


def _backend(backend: Backend | None) -> dict[str, t.Any] | None:
    if backend is None:
        return None
    since = None if backend.since is None else text_of(backend.since)
    return {**backend._asdict(), "since": since, "where": list(backend.where)}


def _backups(seen: Seen) -> dict[str, t.Any] | None:
    """Return the figures of the store. ``oldest_age_seconds``: of the linked account whose newest sound snapshot is oldest."""
    if seen.backups is None:
        return None
    linked = [name for name, one in zip(seen.names, seen.info["accounts"]) if one["state"] in LINKED]
    ages = [int(seen.taken - seen.backups.newest[name]) for name in linked if name in seen.backups.newest]
    last = seen.backups.last
    return {
        "exists": seen.backups.exists,
        "snapshots": seen.backups.snapshots,
        "bytes": seen.backups.bytes,
        "oldest_age_seconds": max(0, *ages) if ages else None,
        "without_snapshot": sum(name not in seen.backups.newest for name in linked),
        "last_run": None if last is None else text_of(last.time / 1e9),
        "last_failed": None if last is None else last.failed,
    }
