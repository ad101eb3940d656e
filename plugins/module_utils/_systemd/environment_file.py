# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Parse and edit the files that ``EnvironmentFile=`` names, exactly as systemd reads them. Does not access the host.

The content of such a file is untrusted, so all algorithms take time at most linear in its size.

The syntax is not that of a shell: nothing is expanded, ``export`` makes a name that systemd drops, a quote counts only at the start of a
value (systemd.exec(5), parse_env_file_internal() in systemd's env-file.c). No message contains a value, which may be a secret.
"""

from __future__ import annotations

import functools
import re
import typing as t

from .._core.errors import SessionsError
from .._core.limits import VARIABLES
from .unit_file import is_assignment, is_control, is_variable

NEWEST = 999
# Before this version of systemd, a backslash at the end of a comment made the next line part of the comment.
_COMMENTS_END_SINCE = 254

_BLANKS = " \t"
_NEWLINES = "\n\r"
_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./-]*")
# Characters that need a backslash inside double quotes, SHELL_NEED_ESCAPE in systemd's escape.h.
_ESCAPED_IN_QUOTES = '"\\`$'


class FileAssignment(t.NamedTuple):
    """One variable set by a file, and the line on which the assignment begins."""

    name: str
    value: str
    line: int


def with_values(text: str, values: t.Mapping[str, str | None]) -> str:
    """Return ``text`` with each variable of ``values`` set to its value, or removed if it is None; all else is kept byte for byte.

    The last assignment of a variable is replaced in place (it is the one that counts), earlier ones with another value are removed, and a
    new variable is appended. An empty ``text`` creates a new file.
    Raises SessionsError for a name or value that such a file cannot hold, and for a file with an unclosed quote.
    """
    for name, value in values.items():
        _require_writable(name, value or "")
        text = _changed(text, name, value)
    return text


def parse(text: str, *, version: int = NEWEST) -> tuple[FileAssignment, ...]:
    """Parse a file like systemd of the given ``version``. Lines that systemd would drop with a log message are omitted.

    Raises SessionsError for a file with more assignments than a process can need.
    """
    return tuple(
        FileAssignment(found.name, found.value, line)
        for found, line in _with_lines(text, _assignments(text, version))
        if is_assignment(found.name, found.value)
    )


def depends_on_version(text: str) -> bool:
    """Return whether versions of systemd read ``text`` differently."""
    return parse(text) != parse(text, version=_COMMENTS_END_SINCE - 1)


class _Found(t.NamedTuple):
    """An assignment at ``text[start:end]``, without the newline at its end."""

    name: str
    value: str
    start: int
    end: int


def _require_writable(name: str, value: str) -> None:
    if not is_variable(name):
        raise SessionsError(
            f"{name!r} is not a valid name of a variable; use letters, digits and underscores, not starting with a digit"
        )
    if any(is_control(character) and character != "\t" for character in value) or not is_assignment(name, value):
        raise SessionsError(
            f"the value of {name} has a newline or another control character, or is not UTF-8; remove that character"
        )


def _changed(text: str, name: str, value: str | None) -> str:
    _require_closed(text, name)
    attempts = (_removed(text, name), _blanked(text, name)) if value is None else _written_in(text, name, value)
    for changed in attempts:
        if _proves(text, changed, name, value):
            return changed
    raise SessionsError(
        f"cannot set {name} in the environment file so that every version of systemd reads it; set it manually"
    )


def _written_in(text: str, name: str, value: str) -> tuple[str, str]:
    return _replaced(text, name, value), _appended(text, name, value)


def _require_closed(text: str, name: str) -> None:
    """Raise SessionsError if an unclosed quote or a backslash at the end would include what follows: the intention is unknown."""
    if "\0" in text:
        raise SessionsError(
            f"cannot set {name} in the environment file: it contains a NUL byte, which makes systemd reject it; remove that byte"
        )
    *_others, last = _assignments(f"{text}\nX=1", NEWEST)
    if last.start != len(text) + 1:
        raise SessionsError(
            f"cannot set {name} in the environment file: the value that begins on line {_line(text, last.start)} has an unclosed quote "
            "or ends in a backslash; repair that line"
        )


def _proves(before: str, after: str, name: str, value: str | None) -> bool:
    """Return whether every version of systemd reads ``value`` from ``after`` (None: nothing) and all other variables unchanged."""
    own = {} if value is None else {name: value}
    for version in (NEWEST, _COMMENTS_END_SINCE - 1):
        found = _last_values(parse(after, version=version))
        others = {other: text for other, text in _last_values(parse(before, version=version)).items() if other != name}
        if found != {**others, **own}:
            return False
    return True


def _last_values(assignments: t.Iterable[FileAssignment]) -> dict[str, str]:
    return {assignment.name: assignment.value for assignment in assignments}


def _replaced(text: str, name: str, value: str) -> str:
    same = [found for found in _assignments(text, NEWEST) if found.name == name]
    if not same:
        return _added(text, _written(name, value))
    *earlier, last = same
    edits = [(*_place_of(text, found), "") for found in earlier if found.value != value]
    if last.value != value:
        edits.append((last.start, last.end, _written(name, value)))
    return _edited(text, edits)


def _removed(text: str, name: str) -> str:
    found = (found for found in _assignments(text, NEWEST) if found.name == name)
    return _edited(text, [(*_place_of(text, each), "") for each in found])


def _blanked(text: str, name: str) -> str:
    """Like _removed, but keep empty lines: they end a comment that an older systemd would otherwise continue."""
    found = (found for found in _assignments(text, NEWEST) if found.name == name)
    return _edited(text, [(each.start, each.end, "") for each in found])


def _edited(text: str, edits: t.Iterable[tuple[int, int, str]]) -> str:
    """Replace the ranges (start, end) of ``text``, given in order."""
    pieces, position = [], 0
    for start, end, new in edits:
        pieces += [text[position:start], new]
        position = end
    return "".join([*pieces, text[position:]])


def _appended(text: str, name: str, value: str) -> str:
    """Like _replaced, but at the end: for a file in which a comment before the old line would include it."""
    # The empty line ends a comment that an older systemd would otherwise continue.
    return _added(_added(_removed(text, name), ""), _written(name, value))


def _added(text: str, line: str) -> str:
    return f"{text}{line}\n" if not text or text[-1] in _NEWLINES else f"{text}\n{line}\n"


def _place_of(text: str, found: _Found) -> tuple[int, int]:
    """Return the range of an assignment including the blanks before it and the newline after it."""
    start = found.start
    while start and text[start - 1] in _BLANKS:
        start -= 1
    return start, found.end + (2 if text.startswith("\r\n", found.end) else 1)


def _written(name: str, value: str) -> str:
    if _PLAIN.fullmatch(value):
        return f"{name}={value}"
    escaped = "".join(f"\\{character}" if character in _ESCAPED_IN_QUOTES else character for character in value)
    return f'{name}="{escaped}"'


def _with_lines(text: str, found: t.Iterable[_Found]) -> t.Iterator[tuple[_Found, int]]:
    line, position = 1, 0
    for each in found:
        line += text.count("\n", position, each.start)
        position = each.start
        yield each, line


def _assignments(text: str, version: int) -> t.Iterator[_Found]:
    position = number = 0
    text = text.partition("\0")[0]
    while position < len(text):
        if text[position] in _BLANKS + _NEWLINES:
            position += 1
        elif text[position] in "#;":
            position = _after_comment(text, position, version)
        else:
            start = position
            position = _first_of(text, position + 1, "=" + _NEWLINES)  # a name may begin with "=", and is then dropped
            if text[position : position + 1] != "=":
                continue  # a line without a value
            number += 1
            if number > VARIABLES:
                raise SessionsError(
                    f"the environment file has more than {VARIABLES} assignments, more than a backend needs; check what it is"
                )
            name = text[start:position].rstrip(_BLANKS)
            value, position = _value(text, position + 1)
            yield _Found(name, value, start, position)


def _after_comment(text: str, position: int, version: int) -> int:
    while True:
        position = _first_of(text, position, "\\" + _NEWLINES)
        if text[position : position + 1] != "\\":
            return position
        position += 1
        if version < _COMMENTS_END_SINCE or text[position : position + 1] not in _NEWLINES:
            position += 1


def _value(text: str, position: int) -> tuple[str, int]:
    """Parse a value after its ``=``; return it and the position of the newline that ends it."""
    parts: list[str] = []
    while position < len(text) and text[position] not in _NEWLINES:
        character = text[position]
        if character in _BLANKS:
            position += 1
        elif character == "'":
            end = _first_of(text, position + 1, "'")
            parts.append(text[position + 1 : end])
            position = end + 1
        elif character == '"':
            part, position = _double_quoted(text, position + 1)
            parts.append(part)
        else:
            part, position = _bare(text, position)
            parts.append(part)
            break
    return "".join(parts), min(position, len(text))


def _double_quoted(text: str, position: int) -> tuple[str, int]:
    parts: list[str] = []
    while True:
        special = _first_of(text, position, '"\\')
        parts.append(text[position:special])
        if text[special : special + 1] != "\\":
            return "".join(parts), special + 1
        escaped = text[special + 1 : special + 2]
        if escaped != "\n":
            parts.append(escaped if escaped in _ESCAPED_IN_QUOTES else f"\\{escaped}")
        position = special + 2


def _bare(text: str, position: int) -> tuple[str, int]:
    """Parse a value from its first character outside of quotes: from there on quotes are plain characters."""
    kept: list[str] = []  # escaped blanks at the end are not stripped
    while True:
        special = _first_of(text, position, "\\" + _NEWLINES)
        plain = text[position:special]
        if text[special : special + 1] != "\\":
            return "".join([*kept, plain.rstrip(_BLANKS)]), special
        escaped = text[special + 1 : special + 2]
        kept += [plain, "" if escaped in _NEWLINES else escaped]
        position = special + 2


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _first_of(text: str, position: int, characters: str) -> int:
    """Return the position of the first of ``characters`` at or after ``position``, or the end of the text."""
    found = _any_of(characters).search(text, position)
    return found.start() if found else len(text)


@functools.cache
def _any_of(characters: str) -> t.Pattern[str]:
    return re.compile(f"[{re.escape(characters)}]")
