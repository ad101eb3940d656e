# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Words for an error that no code expected; never its own message."""

from __future__ import annotations

import os
import traceback


def unforeseen(error: Exception) -> str:
    """Describe an error by its type and place in the code; its own message may contain file names from inside an account."""
    words = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    calls = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{os.path.basename(call.filename)}:{call.lineno}" for call in reversed(calls[-4:]))
    return (
        f"stopped by an unexpected error: {type(error).__name__}{words} at {places}; "
        "check whether something is missing on the host, and report it to the collection's authors"
    )
