# SPDX-License-Identifier: GPL-3.0-or-later
"""What a module tells of its own options: anybody may read the invocation, and so may the host's journal."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.module import _shown


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"accounts": ["4915", "4916"], "path": "/srv"}, {"accounts": "(2 names)", "path": "/srv"}),
        ({"migrate": {"accounts": ["4915"]}}, {"migrate": {"accounts": "(1 names)"}}),
        ({"info": {"expected": ["4915"]}}, {"info": {"expected": "(1 names)"}}),
        ({"accounts": [], "expected": None}, {"accounts": [], "expected": None}),
        ({"expect": {"accounts": {"connected": 3}}}, {"expect": {"accounts": {"connected": 3}}}),
        ({"overrides": [{"sensitive": True, "sections": {"a": 1}}]}, {"overrides": [{"sensitive": True, "sections": "(sensitive)"}]}),
    ],
)  # fmt: skip
def test_names_of_accounts_are_counted_and_not_told(options: dict[str, t.Any], shown: dict[str, t.Any]) -> None:
    assert _shown(options) == shown


@pytest.mark.parametrize(("verbosity", "keys"), [(0, set()), (2, set()), (3, {"module_args"})])
def test_options_are_in_a_result_only_where_they_are_shown(
    tmp_path: pathlib.Path, verbosity: int, keys: set[str]
) -> None:
    options = {"path": str(tmp_path), "expected": ["4915"], "_ansible_verbosity": verbosity}
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.whatsapp_ops.sessions.plugins.modules.session_info"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": options}),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    invocation = json.loads(done.stdout)["invocation"]
    assert set(invocation) == keys
    assert invocation.get("module_args", {}).get("expected", "(1 names)") == "(1 names)"
