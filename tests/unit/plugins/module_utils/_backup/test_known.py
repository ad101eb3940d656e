# SPDX-License-Identifier: GPL-3.0-or-later
"""What a snapshot recorded: a record that is damaged or of another kind of snapshot counts as none, so that all is saved again."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest

from accounts import put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.copy_index import NOTHING, Known
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup import known as of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.store import FILES
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.copy_file import record_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_below, opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named

CHOICE = of.choice_of(layout_named("baileys"), exclude_caches=True)
CSHARP = of.choice_of(layout_named("baileys_csharp"), exclude_caches=True)
KNOWN = Known({"": {"a": (1, 2, 3, 4), "deep": ()}, "deep/": {}}, {"x.db": {"": (1, 2, 3, 4)}}, {"p": {"": {}}})


def read(place: pathlib.Path, document: t.Any) -> Known:
    put_file(place / FILES, json.dumps(document))
    with opened_directory(str(place)) as directory:
        return of.read_known(directory, CHOICE)


def test_what_is_written_is_read_back(tmp_path: pathlib.Path) -> None:
    assert read(tmp_path, of.document_of(KNOWN, CHOICE)) == KNOWN


@pytest.mark.parametrize("record", [[1, 2, 3], [1, 2, 3, True], [1, 2, 3, 4.0], [1, 2, 3, "4"], "1234", 1234, None])
@pytest.mark.parametrize("field", ["files", "stores", "parts"])
def test_a_malformed_record_counts_as_none(tmp_path: pathlib.Path, field: str, record: t.Any) -> None:
    held = {"": {"good": [1, 2, 3, 4], "bad": record}}
    document = {**of.document_of(KNOWN, CHOICE), field: {"p": held} if field == "parts" else held}
    assert read(tmp_path, document) == NOTHING


def test_a_snapshot_that_was_made_in_another_way_counts_as_none(tmp_path: pathlib.Path) -> None:
    assert read(tmp_path, of.document_of(KNOWN, CSHARP)) == NOTHING


def test_an_account_differs_if_a_part_parts_it_does(tmp_path: pathlib.Path) -> None:
    part = "acc\\store.db"
    (tmp_path / "acc").mkdir()
    put_file(tmp_path / "acc/acc_creds.json", "{}")
    put_file(tmp_path / part, "12")
    files = {"": {"acc_creds.json": record_of((tmp_path / "acc/acc_creds.json").stat())}}
    known = Known(files, {}, {part: {"": {part: record_of((tmp_path / part).stat())}}})

    def compared(known: Known) -> of.Difference:
        with opened_directory(str(tmp_path)) as root, opened_below(root, "acc") as directory:
            return of.difference_of(root, "acc", directory, CSHARP, known)

    assert compared(known) == of.Difference(same=True)
    assert compared(known._replace(parts={})) == of.Difference(False, 1, 2)
    assert not compared(NOTHING).same
    os.utime(tmp_path / part)
    assert compared(known) == of.Difference(False, 1, 2)
    (tmp_path / part).unlink()
    assert compared(known) == of.Difference(same=False)
