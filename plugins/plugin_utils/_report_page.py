# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Renders the document of a report as one HTML page without any reference to the network. Pure, except that it reads its own templates.

Texts of hosts are untrusted: the template escapes them, the data is JSON in which no ``<`` occurs, and the page's policy allows exactly the
one style and the one script that belong to it.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import json
import pathlib
import time
import typing as t

import jinja2
import markupsafe

from ._report_document import CONDITIONS, SEVERITIES

_ROLE = pathlib.Path(__file__).resolve().parents[2] / "roles" / "report"
STATES = ("paired", "pending", "fresh", "corrupt", "unknown")
_LINKED = ("paired",)
_KINDS = ("migrated", "started", "failed", "displaced")
# The fields of the compact rows, in their order. The page reads rows by these names.
FIELDS: dict[str, tuple[str, ...]] = {
    "hosts": (
        *("host", "condition", "reasons", "unit", "layout", "path", "total", "linked", "bytes", "growth", "backend"),
        *("since", "backup", "progress"),
    ),
    "accounts": ("host", "id", "state", "problems", "files", "bytes", "growth", "newest", "backup"),
    "findings": ("host", "severity", "title", "where", "evidence", "remedy"),
    "events": ("host", "kind", "time", "accounts"),
}
Document = t.Mapping[str, t.Any]
Row = list[t.Any]


def page_of(document: Document) -> str:
    """Return the page."""
    style, script = (_read(f"files/page.{kind}") for kind in ("css", "js"))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_read("templates/page.html.j2"))
    return template.render(
        document=document,
        totals=document["totals"],
        cards=cards_of(document),
        verdict=verdict_of(document["totals"]),
        policy=policy_of(style, script),
        style=markupsafe.Markup(style),
        script=markupsafe.Markup(script),
        data=markupsafe.Markup(embedded(compact(document))),
    )


