# SPDX-License-Identifier: GPL-3.0-or-later
"""The candidates: ways to copy accounts to another directory with another owner, so that they survive a power cut."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys
import typing as t

import measure
import trees
from measure import Cost

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
COLLECTIONS = REPOSITORY / "playbooks" / "collections"
OWNER = f"{trees.NEW_OWNER}:{trees.NEW_OWNER}"

# Phases during which the backend runs, or that the unit itself needs to stop and start.
NOT_WAITED_FOR = ("stage", "guard", "stop", "start", "prove")

PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - ansible.posix.synchronize:
        src: "{source}/"
        dest: "{target}/"
        archive: true
      delegate_to: localhost
    - ansible.builtin.file:
        path: "{target}"
        state: directory
        recurse: true
        owner: "{owner}"
        group: "{owner}"
"""


@dataclasses.dataclass(frozen=True)
class Place:
    """The directories of a run: the accounts, their target, and temporary files."""

    source: pathlib.Path
    target: pathlib.Path
    work: pathlib.Path


Figures = dict[str, t.Any]


def seed(place: Place) -> Figures:
    """The unmodified shell recipe, and then a sync."""
    recipe = _bash(
        place, 'install -d -o "$2" -g "$2" -m 750 "$1"; rsync -a "$0"/ "$1"/; chown -R "$2:$2" "$1"', trees.NEW_OWNER
    )
    return {"cost": recipe.then(_sync(place)), "stopped": recipe.wall}


def rsync(place: Place) -> Figures:
    """rsync, then the same again with nothing changed, then the shortest version of the shell recipe: two passes."""
    cost = _bash(place, 'mkdir "$1"; rsync -a "$0"/ "$1"/').then(_sync(place))
    again = _bash(place, 'rsync -a "$0"/ "$1"/')
    trees.change(place.source, _one_percent(place))
    second = _bash(place, 'rsync -a --delete "$0"/ "$1"/; chown -R "$2:$2" "$1"', trees.NEW_OWNER).then(_sync(place))
    return {"cost": cost, "unchanged": again.wall, "unchanged_cpu": again.cpu, "two_passes": second.wall}


def cp(place: Place) -> Figures:
    return {"cost": _bash(place, 'cp -a "$0" "$1"').then(_sync(place))}


def synchronize(place: Place) -> Figures:
    """The same with existing modules."""
    playbook = place.work / "synchronize.yml"
    playbook.write_text(
        PLAYBOOK.format(source=place.source, target=place.target, owner=trees.NEW_OWNER), encoding="utf-8"
    )
    place.target.mkdir()
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(place.work / "collections"),
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        "ANSIBLE_LOCALHOST_WARNING": "false",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
    }
    cost, _printed = measure.run(["ansible-playbook", str(playbook)], env=environment)
    return {"cost": cost.then(_sync(place))}


def native(place: Place) -> Figures:
    """The module, then again without changes, then on an empty tree, which is the cost of its start."""
    cost, result = migrate(place)
    again, unchanged = migrate(place)
    if not result["changed"] or unchanged["changed"]:
        raise RuntimeError("session_migrate did not do what was requested")
    begun = start(place)
    return {
        "cost": cost,
        "unchanged": again.wall,
        "unchanged_cpu": again.cpu,
        "start": begun.wall,
        "start_cpu": begun.cpu,
        "phases": result["phases"],
    }


def metadata(place: Place) -> Figures:
    return {"cost": migrate(place, verify="metadata")[0]}


def by_rsync(place: Place) -> Figures:
    return {"cost": migrate(place, engine="rsync")[0]}


def late(place: Place) -> Figures:
    """The module, with a backend that writes after the last live copy and right before the stop."""
    number = _one_percent(place)
    result = migrate(place, late=number)[1]
    return {"stopped": waited_for(result), "phases": result["phases"], "files_changed": number}


def late_few(place: Place) -> Figures:
    """The same with 1,000 changed files, for any number of files."""
    cost, result = migrate(place, late=1000)
    return {"cost": cost, "stopped": waited_for(result), "phases": result["phases"], "files_changed": 1000}


def ahead(place: Place) -> Figures:
    """The module as the role uses it: staged earlier, then changed by a backend that does not write at the end."""
    migrate(place, state="staged")
    trees.change(place.source, _one_percent(place))
    result = migrate(place, late=0)[1]
    return {"stopped": waited_for(result), "phases": result["phases"]}


