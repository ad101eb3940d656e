# SPDX-License-Identifier: GPL-3.0-or-later
"""The bounded look at the files of an account: all are counted, and those that are examined are spread over all of them."""

from __future__ import annotations

import os
import pathlib

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._audit.facts import Scan
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._audit.scan import scanned
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.baileys import BAILEYS

FILES = 100


@pytest.fixture
def account(tmp_path: pathlib.Path) -> pathlib.Path:
    for number in range(FILES):
        (tmp_path / f"session-{number}.json").write_text("{}")
        (tmp_path / f"session-{number}.json").chmod(0o600)
    return tmp_path


def look(account: pathlib.Path, *, files: int = 1000, statuses: int = 1000, reachable: bool = True) -> Scan:
    account.chmod(0o755)
    with opened_directory(str(account)) as opened:
        return scanned(opened, BAILEYS, files=files, statuses=statuses, reachable=reachable)


@pytest.mark.parametrize(
    ("statuses", "looked_at"), [(0, 0), (1, 1), (10, 10), (30, 25), (60, 50), (99, 50), (100, 100), (1000, 100)]
)
def test_all_files_are_counted_and_no_more_than_asked_for_are_examined(
    account: pathlib.Path, statuses: int, looked_at: int
) -> None:
    assert look(account, statuses=statuses) == Scan(FILES, looked_at)


def test_those_that_are_examined_are_spread(account: pathlib.Path) -> None:
    """Files that were written last are the last in the list of some filesystems, and the first in that of others."""
    with os.scandir(account) as entries:
        listed = [entry.name for entry in entries]
    for half in (listed[: FILES // 2], listed[FILES // 2 :]):
        for name in half:
            (account / name).chmod(0o644)
        assert look(account, statuses=10).open == 5
        assert look(account, statuses=10, reachable=False).open == 0
        for name in half:
            (account / name).chmod(0o600)


def test_what_lies_in_folders_counts_and_a_link_to_one_is_not_followed(
    account: pathlib.Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (account / "deep" / "deeper").mkdir(parents=True)
    (account / "deep" / "deeper" / "pre-key-1.json").touch()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "pre-key-2.json").touch()
    (account / "link").symlink_to(elsewhere)
    seen = look(account)
    assert (seen.files, seen.empty) == (FILES + 2, 1)


@pytest.mark.parametrize("files", [1, 99, 100, 101])
def test_counting_ends_at_the_threshold(account: pathlib.Path, files: int) -> None:
    for number in range(20):
        (account / f"empty-{number}").mkdir()
    (account / "deep").mkdir()
    (account / "deep" / "pre-key-1.json").touch()
    assert look(account, files=files).files == files
