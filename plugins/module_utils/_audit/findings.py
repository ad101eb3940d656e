# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The one table of all findings: what a host can have that loses accounts, how bad it is, and what fixes it.

The entries are next to their conditions, in ``of_*.py``. docs/findings.md is made from this table.
"""

from __future__ import annotations

import typing as t

from . import of_accounts, of_places, of_service
from .facts import Facts
from .finding import SEVERITIES, Evidence, Finding

FINDINGS = (*of_places.FINDINGS, *of_service.FINDINGS, *of_accounts.FINDINGS)
BY_ID: t.Mapping[str, Finding] = {finding.id: finding for finding in FINDINGS}


def found_in(facts: Facts) -> tuple[tuple[Finding, tuple[Evidence, ...]], ...]:
    """Return each finding that applies with its evidence, the worst ones first, otherwise in the order of the table. Pure."""
    found = [(finding, tuple(finding.condition(facts))) for finding in FINDINGS]
    applying = [one for one in found if one[1]]
    return tuple(sorted(applying, key=lambda one: SEVERITIES.index(one[0].severity)))
