# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Converts fleet-wide settings (wa_*) from all supported notations, on the controller.

A survey of AWX and ``-e name=value`` provide text only: true or false, a number, a list as lines, a dict as JSON or YAML, and an empty
text for an omitted setting.
"""

from __future__ import annotations

import typing as t

import yaml
from ansible.module_utils.common.validation import check_type_dict
from ansible.module_utils.parsing.convert_bool import boolean

Option = t.Mapping[str, t.Any]


def is_given(value: t.Any) -> bool:
    """Whether a setting has a value: null and an empty text mean that it was omitted."""
    return value is not None and value != ""


def read_setting(value: t.Any, kind: str) -> t.Any:
    """Return a setting as a value of type ``kind``. Raises ValueError with the expected type as text."""
    reader = _READERS.get(kind)
    return reader(value) if reader else value


def complaint(name: str, value: t.Any, option: Option) -> str:
    """Return what is wrong with a setting as a clause; '' if nothing is."""
    if not is_given(value):
        return f"{name} is missing" if option.get("required") else ""
    kind, choices = option.get("type", "str"), option.get("choices")
    try:
        read = read_setting(value, kind)
    except ValueError as error:
        return f"{name} is not {error}"
    if choices and read not in choices:
        return f"{name} is {_shown(read)}, but must be one of {', '.join(map(str, choices))}"
    return ""


def _boolean(value: t.Any) -> bool:
    try:
        return bool(boolean(value.strip() if isinstance(value, str) else value))
    except TypeError as error:
        raise ValueError("true or false") from error


def _integer(value: t.Any) -> int:
    number = _number(value)
    if number != int(number):
        raise ValueError("a whole number")
    return int(number)


def _number(value: t.Any) -> float:
    try:
        number = float("nan" if isinstance(value, bool) else value)
        if number - number != 0:  # NaN or infinite
            raise ValueError
    except (TypeError, ValueError) as error:
        raise ValueError("a number") from error
    return number


def _text(value: t.Any) -> str:
    if isinstance(value, (t.Mapping, list, tuple)):
        raise ValueError("one text")
    if not str(value).strip():
        raise ValueError("a text")
    return str(value)


def _list(value: t.Any) -> list[t.Any]:
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, t.Mapping):
        raise ValueError("a list, or lines of text")
    lines = [line.strip() for line in str(value).splitlines() if line.strip()]
    if lines and (lines[0].startswith("[") or all(line.startswith("- ") for line in lines)):
        # BaseLoader keeps all items as text, so that a name such as 0150 is not a number.
        read = _yaml(str(value), yaml.BaseLoader)
        if isinstance(read, list):
            return read
    return lines


def _dict(value: t.Any) -> dict[t.Any, t.Any]:
    if isinstance(value, t.Mapping):
        return dict(value)
    read = _yaml(value, yaml.SafeLoader) if isinstance(value, str) else None
    if isinstance(read, dict):
        return read
    try:
        pairs: dict[t.Any, t.Any] = check_type_dict(value)  # "name=value, name=value", as in module options
    except TypeError as error:
        raise ValueError("a dictionary, or one as JSON or YAML") from error
    return pairs


def _yaml(text: str, loader: t.Any) -> t.Any:
    try:
        return yaml.load(text, loader)
    except yaml.YAMLError:
        return None


def _shown(value: t.Any) -> str:
    return f"'{value}'" if len(str(value)) <= 40 else "another text"


_READERS: dict[str, t.Callable[[t.Any], t.Any]] = {
    "bool": _boolean,
    "int": _integer,
    "float": _number,
    "str": _text,
    "path": _text,
    "list": _list,
    "dict": _dict,
}
