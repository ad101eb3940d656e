# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a legacy path is put out of use: the backend's own, and nothing that is somebody else's, too."""

from __future__ import annotations

import os
import pathlib

import pytest

from accounts import put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.custom import custom_layout
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.retirable import retirable
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.sources import Source

LAYOUT = custom_layout({"markers": ["creds.json"], "companions": ["notes.json"], "depth": 1})


@pytest.fixture
def legacy(tmp_path: pathlib.Path) -> pathlib.Path:
    """An application's directory: an account, a file that is copied with it, and a program, which stays."""
    put_account(tmp_path / "legacy/wa1")
    put_file(tmp_path / "legacy/notes.json", "{}")
    put_file(tmp_path / "legacy/server.js", "")
    return tmp_path / "legacy"


def found(legacy: pathlib.Path) -> tuple[list[str], int]:
    source = Source(str(legacy), str(legacy), frozenset((os.geteuid(),)))
    retirements, staying = retirable([source], LAYOUT)
    return sorted(retirement.name for retirement in retirements), staying


def test_of_an_application_only_its_sessions_are_put_out_of_use(legacy: pathlib.Path) -> None:
    assert found(legacy) == (["notes.json", "wa1"], 0)


def test_a_file_with_a_second_name_stays(legacy: pathlib.Path, tmp_path: pathlib.Path) -> None:
    """It would be given to root under its other name as well, where another program may need it."""
    os.link(legacy / "notes.json", tmp_path / "elsewhere.json")
    assert found(legacy) == (["wa1"], 1)