def policy_of(style: str, script: str) -> str:
    """Return a Content-Security-Policy that allows this style and this script, and no connection."""
    return (
        f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def embedded(value: t.Any) -> str:
    """Return JSON that is safe inside a script element: nothing in it can end the element or begin a comment."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e")


def verdict_of(totals: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Return the one sentence at the top, and its kind."""
    found = totals["conditions"]
    words = {"critical": "critical", "warning": "with warnings", "failed": "not examined", "unreachable": "unreachable"}
    bad = [f"{found[name]:,} {text}" for name, text in words.items() if found[name]]
    kind = next((name for name in words if found[name]), "ok")
    if bad:
        return {"kind": kind, "text": f"{', '.join(bad)} of {_hosts(totals['hosts'])}."}
    if not totals["hosts"] or found["unasked"]:
        return {"kind": "unasked", "text": f"{found['unasked']:,} of {_hosts(totals['hosts'])} not asked."}
    return {"kind": "ok", "text": f"All {_hosts(totals['hosts'])} healthy."}


def cards_of(document: Document) -> list[dict[str, str]]:
    """Return the figures at the top."""
    totals = document["totals"]
    found, without = totals["conditions"], totals["without_backup"]
    value, unit = _size(totals["bytes"])
    grown = (
        "" if totals["growth"] is None else f"{'+' if totals['growth'] > 0 else ''}{' '.join(_size(totals['growth']))}"
    )
    serious = totals["findings"]["critical"] + totals["findings"]["high"]
    age, age_unit = _age(totals["oldest_backup"])
    return [
        _card("Hosts healthy", f"{found['ok']:,}", f"of {totals['hosts']:,}", _attention(found)),
        _card("Accounts linked", f"{totals['linked']:,}", f"of {totals['accounts']:,}", ""),
        _card("Oldest backup", age, age_unit, f"{without:,} accounts without one" if without else ""),
        _card("Size", value, unit, f"{grown} since last time" if grown else f"{totals['files']:,} files"),
        _card("Findings", f"{sum(totals['findings'].values()):,}", "", f"{serious:,} serious" if serious else ""),
    ]


def compact(document: Document) -> dict[str, t.Any]:
    """Return the data of the page: rows instead of objects, numbers instead of repeated words."""
    backends: dict[str, int] = {}
    rows: dict[str, list[Row]] = {name: [] for name in FIELDS}
    for index, host in enumerate(document["hosts"]):
        rows["hosts"].append(_host_row(host, backends))
        record = host["record"] or {"accounts": (), "findings": (), "history": ()}
        rows["accounts"] += (_account_row(index, one) for one in record["accounts"])
        rows["findings"] += (_finding_row(index, one) for one in record["findings"])
        rows["events"] += (_event_row(index, one) for one in record["history"] if one["event"] in _KINDS)
    return {
        "fields": FIELDS,
        "taken": seconds_of(document["taken"]),
        "maxAge": document["settings"]["max_age"],
        "days": document["settings"]["days"],
        "states": STATES,
        "linked": [STATES.index(name) for name in _LINKED],
        "trend": [[seconds_of(taken), *figures] for taken, *figures in document["trend"]],
        "backends": list(backends),
        **rows,
    }


def seconds_of(text: str) -> int:
    """Return a time of a record in seconds since the epoch, 0 if it is not one."""
    try:
        return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return 0


def _host_row(host: t.Mapping[str, t.Any], backends: dict[str, int]) -> Row:
    condition = CONDITIONS.index(host["condition"])
    record = host["record"]
    if record is None:
        return [host["host"], condition, host["reasons"], "", "", "", None, None, None, None, None, None, None, ""]
    backend, backups = record["backend"], record["backups"] or {}
    kind = backends.setdefault(_backend(backend), len(backends)) if backend else None
    since = seconds_of(backend["since"]) if backend and backend["since"] else None
    return [
        *(host["host"], condition, host["reasons"], record["unit"], record["layout"], record["path"]),
        *(record["total"], record["linked"], record["bytes"], host["growth"], kind, since),
        *(backups.get("oldest_age_seconds"), _progress(record["progress"])),
    ]


def _backend(backend: t.Mapping[str, t.Any]) -> str:
    uses = {
        "used": "",
        "stopped": "",
        "elsewhere": ", another path",
        "nowhere": ", path unknown",
        "unknown": ", path unknown",
    }
    return f"{backend['state']}{uses.get(backend['use'], '')}"


def _progress(progress: t.Mapping[str, t.Any] | None) -> str:
    if progress is None:
        return ""
    done = f", {progress['accounts']} of {progress['accounts_total']} accounts" if progress["accounts_total"] else ""
    return f"{progress['work']}: {progress['phase']}{done}"


def _account_row(host: int, one: t.Mapping[str, t.Any]) -> Row:
    state = STATES.index(one["state"]) if one["state"] in STATES else STATES.index("unknown")
    problems = ", ".join(map(str, [*one["problems"], *(["locked"] if one["locked"] else [])]))
    figures = (one["files"], one["bytes"], one["growth"], seconds_of(one["newest"]), one["backup_age_seconds"])
    return [host, one["id"], state, problems, *figures]


def _finding_row(host: int, one: t.Mapping[str, t.Any]) -> Row:
    severity = SEVERITIES.index(one["severity"]) if one["severity"] in SEVERITIES else len(SEVERITIES) - 1
    return [host, severity, *(one[name] for name in FIELDS["findings"][2:])]


def _event_row(host: int, one: t.Mapping[str, t.Any]) -> Row:
    return [host, _KINDS.index(one["event"]), seconds_of(one["time"]), one["accounts"]]


def _card(label: str, value: str, unit: str, note: str) -> dict[str, str]:
    return {"label": label, "value": value, "unit": unit, "note": note}


def _attention(found: t.Mapping[str, int]) -> str:
    return f"{found['critical']:,} critical" if found["critical"] else ""


def _hosts(number: int) -> str:
    return f"{number:,} host{'' if number == 1 else 's'}"


def _size(number: float) -> tuple[str, str]:
    units, value = ["B", "kB", "MB", "GB", "TB", "PB"], float(number)
    while abs(value) >= 1000 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return (f"{value:.0f}" if units[0] == "B" or abs(value) >= 100 else f"{value:.1f}"), units[0]


def _age(seconds: float | None) -> tuple[str, str]:
    if seconds is None:
        return "none", ""
    for limit, unit, size in ((90 * 60, "min", 60), (36 * 3600, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f}", unit
    return f"{seconds / 86400:.0f}", "d"


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _read(name: str) -> str:
    return (_ROLE / name).read_text(encoding="utf-8")
