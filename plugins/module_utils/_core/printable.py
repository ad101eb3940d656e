# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Makes text that users of a host may have chosen safe for terminals and logs: file names may contain any byte but a slash."""

from __future__ import annotations

import re
import typing as t

# Control characters (C0, DEL, C1), direction marks, line separators, and bytes that are not UTF-8 (surrogates).
_UNPRINTABLE = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_TEXT_LAYOUT = "\n\t"  # allowed in the texts of files


def is_plain(text: str) -> bool:
    """Whether ``text`` contains only printable characters."""
    return _UNPRINTABLE.search(text) is None


def printable(value: t.Any, kept: str = "") -> t.Any:
    """Return a text, or all texts in a value, with unprintable characters escaped as ``\\x1b``, except those in ``kept``."""
    if isinstance(value, str):
        return _UNPRINTABLE.sub(lambda found: found[0] if found[0] in kept else _escaped(ord(found[0])), value)
    if isinstance(value, t.Mapping):
        return {printable(name, kept): printable(item, kept) for name, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [printable(item, kept) for item in value]
    return value


def printable_diff(diff: t.Any) -> t.Any:
    """Like printable, but keep the newlines and tabs of file contents."""
    return printable(diff, _TEXT_LAYOUT)


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # Python's representation of a byte that is not UTF-8, PEP 383
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
