# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that the defaults of a role match its argument specs.

Ansible validates roles by `meta/argument_specs.yml` but takes values from `defaults/main.yml`: two places for the same information.
For each option of the entry point `main`:

- it has a default in both places or in none, and the values are equal;
- a default that falls back on a fleet-wide setting, "{{ wa_x | default(VALUE) }}" or
  "{{ wa_x | default(none) | whatsapp_ops.sessions.setting('bool', VALUE) }}", counts as VALUE;
- a computed default (any other "{{ ... }}") is not in the spec, whose text describes it;
- an option that is required, or has no default, is not in the defaults.
"""

from __future__ import annotations

import ast
import re
import sys
import typing as t
from collections.abc import Iterator

from roles import Role, roles

FALLBACK = re.compile(
    r"^\{\{ \s* \w+ \s* \| \s* "
    r"(?: default\(none\) \s* \| \s* whatsapp_ops\.sessions\.setting\( '\w+', \s* (?P<read>.*?) \)"
    r" | (?:ansible\.builtin\.)?default\( (?P<value>.*?) (?:,\s*true)? \) ) \s* \}\}$",
    re.DOTALL | re.VERBOSE,
)
NOTHING: t.Final = object()
COMPUTED: t.Final = object()


def main() -> int:
    problems = [f"roles/{role.name}: {problem}" for role in roles() for problem in drift(role)]
    print(*problems, sep="\n", end="\n" if problems else "")
    return len(problems)


def drift(role: Role) -> Iterator[str]:
    if "main" not in role.entry_points:
        yield "meta/argument_specs.yml has no entry point 'main'"
        return
    options = role.entry_points["main"].get("options") or {}
    for name in sorted(set(role.defaults) - set(options)):
        yield f"{name} is in defaults but not in argument_specs"
    for name, option in options.items():
        specified = option.get("default", NOTHING)
        actual = effective(role.defaults.get(name, NOTHING))
        if actual is COMPUTED:
            if specified is not NOTHING:
                yield f"{name} is computed in defaults, so argument_specs must give no default (describe it instead)"
        elif option.get("required") and actual is not NOTHING:
            yield f"{name} is required, so defaults must not set it"
        elif not same(specified, actual):
            yield f"{name} is {shown(specified)} in argument_specs but {shown(actual)} in defaults"


def effective(value: t.Any) -> t.Any:
    """Return the value of a default without fleet-wide settings."""
    if not isinstance(value, str) or "{{" not in value:
        return value
    fallback = FALLBACK.match(value.strip())
    if not fallback:
        return COMPUTED
    return literal((fallback["value"] or fallback["read"]).strip())


def literal(text: str) -> t.Any:
    """Parse a literal of Jinja."""
    words = {"true": True, "false": False, "none": None, "omit": NOTHING}
    if text in words:
        return words[text]
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return COMPUTED


def same(one: t.Any, other: t.Any) -> bool:
    return one is other or (type(one) is type(other) and one == other)


def shown(value: t.Any) -> str:
    return "absent" if value is NOTHING else repr(value)


if __name__ == "__main__":
    sys.exit(bool(main()))
