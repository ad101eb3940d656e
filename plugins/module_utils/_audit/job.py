# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job behind session_audit: which findings apply to a host, with their evidence and remedy. Changes nothing.

``observe.py`` looks, ``findings.py`` decides. Only metadata is returned; accounts are masked unless requested.
"""

from __future__ import annotations

import typing as t

from .._core.job import LOOKS_ONLY, Report
from .._core.summary import accounts as counted
from .._layouts.layout import LINKED
from .facts import Exempted
from .finding import SEVERITIES, Evidence, Finding
from .findings import found_in
from .observe import Observation, observed
from .params import Params, read_params

__all__ = ["apply", "diff", "observe", "plan", "read_params", "report", "verify"]

# Of one finding: enough to act, and an answer of bounded size for 300 accounts.
_SHOWN_AT_MOST = 20

State = Observation


def observe(params: Params) -> State:
    """Return everything that findings are decided from."""
    return observed(params)


plan, diff, apply, verify = LOOKS_ONLY


def report(params: Params, state: State, steps: tuple[t.Any, ...], evidence: t.Any) -> Report:
    """Return the findings, the worst first, apart from those that the operator accepts."""
    facts = state.facts
    accepted = {one.id: one for one in facts.exempted if one.is_valid(facts.today)}
    found = found_in(facts)
    open_ones = [(finding, shown) for finding, shown in found if finding.id not in accepted]
    counts = {severity: sum(finding.severity == severity for finding, _shown in open_ones) for severity in SEVERITIES}
    return Report(
        {
            "path": params.path,
            "layout": state.layout.name,
            "places": [place.path for place in facts.places],
            "accounts": len(facts.accounts),
            "linked_accounts": sum(account.state in LINKED for account in facts.accounts),
            "findings": [_described(finding, shown) for finding, shown in open_ones],
            "accepted": [_accepted(accepted[finding.id], shown) for finding, shown in found if finding.id in accepted],
            "counts": counts,
            "worst": next((severity for severity in SEVERITIES if counts[severity]), ""),
            "summary": _summary(len(facts.accounts), counts),
        }
    )


def _described(finding: Finding, evidence: t.Sequence[Evidence]) -> dict[str, t.Any]:
    return {
        "id": finding.id,
        "severity": finding.severity,
        "title": finding.title,
        "count": len(evidence),
        "evidence": [one._asdict() for one in evidence[:_SHOWN_AT_MOST]],
        "remedy": finding.remedy,
    }


def _accepted(exempted: Exempted, evidence: t.Sequence[Evidence]) -> dict[str, t.Any]:
    return {
        "id": exempted.id,
        "reason": exempted.reason,
        "until": exempted.until.isoformat(),
        "count": len(evidence),
    }


def _summary(number: int, counts: t.Mapping[str, int]) -> str:
    found = ", ".join(f"{count} {severity}" for severity, count in counts.items() if count)
    return f"{counted(number)}, {f'findings: {found}' if found else 'no finding'}"
