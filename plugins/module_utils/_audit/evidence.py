# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What shows that a finding applies. Metadata only: no content, no file names from inside an account, no lines of the journal."""

from __future__ import annotations

import typing as t

from .facts import Facts


class Evidence(t.NamedTuple):
    """One place where a finding applies (a path, a unit, the label of an account), and what shows it, as a clause."""

    where: str
    what: str


Condition = t.Callable[[Facts], t.Iterator[Evidence]]
