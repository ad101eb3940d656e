# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The syntax of systemd's unit files: from options to text, and from text to settings. Pure.

Values are in systemd's notation: ``%H`` in ``Environment`` is the host name, and a literal percent sign is written ``%%``
(systemd.unit(5), "Specifiers"). No message contains a value, because it may be a secret.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from .._core.errors import SessionsError

HEADER = "# Written by Ansible (whatsapp_ops.sessions.systemd_override): the next run undoes changes made here.\n"

_SECTION = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# YAML 1.1 reads an unquoted 0077 as the number 63, which systemd would read as octal 63.
_OCTAL = re.compile(r"UMask|(\w+Mode)")
# The line endings of systemd, read_line_full() in its fileio.c.
_LINE_END = re.compile(r"\r\n|\n\r|\n|\r|\0")
_BLANKS = " \t\n\r"
_ESCAPES = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    '"': '"',
    "'": "'",
    "s": " ",
}
_ESCAPED_NUMBERS = re.compile(r"x([0-9A-Fa-f]{2})|([0-3][0-7]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})")


@dataclasses.dataclass(frozen=True)
class Setting:
    """One line ``option=value`` of a section. An empty value resets the earlier ones, systemd.syntax(7)."""

    section: str
    option: str
    value: str
    line: int = dataclasses.field(default=0, compare=False)


def read_sections(sections: t.Mapping[str, t.Any]) -> tuple[Setting, ...]:
    """Convert the option ``sections`` (section -> option -> scalar, list or null) to settings.

    Raises SessionsError for an invalid name, and for a value that does not fit in one line of a unit file.
    """
    return tuple(
        Setting(section, option, value)
        for section, options in sections.items()
        for option, given in _options(section, options)
        for value in _values(section, option, given)
    )


def render(settings: t.Iterable[Setting], header: str = HEADER) -> str:
    """Return the text of a drop-in or unit with these settings, sections in the order of their first setting."""
    lines: dict[str, list[str]] = {}
    for setting in settings:
        lines.setdefault(setting.section, []).append(f"{setting.option}={setting.value}\n")
    return header + "".join(f"\n[{section}]\n{''.join(options)}" for section, options in lines.items())


def parse(text: str) -> tuple[Setting, ...]:
    """Read the text of a unit file or drop-in as systemd does (config_parse() in its conf-parser.c)."""
    settings: list[Setting] = []
    section = ""
    for number, line in _logical_lines(text):
        if line.startswith("["):
            if not line.endswith("]"):
                break  # systemd stops reading at such a line
            section = line[1:-1]
            continue
        option, mark, value = line.partition("=")
        if mark and section:
            settings.append(Setting(section, option.strip(_BLANKS), value.strip(_BLANKS), number))
    return tuple(settings)


def environment_items(value: str) -> tuple[tuple[str, str], ...]:
    """Return (variable, value) of each item of an ``Environment=`` line, with unexpanded specifiers.

    Leaves out items that systemd would drop with a line in the journal.
    """
    pairs = (word.partition("=") for word in words(value))
    return tuple((name, text) for name, mark, text in pairs if mark and is_assignment(name, text))


def words(value: str) -> tuple[str, ...]:
    """Split a value at blanks as systemd does, with quotes and C escapes resolved, up to the first syntax error."""
    found: list[str] = []
    try:
        found.extend(_each_word(value))
    except _Unreadable as unreadable:
        return unreadable.before
    return tuple(found)


def quoted(name: str, value: str) -> str:
    """Return one item of ``Environment=``, quoted so that systemd reads exactly ``value``, except for its specifiers."""
    escaped = f"{name}={value}".replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def is_variable(name: str) -> bool:
    """Whether systemd accepts ``name`` as the name of an environment variable."""
    return _VARIABLE.fullmatch(name) is not None


def is_assignment(name: str, value: str) -> bool:
    """Whether systemd accepts ``name=value`` in an environment (env_assignment_is_valid() in its env-util.c)."""
    return (
        is_variable(name)
        and not any(is_control(character) and character not in "\t\n\r" for character in value)
        and _is_utf8(value)
    )


def is_control(character: str) -> bool:
    """Whether ``character`` is a control character."""
    return ord(character) < 32 or ord(character) == 127


class _Unreadable(ValueError):
    """An unclosed quote or an unknown escape; ``before``: the words in front of it."""

    def __init__(self, before: t.Sequence[str]) -> None:
        super().__init__("unbalanced quote or unknown escape")
        self.before = tuple(before)


def _options(section: str, options: t.Any) -> t.Iterator[tuple[str, t.Any]]:
    if not _SECTION.fullmatch(str(section)):
        raise SessionsError(
            f"{section!r} in 'sections' is not a valid section name; write Unit, Service or Install, without brackets"
        )
    if not isinstance(options, t.Mapping) or not options:
        raise SessionsError(
            f"the section [{section}] in 'sections' has no options; give a dictionary of options and values"
        )
    for option, given in options.items():
        if not _OPTION.fullmatch(str(option)):
            raise SessionsError(
                f"{option!r} in section [{section}] is not a valid option name; write it as systemd does, such as KillSignal"
            )
        yield option, given


