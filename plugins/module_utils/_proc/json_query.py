# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Extracts single values from a backend's JSON reply, and never discloses more of it than requested. Pure."""

from __future__ import annotations

import json
import typing as t

from .._core.bounded_json import parsed_json

_TEXT_AT_MOST = 200  # characters of a value that are shown


def parsed(body: bytes) -> t.Any:
    """Parse a JSON reply. Raises ValueError with a message that contains nothing of the reply."""
    try:
        return parsed_json(body, parse_constant=_refused)
    except (ValueError, RecursionError):  # do not chain these exceptions: they contain the body
        pass
    raise ValueError("it is not JSON")


def _refused(constant: str) -> t.NoReturn:
    """Refuse NaN and Infinity, which Python accepts although they are not JSON, RFC 8259."""
    raise ValueError(constant)


def facts_of(reply: t.Any, keys: t.Iterable[str]) -> dict[str, t.Any]:
    """Return the values of those ``keys`` that exist in ``reply``.

    A key is a path of names in objects and positions in lists, joined by dots (``accounts.0.status``). The last name may contain dots
    itself. ``accounts.*.status=connected`` is the number of list items with that value.
    """
    found = ((key, _values_at(reply, key) or _number_of_items(reply, key)) for key in keys)
    return {key: values[0] for key, values in found if values}


def all_at(value: t.Any, way: str) -> list[t.Any]:
    """Return all values at a path in which ``*`` stands for every item of a list (``data.sessions.*.id``); none for an empty list.

    Raises LookupError if a part of the path does not exist.
    """
    head, dot, rest = way.partition(".")
    if head == "*" and isinstance(value, list):
        found = value
    else:
        found = list(_values_at(value, head))
        if not found:
            raise LookupError(head)
    return [deeper for item in found for deeper in all_at(item, rest)] if dot else found


def is_equal(expected: t.Any, seen: t.Any) -> bool:
    """Compare JSON values: true is not 1. Text equals the value it spells, because templates and command lines produce text."""
    if isinstance(expected, str) and not isinstance(seen, (str, dict, list)):
        return expected.strip().lower() == json.dumps(seen)
    if isinstance(expected, bool) or isinstance(seen, bool):
        return expected is seen
    if isinstance(expected, dict) and isinstance(seen, dict):
        return expected.keys() == seen.keys() and all(is_equal(expected[key], seen[key]) for key in expected)
    if isinstance(expected, list) and isinstance(seen, list):
        return len(expected) == len(seen) and all(is_equal(one, other) for one, other in zip(expected, seen))
    return bool(expected == seen)


def shown(expected: t.Any, seen: t.Any) -> t.Any:
    """Return ``seen`` for output: unchanged if it is expected or short; of objects, lists and long texts only the size."""
    if is_equal(expected, seen):
        return seen
    if isinstance(seen, dict):
        return f"<object with {len(seen)} keys>"
    if isinstance(seen, list):
        return f"<list of {len(seen)}>"
    if isinstance(seen, str) and len(seen) > _TEXT_AT_MOST:
        return f"<text of {len(seen)} characters>"
    return seen


def _number_of_items(reply: t.Any, key: str) -> tuple[int, ...]:
    """Return the number of values that equal the text after ``=`` in ``key``, as a tuple of one; empty if ``key`` is no such count."""
    way, mark, wanted = key.partition("=")
    if not mark or "*" not in way.split("."):
        return ()
    try:
        return (sum(is_equal(wanted, value) for value in all_at(reply, way)),)
    except LookupError:
        return ()


def _values_at(value: t.Any, key: str) -> tuple[t.Any, ...]:
    """Return the value at ``key`` as a tuple of one; empty if it does not exist (null is a value)."""
    if isinstance(value, dict) and key in value:
        return (value[key],)
    if isinstance(value, list) and key.isdecimal():
        return tuple(value[int(key) : int(key) + 1])
    head, dot, rest = key.partition(".")
    if not dot:
        return ()
    inner = _values_at(value, head)
    return _values_at(inner[0], rest) if inner else ()
