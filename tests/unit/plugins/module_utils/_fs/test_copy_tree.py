# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying trees: equal to the byte whatever is in them, nothing twice, nothing of others, nothing that was changing."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pathlib
import re
import socket
import stat
import struct
import time
import types
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import CANARY, OLD, content, give, looks, opened, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs import copy_file, walk_tree
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.copy_file import Rules, UnfitTree
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.copy_tree import (
    Index,
    bring_entry,
    remove_tree,
    sync_entries,
    sync_tree,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.give_tree import chown_tree
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.walk_tree import Tally, measure, same_content
from striker import exchange, striking

OURS = (os.geteuid(), os.getegid())
NOBODY = 65534
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
VOLATILE = re.compile(r".*\.tmp|\.write-test").fullmatch


def rules(
    uid: int = OURS[0], gid: int = OURS[1], owners: t.Collection[int] = (OURS[0],), checksum: bool = True
) -> Rules:
    return Rules(uid, gid, frozenset(owners), VOLATILE, checksum)


class Trees:
    """A source and a target directory."""

    def __init__(self, place: pathlib.Path) -> None:
        self.source, self.target = place / "source", place / "target"
        self.source.mkdir()
        self.target.mkdir()

    def bring(self, index: Index | None = None, how: Rules | None = None) -> tuple[Index, Tally]:
        with opened(self.source) as source, opened(self.target) as target:
            return sync_tree(source, target, how or rules(), index or {})


@pytest.fixture
def trees(tmp_path: pathlib.Path) -> Trees:
    return Trees(tmp_path)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be a minute later than it is: no file was written just now."""
    later = types.SimpleNamespace(time_ns=lambda: time.time_ns() + 60 * 10**9, monotonic=time.monotonic)
    monkeypatch.setattr(copy_file, "time", later)


# --- any tree ----------------------------------------------------------------------------------------------

NAMES = st.one_of(
    st.binary(min_size=1, max_size=12).filter(lambda name: name not in (b".", b"..") and not set(name) & {0, 47}),
    st.sampled_from([b"-rf", b"new\nline", b"\xff\xfe", b" ", b"a" * 255, CANARY.encode(), b"creds.json", b"{}", b"*"]),
).filter(lambda name: not VOLATILE(os.fsdecode(name)))
FILES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"\0" * 70000, b"x" * (1 << 18), b"y" * ((1 << 18) + 1), b"z" * ((1 << 18) - 1)]),
)
TREES = st.recursive(FILES, lambda inner: st.dictionaries(NAMES, inner, max_size=5), max_leaves=15).filter(
    lambda tree: isinstance(tree, dict)
)


def plant(path: bytes, tree: t.Any) -> None:
    if isinstance(tree, bytes):
        with open(path, "wb") as file:
            file.write(tree)
        os.utime(path, (OLD, OLD))
        return
    if not os.path.isdir(path):
        os.mkdir(path)
    for name, inner in tree.items():
        plant(path + b"/" + name, inner)


def files_in(tree: t.Any) -> int:
    return 1 if isinstance(tree, bytes) else sum(map(files_in, tree.values()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(first=TREES, second=TREES, checksum=st.booleans())
def test_any_tree_becomes_any_other(
    tmp_path_factory: pytest.TempPathFactory, later: None, first: t.Any, second: t.Any, checksum: bool
) -> None:
    trees, how = Trees(tmp_path_factory.mktemp("trees")), rules(checksum=checksum)
    plant(os.fsencode(trees.source), first)
    index, tally = trees.bring(how=how)
    assert content(trees.target) == content(trees.source)
    assert (tally.files, tally.copied, tally.unsettled) == (files_in(first), files_in(first), 0)
    before = looks(trees.target)
    index, tally = trees.bring(index, how)
    assert (tally.files, tally.copied, tally.removed) == (files_in(first), 0, 0)
    assert {name: look[:7] for name, look in looks(trees.target).items()} == {
        name: look[:7] for name, look in before.items()
    }
    _again, tally = trees.bring(None, how)  # what was copied is recognised also when nothing is known of it
    assert (tally.copied, content(trees.target)) == (0, content(trees.source))
    remove(trees.source)
    plant(os.fsencode(trees.source), second)
    trees.bring(index, how)
    assert content(trees.target) == content(trees.source)
    with opened(trees.source) as one, opened(trees.target) as other:
        assert same_content(one, other, VOLATILE)
        assert measure(one, VOLATILE).files == files_in(second)


def remove(path: pathlib.Path) -> None:
    with opened(path.parent) as parent:
        remove_tree(parent, path.name)


def test_wide_and_deep(trees: Trees, later: None) -> None:
    for number in range(3000):
        (trees.source / f"{number}").write_bytes(b"x")
    deep = trees.source / "/".join(["d"] * 60)
    deep.mkdir(parents=True)
    put_file(deep / "key", CANARY)
    trees.bring()
    assert content(trees.target) == content(trees.source)


def test_too_deep_is_refused_without_a_name(trees: Trees) -> None:
    (trees.source / "/".join([CANARY] * 66)).mkdir(parents=True)
    for work in (trees.bring, lambda: hand(trees.source)):
        with pytest.raises(UnfitTree, match="more than 64 levels") as refused:
            work()
        assert CANARY not in str(refused.value)


def hand(path: pathlib.Path, how: Rules | None = None) -> Tally:
    with opened(path) as directory:
        return chown_tree(directory, how or rules())


# --- what is not copied ----------------------------------------------------------------------------------


def test_links_fifos_sockets_and_what_is_volatile_are_left_out(
    trees: Trees, tmp_path: pathlib.Path, later: None
) -> None:
    put_file(tmp_path / "outside", CANARY)
    (trees.source / "link").symlink_to(tmp_path / "outside")
    (trees.source / "folder").symlink_to(tmp_path)
    (trees.source / "dangling").symlink_to("nowhere")
    os.mkfifo(trees.source / "fifo")
    os.chdir(trees.source)  # the path of a socket is at most 108 bytes long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    os.chdir("/")
    kinds = 5
    if os.geteuid() == 0:
        os.mknod(trees.source / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        kinds += 1
    put_file(trees.source / "creds.json.tmp", "x")
    put_file(trees.source / ".write-test", "x")
    _index, tally = trees.bring()
    assert (tally.left_out, tally.files) == (kinds, 0)
    assert list(trees.target.iterdir()) == []
    assert hand(trees.source).left_out == kinds + 2
    assert list(trees.source.iterdir()) == []
    assert (tmp_path / "outside").read_text() == CANARY


def test_what_became_something_else_is_followed(trees: Trees, later: None) -> None:
    put_file(trees.source / "a", "file")
    (trees.source / "b").mkdir()
    put_file(trees.source / "b/c", "file")
    put_file(trees.source / "gone", "file")
    index, _tally = trees.bring()
    (trees.source / "a").unlink()
    (trees.source / "a").mkdir()
    put_file(trees.source / "a/d", "file")
    remove(trees.source / "b")
    put_file(trees.source / "b", "file")
    (trees.source / "gone").unlink()
    (trees.source / "gone").symlink_to("/etc/hostname")
    _index, tally = trees.bring(index)
    assert content(trees.target) == {b"a": None, b"a/d": b"file", b"b": b"file"}
    assert tally.copied == 2


def test_modes_are_kept_without_set_id_bits(trees: Trees, later: None) -> None:
    for number, mode in enumerate((0o600, 0o644, 0o400, 0o6755, 0o1777, 0o000)):
        put_file(trees.source / f"{number}", "x").chmod(mode)
    (trees.source / "folder").mkdir()
    (trees.source / "folder").chmod(0o3750)
    trees.source.chmod(0o2755)
    trees.bring()
    found = [stat.S_IMODE((trees.target / f"{number}").stat().st_mode) for number in range(6)]
    assert found == [0o600, 0o644, 0o400, 0o755, 0o777, 0o000]
    assert stat.S_IMODE((trees.target / "folder").stat().st_mode) == 0o750
    assert stat.S_IMODE(trees.target.stat().st_mode) == 0o755
    assert (trees.target / "1").stat().st_mtime == OLD
    assert hand(trees.source).files == 6
    assert stat.S_IMODE((trees.source / "3").stat().st_mode) == 0o755


def test_hard_links_become_files_of_their_own(trees: Trees, later: None) -> None:
    put_file(trees.source / "a", "x")
    os.link(trees.source / "a", trees.source / "b")
    trees.bring()
    assert (trees.target / "a").stat().st_nlink == (trees.target / "b").stat().st_nlink == 1


def test_holes_stay_holes(trees: Trees, later: None) -> None:
    for name, size, places in (
        ("hollow", 1 << 22, ()),
        ("end", 1 << 22, (0, 1 << 21)),
        ("tail", 1 << 22, ((1 << 22) - 1,)),
    ):
        with (trees.source / name).open("wb") as file:
            file.truncate(size)
            for place in places:
                file.seek(place)
                file.write(b"x")
    trees.bring()
    assert content(trees.target) == content(trees.source)
    assert all(path.stat().st_blocks * 512 < 1 << 16 for path in trees.target.iterdir())


def acl(*entries: tuple[int, int, int]) -> bytes:
    """An ACL as the kernel keeps it, acl(5): version 2, then (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


ACL = acl((0x01, 6, 0xFFFFFFFF), (0x02, 4, 1234), (0x04, 0, 0xFFFFFFFF), (0x10, 4, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF))


@pytest.mark.parametrize("index", ["fresh", "none"])
def test_acls_and_attributes_of_the_user_are_kept(trees: Trees, later: None, index: str) -> None:
    file = put_file(trees.source / "a", "x")
    os.setxattr(file, "user.note", b"mine")
    os.setxattr(file, "system.posix_acl_access", ACL)
    if os.geteuid() == 0:
        os.setxattr(file, "trusted.note", b"root's")
        os.setxattr(file, "security.note", b"label")
    if index == "none":  # another engine made the copy, without them
        put_file(trees.target / "a", "x")
    trees.bring()
    assert sorted(os.listxattr(trees.target / "a")) == ["system.posix_acl_access", "user.note"]
    assert os.getxattr(trees.target / "a", "system.posix_acl_access") == ACL
    assert os.getxattr(trees.target / "a", "user.note") == b"mine"
    assert (trees.target / "a").stat().st_mode == file.stat().st_mode


# --- whose files ----------------------------------------------------------------------------------------


@root
@pytest.mark.parametrize(("mode", "taken"), [(0o600, False), (0o640, False), (0o644, True), (0o604, True)])
def test_files_of_others_are_taken_only_if_everybody_may_read_them(
    trees: Trees, later: None, mode: int, taken: bool
) -> None:
    put_file(trees.source / CANARY, "root's").chmod(mode)
    how = rules(NOBODY, NOBODY, owners=(NOBODY,))
    os.chown(trees.source, NOBODY, NOBODY)
    for work in (trees.bring, lambda index, how: hand(trees.source, how)):
        with (
            contextlib.nullcontext()
            if taken
            else pytest.raises(UnfitTree, match="private file of another user") as refused
        ):
            work(None, how)
        if not taken:
            assert CANARY not in str(refused.value)
            assert list(trees.target.iterdir()) == []
            assert (trees.source / CANARY).stat().st_uid == 0


@root
@pytest.mark.parametrize(("mode", "taken"), [(0o700, False), (0o711, False), (0o744, False), (0o755, True)])
def test_what_a_closed_directory_of_others_protects_stays_there(
    trees: Trees, later: None, mode: int, taken: bool
) -> None:
    (trees.source / CANARY).mkdir()
    put_file(trees.source / CANARY / "file", "root's").chmod(0o644)
    (trees.source / CANARY).chmod(mode)
    os.chown(trees.source, NOBODY, NOBODY)
    how = rules(NOBODY, NOBODY, owners=(NOBODY,))
    for work in (trees.bring, lambda index, how: hand(trees.source, how)):
        with (
            contextlib.nullcontext()
            if taken
            else pytest.raises(UnfitTree, match="private directory of another user") as refused
        ):
            work(None, how)
        if not taken:
            assert CANARY not in str(refused.value)
            assert (trees.source / CANARY / "file").stat().st_uid == 0


@root
def test_a_copy_belongs_to_who_is_to_have_it(trees: Trees, later: None) -> None:
    (trees.source / "folder").mkdir()
    put_file(trees.source / "folder/a", "x")
    trees.bring(how=rules(NOBODY, 4242))
    assert {(look[3], look[4]) for look in looks(trees.target).values()} == {(NOBODY, 4242)}


@root
def test_what_others_copied_is_given_its_owner_and_mode(trees: Trees, later: None) -> None:
    put_file(trees.source / "a", "x")
    put_file(trees.target / "a", "x").chmod(0o666)
    _index, tally = trees.bring(how=rules(NOBODY, 4242))
    assert tally.copied == 0
    status = (trees.target / "a").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (NOBODY, 4242, 0o600)


def test_what_others_copied_badly_is_copied_again(trees: Trees, later: None) -> None:
    for name, copy, at in (("torn", "12", OLD), ("other", "xyz", OLD), ("later", "123", OLD + 1), ("good", "123", OLD)):
        put_file(trees.source / name, "123")
        put_file(trees.target / name, copy, at=at)
    put_file(trees.target / "more", "x")
    _index, tally = trees.bring()
    assert (tally.copied, tally.removed) == (3, 1)
    assert content(trees.target) == content(trees.source)


@root
def test_a_file_with_a_second_name_does_not_change_hands(trees: Trees, tmp_path: pathlib.Path) -> None:
    secret = put_file(tmp_path / "secret", "x")
    secret.chmod(0o644)
    os.link(secret, trees.source / "linked")
    with pytest.raises(UnfitTree, match="another hard link"):
        hand(trees.source, rules(NOBODY, NOBODY, owners=(0, NOBODY)))
    assert secret.stat().st_uid == 0
    hand(trees.source)  # it stays whose it is: nothing to refuse


# --- a source that changes -------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """The clock that copying goes by; it stands still."""
    made = types.SimpleNamespace(now=0, time_ns=lambda: made.now, monotonic=time.monotonic)
    monkeypatch.setattr(copy_file, "time", made)
    return made


def test_what_was_written_just_now_is_read_again(trees: Trees, clock: types.SimpleNamespace) -> None:
    """A file system stamps with the tick of its clock: within one tick a second write does not show."""
    written = put_file(trees.source / "a", "x").stat().st_ctime_ns
    index: Index = {}
    for since in (0, 1_000_000):
        clock.now = written + since
        index, tally = trees.bring(index)
        assert (tally.copied, tally.unsettled) == (1, 1)
    clock.now = written + 10_000_000_000
    index, tally = trees.bring(index)
    assert (tally.copied, tally.unsettled) == (1, 0)
    assert trees.bring(index)[1].copied == 0


@pytest.mark.parametrize(
    ("stamp", "since", "racy"),
    [
        *(
            (1_600_000_000_123_456_789, since, racy)
            for since, racy in ((0, True), (19, True), (-19, True), (21, False))
        ),
        *((1_600_000_000_000_000_000, since, racy) for since, racy in ((0, True), (1999, True), (2001, False))),
    ],
)
def test_within_the_grain_of_a_file_system(clock: types.SimpleNamespace, stamp: int, since: int, racy: bool) -> None:
    """Some stamp with whole seconds only. ``since``: milliseconds."""
    clock.now = stamp + since * 1_000_000
    assert copy_file._is_racy(t.cast("os.stat_result", types.SimpleNamespace(st_ctime_ns=stamp))) is racy


Changes = t.Callable[[pathlib.Path], t.Any]


@pytest.mark.parametrize("size", [1, 1 << 19])
@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.write_bytes(b""),
        lambda path: (path.write_bytes(b"y" * path.stat().st_size), os.utime(path, (OLD, OLD))),
        lambda path: path.chmod(0o640),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_never_settled(
    trees: Trees, later: None, monkeypatch: pytest.MonkeyPatch, change: Changes, size: int
) -> None:
    source = put_file(trees.source / "a", b"x" * size)
    kept = copy_file._keep_attributes

    def keep(reading: int, writing: int, rules: Rules) -> None:
        change(source)  # right behind the last byte
        kept(reading, writing, rules)

    monkeypatch.setattr(copy_file, "_keep_attributes", keep)
    index, tally = trees.bring()
    assert (tally.copied, tally.unsettled) == (1, 1)
    monkeypatch.setattr(copy_file, "_keep_attributes", kept)
    _index, tally = trees.bring(index)
    assert (tally.copied, tally.unsettled) == (1, 0)
    assert content(trees.target) == content(trees.source)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_is_exchanged_for_a_link_right_before_it_is_opened_leads_nowhere(
    trees: Trees, later: None, tmp_path: pathlib.Path, what: str, again: bool
) -> None:
    """After it was seen to be a file, or a directory. What the link leads to everybody may read."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    put_file(outside / "secret", CANARY).chmod(0o644)
    put_file(trees.source / "file", "1")
    (trees.source / "folder").mkdir()
    put_file(trees.source / "folder/secret", "1")
    index: Index = {}
    if again:
        index, _tally = trees.bring()
        put_file(trees.source / "file", "two")
    decoy = tmp_path / "decoy"
    decoy.symlink_to(outside if what == "folder" else outside / "secret")
    with striking("open", what, lambda: exchange(trees.source / what, decoy)), pytest.raises(OSError):
        trees.bring(index)
    assert CANARY.encode() not in b"".join(held or b"" for held in content(trees.target).values())


@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_is_exchanged_for_a_link_right_before_it_changes_hands_leads_nowhere(
    trees: Trees, tmp_path: pathlib.Path, what: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    put_file(outside / "secret", CANARY).chmod(0o4755)
    before = looks(outside)
    put_file(trees.source / "file", "1").chmod(0o4700)
    (trees.source / "folder").mkdir()
    put_file(trees.source / "folder/secret", "1").chmod(0o4700)
    decoy = tmp_path / "decoy"
    decoy.symlink_to(outside if what == "folder" else outside / "secret")
    with striking("open", what, lambda: exchange(trees.source / what, decoy)), pytest.raises(OSError):
        hand(trees.source)
    assert looks(outside) == before


def test_what_vanishes_while_it_is_listed_is_no_error(
    trees: Trees, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        put_file(trees.source / name, "x")
    listed = os.scandir

    @contextlib.contextmanager
    def listing(directory: t.Any) -> t.Iterator[t.Iterator[os.DirEntry[str]]]:
        with listed(directory) as entries:
            found = list(entries)
        if any(entry.name == "b" for entry in found):
            (trees.source / "b").unlink(missing_ok=True)
        yield iter(found)

    monkeypatch.setattr(os, "scandir", listing)
    index, tally = trees.bring()
    assert tally.copied == 2
    assert set(index[""]) == {"a", "c"}


@pytest.mark.parametrize("size", [4, 1 << 20])
def test_a_bad_disk_is_noticed(trees: Trees, later: None, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    put_file(trees.source / "a", b"x" * size)
    monkeypatch.setattr(copy_file, "_write_all", lambda writing, block: os.write(writing, b"?" * len(block)))
    with pytest.raises(OSError, match="read back"):
        trees.bring()


# --- the smaller ones -------------------------------------------------------------------------------------


def test_one_entry(trees: Trees, later: None) -> None:
    put_file(trees.source / "file", "x")
    (trees.source / "folder/deep").mkdir(parents=True)
    put_file(trees.source / "folder/deep/a", "y")
    (trees.source / "link").symlink_to("file")
    put_file(trees.target / "other", "stays")
    put_file(trees.target / "folder", "was a file")
    with opened(trees.source) as source, opened(trees.target) as target:
        tallies = [bring_entry(source, target, name, rules(), {})[1] for name in ("file", "folder", "link")]
    assert [(tally.copied, tally.left_out) for tally in tallies] == [(1, 0), (1, 0), (0, 1)]
    assert content(trees.target) == {
        b"file": b"x",
        b"folder": None,
        b"folder/deep": None,
        b"folder/deep/a": b"y",
        b"other": b"stays",
    }


def test_removing_takes_links_and_never_what_they_lead_to(tmp_path: pathlib.Path) -> None:
    put_file(tmp_path / "outside", "x")
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "a/b/link").symlink_to(tmp_path)
    put_file(tmp_path / "a/b/c", "x").chmod(0)
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("a", "link", "nothing"):
        remove(tmp_path / name)
        remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["outside"]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda path: None, True),
        (lambda path: put_file(path / "creds.json.tmp", "x"), True),
        (lambda path: (path / "a").chmod(0o644), True),
        (lambda path: put_file(path / "a", "2"), False),
        (lambda path: put_file(path / "a", "12"), False),
        (lambda path: put_file(path / "more", ""), False),
        (lambda path: (path / "folder/b").unlink(), False),
        (lambda path: (path / "folder").rename(path / "other"), False),
    ],
)
def test_same_content(trees: Trees, change: Changes, same: bool) -> None:
    for place in (trees.source, trees.target):
        put_file(place / "a", "1")
        (place / "folder").mkdir()
        put_file(place / "folder/b", "x")
    change(trees.target)
    with opened(trees.source) as one, opened(trees.target) as other:
        assert same_content(one, other, VOLATILE) is same
        assert same_content(other, one, VOLATILE) is same


def test_measuring_looks_at_names_and_times_only(trees: Trees) -> None:
    put_file(trees.source / "a", "12")
    (trees.source / "folder").mkdir()
    put_file(trees.source / "folder/b", "345", at=OLD + 5)
    put_file(trees.source / "x.tmp", "345", at=OLD + 9)
    os.mkfifo(trees.source / "fifo")
    with opened(trees.source) as directory:
        assert measure(directory, VOLATILE) == Tally(files=2, bytes=5, newest_ns=(OLD + 5) * 10**9)


@pytest.mark.usefixtures("later")
def test_some_names_are_brought_whatever_they_are_by_now(trees: Trees) -> None:
    for name in ("gone", "written", "folder", "pipe", "untouched", "x.tmp"):
        put_file(trees.source / name, "1")
        put_file(trees.target / name, "1")
    for name in ("gone", "folder", "pipe"):
        (trees.source / name).unlink()
    put_file(trees.source / "written", "2")
    put_file(trees.source / "untouched", "2")
    put_file(trees.source / "x.tmp", "2")
    (trees.source / "folder").mkdir()
    put_file(trees.source / "folder/inner", "2")
    os.mkfifo(trees.source / "pipe")
    trees.source.chmod(0o750)
    names = {"gone", "written", "folder", "pipe", "x.tmp", "never there"}
    with opened(trees.source) as source, opened(trees.target) as target:
        left, tally = sync_entries(source, target, names, rules())
    assert (left, tally.copied) == (set(), 2)
    assert content(trees.target) == {
        b"written": b"2",
        b"untouched": b"1",
        b"folder": None,
        b"folder/inner": b"2",
        b"x.tmp": b"1",
    }
    assert stat.S_IMODE(trees.target.stat().st_mode) == 0o750


def test_names_that_keep_changing_are_returned(trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_file, "_is_racy", lambda status: status.st_size == 3)
    (trees.source / "folder").mkdir()
    for name, held in {"new": "new", "folder/new": "new", "settled": "settled"}.items():
        put_file(trees.source / name, held)
    with opened(trees.source) as source, opened(trees.target) as target:
        left, _tally = sync_entries(source, target, ["new", "folder", "settled"], rules())
    assert left == {"new", "folder"}
    assert content(trees.target) == content(trees.source)


@root
def test_names_are_brought_for_their_new_owner_and_never_out_of_a_closed_directory(trees: Trees) -> None:
    put_file(trees.source / "key", "1")
    give(trees.source, NOBODY, NOBODY)
    trees.source.chmod(0o700)
    with opened(trees.source) as source, opened(trees.target) as target:
        with pytest.raises(UnfitTree, match="private directory of another user"):
            sync_entries(source, target, ["key"], rules())
        sync_entries(source, target, ["key"], rules(1501, 1502, owners=(NOBODY,)))
    assert [((trees.target / name).stat().st_uid, (trees.target / name).stat().st_gid) for name in (".", "key")] == [
        (1501, 1502)
    ] * 2


def test_tallies_add_up() -> None:
    total = Tally(files=1, bytes=2, copied=1, newest_ns=9)
    total.add(Tally(files=2, bytes=3, removed=1, unsettled=1, left_out=1, newest_ns=5))
    assert total == Tally(3, 5, 1, 1, 1, 1, 9)


# --- what has no end --------------------------------------------------------------------------------------


def test_a_file_that_grows_faster_than_it_is_read_has_an_end(
    trees: Trees, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = put_file(trees.source / "a", b"x" * (1 << 20))
    write = copy_file._write_all

    def grow(writing: int, block: bytes) -> None:
        assert source.stat().st_size < 16 << 20
        with source.open("ab") as file:
            file.write(2 * block)  # before anybody can read on
        write(writing, block)

    monkeypatch.setattr(copy_file, "_write_all", grow)
    monkeypatch.setattr(copy_file, "_READS_AT_MOST", 1)
    _index, tally = trees.bring()
    assert tally.unsettled == 1


@pytest.mark.parametrize("data", [b"", b"at the end"])
def test_holes_are_not_read(trees: Trees, later: None, data: bytes) -> None:
    """As large as the filesystem lets a file be: reading that would take days."""
    size = 1 << 43
    source = put_file(trees.source / "a", b"at the beginning")
    while True:
        try:
            os.truncate(source, size)
            break
        except OSError:
            size >>= 1
    with source.open("r+b") as file:
        file.seek(size - len(data))
        file.write(data)
    begun = time.monotonic()
    _index, tally = trees.bring()
    assert time.monotonic() - begun < 20
    assert (tally.copied, tally.unsettled) == (1, 0)
    copy = trees.target / "a"
    assert (copy.stat().st_size, copy.stat().st_blocks < 100) == (size, True)
    with copy.open("rb") as file:
        assert file.read(16) == b"at the beginning"
        file.seek(size - len(data))
        assert file.read() == data


def test_a_bad_disk_is_noticed_between_holes(trees: Trees, later: None, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(put_file(trees.source / "a", b"x" * 4096), 1 << 20)
    monkeypatch.setattr(copy_file, "_write_all", lambda writing, block: os.write(writing, b"?" * len(block)))
    with pytest.raises(OSError, match="read back"):
        trees.bring()


def test_a_copy_that_takes_longer_than_a_backend_may_be_down_is_given_up(trees: Trees) -> None:
    put_file(trees.source / "a", "x")
    with pytest.raises(UnfitTree, match="takes longer than a backend may be down"):
        trees.bring(how=dataclasses.replace(rules(), until=time.monotonic()))


def test_more_names_than_any_library_makes_are_not_read(trees: Trees, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk_tree, "NAMES", 100)
    for folder in ("a", "b"):
        (trees.source / folder).mkdir()
        for number in range(49):
            put_file(trees.source / folder / str(number), "x")
    trees.bring()
    put_file(trees.source / "one more", "x")
    for work in (
        trees.bring,
        lambda: hand(trees.source),
        lambda: measured(trees.source),
    ):
        with pytest.raises(UnfitTree, match="more than 100 files and directories"):
            work()


def test_a_directory_into_which_names_are_made_faster_than_they_are_read_has_an_end(
    trees: Trees, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_file(trees.source / "0", "x")
    monkeypatch.setattr(walk_tree, "NAMES", 1000)
    listed, endless = os.scandir, trees.source.stat().st_ino

    @contextlib.contextmanager
    def listing(directory: t.Any = ".") -> t.Iterator[t.Iterator[os.DirEntry[str]]]:
        with listed(directory) as entries:
            yield itertools.cycle(list(entries)) if os.stat(directory).st_ino == endless else entries

    monkeypatch.setattr(os, "scandir", listing)
    with pytest.raises(UnfitTree, match="more than 1000 files and directories"):
        measured(trees.source)


def test_however_deep_a_tree_is_it_is_removed(trees: Trees) -> None:
    here = os.open(trees.target, os.O_RDONLY | os.O_DIRECTORY)
    for _level in range(3000):
        os.mkdir("d", dir_fd=here)
        os.close(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=here))
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with opened(trees.target.parent) as parent:
        remove_tree(parent, "target")
    assert not trees.target.exists()


def measured(path: pathlib.Path) -> Tally:
    with opened(path) as directory:
        return measure(directory, lambda name: None)
