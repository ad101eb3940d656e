# SPDX-License-Identifier: GPL-3.0-or-later
"""The control directory: what tells root what to do lies where nobody else can put or exchange anything."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts import control_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import (
    control_path,
    existing_control,
    is_guarded,
    opened_control,
    read_document_at,
    remove_unused_control,
    write_document_at,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError


def test_it_is_made_for_root_alone(tmp_path: pathlib.Path, control_home: pathlib.Path) -> None:
    with opened_control(str(tmp_path / "sessions")) as control:
        write_document_at(control, "receipt.json", {"a": 1})
    made = pathlib.Path(control_path(str(tmp_path / "sessions")))
    assert made.parent == control_home
    assert {path.stat().st_mode & 0o777 for path in (control_home, made)} == {0o700}
    assert (made / "receipt.json").stat().st_mode & 0o777 == 0o600
    with existing_control(str(tmp_path / "sessions")) as control:
        assert control is not None
        assert read_document_at(control, "receipt.json") == {"a": 1}


def test_looking_makes_nothing(tmp_path: pathlib.Path, control_home: pathlib.Path) -> None:
    with existing_control(str(tmp_path / "sessions")) as control:
        assert control is None
    assert not control_home.exists()


@pytest.mark.parametrize(
    ("mode", "refused"), [(0o777, True), (0o775, True), (0o722, True), (0o755, False), (0o1777, False), (0o700, False)]
)
@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_directory_above_is_looked_at(
    tmp_path: pathlib.Path, control_home: pathlib.Path, mode: int, refused: bool, level: int
) -> None:
    above = [tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/c"]
    above[2].mkdir(parents=True)
    os.chown(above[level], -1, 12345) if os.geteuid() == 0 else None
    above[level].chmod(mode)
    control_home.symlink_to(above[2] / "home")
    for opening in (opened_control, existing_control):
        if refused:
            with pytest.raises(SessionsError, match=f"users other than root can write to {above[level]}, so"):
                _enter(opening, tmp_path)
            continue
        _enter(opening, tmp_path)
    assert (above[2] / "home").exists() is not refused


@pytest.mark.root
@pytest.mark.parametrize("level", [0, 1])
def test_a_directory_of_somebody_else_above_is_refused(
    tmp_path: pathlib.Path, control_home: pathlib.Path, level: int
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    os.chown([tmp_path / "a", tmp_path / "a/b"][level], 12345, 12345)
    control_home.symlink_to(tmp_path / "a/b/home")
    with pytest.raises(SessionsError, match="so root cannot trust the content of"):
        _enter(opened_control, tmp_path)


@pytest.mark.parametrize("mode", [0o755, 0o701, 0o770])
def test_one_that_others_can_enter_does_not_count(tmp_path: pathlib.Path, mode: int) -> None:
    _enter(opened_control, tmp_path)
    os.chmod(control_path(str(tmp_path / "sessions")), mode)
    for opening in (opened_control, existing_control):
        with pytest.raises(SessionsError, match="is not private to root"):
            _enter(opening, tmp_path)


def test_a_link_in_its_place_leads_nowhere(tmp_path: pathlib.Path, control_home: pathlib.Path) -> None:
    """Only root could have made one in there: where it leads is judged as any other place."""
    control_home.mkdir(mode=0o700)
    (tmp_path / "open").mkdir(mode=0o755)
    os.symlink(tmp_path / "open", control_path(str(tmp_path / "sessions")))
    with pytest.raises(SessionsError, match="is not private to root"):
        _enter(opened_control, tmp_path)


def test_paths_have_directories_of_their_own_however_they_are_written(tmp_path: pathlib.Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    paths = [tmp_path / "real/a-b", tmp_path / "real/a/b", tmp_path / "real/a_b"]
    assert len({control_path(str(path)) for path in paths}) == 3
    assert control_path(str(tmp_path / "link/a-b")) == control_path(str(paths[0]))


@given(name=st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), min_size=1, max_size=200))
def test_any_path_gives_a_plain_name(name: str) -> None:
    made = os.path.basename(control_path(f"/srv/{name}/sessions"))
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
    assert len(made) < 80
    assert made[0] not in ".-"


def test_what_goes_to_another_host_takes_its_receipt_with_it(
    tmp_path: pathlib.Path, control_home: pathlib.Path
) -> None:
    outbox = pathlib.Path(control_path(str(tmp_path / "sessions"))) / "outbox/other/sessions"
    assert control_path(str(outbox)) == f"{outbox.parent}/.sessions.control"


def test_one_in_which_nothing_was_written_down_goes_again(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "sessions")
    with opened_control(path) as control, control_directory.locked(control, path):
        pass
    remove_unused_control(path)
    assert not os.path.exists(control_path(path))
    with opened_control(path) as control:
        write_document_at(control, "receipt.json", {})
    remove_unused_control(path)
    assert os.path.exists(control_path(path))


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff", b"[" * 100_000])
def test_a_damaged_document_is_said(tmp_path: pathlib.Path, content: bytes) -> None:
    with opened_control(str(tmp_path / "sessions")) as control:
        pathlib.Path(f"/proc/self/fd/{control}/receipt.json").write_bytes(content)
        with pytest.raises(SessionsError, match=r"receipt\.json .* is damaged; move it away and run again"):
            read_document_at(control, "receipt.json")


def test_the_root_directory_of_this_machine_is_guarded() -> None:
    assert is_guarded(os.stat("/"))


def _enter(opening: t.Callable[[str], t.Any], place: pathlib.Path) -> None:
    with opening(str(place / "sessions")):
        pass
