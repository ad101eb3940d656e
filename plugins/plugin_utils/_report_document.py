# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Makes one document of the records of all hosts: the content of report.json, which docs/report.md describes. Pure.

A host may be compromised, so the types of all fields of its record are checked, and what does not fit is a failure of that host.
"""

from __future__ import annotations

import math
import typing as t

VERSION = 1
RECORD_VERSION = 1
TREND_AT_MOST = 400  # runs: more than a year of daily reports
# From worst to best. The numbers of the page are places in these lists.
CONDITIONS = ("critical", "warning", "failed", "unreachable", "unasked", "ok")
SEVERITIES = ("critical", "high", "medium", "low")

Record = dict[str, t.Any]
Host = dict[str, t.Any]


class Answer(t.NamedTuple):
    """What a host answered: its record, or else ``message``. ``kind``: ok, failed, unreachable or unasked."""

    kind: str
    record: Record | None = None
    message: str = ""


def answer_of(result: t.Mapping[str, t.Any] | None) -> Answer:
    """Return the answer in the registered result of session_report; None if the host was not asked."""
    if result is None:
        return Answer("unasked")
    message = str(result.get("msg") or "no reason was given")
    if result.get("unreachable"):
        return Answer("unreachable", message=message)
    record = result.get("record")
    if not isinstance(record, dict):
        return Answer("failed", message=message)
    wrong = _complaint(record)
    return Answer("failed", message=wrong) if wrong else Answer("ok", record)


def document_of(
    answers: t.Mapping[str, Answer],
    taken: str,
    title: str,
    settings: t.Mapping[str, float],
    previous: t.Mapping[str, t.Any] | None,
) -> dict[str, t.Any]:
    """Return the document. ``settings``: max_age (seconds, 0 to ignore the age of backups) and days (of history).

    ``previous``: the document of the last run, with whose sizes the new ones are compared; None if there is none.
    """
    before = _records_in(previous)
    hosts = [host_of(name, answer, before.get(name), settings["max_age"]) for name, answer in sorted(answers.items())]
    totals = totals_of(hosts)
    run = [taken, *(totals[name] for name in ("accounts", "linked", "bytes"))]
    return {
        "version": VERSION,
        "title": title,
        "taken": taken,
        "previous": previous.get("taken") if previous else None,
        "settings": dict(settings),
        "totals": totals,
        "trend": [*(previous.get("trend") or [] if previous else []), run][-TREND_AT_MOST:],
        "hosts": hosts,
    }


def host_of(name: str, answer: Answer, before: Record | None, max_age: float) -> Host:
    """Return one host of the document, with its condition and the reasons for it."""
    if answer.record is None:
        reasons = [answer.message] if answer.message else []
        return {"host": name, "condition": answer.kind, "reasons": reasons, "growth": None, "record": None}
    record = {**answer.record, "accounts": _compared(answer.record, before)}
    bad = _reasons(record, _critical(record), ("critical",))
    dubious = _reasons(record, _warnings(record, max_age), ("high", "medium"))
    growth = None if before is None else record["bytes"] - before["bytes"]
    condition = "critical" if bad else "warning" if dubious else "ok"
    return {
        "host": name,
        "condition": condition,
        "reasons": [*bad, *dubious],
        "growth": growth,
        "record": record,
    }


def totals_of(hosts: t.Sequence[Host]) -> dict[str, t.Any]:
    """Return the figures of the whole fleet. ``oldest_backup``: of all linked accounts, in seconds; None if no account has one."""
    records: list[Record] = [host["record"] for host in hosts if host["record"]]
    backups = [record["backups"] for record in records if record["backups"]]
    grown = [host["growth"] for host in hosts if host["growth"] is not None]
    return {
        "hosts": len(hosts),
        "conditions": {name: sum(host["condition"] == name for host in hosts) for name in CONDITIONS},
        "accounts": sum(record["total"] for record in records),
        "linked": sum(record["linked"] for record in records),
        "bytes": sum(record["bytes"] for record in records),
        "files": sum(record["files"] for record in records),
        "growth": sum(grown) if grown else None,
        "oldest_backup": max(
            (one["oldest_age_seconds"] for one in backups if one["oldest_age_seconds"] is not None), default=None
        ),
        "without_backup": sum(one["without_snapshot"] for one in backups),
        "findings": {
            severity: sum(finding["severity"] == severity for record in records for finding in record["findings"])
            for severity in SEVERITIES
        },
    }


# A sentence with the ID of the finding of session_audit that it stands for, '' if there is none.
Reason = tuple[str, str]
# Findings about what the sentences below say with its numbers.
_SAID = frozenset(
    "account_corrupt account_without_content account_twice path_elsewhere path_unproved former_path_newer backup_missing backup_old "
    "backup_failed".split()
)


def _reasons(record: Record, sentences: t.Iterable[Reason], severities: t.Collection[str]) -> list[str]:
    """Return the sentences, and the titles of the other findings of these severities, without what the operator accepts."""
    findings = (one for one in record["findings"] if one["severity"] in severities and one["id"] not in _SAID)
    accepted = record["accepted"]
    return [*(text for name, text in sentences if name not in accepted), *(str(one["title"]) for one in findings)]


def _critical(record: Record) -> t.Iterator[Reason]:
    """Yield why accounts are, or are about to be, lost or down."""
    backend = record["backend"] or {}
    if not record["exists"]:
        yield "", f"{record['path']} does not exist"
    if record["states"].get("corrupt"):
        yield "account_corrupt", f"{_accounts(record['states']['corrupt'])} damaged"
    if record["duplicates"]:
        number = record["duplicates"]
        yield (
            "account_twice",
            f"{number} linked device{'' if number == 1 else 's'} in more than one account: WhatsApp logs both out",
        )
    if backend.get("state") == "failed":
        yield "", f"{record['unit']} has failed"
    if backend.get("problem"):
        yield "path_elsewhere", str(backend["problem"])


def _warnings(record: Record, max_age: float) -> t.Iterator[Reason]:
    backend, backups = record["backend"] or {}, record["backups"] or {}
    for problem in record["problems"]:
        yield "", str(problem)
    if backend.get("state") == "stopped" and record["linked"]:
        yield "", f"{record['unit']} is stopped"
    if max_age and backups.get("without_snapshot"):
        yield "backup_missing", f"{_accounts(backups['without_snapshot'])} without a backup"
    if max_age and (backups.get("oldest_age_seconds") or 0) > max_age:
        yield "backup_old", f"the oldest backup is {backups['oldest_age_seconds'] / 3600:.0f} hours old"
    if backups.get("last_failed"):
        yield "backup_failed", f"the last backup failed for {_accounts(backups['last_failed'])}"


def _accounts(number: int) -> str:
    return f"{number} account{'' if number == 1 else 's'}"


def _compared(record: Record, before: Record | None) -> list[dict[str, t.Any]]:
    """Return the accounts with their growth since the last run, None for those that are new."""
    known = {one["key"]: one.get("bytes") for one in before["accounts"]} if before else {}

    def growth(one: t.Mapping[str, t.Any]) -> int | None:
        past = known.get(one["key"])
        return None if past is None or one["bytes"] is None else int(one["bytes"] - past)

    return [{**one, "growth": growth(one)} for one in record["accounts"]]


def _records_in(previous: t.Mapping[str, t.Any] | None) -> dict[str, Record]:
    hosts = previous["hosts"] if previous else []
    return {host["host"]: host["record"] for host in hosts if host["record"]}


# --- What is expected of a record ---

_NUMBER, _TEXT = (int, float), (str,)
_MAYBE_NUMBER, _MAYBE_TEXT = (int, float, type(None)), (str, type(None))
Shape = t.Mapping[str, tuple[type, ...]]
_RECORD: Shape = {
    **dict.fromkeys(("version", "total", "linked", "files", "bytes", "displaced", "duplicates"), _NUMBER),
    **dict.fromkeys(("taken", "unit", "path", "layout"), _TEXT),
    **dict.fromkeys(("accounts", "history", "findings", "accepted", "problems"), (list,)),
    **dict.fromkeys(("backend", "backups", "progress"), (dict, type(None))),
    "exists": (bool,),
    "states": (dict,),
}
_ITEMS: t.Mapping[str, Shape] = {
    "accounts": {
        **dict.fromkeys(("id", "key", "state", "newest"), _TEXT),
        **dict.fromkeys(("files", "bytes", "backup_age_seconds"), _MAYBE_NUMBER),
        "problems": (list,),
        "locked": (bool,),
    },
    "history": {"event": _TEXT, "time": _TEXT, "accounts": _NUMBER},
    "findings": dict.fromkeys(("id", "severity", "title", "where", "evidence", "remedy"), _TEXT),
}
_PARTS: t.Mapping[str, Shape] = {
    "backend": {**dict.fromkeys(("state", "use", "problem"), _TEXT), "since": _MAYBE_TEXT},
    "backups": {
        **dict.fromkeys(("snapshots", "bytes", "without_snapshot"), _NUMBER),
        **dict.fromkeys(("oldest_age_seconds", "last_failed"), _MAYBE_NUMBER),
        "last_run": _MAYBE_TEXT,
    },
    "progress": {"work": _TEXT, "phase": _TEXT, "accounts": _NUMBER, "accounts_total": _MAYBE_NUMBER},
}


def _complaint(record: Record) -> str:
    """Return what is wrong with a record, '' if nothing is."""
    if record.get("version") != RECORD_VERSION:
        return f"its record has version {record.get('version')!r} instead of {RECORD_VERSION}; use one release of the collection"
    wrong = _mismatch(record, _RECORD, "")
    wrong += [name for name, number in record["states"].items() if not _fits(number, _NUMBER)] if not wrong else []
    for part, shape in _PARTS.items():
        wrong += _mismatch(record[part], shape, f"{part}.") if not wrong and record[part] is not None else []
    for part, shape in _ITEMS.items():
        for item in record[part] if not wrong else ():
            wrong += _mismatch(item, shape, f"{part}[].") if isinstance(item, dict) else [part]
    return f"its record is not valid ({wrong[0]}); check what runs on that host" if wrong else ""


def _mismatch(value: t.Mapping[str, t.Any], shape: Shape, place: str) -> list[str]:
    return [f"{place}{name}" for name, types in shape.items() if not _fits(value.get(name), types)]


def _fits(value: t.Any, types: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in types
    return isinstance(value, types) and (not isinstance(value, float) or math.isfinite(value))
