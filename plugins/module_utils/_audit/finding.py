# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What a finding is, and what shows that it applies.

Metadata only: no content, no file names from inside an account, no lines of the journal.
"""

from __future__ import annotations

import typing as t

from .facts import Facts

# From worst to mildest. critical: the next ordinary event (a restart, a deployment, a save) loses accounts, or one is lost already.
CRITICAL, HIGH, MEDIUM, LOW = SEVERITIES = ("critical", "high", "medium", "low")

PERSIST = "run the playbook persist"  # the remedy of many findings


class Evidence(t.NamedTuple):
    """One place where a finding applies (a path, a unit, the label of an account), and what shows it, as a clause."""

    where: str
    what: str


Condition = t.Callable[[Facts], t.Iterator[Evidence]]


class Finding(t.NamedTuple):
    """An entry of the table. ``id`` is stable: exceptions name it. ``remedy``: the setting or playbook that fixes it, as an imperative."""

    id: str
    severity: str
    title: str
    meaning: str
    remedy: str
    condition: Condition
