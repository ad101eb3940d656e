# SPDX-License-Identifier: GPL-3.0-or-later
"""What module_defaults sets for a group of modules: each option has to be one of every module in it."""

from __future__ import annotations

import ast
import pathlib
import re
import typing as t

import pytest
import yaml

from ansible_collections.whatsapp_ops.sessions.plugins.doc_fragments._attributes import ModuleDocFragment
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import argument_specs

COLLECTION = pathlib.Path(__file__).resolve().parents[3]
MODULES = [path.stem for path in sorted((COLLECTION / "plugins" / "modules").glob("*.py"))]
GROUPS: dict[str, list[str]] = yaml.safe_load((COLLECTION / "meta" / "runtime.yml").read_text())["action_groups"]
DESCRIPTIONS = yaml.safe_load(ModuleDocFragment.ACTION_GROUP)["attributes"]["action_group"]["description"]


def documentation(module: str) -> dict[str, t.Any]:
    source = ast.parse((COLLECTION / "plugins" / "modules" / f"{module}.py").read_text())
    text = next(
        node.value.value
        for node in source.body
        if isinstance(node, ast.Assign)
        and ast.unparse(node.targets[0]) == "DOCUMENTATION"
        and isinstance(node.value, ast.Constant)
    )
    return t.cast("dict[str, t.Any]", yaml.safe_load(str(text)))


@pytest.mark.parametrize("group", GROUPS)
def test_what_a_group_sets_is_what_all_of_its_modules_take(group: str) -> None:
    specs = [getattr(argument_specs, module.upper()) for module in GROUPS[group]]
    assert len(specs) > 1
    shared = set.intersection(*map(set, specs))
    said = next(text for text in DESCRIPTIONS if f"V(group/whatsapp_ops.sessions.{group})" in text)
    assert set(re.findall(r"C\((\w+)\)", said)) == shared


@pytest.mark.parametrize("module", MODULES)
def test_each_module_names_the_groups_that_it_is_in(module: str) -> None:
    stated = documentation(module).get("attributes", {}).get("action_group", {}).get("membership", [])
    assert stated == [f"whatsapp_ops.sessions.{group}" for group, members in GROUPS.items() if module in members]
