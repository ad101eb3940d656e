# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The exceptions that this collection raises deliberately.

Their messages are shown to an operator: one sentence that says what is wrong, where, and what to do.
They never contain data from inside a session, nor a file name from inside an account.
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


class WroteAlready(SessionsError):
    """The backend must be rolled back together with the keys that it has written since, which takes a migration in reverse.

    ``reason``: what went wrong, without the outcome. ``stops_again``: the error is handled by stopping the backend once more.
    """

    stops_again = True

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(
            f"{reason}; it has already written to its accounts at {path}, so they stay at that path: fix the unit and start it"
        )
        self.reason = reason
