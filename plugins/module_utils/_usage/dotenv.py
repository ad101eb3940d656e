# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Read the ``.env`` file that a program may load from its working directory. Values may be secrets: compare them, never show them."""

from __future__ import annotations

import re
import typing as t

from .._core.errors import SessionsError
from .._fs.fdopen import opened_directory
from .._fs.files import read_file_at
from .._systemd.unit_file import is_variable

_FILE_BYTES = 1 << 16
_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*=\s*(.*?)\s*")


def dotenv_in(directory: str) -> tuple[tuple[str, str], ...]:
    """Return name and value of each assignment in ``directory``/.env; none if there is no such file or it cannot be read."""
    try:
        with opened_directory(directory) as opened:
            content = read_file_at(opened, ".env", at_most=_FILE_BYTES)
    except (OSError, SessionsError):
        return ()  # there is none, or the program could not read it either
    return tuple(_items((content or b"").decode("utf-8", "replace")))


def _items(text: str) -> t.Iterator[tuple[str, str]]:
    for line in text.splitlines():
        found = _ASSIGNMENT.fullmatch(line)
        if found and is_variable(found[1]):
            value = found[2]
            quote = value[:1] if value[:1] in "\"'`" else ""
            yield found[1], value[1:].partition(quote)[0] if quote else value.partition(" #")[0].rstrip()