def _values(section: str, option: str, given: t.Any) -> t.Iterator[str]:
    items = given if isinstance(given, (list, tuple)) else [given]
    if not items:
        raise SessionsError(
            f"the option {option} of section [{section}] is an empty list; give values, or null to reset the option"
        )
    for item in items:
        if isinstance(item, t.Mapping) and option == "Environment":
            yield from _environment(section, item)
        elif isinstance(item, (t.Mapping, list, tuple)):
            raise SessionsError(
                f"the option {option} of section [{section}] has a nested value; give a text, a number, a list of these, or null"
            )
        else:
            value = _line_value(f"the option {option} of section [{section}]", option, item)
            if option == "Environment":
                _require_assignments(section, value)
            yield value


def _environment(section: str, variables: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    if not variables:
        raise SessionsError(
            f"Environment of section [{section}] is an empty dictionary; give variables, or null to reset the option"
        )
    for name, value in variables.items():
        if not is_variable(str(name)):
            raise SessionsError(
                f"{name!r} in Environment is not a valid variable name; use letters, digits and underscores without a leading digit"
            )
        if value is None or isinstance(value, (bool, list, tuple, t.Mapping)):
            raise SessionsError(f"the variable {name} in Environment is not a text; quote its value to make it one")
        text = str(value)
        _reject_controls(f"the variable {name} in Environment", text)
        yield quoted(name, text)


def _require_assignments(section: str, value: str) -> None:
    try:
        found = tuple(_each_word(value))
    except _Unreadable as unreadable:
        raise SessionsError(
            f"Environment of section [{section}] has an unclosed quote or an unknown escape; give a dictionary of variables and values"
        ) from unreadable
    for word in found:
        name, mark, text = word.partition("=")
        if not mark or not is_assignment(name, text):
            raise SessionsError(
                f"Environment of section [{section}] has an item that is not NAME=value, which systemd would drop; "
                "quote items that contain blanks, or give a dictionary of variables and values"
            )


def _line_value(what: str, option: str, item: t.Any) -> str:
    if item is None:
        return ""
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, int) and _OCTAL.fullmatch(option):
        raise SessionsError(
            f"{what} is the number {item}, which YAML may have read from an octal one; quote it, such as '0077'"
        )
    text = str(item)
    _reject_controls(what, text)
    text = text.strip(_BLANKS)
    if (len(text) - len(text.rstrip("\\"))) % 2:
        raise SessionsError(
            f"{what} ends in a backslash, which would make systemd join the next line; double it or remove it"
        )
    return text


def _reject_controls(what: str, text: str) -> None:
    if "\n" in text or "\r" in text:
        raise SessionsError(f"{what} contains a newline, which would begin another line of the unit file; remove it")
    if any(is_control(character) and character != "\t" for character in text) or not _is_utf8(text):
        raise SessionsError(
            f"{what} contains a control character or is not UTF-8, which systemd does not accept; remove it"
        )


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _logical_lines(text: str) -> t.Iterator[tuple[int, str]]:
    """Yield each line with its line number: continued lines joined, comments and empty lines left out."""
    begun, joined = 0, ""
    for number, physical in enumerate(_LINE_END.split(text.removeprefix("\ufeff")), start=1):
        if physical.lstrip(_BLANKS).startswith(("#", ";")):
            continue  # also in the middle of a continued line, systemd.syntax(7)
        begun, joined = (begun, joined + physical) if joined else (number, physical)
        if _ends_escaped(joined):
            joined = f"{joined[:-1]} "
            continue
        if joined.strip(_BLANKS) and _is_utf8(joined):
            yield begun, joined.strip(_BLANKS)
        joined = ""
    if joined.strip(_BLANKS):
        yield begun, joined.strip(_BLANKS)


def _ends_escaped(line: str) -> bool:
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def _each_word(value: str) -> t.Iterator[str]:
    """Yield the words of ``value`` by the rules of systemd's extract_first_word() with unquoting and C escapes."""
    found: list[str] = []
    word: bytearray | None = None
    quote = ""
    position = 0
    while position < len(value):
        character = value[position]
        position += 1
        if not quote and character in _BLANKS:
            if word is not None:
                found.append(_decoded(word))
                yield found[-1]
            word = None
            continue
        word = bytearray() if word is None else word
        if character == "\\":
            content, position = _unescaped(value, position, found)
            word += content
        elif character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
        else:
            word += character.encode("utf-8", "surrogateescape")
    if quote:
        raise _Unreadable(found)
    if word is not None:
        yield _decoded(word)


def _unescaped(value: str, position: int, found: t.Sequence[str]) -> tuple[bytes, int]:
    """Resolve the escape after the backslash before ``position``; return its bytes and the next position."""
    plain = _ESCAPES.get(value[position : position + 1])
    if plain is not None:
        return plain.encode(), position + 1
    number = _ESCAPED_NUMBERS.match(value, position)
    if number is None:
        raise _Unreadable(found)
    byte, octal, short, long = number.groups()
    code = int(octal, 8) if octal else int(byte or short or long, 16)
    if code == 0 or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise _Unreadable(found)
    return (bytes([code]) if byte or octal else chr(code).encode()), number.end()


def _decoded(word: bytearray) -> str:
    return bytes(word).decode("utf-8", "surrogateescape")
