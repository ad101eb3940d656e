# SPDX-License-Identifier: GPL-3.0-or-later
"""Renames that replace nothing and swaps in one step, also where the filesystem or the C library has no call for it."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import typing as t

import pytest

from accounts import content, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs import syscalls
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.syscalls import (
    rename_new,
    same_mount,
    sync_filesystem,
)


@contextlib.contextmanager
def opened(*paths: pathlib.Path) -> t.Iterator[list[int]]:
    descriptors = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in paths]
    try:
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


@pytest.fixture(params=["by the call", "without it"])
def places(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[pathlib.Path, pathlib.Path]:
    if request.param == "without it":
        monkeypatch.setattr(syscalls, "_renameat2", lambda *arguments: False)
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other, one / "folder"):
        path.mkdir()
    put_file(one / "folder/a", "1")
    put_file(one / "file", "2")
    return one, other


@pytest.mark.parametrize("name", ["folder", "file", "new\nline"])
def test_what_is_renamed_arrives_whole(places: tuple[pathlib.Path, pathlib.Path], name: str) -> None:
    one, other = places
    put_file(one / "new\nline", "3")
    inode = (one / name).stat().st_ino
    with opened(one, other) as (source, target):
        rename_new(source, name, target, "new")
    assert not (one / name).exists()
    assert (other / "new").stat().st_ino == inode
    assert [path.name for path in other.iterdir()] == ["new"]


TAKEN: dict[str, t.Callable[[pathlib.Path], t.Any]] = {
    "a file": lambda path: put_file(path, "there"),
    "an empty directory": os.mkdir,
    "a full directory": lambda path: (os.mkdir(path), put_file(path / "x", "there")),
    "a link": lambda path: path.symlink_to("nowhere"),
}


@pytest.mark.parametrize("taken", TAKEN)
@pytest.mark.parametrize("name", ["folder", "file"])
def test_nothing_is_ever_replaced(places: tuple[pathlib.Path, pathlib.Path], name: str, taken: str) -> None:
    one, other = places
    TAKEN[taken](other / "new")
    before = content(one), content(other)
    with opened(one, other) as (source, target), pytest.raises(FileExistsError):
        rename_new(source, name, target, "new")
    assert (content(one), content(other)) == before


def test_what_is_not_there_leaves_no_trace(places: tuple[pathlib.Path, pathlib.Path]) -> None:
    one, other = places
    with opened(one, other) as (source, target), pytest.raises(FileNotFoundError):
        rename_new(source, "nothing", target, "new")
    assert list(other.iterdir()) == []


def test_a_rename_that_fails_leaves_no_claim_behind(places: tuple[pathlib.Path, pathlib.Path]) -> None:
    one, _other = places
    with opened(one, one / "folder") as (source, inside), pytest.raises(OSError) as raised:
        rename_new(source, "folder", inside, "new")  # into itself
    assert raised.value.errno == errno.EINVAL
    assert [path.name for path in (one / "folder").iterdir()] == ["a"]


def test_mounts_are_told_apart(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").mkdir()
    with opened(tmp_path, tmp_path / "a", pathlib.Path("/proc")) as (one, below, elsewhere):
        assert same_mount(one, below)
        assert not same_mount(one, elsewhere)


def test_a_filesystem_is_synced_or_it_is_said(tmp_path: pathlib.Path) -> None:
    with opened(tmp_path) as (place,):
        sync_filesystem(place)
    with pytest.raises(OSError) as raised:
        sync_filesystem(place)  # closed by now
    assert raised.value.errno == errno.EBADF


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_is_made_belongs_to_the_other_and_root_stays_root(tmp_path: pathlib.Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(0o700)
    with syscalls.creating_as(1501, 1502):
        os.close(os.open(closed / "wide", os.O_CREAT | os.O_WRONLY, 0o666))  # into root's own directory
    (closed / "after").touch()
    made, after = (closed / "wide").stat(), (closed / "after").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (1501, 1502, 0o666)
    assert (after.st_uid, after.st_gid, after.st_mode & 0o777) == (0, 0, 0o644)


def test_where_the_kernel_does_not_let_us_only_the_mode_is_exact(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syscalls._libc, "prctl", lambda *arguments: -1)
    with syscalls.creating_as(1501, 1502):
        os.close(os.open(tmp_path / "wide", os.O_CREAT | os.O_WRONLY, 0o666))
    assert ((tmp_path / "wide").stat().st_uid, (tmp_path / "wide").stat().st_mode & 0o777) == (os.geteuid(), 0o666)
