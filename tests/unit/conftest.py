# SPDX-License-Identifier: GPL-3.0-or-later
"""What all unit tests share: how a module is run in-process, and how long hypothesis may search.

The checkout is importable as ``ansible_collections.whatsapp_ops.sessions`` through the link in
``playbooks/collections`` (see ``pyproject.toml``), wherever it lies.
"""

from __future__ import annotations

import contextlib
import io
import json
import typing as t
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest
from ansible.module_utils import basic

# Fault searches are as long on a busy machine as on an idle one: bounded by examples, not by time.
hypothesis.settings.register_profile("gate", deadline=None, print_blob=True)
hypothesis.settings.load_profile("gate")

NAMES = "ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.names"
ModuleRunner = Callable[..., dict[str, t.Any]]


@pytest.fixture(autouse=True)
def control_home(tmp_path: Path) -> Iterator[Path]:
    """Keep what belongs below /var/lib/whatsapp-ops in the test's own directory."""
    home = tmp_path / "var-lib-whatsapp-ops"
    # Not by the fixture, which would then outlive the directory, with all that the test replaced.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{NAMES}.HOME", str(home))
        yield home


@pytest.fixture
def run_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleRunner:
    """``run_module(session_dir, {"path": ...}, check=True)``: what the module prints, as Ansible would read it."""

    def run(
        module: ModuleType, options: dict[str, t.Any], *, check: bool = False, diff: bool = False
    ) -> dict[str, t.Any]:
        arguments = {
            **options,
            "_ansible_check_mode": check,
            "_ansible_diff": diff,
            "_ansible_remote_tmp": str(tmp_path),
        }
        printed = io.StringIO()
        with module_arguments(monkeypatch, arguments), contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
            module.main()
        return json.loads(printed.getvalue())

    return run


@contextlib.contextmanager
def module_arguments(monkeypatch: pytest.MonkeyPatch, arguments: dict[str, t.Any]) -> Iterator[None]:
    """Give a module its arguments, on each ansible-core as that release hands them over."""
    encoded = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    with monkeypatch.context() as patch:
        patch.setattr(basic, "_ANSIBLE_ARGS", encoded)
        # Since 2.19 the arguments also have a profile; older releases have no such name.
        patch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        yield
