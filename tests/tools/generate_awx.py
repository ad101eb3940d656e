# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes extensions/awx/definitions.yml from the specs of the playbooks, so that surveys and playbooks agree.

generate_awx.py            writes it
generate_awx.py --check    fails if it is outdated
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from awx_definitions import definitions, playbooks
from tree import ROOT

PAGE = ROOT / "extensions/awx/definitions.yml"
HEAD = """\
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Generated from playbooks/argument_specs by `make readmes`. Edit tests/tools/awx_definitions.py instead.
#
# Credential types, job templates with surveys, a workflow and schedules for AWX and Automation Controller, as variables
# of infra.aap_configuration. apply.yml in this directory applies them with awx.awx alone.
---
"""


class Injected(str):
    """A template that AWX evaluates, not Ansible."""

    __slots__ = ()


class Dumper(yaml.SafeDumper):
    """Writes YAML as the other files of this repository: lists are indented, templates are in double quotes."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def text_node(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    tag = "!unsafe" if isinstance(text, Injected) else "tag:yaml.org,2002:str"
    return dumper.represent_scalar(tag, str(text), style='"' if "{{" in text else None)


Dumper.add_representer(str, text_node)
Dumper.add_representer(Injected, text_node)


def main(arguments: list[str], page: Path = PAGE) -> int:
    wanted = rendered()
    if page.exists() and page.read_text(encoding="utf-8") == wanted:
        return 0
    if arguments == ["--check"]:
        print(f"{page.name}:1: does not match the specs of the playbooks: run `make readmes`")
        return 1
    page.write_text(wanted, encoding="utf-8")
    print(f"{page.name}: written")
    return 0


def rendered() -> str:
    held = definitions(playbooks())
    for kind in held["controller_credential_types"]:
        injected = kind["injectors"]["extra_vars"]
        injected.update({name: Injected(value) for name, value in injected.items()})
    return HEAD + yaml.dump(held, Dumper=Dumper, sort_keys=False, width=80, allow_unicode=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
