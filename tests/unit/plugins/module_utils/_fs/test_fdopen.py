# SPDX-License-Identifier: GPL-3.0-or-later
"""From names to directories: which links are followed, and that files are read and written whole or not at all."""

from __future__ import annotations

import os
import pathlib
import stat
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts import put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.printable import is_plain
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import (
    make_directory,
    normal_path,
    opened_directory,
    real_path,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.files import read_file, write_atomic
from striker import exchange, striking

NOBODY, OTHER = 65534, 1
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
OURS = {"uid": os.geteuid(), "gid": os.getegid()}


@pytest.mark.parametrize(
    ("path", "normal"),
    [("/a/b", "/a/b"), ("/a//b/", "/a/b"), ("//a/./b/.", "/a/b"), ("/", "/"), ("/ a/b ", "/ a/b "), ("/a…", "/a…")],
)
def test_normal_paths(path: str, normal: str) -> None:
    assert normal_path(path, "path") == normal


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("", "a relative path"),
        ("a", "a relative path"),
        ("./a", "a relative path"),
        ("~/a", "a relative path"),
        ("/a/../b", "'..'"),
        ("/..", "'..'"),
        ("/a\nb", "control character"),
        ("/a\0", "control character"),
        ("/a\x7f", "control character"),
        ("/a\x9b", "control character"),
        ("/a\u202e", "control character"),
        ("/a\udcff", "control character"),
    ],
)
def test_paths_that_no_host_could_accept(path: str, words: str) -> None:
    with pytest.raises(SessionsError, match=words) as refused:
        normal_path(path, "src")
    assert str(refused.value).startswith("src ")
    assert "\n" not in str(refused.value)


@given(st.lists(st.text(st.characters(min_codepoint=33, exclude_characters="/\x7f"), min_size=1)))
def test_a_normal_path_stays_as_it_is(parts: list[str]) -> None:
    try:
        path = normal_path("//".join(["", *parts, ""]), "path")
    except SessionsError:
        assert ".." in parts or parts == [] or not is_plain("".join(parts))
        return
    assert normal_path(path, "path") == path
    assert ".." not in parts


@root
@pytest.mark.parametrize(
    ("maker", "owner", "trusted_uids", "followed"),
    [
        (0, 0, (), True),
        (0, NOBODY, (), True),
        (NOBODY, NOBODY, (), True),
        (NOBODY, 0, (), False),
        (NOBODY, OTHER, (), False),
        (NOBODY, OTHER, (OTHER,), True),
        (NOBODY, 0, (NOBODY,), False),
    ],
)
@pytest.mark.parametrize("where", ["last", "on the way", "two links"])
def test_a_link_is_followed_only_where_its_maker_gains_nothing(
    tmp_path: pathlib.Path, maker: int, owner: int, trusted_uids: t.Collection[int], followed: bool, where: str
) -> None:
    (tmp_path / "real/below").mkdir(parents=True)
    link = tmp_path / "link"
    link.symlink_to("real" if where != "two links" else "second")
    (tmp_path / "second").symlink_to("real")
    os.chown(link, maker, maker, follow_symlinks=False)
    path = link / "below" if where == "on the way" else link
    os.chown(tmp_path / ("real/below" if where == "on the way" else "real"), owner, owner)
    if followed:
        with opened_directory(str(path), trusted_uids=trusted_uids) as directory:
            assert real_path(directory) == str(path.resolve())
        return
    with (
        pytest.raises(SessionsError, match="of an unprivileged user"),
        opened_directory(str(path), trusted_uids=trusted_uids),
    ):
        pass


@pytest.mark.parametrize("target", ["nowhere", "link", "../../../../../../../../nowhere", "file", "file/x"])
def test_what_leads_nowhere(tmp_path: pathlib.Path, target: str) -> None:
    put_file(tmp_path / "file", "")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises((FileNotFoundError, NotADirectoryError)), opened_directory(str(tmp_path / "link")):
        pass


def test_no_descriptor_stays_open(tmp_path: pathlib.Path) -> None:
    before = os.listdir("/proc/self/fd")
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "nothing/x"):
        try:
            with opened_directory(str(path)):
                pass
        except FileNotFoundError:
            pass
    read_file(str(tmp_path / "nothing"))
    make_directory(str(tmp_path / "a/b"), 0o750, **OURS)
    write_atomic(str(tmp_path / "file"), b"x", 0o600, **OURS)
    assert os.listdir("/proc/self/fd") == before


