# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Parses JSON that anybody may have written. How deep it may be nested the interpreter limits itself, with a RecursionError."""

from __future__ import annotations

import codecs
import json
import math
import sys
import typing as t

from ._limits import JSON_DIGITS


def parsed_json(content: str | bytes, **options: t.Any) -> t.Any:
    """Parse JSON; raises ValueError for what is none or has endless numbers, RecursionError for what is nested too deep.

    Converting digits takes a time that grows with their square. Interpreters have a limit of their own since 3.9.14, 3.10.7 and 3.11.
    """
    if not hasattr(sys, "set_int_max_str_digits"):
        options["parse_int"] = _bounded_int
    return json.loads(content, **options)


def parsed_as_node(content: bytes) -> t.Any:
    """Parse a file as Node.js does, tried with Baileys 7.0.0-rc14 (tests/unit/recorded/baileys-reads.json).

    It takes a byte that is no UTF-8 for U+FFFD, and refuses what Python takes besides JSON: byte-order marks, UTF-16, NaN, Infinity.
    Raises ValueError, RecursionError.
    """
    return _parsed_text(content.decode("utf-8", "replace"))


def parsed_as_dotnet(content: bytes) -> t.Any:
    """Parse a file as .NET does after File.ReadAllText, which follows a byte-order mark. Raises ValueError, RecursionError."""
    marks = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
    mark, encoding = next((each for each in marks.items() if content.startswith(each[0])), (b"", "utf-8"))
    return _parsed_text(content[len(mark) :].decode(encoding, "replace"))


def _parsed_text(text: str) -> t.Any:
    return json.loads(text, parse_constant=_refused, parse_int=_number)


def _refused(word: str) -> t.NoReturn:
    raise ValueError(f"{word} is no JSON")


def _number(digits: str) -> float:
    """What no float holds is infinite to both."""
    return int(digits) if len(digits) < sys.float_info.max_10_exp else math.copysign(math.inf, -(digits[0] == "-"))


def _bounded_int(digits: str) -> int:
    if len(digits) > JSON_DIGITS:
        raise ValueError("a number has too many digits")
    return int(digits)
