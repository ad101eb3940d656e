# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts that a backend keeps in a directory of which only its program knows."""

from __future__ import annotations

import os
import pathlib
import subprocess
import time

import pytest

from accounts import put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.masking import masked
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.custom import custom_layout
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.layout import Layout
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.sources import Source
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.unreferenced import (
    Astray,
    find_unreferenced,
    idle_sources,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit
from layouts import KINDS, put_root_of

ME = os.geteuid()


@pytest.fixture
def release(tmp_path: pathlib.Path) -> pathlib.Path:
    """A release with accounts where no library puts them by itself."""
    put_account(tmp_path / "release/data/phones/wa1")
    put_account(tmp_path / "release/data/phones/wa2", number=2)
    return tmp_path / "release"


def unit(directory: object, *, pid: int = 0, age: float = 0) -> Unit:
    started = str(int((time.monotonic() - age) * 1e6))
    own = {"MainPID": str(pid), "WorkingDirectory": str(directory), "ExecMainStartTimestampMonotonic": started}
    return Unit("wa.service", {**dict.fromkeys(PROPERTIES, ""), **own})


def astray(directory: object, *known: object, layout: Layout | None = None, uid: int = ME) -> Astray | None:
    return find_unreferenced(unit(directory), layout, map(str, known), uid, only_used=False)


def test_the_directory_that_has_most_of_them_is_named(release: pathlib.Path) -> None:
    put_account(release / "backup/wa1")
    assert astray(release) == Astray(f"{release}/data/phones", 2, masked("wa1"))


def test_directories_that_are_called_after_accounts_are_not_told(tmp_path: pathlib.Path) -> None:
    put_account(tmp_path / "r/lines/15550100001/auth")
    alone = astray(tmp_path / "r")
    put_account(tmp_path / "r/lines/15550100002/auth", number=2)
    assert alone == Astray(f"{tmp_path}/r/lines/{masked('15550100001')}", 1, masked("auth"))
    assert astray(tmp_path / "r") == Astray(f"{tmp_path}/r/lines", 2, masked("auth"))


def test_a_process_that_stands_elsewhere_than_its_unit_says(tmp_path: pathlib.Path) -> None:
    put_account(tmp_path / "old/one/wa1")
    put_account(tmp_path / "new/one/wa1")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=tmp_path / "old") as running:
        running_there = unit(tmp_path / "new", pid=running.pid)
        told = find_unreferenced(running_there, None, (), ME, only_used=False)
        only_old = find_unreferenced(running_there, None, (str(tmp_path / "new"),), ME, only_used=False)
        running.communicate()
    assert told == Astray(f"{tmp_path}/new/one", 1, masked("wa1"))
    assert only_old == Astray(f"{tmp_path}/old/one", 1, masked("wa1"))


def test_what_is_known_is_not_looked_into(release: pathlib.Path) -> None:
    (release / "link").symlink_to("data/phones")
    assert astray(release, release / "data/phones") is None
    assert astray(release, release) is None


@pytest.mark.parametrize(
    "folder", ["node_modules/x", ".git/x", "lib/site-packages/x", ".auth.whatsapp-ops/displaced", "a/b/c/d"]
)
def test_packages_what_was_put_aside_and_what_lies_deep_are_left_alone(tmp_path: pathlib.Path, folder: str) -> None:
    put_account(tmp_path / folder / "wa1")
    assert astray(tmp_path) is None


def test_credentials_of_another_kind_are_no_account(tmp_path: pathlib.Path) -> None:
    (tmp_path / "config").mkdir()
    put_file(tmp_path / "config/creds.json", '{"type": "service_account", "private_key": "x"}')
    assert astray(tmp_path) is None


def test_accounts_of_somebody_else_are_none_of_the_backend_s(release: pathlib.Path) -> None:
    assert astray(release, uid=ME + 1) is None


def test_a_release_is_called_as_its_unit_calls_it_and_shared_directories_are_found(
    release: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "current").symlink_to("release")
    (release / "data").rename(tmp_path / "shared")
    (release / "data").symlink_to(tmp_path / "shared")
    assert astray(tmp_path / "current") == Astray(f"{tmp_path}/current/data/phones", 2, masked("wa1"))


def test_no_whole_host_is_searched(release: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(release)
    assert astray("/") is None


def test_what_was_not_used_does_not_count_where_others_were_found(release: pathlib.Path) -> None:
    def used(pid: int, age: float) -> Astray | None:
        return find_unreferenced(unit(release, pid=pid, age=age), None, (), ME, only_used=True)

    assert used(os.getpid(), 3600) == Astray(f"{release}/data/phones", 2, masked("wa1"))
    assert used(os.getpid(), -3600) is None
    assert used(0, 3600) is None


def test_a_described_layout_counts_alone(release: pathlib.Path) -> None:
    (release / "lines/one").mkdir(parents=True)
    put_file(release / "lines/one/token", "x")
    assert astray(release, layout=custom_layout({"markers": ["token"]})) == Astray(f"{release}/lines", 1, masked("one"))


def test_of_several_roots_those_are_told_that_only_an_earlier_version_used(release: pathlib.Path) -> None:
    old, used, empty = (Source(str(release / name), str(release / name)) for name in ("old", "data/phones", "empty"))
    put_account(release / "old/wa3", number=3)
    (release / "empty").mkdir()
    running, started = unit(release, pid=os.getpid()), time.time_ns()
    credentials = release / "data/phones/wa2/creds.json"
    while credentials.stat().st_ctime_ns <= started:  # the clock of files goes by ticks
        credentials.write_bytes(credentials.read_bytes())

    def idle(*sources: Source) -> tuple[Source, ...]:
        return idle_sources(running, sources, layout_named("baileys"))

    assert idle(old, used, empty) == (old, empty)
    assert idle(used) == idle(old, empty) == ()  # nothing tells them apart


@pytest.mark.parametrize("kind", KINDS)
def test_every_library_is_known(tmp_path: pathlib.Path, kind: str) -> None:
    """Under a name that is nobody's default; those with a folder of a known name have it below."""
    put_root_of(kind, tmp_path / "release/put/here")
    assert astray(tmp_path / "release") is not None
