# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks that every playbook has a spec, playbooks/argument_specs/NAME.yml, and that its first task validates the settings, with any tags.

An invalid setting then fails immediately and by name, before any host is contacted. ansible-core's own validation prints the
whole spec, does not treat empty text as unset and does not report names that are not in the spec.
"""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Iterator
from pathlib import Path

import yaml

from roles import load
from tree import ROOT

CHECK = "whatsapp_ops.sessions.check_settings"


def main() -> int:
    problems = [problem for path in playbooks() for problem in lacks(path)]
    problems += [f"{spec.relative_to(ROOT)}:1: no playbook has this name" for spec in specs_without_playbook()]
    print(*problems, sep="\n", end="\n" if problems else "")
    return len(problems)


def playbooks() -> list[Path]:
    return sorted((ROOT / "playbooks").glob("*.yml"))


def specs_without_playbook() -> list[Path]:
    names = {path.name for path in playbooks()}
    return [spec for spec in sorted((ROOT / "playbooks" / "argument_specs").iterdir()) if spec.name not in names]


def lacks(playbook: Path) -> Iterator[str]:
    place = playbook.relative_to(ROOT)
    spec = playbook.parent / "argument_specs" / playbook.name
    if not spec.exists():
        yield f"{place}:1: has no spec {spec.relative_to(ROOT)}"
        return
    for name, entry in (load(spec).get("argument_specs") or {"": {}}).items():
        if not entry.get("short_description") or "options" not in entry:
            yield f"{spec.relative_to(ROOT)}:1: entry '{name}' lacks a short_description or options"
    task = first_task(yaml.safe_load(playbook.read_text(encoding="utf-8")))
    if CHECK not in task:
        yield f"{place}:1: the first task is not {CHECK}"
    elif task[CHECK] != {"playbook": playbook.stem} or not task.get("run_once") or "always" not in task.get("tags", ()):
        yield f"{place}:1: the first task does not check by {spec.relative_to(ROOT)}, once and always"


def first_task(plays: list[dict[str, t.Any]]) -> dict[str, t.Any]:
    """Return the first task that would run, inside its blocks."""
    tasks = plays[0].get("pre_tasks") or plays[0].get("tasks") or [{}]
    task: dict[str, t.Any] = tasks[0]
    while "block" in task:
        # Keywords of a block (vars, conditions) apply to its tasks.
        task = {**{key: value for key, value in task.items() if key != "block"}, **task["block"][0]}
    return task


if __name__ == "__main__":
    sys.exit(bool(main()))
