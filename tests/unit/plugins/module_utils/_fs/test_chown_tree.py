# SPDX-License-Identifier: GPL-3.0-or-later
"""Repairing owners and modes below a directory: what is corrected, what is left, and that nobody can lead it astray.

What needs root (other owners, devices, mounts, a real attacker) is in tests/module/test_session_dir.py.
"""

from __future__ import annotations

import os
import pathlib
import socket
import stat
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.chown_tree import (
    OwnershipTally,
    Wanted,
    repair,
    survey,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.modes import read_mode
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.users import Identity

CANARY = "5511999990000"
US = Wanted(Identity(os.geteuid(), os.getegid(), "us", "us"), read_mode("0750"))


def run(work: t.Callable[[int, Wanted], OwnershipTally], path: pathlib.Path, wanted: Wanted = US) -> OwnershipTally:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return work(descriptor, wanted)
    finally:
        os.close(descriptor)


def bits(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def put(path: pathlib.Path, mode: int) -> pathlib.Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(CANARY)
    path.chmod(mode)
    return path


def test_files_and_directories_get_their_modes_and_a_second_run_finds_nothing(tmp_path: pathlib.Path) -> None:
    creds, deep = put(tmp_path / "a/creds.json", 0o4755), put(tmp_path / "a/b/c/key", 0o600)
    (tmp_path / "a").chmod(0o2777)
    (tmp_path / "a/b").chmod(0o750)
    (tmp_path / "a/b/c").chmod(0o000)
    seen = run(survey, tmp_path) if os.geteuid() == 0 else None
    assert seen in (None, OwnershipTally(modes=4))
    if os.geteuid() != 0:
        (tmp_path / "a/b/c").chmod(0o700)
    run(repair, tmp_path)
    assert [bits(path) for path in (tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/c")] == [0o750] * 3
    assert [bits(creds), bits(deep)] == [0o640, 0o640]
    assert run(survey, tmp_path) == run(repair, tmp_path) == OwnershipTally()
    assert creds.read_text() == CANARY


def test_a_look_changes_nothing(tmp_path: pathlib.Path) -> None:
    creds = put(tmp_path / "a/creds.json", 0o666)
    before = creds.stat()
    run(survey, tmp_path)
    assert (creds.stat().st_ctime_ns, bits(creds)) == (before.st_ctime_ns, 0o666)


def test_the_directory_itself_is_not_touched(tmp_path: pathlib.Path) -> None:
    tmp_path.chmod(0o701)
    run(repair, tmp_path)
    assert bits(tmp_path) == 0o701


def test_links_are_neither_followed_nor_counted(tmp_path: pathlib.Path) -> None:
    outside = put(tmp_path / "outside/secret", 0o604)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "file").symlink_to(outside)
    (inside / "directory").symlink_to(outside.parent)
    (inside / "SingletonLock").symlink_to("host-1234")
    outside.parent.chmod(0o705)
    assert run(repair, inside) == OwnershipTally()
    assert (bits(outside), bits(outside.parent)) == (0o604, 0o705)


def test_hard_links_are_left_and_counted(tmp_path: pathlib.Path) -> None:
    outside = put(tmp_path / "outside", 0o604)
    inside = tmp_path / "inside"
    inside.mkdir()
    os.link(outside, inside / "linked")
    assert run(repair, inside) == OwnershipTally(hard_links=1)
    assert bits(outside) == 0o604


def test_fifos_and_sockets_are_left_and_never_waited_for(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o666)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        assert run(repair, tmp_path) == OwnershipTally(special=2)
    assert bits(tmp_path / "fifo") == 0o666 & ~_umask()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def test_our_own_area_and_lost_and_found_stay_with_root(tmp_path: pathlib.Path) -> None:
    for name in (".whatsapp-ops", "lost+found", "a/.whatsapp-ops", "a/lost+found"):
        put(tmp_path / name / "file", 0o604)
    (tmp_path / "a").chmod(0o750)
    ours = os.geteuid() == 0
    assert run(survey, tmp_path).modes == (4 if ours else 8)  # deeper down such names are the backend's


def test_a_nest_without_end_is_an_error_without_a_name(tmp_path: pathlib.Path) -> None:
    (tmp_path / "/".join([CANARY] * 102)).mkdir(parents=True)
    with pytest.raises(SessionsError) as refused:
        run(repair, tmp_path)
    assert "nested more than 100 levels deep" in str(refused.value)
    assert CANARY not in str(refused.value)


NAMES = st.binary(min_size=1, max_size=20).filter(lambda name: name not in (b".", b"..") and not set(name) & {0, 47})
TREES = st.recursive(
    st.sampled_from([0o600, 0o644, 0o777, 0o4711]),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
).filter(lambda tree: isinstance(tree, dict))


def plant(path: bytes, tree: t.Any) -> None:
    if isinstance(tree, int):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        os.chmod(path, tree)
        return
    os.mkdir(path, 0o755)
    for name, inner in tree.items():
        plant(path + b"/" + name, inner)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(TREES)
def test_any_tree_is_right_after_one_repair(tmp_path_factory: pytest.TempPathFactory, tree: t.Any) -> None:
    """Also with names that hold newlines or are no UTF-8. What the look counts is what the repair does."""
    place = tmp_path_factory.mktemp("tree")
    plant(os.fsencode(place) + b"/root", tree)
    seen = run(survey, place)
    assert run(repair, place) == seen
    assert run(survey, place) == OwnershipTally()
