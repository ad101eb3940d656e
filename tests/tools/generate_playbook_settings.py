# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds the settings that a role reads and its playbook does not know yet to playbooks/argument_specs/ROLE.yml.

generate_playbook_settings.py            adds them
generate_playbook_settings.py --check    fails if one is missing

A setting, ``wa_NAME``, is what a default of the role falls back on. Its entry is that of the option in the spec of the role, without the
default; it is inserted behind the setting of the option before it. An entry that exists is left alone: it may say more than the option.
"""

from __future__ import annotations

import re
import sys
import typing as t
from collections.abc import Iterator
from pathlib import Path

from roles import load
from tree import ROOT

SETTING = re.compile(r"\{\{ \s* (wa_\w+) \b", re.VERBOSE)
# Roles that include the role of the playbook set it; the playbook itself never reads it.
OF_OTHERS = {"wa_backup_before_required"}
OPTION = re.compile(r"^      (\w+):$")


def main(arguments: list[str], root: Path = ROOT) -> int:
    missing = 0
    for spec in sorted((root / "playbooks" / "argument_specs").glob("*.yml")):
        role = root / "roles" / spec.stem
        before = spec.read_text(encoding="utf-8")
        wanted = completed(before, role) if role.is_dir() else before
        if wanted == before:
            continue
        missing += 1
        if arguments == ["--check"]:
            print(f"{spec.relative_to(root)}:1: lacks a setting of its role: run `make readmes`")
        else:
            spec.write_text(wanted, encoding="utf-8")
            print(f"{spec.relative_to(root)}: written")
    return missing if arguments == ["--check"] else 0


def completed(spec: str, role: Path) -> str:
    """Return the text of a playbook's spec with every setting that the defaults of its role read."""
    options = blocks((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    known, previous = blocks(spec), ""
    for option, setting in settings(load(role / "defaults" / "main.yml"), options):
        if setting not in known:
            entry = without_default(options[option]).replace(f"      {option}:", f"      {setting}:", 1)
            behind = known[previous or next(iter(known))]
            spec = spec.replace(behind, behind + entry, 1)
            known[setting] = entry
        previous = setting
    return spec


def settings(defaults: dict[str, t.Any], options: t.Container[str]) -> Iterator[tuple[str, str]]:
    """Yield each option of a role and the setting that its default falls back on."""
    for option, default in defaults.items():
        found = SETTING.match(str(default))
        if found and option in options and found[1] not in OF_OTHERS:
            yield option, found[1]


def blocks(spec: str) -> dict[str, str]:
    """Return the lines of each option of the first entry of a spec, by name."""
    found: dict[str, str] = {}
    name = ""
    for line in spec.splitlines(keepends=True):
        option = OPTION.match(line.rstrip("\n"))
        if option and option[1] not in found:
            name = option[1]
            found[name] = ""
        elif option or not line.startswith("      "):
            name = ""
        if name:
            found[name] += line
    return found


def without_default(block: str) -> str:
    return re.sub(r"^        default:.*\n(?:          .*\n)*", "", block, flags=re.MULTILINE)


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
