# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Observe the store of backups, and the units of systemd that write to it. Opens no file of an account."""

from __future__ import annotations

import time
import typing as t

from .._backup.store import existing_store, last_run, newest_sound, snapshots, store_path
from .._core.masking import masked
from .._layouts.layout import LINKED
from .._proc.command import run
from .._systemd.unit import systemd_runs
from .facts import Backups
from .look_at_accounts import Held
from .params import Params

# The units that session_timer installs, and those of the same prefix that a migration uses.
_UNITS = tuple(f"whatsapp-ops-*.{kind}" for kind in ("service", "timer", "path"))
_OF_MIGRATIONS = ("whatsapp-ops-rescue-", "whatsapp-ops-undo-")


def backups_of(held: t.Iterable[Held], params: Params) -> Backups:
    """Return which linked accounts have a sound backup that is current enough. Raises SessionsError for an unsafe store."""
    place = store_path(params.path, params.backup_path)
    label: t.Callable[[str], str] = str if params.show_accounts else masked
    linked = [account.name for one in held for account in one.state.accounts if account.state in LINKED]
    with existing_store(params.path, params.backup_path) as store:
        if store is None:
            return Backups(place, exists=False, timers=failed_units())
        newest, outcome = newest_sound(snapshots(store)), last_run(store)
    now = time.time_ns()
    ages = {name: max(0, now - newest[name].confirmed) // 10**9 for name in linked if name in newest}
    return Backups(
        place,
        missing=tuple(label(name) for name in linked if name not in newest),
        old=tuple((label(name), age) for name, age in ages.items() if age > params.limits.backup_age),
        failed_accounts=outcome.failed if outcome else 0,
        timers=failed_units(),
    )


def failed_units() -> tuple[tuple[str, str], ...]:
    """Return the units of this collection that failed, and timers that do not run, each with its state."""
    if not systemd_runs():
        return ()
    listed = run(["systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", "--no-pager", "--", *_UNITS])
    rows = (line.split() for line in listed.stdout.splitlines())
    return tuple(
        (row[0], row[2])
        for row in rows
        if len(row) > 3
        and not row[0].startswith(_OF_MIGRATIONS)
        and (row[2] == "failed" or (row[2] == "inactive" and not row[0].endswith(".service")))
    )
