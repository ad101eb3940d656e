# SPDX-License-Identifier: GPL-3.0-or-later
"""What Ansible sends to a target with a module: all that is imported, wherever in a file that stands."""

from __future__ import annotations

import ast
import pathlib
import typing as t

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils import _plan

UTILS = pathlib.Path(_plan.__file__).parent


def sent_with(name: str, known: frozenset[str] = frozenset()) -> frozenset[str]:
    """Return the files of module_utils that the file ``name`` needs, itself included."""
    if name in known:
        return known
    known |= {name}
    for needed in _imported(ast.parse((UTILS / f"{name}.py").read_text(encoding="utf-8"))):
        known = sent_with(needed, known)
    return known


def _imported(tree: ast.AST) -> t.Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            yield from [node.module] if node.module else [alias.name for alias in node.names]


def test_session_plan_is_not_sent_what_only_a_migration_does() -> None:
    assert not sent_with("_plan") & {"_migrate_run", "_cutover", "_publish", "_staging", "_recover", "_watch"}
    assert "_switch_install" not in sent_with("_plan")
    assert not (sent_with("_plan") | sent_with("_in_use")) & {"_use_watch", "_fanotify"}
    assert {"_migrate_run", "_cutover", "_publish", "_staging", "_recover", "_watch"} < sent_with("_migrate")