def rename(place: Place) -> Figures:
    """The module within one filesystem. The accounts are moved back afterwards."""
    inside = Place(place.source, place.source.parent / "moved" / "sessions", place.work)
    inside.target.parent.mkdir()
    cost, result = migrate(inside, engine="rename")
    for name in os.listdir(inside.target):
        (inside.target / name).rename(place.source / name)
    measure.run(["chown", "-R", f"{trees.OWNER}:{trees.OWNER}", str(place.source)])
    measure.run(["rm", "-r", str(inside.target.parent)])
    return {"cost": cost, "stopped": waited_for(result), "phases": result["phases"]}


def migrate(
    place: Place, *, late: int | None = None, program: t.Sequence[str] = (), **options: t.Any
) -> tuple[Cost, dict[str, t.Any]]:
    """Run session_migrate without a unit. ``late``: as if it stopped one whose backend writes so many files right before.

    ``program``: what runs the module instead of its own main function.
    """
    arguments = {
        "src": [str(place.source)],
        "path": str(place.target),
        "layout": "baileys",
        "owner": str(trees.NEW_OWNER),
        "group": str(trees.NEW_OWNER),
        **options,
    }
    program = program or ["-m", _module("session_migrate")]
    if late is not None:
        program = [str(REPOSITORY / "benchmarks" / "late_writer.py"), str(place.source), str(late)]
    return _module_run(program, arguments, place.work)


def start(place: Place) -> Cost:
    """Measure session_migrate on an empty tree: interpreter, imports, arguments."""
    empty = place.work / "empty"
    empty.mkdir(exist_ok=True)
    return migrate(Place(empty, place.target.parent / "none", place.work))[0]


def info(path: pathlib.Path, work: pathlib.Path) -> tuple[Cost, dict[str, t.Any]]:
    """Run session_info."""
    return _module_run(["-m", _module("session_info")], {"path": str(path), "layout": "baileys"}, work)


def audit(path: pathlib.Path, work: pathlib.Path, **more: t.Any) -> tuple[Cost, dict[str, t.Any]]:
    """Run session_audit."""
    return _module_run(["-m", _module("session_audit")], {"path": str(path), "layout": "baileys", **more}, work)


def backup(path: pathlib.Path, store: pathlib.Path, work: pathlib.Path) -> tuple[Cost, dict[str, t.Any]]:
    """Run session_backup."""
    options = {"path": str(path), "backup_path": str(store), "layout": "baileys"}
    return _module_run(["-m", _module("session_backup")], options, work)


def find(path: pathlib.Path) -> tuple[Cost, int]:
    """The verification of the shell recipe."""
    cost, printed = measure.run(["bash", "-c", 'find "$0" -maxdepth 3 -name creds.json 2>/dev/null | wc -l', str(path)])
    return cost, int(printed)


def waited_for(result: t.Mapping[str, t.Any]) -> float:
    """Return the interruption of the backend, without its own stop and start."""
    phases: dict[str, float] = result["phases"]
    return sum(seconds for phase, seconds in phases.items() if phase not in NOT_WAITED_FOR)


def _one_percent(place: Place) -> int:
    folders = os.listdir(place.source)
    return len(folders) * len(os.listdir(place.source / folders[0])) // 100


def _bash(place: Place, script: str, *words: t.Any) -> Cost:
    argv = ["bash", "-ec", script, str(place.source), str(place.target), *map(str, words)]
    return measure.run(argv)[0]


def _sync(place: Place) -> Cost:
    return measure.run(["sync", "--file-system", str(place.target)])[0]


def _module(name: str) -> str:
    return f"ansible_collections.whatsapp_ops.sessions.plugins.modules.{name}"


def _module_run(
    program: t.Sequence[str], arguments: t.Mapping[str, t.Any], work: pathlib.Path
) -> tuple[Cost, dict[str, t.Any]]:
    environment = {**os.environ, "PYTHONPATH": str(COLLECTIONS), "PYTHONPYCACHEPREFIX": str(work / "bytecode")}
    environment.pop(
        "PYTHONDONTWRITEBYTECODE", None
    )  # otherwise each start compiles everything again, which the prefix should avoid
    cost, printed = measure.run(
        [sys.executable, *program], stdin=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}), env=environment
    )
    result: dict[str, t.Any] = json.loads(printed)
    return cost, result
