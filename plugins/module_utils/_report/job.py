# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job behind session_report: asks the jobs that look at a host, in one process, and returns one record of it. Changes nothing.

A report is wanted most when something is wrong, so a part that cannot be examined is a sentence in the record and not an error.
"""

from __future__ import annotations

import contextlib
import datetime
import time
import typing as t

from .._accounts import info as accounts_info
from .._accounts.receipts import RECEIPT, entries_in
from .._accounts.work_area import known_document
from .._backup import store as backup_store
from .._containers.service import read_service
from .._core import progress
from .._core.argument_specs import SESSION_AUDIT
from .._core.errors import SessionsError
from .._core.job import LOOKS_ONLY, Report
from .._core.query_cache import one_look
from .._core.summary import accounts
from .._systemd.restart_needed import started_at
from .._systemd.starts import starts_of
from .._systemd.unit import Unit
from .._usage import use as usage_use
from . import record
from .history import Event, events

if t.TYPE_CHECKING:
    from .._accounts.receipts import Entry
    from .._audit import params as audit_params
    from .._systemd.starts import Start

_SHOWN_AT_MOST = 3  # places of one finding: the page of a fleet is not the audit of one host


class Params(t.NamedTuple):
    """The options of session_report. ``days``: how far back its history goes. ``use``: None without a unit.

    ``audit``: None if no findings are wanted.
    """

    info: accounts_info.Params
    use: usage_use.Params | None
    backup_path: str | None
    days: float
    audit: audit_params.Params | None = None


class State(t.NamedTuple):
    """What was seen. ``problems``: what could not be examined, one sentence each; the field for it is None or empty then."""

    taken: float
    info: accounts_info.State
    backend: record.Backend | None
    backups: record.Backups | None
    history: tuple[Event, ...]
    findings: tuple[dict[str, str], ...]
    problems: tuple[str, ...]


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the typed parameters; raise SessionsError for a relative path, an unknown layout or an invalid unit."""
    chosen = {name: options.get(name) for name in ("path", "layout", "custom", "show_accounts")}
    days = options.get("history_days")
    if days is not None and days < 0:
        raise SessionsError("history_days is negative; set it to the number of days that the report should cover")
    return Params(
        audit=_read_audit(options) if options.get("audit") is not False else None,
        info=accounts_info.read_params({**chosen, "sizes": options.get("sizes") is not False}),
        use=usage_use.read_params(options) if options.get("unit") else None,
        backup_path=options.get("backup_path"),
        days=30.0 if days is None else float(days),
    )


def _read_audit(options: t.Mapping[str, t.Any]) -> audit_params.Params:
    """Return the options of the audit: its own defaults, except for those that both modules have."""
    from .._audit import params as audit_params

    usual = {name: option.get("default") for name, option in SESSION_AUDIT.items()}
    given = {name: options[name] for name in usual if options.get(name)}
    return audit_params.read_params({**usual, **given})


def observe(params: Params) -> State:
    """Look at accounts, backend, backups and the past. Raises SessionsError only if the accounts cannot be examined at all."""
    problems: list[str] = []
    taken = time.time()
    findings: tuple[dict[str, str], ...] = ()
    with one_look():
        info = accounts_info.observe(params.info)
        backend, starts, receipts = None, t.cast("tuple[Start, ...]", ()), t.cast("dict[str, Entry]", {})
        with _noted(problems):
            receipts = entries_in(known_document(params.info.path, RECEIPT))
        if params.use:
            with _noted(problems):
                unit = read_service(params.use.unit)
                starts = starts_of(unit, params.days)
                backend = _backend(unit, params.use, info)
        backups = None
        with _noted(problems):
            backups = _backups(params, info)
        # An unknown unit is a problem already.
        if params.audit and (backend or not params.use):
            with _noted(problems):
                findings = _findings(params.audit)
    displaced = [one.moment for one in info.displaced]
    history = events(receipts.values(), displaced, starts, taken - params.days * 86400)
    return State(taken, info, backend, backups, history, findings, tuple(problems))


plan, diff, apply, verify = LOOKS_ONLY


def report(params: Params, state: State, steps: tuple[t.Any, ...], evidence: t.Any) -> Report:
    """Return the record."""
    told = accounts_info.report(params.info, state.info, (), None)
    made = record.record_of(
        record.Seen(
            taken=state.taken,
            unit=params.use.unit if params.use else "",
            names=tuple(account.name for account in state.info.accounts),
            info=told.values,
            backend=state.backend,
            backups=state.backups,
            history=state.history,
            progress=state.info.progress or (state.backups.progress if state.backups else None),
            problems=state.problems,
            findings=state.findings,
            accepted=tuple(one.id for one in params.audit.exempted if one.is_valid(_today())) if params.audit else (),
        )
    )
    summary = f"{accounts(made['linked'])} linked of {made['total']}"
    return Report({"record": made, "summary": summary}, told.warnings)


@contextlib.contextmanager
def _noted(problems: list[str]) -> t.Iterator[None]:
    """Note an error of the collection's own as a problem of the record."""
    try:
        yield
    except SessionsError as error:
        problems.append(str(error))


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.timezone.utc).date()


def _findings(params: audit_params.Params) -> tuple[dict[str, str], ...]:
    """Return the findings of session_audit, each with the first places where it applies."""
    from .._audit import job as audit_job

    told = audit_job.report(params, audit_job.observe(params), (), None).values["findings"]
    return tuple(
        {
            **{field: one[field] for field in ("id", "severity", "title", "remedy")},
            "where": _listed([each["where"] for each in one["evidence"]], one["count"]),
            "evidence": _listed([each["what"] for each in one["evidence"]], one["count"]),
        }
        for one in told
    )


def _listed(texts: t.Sequence[str], count: int) -> str:
    """Return the first texts, and how many more places there are."""
    shown = list(dict.fromkeys(texts[:_SHOWN_AT_MOST]))
    more = count - min(len(texts), _SHOWN_AT_MOST)
    return "; ".join([*shown, *([f"{more} more"] if more else [])])


def _backend(unit: Unit, params: usage_use.Params, info: accounts_info.State) -> record.Backend:
    seen = usage_use.observe(params, info.layout)
    state = "failed" if unit.properties["ActiveState"] == "failed" else "running" if unit.active else "stopped"
    since = started_at(unit) if unit.main_pid and unit.properties["ExecMainStartTimestampMonotonic"] else None
    wrong = usage_use.complaint(seen, accounts_info.sound_count(info))
    use, where = (seen.use.state, seen.use.where) if seen.use else ("stopped", ())
    return record.Backend(state, since, use, tuple(where), wrong)


def _backups(params: Params, info: accounts_info.State) -> record.Backups:
    with backup_store.existing_store(params.info.path, params.backup_path) as store:
        if store is None:
            return record.Backups(False, {}, 0, 0, None, None)
        found = backup_store.snapshots(store)
        newest = {name: one.confirmed / 1e9 for name, one in backup_store.newest_sound(found).items()}
        last = backup_store.last_run(store)
        size = sum(one.bytes for one in found)
        return record.Backups(True, newest, len(found), size, last, progress.read(store))
