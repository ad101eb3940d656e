# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies beside the accounts in a container: none of it is hidden by a mount without a word."""

from __future__ import annotations

import os
import pathlib

import pytest
from test_migration_plan import PUBLISH, state

from accounts import put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.handling import Handling
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.recognise import Container
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._containers.view import Root
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.observe import State
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.pair import Choice
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.sources import Source
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.steps import StepKind, planned
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.survey import Roots, Survey, survey
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.uncopied import not_copied


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """A directory with an account, a file beside it, and an empty folder."""
    put_account(tmp_path / "auth/main")
    put_file(tmp_path / "auth/settings.json", "{}")
    (tmp_path / "auth/empty").mkdir()
    return tmp_path / "auth"


def looked_at(root: pathlib.Path) -> Survey:
    source = Source(str(root), str(root), None, os.getuid())
    return survey(Roots((source,), str(root.parent / "sessions"), layout_named("baileys")), {}, Choice("newest"))


def test_all_of_it_is_copied(root: pathlib.Path) -> None:
    assert not_copied(str(root), looked_at(root)) == 0


@pytest.mark.parametrize("beside", ["a link", "at the sessions path already", "a directory that anybody can write in"])
def test_what_is_not_copied(root: pathlib.Path, beside: str) -> None:
    if beside == "a link":
        (root / "linked.json").symlink_to("settings.json")
    elif beside == "at the sessions path already":
        (root.parent / "sessions").mkdir()
        put_file(root.parent / "sessions/settings.json", "{}")
    else:
        root.chmod(0o777)
    assert not_copied(str(root), looked_at(root)) == 1


def refused(seen: State) -> str:
    with pytest.raises(SessionsError) as told:
        planned(seen)
    return str(told.value)


def test_it_is_refused() -> None:
    """Nothing is decided from what is half of something: that is taken back first."""
    inside = Root("/app/auth", "layer", "/u/app/auth", (1, 2), False, (0, 0))
    handling = Handling(Container("bot.service", "podman", None, None, ""), inside)
    seen = state(PUBLISH, container=handling, not_copied=3)
    told = refused(seen)
    assert "3 entries of /app/auth" in told and "nothing was changed" in told
    assert planned(seen._replace(interrupted=True))[0].kind is StepKind.RECOVER
    assert planned(seen._replace(not_copied=0))
