# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The only exception that this collection raises deliberately.

Its message is shown to an operator: one sentence that says what is wrong, where, and what to do.
It never contains data from inside a session, nor a file name from inside an account.
"""

from __future__ import annotations

import typing as t


class SessionsError(Exception):
    """A condition that needs the attention or a decision of the operator.

    ``facts`` (metadata only) become return values of the failed module, for example counts per action.
    """

    def __init__(self, message: str, **facts: t.Any) -> None:
        super().__init__(message)
        self.facts = facts


class StartFailed(SessionsError):
    """The unit was released but did not start."""
