# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes roles/*/README.md from the argument specs, so that documentation and validation are consistent.

generate_role_readme.py            writes them
generate_role_readme.py --check    fails if one is outdated
"""

from __future__ import annotations

import json
import re
import sys
import typing as t
from collections.abc import Iterator

from roles import Role, roles
from tree import ROOT

COLLECTION = "whatsapp_ops.sessions"
GENERATED = """\
<!--
SPDX-License-Identifier: GPL-3.0-or-later
Generated from meta/argument_specs.yml by `make readmes`. Edit that file instead.
-->
"""


def main(arguments: list[str]) -> int:
    stale = [role for role in roles() if text_of(role) != rendered(role)]
    for role in stale:
        path = role.readme.relative_to(ROOT)
        if arguments == ["--check"]:
            print(f"{path}:1: does not match meta/argument_specs.yml: run `make readmes`")
        else:
            role.readme.write_text(rendered(role), encoding="utf-8")
            print(f"{path}: written")
    return len(stale) if arguments == ["--check"] else 0


def text_of(role: Role) -> str:
    return role.readme.read_text(encoding="utf-8") if role.readme.exists() else ""


def rendered(role: Role) -> str:
    return "\n".join(lines(role)).rstrip() + "\n"


def lines(role: Role) -> Iterator[str]:
    yield GENERATED
    yield f"# Role {COLLECTION}.{role.name}"
    yield ""
    for name, spec in role.entry_points.items():
        if name != "main":
            yield f"## Entry point `{name}`"
            yield ""
        yield markdown(spec.get("short_description", "")).rstrip(".") + "."
        yield ""
        for paragraph in paragraphs(spec.get("description")):
            yield markdown(paragraph)
            yield ""
        if name == "main":
            yield from example(role)
        yield from attributes(spec.get("attributes") or {})
        yield from options(
            spec.get("options") or {}, "Variables" if name == "main" else "Variables of this entry point"
        )


def example(role: Role) -> Iterator[str]:
    required = [name for name, option in main_options(role).items() if option.get("required")]
    yield "```yaml"
    yield f"- name: Run the role {role.name}"
    yield "  hosts: whatsapp"
    yield "  gather_facts: false"
    yield "  become: true"
    yield "  roles:"
    yield f"    - role: {COLLECTION}.{role.name}"
    if required:
        yield "      vars:"
        yield from (f"        {name}: ..." for name in required)
    yield "```"
    yield ""


def main_options(role: Role) -> dict[str, t.Any]:
    return role.entry_points.get("main", {}).get("options") or {}


def attributes(stated: dict[str, t.Any]) -> Iterator[str]:
    if not stated:
        return
    yield "| attribute | support | |"
    yield "| --- | --- | --- |"
    for name, attribute in stated.items():
        text = [*paragraphs(attribute.get("description")), *paragraphs(attribute.get("details"))]
        yield f"| `{name}` | {attribute.get('support', '')} | {cell(text)} |"
    yield ""


def options(specified: dict[str, t.Any], title: str) -> Iterator[str]:
    if not specified:
        return
    yield f"## {title}"
    yield ""
    yield "| variable | type | default | |"
    yield "| --- | --- | --- | --- |"
    yield from rows(specified, "")
    yield ""


def rows(specified: dict[str, t.Any], inside: str) -> Iterator[str]:
    for name, option in specified.items():
        text = paragraphs(option.get("description"))
        if option.get("choices"):
            text.append("One of " + ", ".join(code(choice) for choice in option["choices"]) + ".")
        yield f"| `{inside}{name}` | {type_of(option)} | {default_of(option)} | {cell(text)} |"
        yield from rows(option.get("options") or {}, f"{inside}{name}.")


def type_of(option: dict[str, t.Any]) -> str:
    kind = option.get("type", "str")
    return f"{kind} of {option['elements']}" if "elements" in option else kind


def default_of(option: dict[str, t.Any]) -> str:
    if option.get("required"):
        return "**required**"
    return code(option["default"]) if "default" in option else ""


def code(value: t.Any) -> str:
    """Format a value as in YAML."""
    return f"`{value if value and isinstance(value, str) else json.dumps(value)}`"


def paragraphs(text: t.Any) -> list[str]:
    return [text] if isinstance(text, str) else [str(item) for item in text or []]


def cell(text: list[str]) -> str:
    return " ".join(markdown(item).replace("\n", " ").replace("|", "\\|") for item in text)


def markdown(text: str) -> str:
    """Convert Ansible's markup to Markdown."""
    text = re.sub(r"\b[OVCE]\(([^)]*)\)", r"`\1`", text)
    text = re.sub(r"\bRV\(([^)]*)\)", r"`\1`", text)
    text = re.sub(r"\bM\(([^)]*)\)", r"`\1`", text)
    text = re.sub(r"\bP\(([^)#]*)#[a-z]+\)", r"`\1`", text)
    text = re.sub(r"\bB\(([^)]*)\)", r"**\1**", text)
    text = re.sub(r"\bI\(([^)]*)\)", r"*\1*", text)
    return re.sub(r"\bL\(([^,)]*),\s*([^)]*)\)", r"[\1](\2)", text)


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
