# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether keys at a path that accounts came from are newer, and what is said about a backend that uses another path."""

from __future__ import annotations

import os
import pathlib
import time
import typing as t

import pytest

from accounts import put_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import RECEIPT, entries_in
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.work_area import known_document
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import job as core_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import job as migration_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage import use as usage_use
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage.in_use import (
    ELSEWHERE,
    NOWHERE,
    UNKNOWN,
    USED,
    Verdict,
)

BAILEYS = layout_named("baileys")


class Scene:
    """Two accounts that were migrated."""

    def __init__(self, place: pathlib.Path) -> None:
        self.legacy, self.path = place / "legacy", place / "sessions"
        for name in ("wa1", "wa2"):
            put_account(self.legacy / name)
        options = {
            "src": [str(self.legacy)],
            "path": str(self.path),
            "owner": str(os.geteuid()),
            "group": str(os.getegid()),
        }
        core_job.execute(migration_job, options, check_mode=False)

    @property
    def newer(self) -> tuple[str, ...]:
        return usage_use.newer_places(str(self.path), entries_in(known_document(str(self.path), RECEIPT)), BAILEYS)

    def write(self, root: pathlib.Path, name: str = "wa1") -> None:
        """Write keys as a backend does, later than everything that was written before."""
        file = root / name / "creds.json"
        before = max(path.stat().st_ctime_ns for path in (self.legacy, self.path) for path in path.rglob("creds.json"))
        while file.stat().st_ctime_ns <= before:
            file.write_bytes(file.read_bytes())
            os.utime(file, ns=(time.time_ns(), time.time_ns()))


@pytest.fixture
def scene(tmp_path: pathlib.Path) -> Scene:
    return Scene(tmp_path)


def test_nothing_is_newer_after_a_migration(scene: Scene) -> None:
    assert scene.newer == ()


def test_keys_that_are_written_at_the_former_path_are_newer(scene: Scene) -> None:
    scene.write(scene.legacy, "wa2")
    assert scene.newer == (str(scene.legacy),)


def test_keys_at_the_path_that_are_newer_still_win(scene: Scene) -> None:
    scene.write(scene.legacy)
    scene.write(scene.path)
    assert scene.newer == ()


@pytest.mark.parametrize("gone", ["legacy", "legacy/wa1"])
def test_a_former_path_that_is_gone_has_no_keys(scene: Scene, gone: str) -> None:
    scene.write(scene.legacy)
    (scene.legacy.parent / gone).rename(scene.legacy.parent / "away")
    assert scene.newer == ()


@pytest.mark.parametrize(
    ("use", "newer", "linked", "words"),
    [
        (Verdict(USED), (), 3, None),
        (Verdict(UNKNOWN), (), 3, None),
        (None, (), 3, None),
        (Verdict(ELSEWHERE, ("/opt/a", "/opt/b")), (), 3, "wa.service uses /opt/a, /opt/b instead of /srv/wa"),
        (
            Verdict(NOWHERE),
            (),
            1,
            "neither open files, mounts nor the environment of wa.service show that it uses /srv/wa",
        ),
        (Verdict(NOWHERE), (), 0, None),
        (Verdict(USED), ("/opt/a",), 0, "accounts in /opt/a have newer keys than in /srv/wa"),
        (None, ("/opt/a",), 3, "accounts in /opt/a have newer keys than in /srv/wa"),
    ],
)
def test_what_is_wrong_is_said(use: t.Any, newer: tuple[str, ...], linked: int, words: str | None) -> None:
    said = usage_use.complaint(usage_use.Seen(usage_use.Params("wa.service", "/srv/wa"), use, newer), linked)
    assert said.startswith(words) if words else said == ""
