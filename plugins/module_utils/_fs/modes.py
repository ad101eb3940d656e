# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""File modes in the notations of ansible.builtin.file. Pure.

Octal text ("0750"), a number (YAML's 0750 arrives as 488), or symbolic clauses ("u=rwx,g=rx,o=").
"""

from __future__ import annotations

import re
import typing as t

from .._core.errors import SessionsError

_CLAUSE = re.compile(r"([ugoa]+)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFT = {"u": 6, "g": 3, "o": 0}
_PERMISSION = {"r": 4, "w": 2, "x": 1}
_EXECUTE_AND_SET_ID = 0o7111
_NEW = 0o755  # what symbolic clauses apply to for a new directory, as in ansible.builtin.file


class Mode(t.NamedTuple):
    """A requested mode: ``bits``, or ``symbolic`` clauses that change the current mode."""

    bits: int | None
    symbolic: str = ""


def read_mode(value: object) -> Mode:
    """Return the Mode for a module's option. Raises SessionsError if it is not a mode."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _numeric(value, value)
    text = str(value).strip()
    if re.fullmatch(r"(0o)?[0-7]+", text):
        return _numeric(int(text.replace("0o", "", 1), 8), value)
    if text and all(_CLAUSE.fullmatch(clause) for clause in text.split(",")):
        return Mode(None, text)
    raise SessionsError(
        f"mode is {value!r}, which is not a mode; give octal digits in quotes ('0750') or clauses such as 'u=rwx,g=rx,o='"
    )


def read_directory_mode(value: object) -> Mode:
    """Like read_mode, but also raise SessionsError for a mode that locks the owner out of a new directory."""
    mode = read_mode(value)
    bits = directory_bits(mode)
    if bits & 0o700 != 0o700:
        raise SessionsError(
            f"mode {value!r} is {octal(bits)} in octal, which locks the owner out; give it in quotes, as '0750'"
        )
    return mode


def directory_bits(mode: Mode, current: int = _NEW) -> int:
    """Return the bits for a directory whose mode is ``current``; by default for a new one."""
    return mode.bits if mode.bits is not None else _symbolic(mode.symbolic, current, executable=True)


def file_bits(mode: Mode, current: int) -> int:
    """Return the bits for a file in such a directory: without execute and set-id bits, because sessions are data."""
    wanted = mode.bits if mode.bits is not None else _symbolic(mode.symbolic, current, executable=False)
    return wanted & ~_EXECUTE_AND_SET_ID


def octal(bits: int) -> str:
    """Return ``bits`` in the notation of options and results: ``0750``."""
    return f"{bits:04o}"


def _numeric(bits: int, given: object) -> Mode:
    if not 0 <= bits <= 0o7777:
        raise SessionsError(f"mode is {given!r}, which is not a mode; give octal digits in quotes ('0750')")
    return Mode(bits)


def _symbolic(clauses: str, current: int, *, executable: bool) -> int:
    """Apply ``clauses`` in order, like chmod(1); ``X`` means x if ``executable``."""
    bits = current
    for clause in clauses.split(","):
        users, actions = re.fullmatch(_CLAUSE, clause).groups()  # type: ignore[union-attr]  # read_mode() has checked that it matches
        for operator, permissions in _ACTION.findall(actions):
            for user in "ugo" if "a" in users else users:
                bits = _changed(bits, user, operator, permissions, executable)
    return bits


def _changed(bits: int, user: str, operator: str, permissions: str, executable: bool) -> int:
    granted, special = 0, 0
    for letter in permissions:
        if letter in _SHIFT:
            granted |= bits >> _SHIFT[letter] & 7
        elif letter == "X":
            granted |= 1 if executable or bits & 0o111 else 0
        elif letter == "s":
            special |= {"u": 0o4000, "g": 0o2000, "o": 0}[user]
        elif letter == "t":
            special |= 0o1000 if user == "o" else 0
        else:
            granted |= _PERMISSION[letter]
    change = granted << _SHIFT[user] | special
    if operator == "+":
        return bits | change
    if operator == "-":
        return bits & ~change
    kept = bits & ~(7 << _SHIFT[user]) & ~{"u": 0o4000, "g": 0o2000, "o": 0o1000}[user]
    return kept | change
