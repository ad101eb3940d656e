# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The age of the snapshots of linked accounts, and whether saving or copying them is overdue or failed. Reads only.

Whether a schedule is installed is seen from the options of its job, so that hosts without one never fail for it.
"""

from __future__ import annotations

import os
import time
import typing as t

from .._accounts.control_directory import control_path
from .._backup.store import existing_store, last_run, newest_sound, snapshots
from .._core.errors import SessionsError
from .._core.names import JOB_OPTIONS
from .._fs.fdopen import DirFd, normal_path, status_of
from .._systemd.unit import parse_show, systemd_runs

_SECOND = 10**9  # in ns
DAY = 24 * 3600
LAST_COPY = "last_copy.json"  # in the store, see _restic/job.py


class Params(t.NamedTuple):
    """Whose snapshots. ``max_age``: in seconds, 0 for a day if a schedule is installed and no limit otherwise."""

    path: str
    backup_path: str | None
    max_age: int


class Seen(t.NamedTuple):
    """What exists. Times in ns since the epoch, 0 for never. ``confirmed``: by account, when its newest sound snapshot was last known to
    be up to date. ``scheduled``: the names of the jobs that systemd runs; ``failed``: the units whose last run failed. ``error``: why the
    store cannot be read."""

    store: bool
    confirmed: t.Mapping[str, int]
    run: int
    run_failed: bool
    copied: int
    scheduled: tuple[str, ...]
    failed: tuple[str, ...]
    now: int
    error: str = ""


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return Params for the suboptions of ``backup``."""
    return Params(
        normal_path(str(options["path"]), "path"), options.get("backup_path"), int(options.get("max_age") or 0)
    )


def observe(params: Params) -> Seen:
    """Read the store and the state of its jobs."""
    name = os.path.basename(control_path(params.path)).lstrip(".")
    scheduled = tuple(job for job in ("backup", "restic") if os.path.exists(f"{JOB_OPTIONS}/{job}-{name}.json"))
    failed = _failed([f"whatsapp-ops-{job}-{name}.service" for job in scheduled])
    seen = Seen(False, {}, 0, False, 0, scheduled, failed, time.time_ns())
    try:
        with existing_store(params.path, params.backup_path) as store:
            return seen if store is None else _with_store(seen, store)
    except SessionsError as error:
        # What is wrong with the store must not prevent a restart; saving snapshots fails for the same reason.
        return seen._replace(store=True, error=str(error))


def _with_store(seen: Seen, store: DirFd) -> Seen:
    last, record = last_run(store), status_of(store, LAST_COPY)
    return seen._replace(
        store=True,
        confirmed={account: one.confirmed for account, one in newest_sound(snapshots(store)).items()},
        run=last.time if last else 0,
        run_failed=bool(last and last.failed),
        copied=record.st_mtime_ns if record else 0,
    )


def report(params: Params, seen: Seen, linked: t.Collection[str]) -> dict[str, t.Any]:
    """Return the ages, and the problem in one sentence. ``linked``: the accounts that should have a snapshot. Pure."""
    saved = [seen.confirmed[account] for account in linked if account in seen.confirmed]
    return {
        "store": seen.store,
        "scheduled": "backup" in seen.scheduled,
        "without_snapshot": len(linked) - len(saved),
        "oldest_age_seconds": _age(seen, min(saved)) if saved else None,
        "copy_age_seconds": _age(seen, seen.copied) if seen.copied else None,
        "problem": _problem(params, seen, linked, saved),
    }


def _problem(params: Params, seen: Seen, linked: t.Collection[str], saved: t.Sequence[int]) -> str:
    """Return what is wrong, '' if nothing is."""
    limit = params.max_age or (DAY if "backup" in seen.scheduled else 0)
    missing = len(linked) - len(saved)
    if seen.error:
        return seen.error
    if seen.failed:
        return f"the last run of {seen.failed[0]} failed; see 'journalctl -u {seen.failed[0]}' on the host"
    if not limit or not linked:
        return ""
    if seen.run_failed:
        return f"the last backup of {params.path} could not save all accounts; run the playbook backup to see why"
    # An account that was linked since the last run has no snapshot yet.
    if missing and _age(seen, seen.run) > limit:
        return f"{missing} linked accounts at {params.path} have no snapshot; run the playbook backup"
    if saved and _age(seen, min(saved)) > limit:
        return (
            f"the newest snapshot of an account at {params.path} is {_hours(_age(seen, min(saved)))} old, and {_hours(limit)} are allowed "
            "(see 'backup.max_age'); run the playbook backup"
        )
    if "restic" in seen.scheduled and _age(seen, seen.copied) > limit:
        age = f"is {_hours(_age(seen, seen.copied))} old" if seen.copied else "does not exist"
        return (
            f"the newest off-host copy of the snapshots of {params.path} {age}, and {_hours(limit)} are allowed (see 'backup.max_age'); "
            "run the playbook backup"
        )
    return ""


def _failed(units: t.Sequence[str]) -> tuple[str, ...]:
    """Return those of ``units`` whose last run failed."""
    if not units or not systemd_runs():
        return ()
    from .._proc.command import run_checked

    shown = run_checked(["systemctl", "show", "--property=Id,ActiveState", "--", *units], purpose="query the jobs")
    states = map(parse_show, shown.stdout.split("\n\n"))
    return tuple(unit for unit, state in zip(units, states) if state.get("ActiveState") == "failed")


def _age(seen: Seen, when: int) -> int:
    return max(0, seen.now - when) // _SECOND


def _hours(seconds: int) -> str:
    return f"{seconds / 3600:.1f} hours"