def test_directories_are_made_with_their_parents_whatever_the_umask(tmp_path: pathlib.Path) -> None:
    before = os.umask(0o077)
    try:
        make_directory(str(tmp_path / "a/b/c"), 0o750, **OURS)
        make_directory(str(tmp_path / "a/b/c"), 0o700, **OURS)  # it is there: nothing is changed
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("a", "a/b", "a/b/c")] == [0o755, 0o755, 0o750]


@root
@pytest.mark.parametrize("path", ["new", "new/below", "parent/new", "parent/new/below"])
@pytest.mark.parametrize("decoy", ["root's, full", "root's, open", "another's", "a link", "a file"])
def test_a_directory_that_was_exchanged_when_it_was_just_made_does_not_change_hands(
    tmp_path: pathlib.Path, path: str, decoy: str
) -> None:
    """Whoever may write in the directory above puts something else in its place before root has opened it."""
    tmp_path.chmod(0o755)
    above = tmp_path / "above"
    other = above / "decoy"
    (above / "parent").mkdir(parents=True)
    if decoy == "a link":
        (tmp_path / "roots").mkdir(0o700)
        other.symlink_to(tmp_path / "roots")
    elif decoy == "a file":
        put_file(other, "")
    else:
        other.mkdir(0o755 if decoy == "root's, open" else 0o700)
        os.chown(other, OTHER if decoy == "another's" else 0, 0)
    if decoy == "root's, full":
        put_file(other / "key", "")
    place = above / path.partition("new")[0] / "new"
    for directory in (above, place.parent):
        os.chown(directory, NOBODY, NOBODY)
    before = other.lstat()

    with (
        pytest.raises(SessionsError, match=r"/new was replaced while it was being created"),
        striking("open", "new", lambda: exchange(place, other)),
    ):
        make_directory(str(above / path), 0o750, uid=NOBODY, gid=NOBODY)

    after = place.lstat()
    assert (after.st_ino, after.st_uid, after.st_mode) == (before.st_ino, before.st_uid, before.st_mode)
    assert other.lstat().st_uid == 0  # what was made stays root's, and empty
    assert not list(other.iterdir())
    if decoy == "a link":
        assert not list((tmp_path / "roots").iterdir())


@root
def test_parents_that_are_exchanged_later_lead_nowhere_else(tmp_path: pathlib.Path) -> None:
    (tmp_path / "other").mkdir()
    with striking("mkdir", "below", lambda: exchange(tmp_path / "made", tmp_path / "other")):
        make_directory(str(tmp_path / "made/below"), 0o750, uid=NOBODY, gid=NOBODY)
    assert not (tmp_path / "made/below").exists()
    assert (tmp_path / "other/below").stat().st_uid == NOBODY  # the directory that root made, wherever it is now


def test_a_file_is_written_in_one_step(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "file"
    write_atomic(str(path), b"one", 0o640, **OURS)
    inode = path.stat().st_ino
    with path.open("rb") as reader:
        write_atomic(str(path), b"two", 0o600, **OURS)
        assert reader.read() == b"one"  # who reads the old one reads all of it
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"two", 0o600)
    assert path.stat().st_ino != inode
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_link_is_replaced_and_never_written_through(tmp_path: pathlib.Path) -> None:
    put_file(tmp_path / "outside", "stays")
    (tmp_path / "file").symlink_to("outside")
    write_atomic(str(tmp_path / "file"), b"new", 0o600, **OURS)
    assert (tmp_path / "outside").read_text() == "stays"
    assert not (tmp_path / "file").is_symlink()


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(str(tmp_path / "file"), b"new", 0o600, **OURS)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_reading(tmp_path: pathlib.Path) -> None:
    put_file(tmp_path / "file", b"\xff\0")
    assert read_file(str(tmp_path / "file")) == b"\xff\0"
    assert read_file(str(tmp_path / "nothing")) is None
    assert read_file(str(tmp_path / "nothing/x")) is None
    assert read_file(str(tmp_path / "file/x")) is None


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("other"), lambda path: put_file(path, b"x" * 11)]
)
def test_what_is_no_file_or_too_large_is_not_read(
    tmp_path: pathlib.Path, make: t.Callable[[pathlib.Path], t.Any]
) -> None:
    put_file(tmp_path / "other", "x")
    make(tmp_path / "file")
    with pytest.raises(SessionsError, match="file"):
        read_file(str(tmp_path / "file"), at_most=10)
