# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists the unit tests that a change needs: `make quick` runs them.

changed_tests.py [BASE]    BASE: the branch to compare with; origin/main where there is one, else main

What counts is the difference between the work tree, with files that are not added yet, and the commit where the branch left
BASE. These tests are chosen:

- those of the folder that mirrors the one of a changed file (plugins/module_utils/_fs has tests/unit/plugins/module_utils/_fs);
- those that import a changed file by name, also a helper of the tests, as long as they are few;
- changed tests themselves, and all tests of a folder whose conftest.py changed;
- those of ALWAYS, which look at the whole tree, in a second.

This is a choice for the time between two edits, and no proof: `make units` has the last word.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tree import ROOT, files

UNIT = "tests/unit"
# What tests are about that stand in a folder of another name.
ELSEWHERE = {
    "plugins/modules": ("tests/unit/plugins/test_*.py",),
    "plugins/doc_fragments": ("tests/unit/plugins/test_*.py",),
    "plugins/plugin_utils": ("tests/unit/plugins/test_*.py", "tests/unit/playbooks/test_check_settings.py"),
    "plugins/filter": ("tests/unit/plugins/test_*.py",),
    "plugins/action": ("tests/unit/playbooks/test_check_settings.py", "tests/unit/playbooks/test_published_counts.py"),
    "roles": ("tests/unit/roles/test_*.py", "tests/unit/playbooks/test_*.py"),
    "playbooks": ("tests/unit/playbooks/test_*.py",),
    "meta": ("tests/unit/plugins/test_*.py",),
    "tests/tools": ("tests/unit/tools/test_*.py",),
    "tests/mutants": ("tests/unit/tools/test_mutants.py",),
    "docs": ("tests/unit/docs/test_*.py",),
    "extensions": ("tests/unit/extensions/test_*.py",),
    "tests/unit/playbooks": ("tests/unit/playbooks/test_rollout.py",),
}
# Tests of the tree itself: who may import whom, what is sent to a target, which planted faults still fit.
ALWAYS = {
    "plugins/module_utils": ("tests/unit/plugins/module_utils/test_*.py", "tests/unit/tools/test_mutants.py"),
    "plugins": ("tests/unit/docs/test_*.py",),
    "roles": ("tests/unit/docs/test_*.py",),
    "playbooks": ("tests/unit/docs/test_*.py", "tests/unit/extensions/test_*.py"),
    "tests": ("tests/unit/docs/test_*.py",),
}
# With more files of tests that import what changed, running them takes longer than three minutes.
IMPORTERS_AT_MOST = 12


def main(base: str | None) -> int:
    tests = sorted(map(str, files(f"{UNIT}/**/test_*.py")))
    chosen = chosen_tests(changed_since(base or main_branch()), tests)
    print(*chosen, sep="\n", end="\n" if chosen else "")
    return 0


def main_branch() -> str:
    """Return the branch that changes are compared with."""
    known = git("for-each-ref", "--format=%(refname:short)", "refs/heads/main", "refs/remotes/origin/main").splitlines()
    if not known:
        raise SystemExit("there is no branch main to compare with: name one, make quick BASE=...")
    return "origin/main" if "origin/main" in known else "main"


def changed_since(base: str) -> list[str]:
    """List the paths that differ from the commit where this branch left ``base``, removed ones included."""
    fork = git("merge-base", "HEAD", base).strip()
    tracked = git("diff", "--name-only", "--no-renames", "-z", fork)
    added = git("ls-files", "--others", "--exclude-standard", "-z")
    return sorted({path for path in (tracked + added).split("\0") if path})


def chosen_tests(changed: Iterable[str], tests: Iterable[str]) -> list[str]:
    """Choose from ``tests`` those that the ``changed`` paths need."""
    changed, tests = list(changed), list(tests)
    chosen = {test for path in changed for test in tests if _is_about(path, test)}
    importers = [test for test in tests if test not in chosen and _imports_one_of(test, changed)]
    if len(importers) > IMPORTERS_AT_MOST:
        print(f"{len(importers)} more files of tests import what changed: `make units` runs them, too", file=sys.stderr)
    else:
        chosen.update(importers)
    return [test for test in tests if test in chosen]


def _is_about(path: str, test: str) -> bool:
    folder, _slash, name = path.rpartition("/")
    if path == test or (name == "conftest.py" and _is_below(test, folder)):
        return True
    if _is_below(folder, "plugins/module_utils") and Path(test).parent == Path(UNIT, folder):
        return True
    tables = (*ELSEWHERE.items(), *ALWAYS.items())
    patterns = [pattern for place, patterns in tables if _is_below(path, place) for pattern in patterns]
    return any(Path(test).match(pattern) for pattern in patterns)


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def _imports_one_of(test: str, changed: Iterable[str]) -> bool:
    wanted = {_module_of(path) for path in changed if path.endswith(".py")}
    return not wanted.isdisjoint(imported_by(ROOT / test))


def _module_of(path: str) -> str:
    """Name a file of the repository as tests import it: plugins by the collection, helpers of tests by their own name."""
    dotted = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return dotted if path.startswith("plugins/") else dotted.rpartition(".")[2]


@functools.cache
def imported_by(file: Path) -> frozenset[str]:
    """Return what a test imports, wherever in the file that stands, without the collection's own name."""
    prefix = "ansible_collections.whatsapp_ops.sessions."
    return frozenset(name.removeprefix(prefix) for name in _imports_in(ast.parse(file.read_text(encoding="utf-8"))))


def _imports_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main(next(iter(sys.argv[1:]), None)))
