# SPDX-License-Identifier: GPL-3.0-or-later
"""Every playbook has a spec beside it, playbooks/NAME.meta.yml, and its first task validates by it.

A misspelt setting then fails at once and by name, on every host before anything was touched. ansible-core 2.20 could
do it by a keyword of the play, which older releases refuse; a task works on all of them.
"""

from __future__ import annotations

import sys
import typing as t
from collections.abc import Iterator
from pathlib import Path

import yaml

from roles import load
from tree import ROOT

VALIDATE = "ansible.builtin.validate_argument_spec"


def main() -> int:
    problems = [problem for path in playbooks() for problem in lacks(path)]
    print(*problems, sep="\n", end="\n" if problems else "")
    return len(problems)


def playbooks() -> list[Path]:
    return [path for path in sorted((ROOT / "playbooks").glob("*.yml")) if not path.name.endswith(".meta.yml")]


def lacks(playbook: Path) -> Iterator[str]:
    place = playbook.relative_to(ROOT)
    spec = playbook.with_suffix(".meta.yml")
    if not spec.exists():
        yield f"{place}:1: has no spec {spec.name} beside it"
        return
    for name, entry in (load(spec).get("argument_specs") or {"": {}}).items():
        if not entry.get("short_description") or "options" not in entry:
            yield f"{spec.relative_to(ROOT)}:1: entry '{name}' lacks a short_description or options"
    task = first_task(yaml.safe_load(playbook.read_text(encoding="utf-8")))
    if VALIDATE not in task:
        yield f"{place}:1: the first task is not {VALIDATE}"
    elif spec.name not in str(task):
        yield f"{place}:1: the first task does not validate by {spec.name}"


def first_task(plays: list[dict[str, t.Any]]) -> dict[str, t.Any]:
    """The first task that would run, found through the blocks around it."""
    tasks = plays[0].get("pre_tasks") or plays[0].get("tasks") or [{}]
    task: dict[str, t.Any] = tasks[0]
    while "block" in task:
        # What a block says (its vars, its conditions) holds for the task in it.
        task = {**{key: value for key, value in task.items() if key != "block"}, **task["block"][0]}
    return task


if __name__ == "__main__":
    sys.exit(bool(main()))
