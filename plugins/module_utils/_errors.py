# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The one exception that this collection raises on purpose.

Its text is shown to an operator: one sentence that says what is wrong, where, and what to do.
It never holds anything read from inside a session, nor a file name from inside an account.
"""

from __future__ import annotations

import typing as t


class SessionsError(Exception):
    """Something that the operator has to know or decide.

    ``facts`` (metadata only) become return values of the failed module, for example counts per action.
    """

    def __init__(self, message: str, **facts: t.Any) -> None:
        super().__init__(message)
        self.facts = facts
