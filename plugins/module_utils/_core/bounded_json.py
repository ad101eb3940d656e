# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Parse untrusted JSON. The interpreter limits the depth of nesting by itself and raises a RecursionError."""

from __future__ import annotations

import codecs
import json
import math
import sys
import typing as t

from .limits import JSON_DIGITS


def parsed_json(content: str | bytes, **options: t.Any) -> t.Any:
    """Parse JSON. Raises ValueError for invalid JSON and for numbers with too many digits, RecursionError for excessive nesting.

    The time to convert digits grows with their square. Python has had a limit of its own since 3.9.14, 3.10.7 and 3.11.
    """
    if not hasattr(sys, "set_int_max_str_digits"):
        options["parse_int"] = _bounded_int
    return json.loads(content, **options)


def parsed_as_node(content: bytes) -> t.Any:
    """Parse a file as Node.js does, verified with Baileys 7.0.0-rc14 (tests/unit/recorded/baileys-reads.json).

    Node.js replaces invalid UTF-8 by U+FFFD and rejects what Python accepts beyond JSON: byte-order marks, UTF-16, NaN, Infinity.
    Raises ValueError, RecursionError.
    """
    return _parsed_text(content.decode("utf-8", "replace"))


def parsed_as_dotnet(content: bytes) -> t.Any:
    """Parse a file as .NET does after File.ReadAllText, which respects a byte-order mark. Raises ValueError, RecursionError."""
    marks = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
    mark, encoding = next((each for each in marks.items() if content.startswith(each[0])), (b"", "utf-8"))
    return _parsed_text(content[len(mark) :].decode(encoding, "replace"))


def _parsed_text(text: str) -> t.Any:
    return json.loads(text, parse_constant=_refused, parse_int=_number)


def _refused(word: str) -> t.NoReturn:
    raise ValueError(f"{word} is not JSON")


def _number(digits: str) -> float:
    """Both runtimes treat a number that exceeds the range of floats as infinite."""
    return int(digits) if len(digits) < sys.float_info.max_10_exp else math.copysign(math.inf, -(digits[0] == "-"))


def _bounded_int(digits: str) -> int:
    if len(digits) > JSON_DIGITS:
        raise ValueError("a number has too many digits")
    return int(digits)


def is_integer(value: t.Any) -> bool:
    """Return whether a value is a number of JSON without a fraction; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)
