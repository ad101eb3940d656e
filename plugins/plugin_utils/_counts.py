# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Sums up what a playbook found and did on its hosts, for the next step of a workflow. Numbers only: no names, no paths, no messages."""

from __future__ import annotations

import typing as t

Variables = t.Mapping[str, t.Any]
Counts = dict[str, t.Union[int, float]]

# How roles call the result of what changed accounts, and of what interrupted a backend.
_CHANGES = ("migration", "published", "result")
_INTERRUPTIONS = ("migration", "taken", "result")


def checked(playbook: str, hosts: t.Sequence[Variables]) -> Counts:
    """Return what a playbook found before it changed anything: the number of hosts, and their linked accounts."""
    plans = [_result(host, playbook, "plan", "outcome") for host in hosts]
    return {"hosts": len(hosts), "linked": sum(map(_linked, plans))}


def worked(playbook: str, hosts: t.Sequence[Variables]) -> Counts:
    """Return what a playbook did on ``hosts``. Linked accounts are those of hosts whose result was verified.

    ``migrated`` includes accounts that were moved or restored. ``downtime_seconds`` is the longest interruption of one backend.
    """
    verified = [host for host in hosts if _is_verified(_result(host, playbook, "outcome"))]
    changes = [_result(host, playbook, *_CHANGES) for host in hosts]
    return {
        "migrated": sum(map(_migrated, changes)),
        "linked_before": sum(_linked(_result(host, playbook, "plan")) for host in verified),
        "linked_after": sum(_linked(_result(host, playbook, "outcome")) for host in verified),
        "downtime_seconds": max([0, *(_downtime(_result(host, playbook, *_INTERRUPTIONS)) for host in hosts)]),
    }


def in_words(counts: Counts) -> str:
    """Return counts of ``checked`` or ``worked``, with those that a playbook adds, as one sentence for who approves the next step."""
    said = [
        _said(counts, "{todo} of {hosts} hosts need changes"),
        "" if "todo" in counts else _said(counts, "{hosts} hosts were checked"),
        _said(counts, "{linked} accounts are linked") if counts.get("linked") else "",
        _said(counts, "{saved} accounts were saved and {unchanged} have not changed since"),
        _said(counts, "{findings} findings"),
        _said(counts, "{not_checked} hosts could not be checked") if counts.get("not_checked") else "",
        _said(counts, "{done} hosts are done, {failed} failed and {untouched} were not touched")
        or _said(counts, "{failed} hosts failed"),
        _said(counts, "{migrated} accounts were moved") if counts.get("migrated") else "",
        _said(counts, "no backend was away for longer than {downtime_seconds} s")
        if counts.get("downtime_seconds")
        else "",
    ]
    return ", ".join(filter(None, said))


def _said(counts: Counts, words: str) -> str:
    """Return ``words`` with the counts that they name; '' unless all are known."""
    try:
        return words.format_map(counts)
    except KeyError:
        return ""


def _is_verified(outcome: Variables) -> bool:
    return bool(outcome) and not any(outcome.get(state) for state in ("failed", "unreachable", "skipped"))


def _result(host: Variables, playbook: str, *suffixes: str) -> Variables:
    """Return the first of the results that a role registered on a host; an empty one if there is none."""
    found = (host.get(f"{playbook}_{suffix}") for suffix in suffixes)
    return next((result for result in found if isinstance(result, t.Mapping)), {})


def _linked(result: Variables) -> int:
    info = result.get("info")
    return _number(result.get("linked_accounts", info.get("linked_accounts") if isinstance(info, t.Mapping) else 0))


def _migrated(result: Variables) -> int:
    counts = result.get("counts")
    return _number(counts.get("migrated", counts.get("restored"))) if isinstance(counts, t.Mapping) else 0


def _downtime(result: Variables) -> float:
    seconds = result.get("downtime_seconds")
    return round(float(seconds), 3) if isinstance(seconds, (int, float)) else 0


def _number(value: t.Any) -> int:
    """Return a number as hosts report it; anything else counts as none."""
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
