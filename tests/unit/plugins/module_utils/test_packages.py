# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may import whom below module_utils, and what Ansible sends to a target because of it: every import, also those in functions."""

from __future__ import annotations

import ast
import pathlib
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import errors
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._timer import bundle

UTILS = pathlib.Path(errors.__file__).parents[1]
MAY_IMPORT = {
    "_core": "",
    "_fs": "_core",
    "_proc": "_core _fs",
    "_systemd": "_core _fs _proc",
    "_layouts": "_core _fs _proc",
    "_accounts": "_core _fs _proc _layouts",
    "_containers": "_core _fs _proc _systemd _layouts",
    "_usage": "_core _fs _proc _systemd _layouts _accounts _containers",
    "_backup": "_core _fs _proc _systemd _layouts _accounts _containers _usage",
    "_health": "_core _proc _systemd _containers",
    "_directory": "_core _fs _proc _systemd _containers",
    "_migration": "_core _fs _systemd _layouts _accounts _containers _usage",
    "_migration.apply": "_core _fs _proc _systemd _layouts _accounts _containers _usage _migration",
    "_restore": "_core _fs _proc _systemd _layouts _accounts _containers _usage _backup _migration _migration.apply",
    "_plan": "_core _fs _proc _systemd _layouts _accounts _containers _usage _backup _health _directory _migration",
    "_audit": "_core _fs _proc _systemd _layouts _accounts _containers _usage _backup _migration _plan",
    "_restic": "_core _fs _proc _systemd _layouts _accounts _backup",
    "_timer": "_core _fs _proc _systemd",
    "_report": "_core _fs _proc _systemd _layouts _accounts _containers _usage _backup _audit",
}
# The job decides whether anything is done at all, and loads what does it only then. The table of jobs names each job that it installs.
UPWARD = {
    ("_migration.job", "_migration.apply"),
    *(("_timer.jobs", job) for job in ("_backup", "_restic", "_report", "_restore")),
}


class Import(t.NamedTuple):
    """Module ``of``, at line ``line``, imports module ``what``; both dotted, below module_utils."""

    of: str
    line: int
    what: str


def module_of(path: pathlib.Path) -> str:
    return ".".join(path.relative_to(UTILS).with_suffix("").parts)


def package_of(module: str) -> str:
    return module.rpartition(".")[0]


def is_module(name: str) -> bool:
    return (UTILS / f"{name.replace('.', '/')}.py").is_file()


def imports_in(of: str, text: str) -> t.Iterator[Import]:
    """Yield the imports of this collection's own modules that the text of module ``of`` has, also those within functions."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = of.split(".")[: -node.level]
        named = [*base, *((node.module or "").split(".") if node.module else [])]
        for alias in node.names:
            whole = ".".join((*named, alias.name))
            yield Import(of, node.lineno, whole if is_module(whole) else ".".join(named))


MODULES = sorted(module_of(path) for path in UTILS.rglob("*.py") if path.name != "__init__.py")
IMPORTS = {
    name: list(imports_in(name, (UTILS / f"{name.replace('.', '/')}.py").read_text("utf-8"))) for name in MODULES
}


def is_allowed(one: Import) -> bool:
    of, what = package_of(one.of), package_of(one.what)
    return of == what or what in MAY_IMPORT[of].split() or (one.of, what) in UPWARD


def sent_with(name: str, known: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return the modules that a target gets with the module ``name``, itself included."""
    if name in known:
        return known
    known |= {name}
    for one in IMPORTS[name]:
        known = sent_with(one.what, known)
    return known


def test_each_module_lies_in_a_package_of_the_table() -> None:
    assert {package_of(name) for name in MODULES} == set(MAY_IMPORT)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_the_table_allows(package: str) -> None:
    own = [one for name in MODULES if package_of(name) == package for one in IMPORTS[name]]
    assert [one for one in own if not is_allowed(one)] == []


def test_the_table_has_no_circle() -> None:
    order = list(MAY_IMPORT)
    assert all(order.index(name) < order.index(package) for package in order for name in MAY_IMPORT[package].split())


def test_an_upward_import_is_seen() -> None:
    found = list(imports_in("_fs.files", "def late() -> None:\n    from .._layouts.registry import LAYOUTS\n"))
    assert found == [Import("_fs.files", 2, "_layouts.registry")]
    assert not is_allowed(found[0])


def test_no_module_imports_itself_by_a_detour() -> None:
    def early(name: str) -> list[str]:
        tree = ast.parse((UTILS / f"{name.replace('.', '/')}.py").read_text("utf-8"))
        lines = {node.lineno for node in tree.body if isinstance(node, ast.ImportFrom)}
        return [one.what for one in IMPORTS[name] if one.line in lines]

    def walk(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, (*above, name)
        if name not in done:
            for below in early(name):
                walk(below, (*above, name))
            done.add(name)

    done: set[str] = set()
    for name in MODULES:
        walk(name, ())


def test_what_only_looks_is_not_sent_what_acts() -> None:
    for looks in ("_plan.job", "_accounts.info", "_health.job", "_audit.job"):
        assert not [name for name in sent_with(looks) if name.startswith("_migration.apply")], looks
    assert not {"_usage.open_watch", "_fs.fanotify"} & (sent_with("_plan.job") | sent_with("_usage.in_use"))
    acts = {
        f"_migration.apply.{name}" for name in ("run", "guard", "publish", "staging", "recover", "rescue", "retire")
    }
    assert acts < sent_with("_migration.job")


@pytest.mark.parametrize("module", MODULES)
def test_a_program_gets_what_ansible_would_send(module: str) -> None:
    found = {name for name in bundle.needed([module], bundle.own_source) if not name.endswith("__init__.py")}
    assert found == {f"{name.replace('.', '/')}.py" for name in sent_with(module)}


@pytest.mark.parametrize("job", ["_backup.job", "_restic.job", "_restore.job"])
def test_all_that_a_program_needs_is_sent_with_session_timer(job: str) -> None:
    needed = bundle.needed((bundle.LOADER, bundle.RUNNER, job), bundle.own_source)
    modules = {path[:-3].replace("/", ".") for path in needed if not path.endswith("__init__.py")}
    assert modules <= sent_with("_timer.job")
