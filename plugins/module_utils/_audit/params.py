# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The options of session_audit as typed parameters. Raises for what is wrong on any host, and reads nothing."""

from __future__ import annotations

import datetime
import typing as t

from .._core.errors import SessionsError
from .._fs.fdopen import normal_path
from .._layouts.layout import Layout
from .._layouts.registry import chosen_layout
from .._systemd.unit import unit_name
from .facts import Exempted, Thresholds
from .findings import BY_ID


class Params(t.NamedTuple):
    """Options of the module. ``sources``: legacy paths. ``statuses``: of at most how many files of one account the status is read."""

    path: str
    unit: str | None
    layout: Layout | None
    sources: tuple[str, ...]
    exempted: tuple[Exempted, ...]
    show_accounts: bool
    limits: Thresholds
    statuses: int
    backup_path: str | None


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the typed parameters; raise SessionsError for invalid paths, layouts, thresholds and exceptions."""
    return Params(
        path=normal_path(options["path"], "path"),
        unit=unit_name(options["unit"]) if options.get("unit") else None,
        layout=chosen_layout(options),
        sources=tuple(normal_path(path, "src") for path in options.get("src") or ()),
        exempted=tuple(map(_exempted, options.get("exceptions") or ())),
        show_accounts=bool(options.get("show_accounts")),
        limits=_thresholds(options),
        statuses=_number(options, "scan_files"),
        backup_path=normal_path(options["backup_path"], "backup_path") if options.get("backup_path") else None,
    )


def _thresholds(options: t.Mapping[str, t.Any]) -> Thresholds:
    return Thresholds(
        free_bytes=_number(options, "min_free_bytes"),
        free_inodes=_number(options, "min_free_inodes"),
        files=_number(options, "max_files", least=1),
        restarts=_number(options, "max_restarts", least=1),
        backup_age=_number(options, "backup_max_age", least=1),
    )


def _number(options: t.Mapping[str, t.Any], name: str, *, least: int = 0) -> int:
    value = int(options[name])
    if value < least:
        raise SessionsError(f"{name} is {value}, but must be at least {least}; correct it and run again")
    return value


def _exempted(given: t.Mapping[str, t.Any]) -> Exempted:
    name, reason = str(given.get("id") or ""), str(given.get("reason") or "").strip()
    if name not in BY_ID:
        raise SessionsError(
            f"exceptions names {name!r}, which is not the ID of a finding; docs/findings.md lists them all"
        )
    if not reason:
        raise SessionsError(f"the exception for {name} has no reason; write down why this risk is accepted")
    try:
        until = datetime.date.fromisoformat(str(given.get("until") or ""))
    except ValueError as error:
        raise SessionsError(
            f"the exception for {name} has no valid end date in 'until'; write it as YYYY-MM-DD, for example 2027-01-31"
        ) from error
    return Exempted(name, reason, until)
