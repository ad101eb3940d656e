# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the definitions for AWX and the rulebooks in extensions from the playbooks and their specs, so that they agree.

generate_awx.py            writes them
generate_awx.py --check    fails if one is outdated
"""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import yaml

from awx_definitions import definitions, playbooks
from eda_rules import by_job_template, by_playbook, rulebook
from tree import ROOT

EXTENSIONS = ROOT / "extensions"
HEAD = """\
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Generated from playbooks/argument_specs by `make readmes`. Edit {source} instead.
#
{purpose}
---
"""
DEFINITIONS = """\
# Credential types, job templates with surveys, workflows and schedules for AWX and Automation Controller, as
# variables of infra.aap_configuration. apply.yml in this directory applies them with awx.awx alone."""
RULES = """\
# Turns reports such as {{"host": "wa1", "event": "unhealthy"}}, from a health check or OnFailure= of a timer, into
# {jobs}, at most one for each host and event in a while. Senders need the token.
# The key hosts is in quotes, so that AWX does not offer this file as a playbook."""


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


def main(arguments: list[str], folder: Path = EXTENSIONS) -> int:
    stale = [(folder / name, text) for name, text in pages().items() if text_of(folder / name) != text]
    for path, text in stale:
        if arguments == ["--check"]:
            print(f"{path.name}:1: does not match the playbooks and their specs: run `make readmes`")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"{path.name}: written")
    return len(stale) if arguments == ["--check"] else 0


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def pages() -> dict[str, str]:
    """Return the text of each file by its path below extensions."""
    known = playbooks()
    awx, rules = "tests/tools/awx_definitions.py", "tests/tools/eda_rules.py"
    by_awx, by_hand = RULES.format(jobs="jobs of AWX"), RULES.format(jobs="runs of playbooks on this machine")
    return {
        "awx/definitions.yml": page(awx, DEFINITIONS, marked(definitions(known))),
        "eda/rulebooks/jobs.yml": page(rules, by_awx, rulebook(known, by_job_template)),
        "eda/rulebooks/local.yml": page(rules, by_hand, rulebook(known, by_playbook)),
    }


def page(source: str, purpose: str, content: t.Any) -> str:
    text = yaml.dump(content, Dumper=Dumper, sort_keys=False, width=80, allow_unicode=True)
    return HEAD.format(source=source, purpose=purpose) + text.replace("\n  hosts:", '\n  "hosts":')


def marked(held: dict[str, t.Any]) -> dict[str, t.Any]:
    """Mark what AWX evaluates when it runs a job."""
    for kind in held["controller_credential_types"]:
        injected = kind["injectors"]["extra_vars"]
        injected.update({name: Injected(value) for name, value in injected.items()})
    return held


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
