# SPDX-License-Identifier: GPL-3.0-or-later
"""The file in the place of what was moved away: it is removed only as what root left there, whatever its directory's owner does."""

from __future__ import annotations

import os
import pathlib

import pytest

from accounts import put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.tombstone import (
    TOMBSTONE,
    is_tombstone,
    is_tombstone_at,
    leave_tombstone,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.retire import without_tombstone
from striker import exchange, striking

NOBODY = 65534
TEXT = "The accounts of this directory were moved to /srv/são then."
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")


@pytest.fixture
def place(tmp_path: pathlib.Path) -> pathlib.Path:
    """Where accounts were."""
    with opened_directory(str(tmp_path)) as parent:
        leave_tombstone(parent, "auth", TEXT)
    return tmp_path / "auth"


def test_it_gives_way_and_is_put_back_by_an_error(place: pathlib.Path) -> None:
    said = place.read_bytes()
    assert is_tombstone(str(place))
    with without_tombstone(str(place)):
        assert not place.exists()
    assert not place.exists()
    place.write_bytes(said)
    with pytest.raises(ValueError, match="x"), without_tombstone(str(place)):
        raise ValueError("x")
    assert place.read_bytes() == said
    with pytest.raises(ValueError, match="x"), without_tombstone(str(place)):
        place.mkdir()
        raise ValueError("x")
    assert place.is_dir()


def test_it_is_found_by_a_link_to_its_directory(place: pathlib.Path) -> None:
    (place.parent / "current").symlink_to(".")
    with without_tombstone(str(place.parent / "current/auth")):
        assert not place.exists()


@pytest.mark.parametrize("path", ["nothing", "nothing/auth", "file", "file/auth", "folder", "dangling", "pipe"])
def test_nothing_else_gives_way(tmp_path: pathlib.Path, path: str) -> None:
    put_file(tmp_path / "file", "x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe")
    with without_tombstone(str(tmp_path / path)):
        assert sorted(os.listdir(tmp_path)) == ["dangling", "file", "folder", "pipe"]


@root
@pytest.mark.parametrize("why", ["owner", "second name"])
def test_one_that_is_not_roots_alone_counts_and_is_not_removed(place: pathlib.Path, why: str) -> None:
    if why == "owner":
        os.chown(place, NOBODY, NOBODY)
    else:
        os.link(place, place.parent / "second")
    assert is_tombstone(str(place))
    with opened_directory(str(place.parent)) as parent:
        assert is_tombstone_at(parent, "auth")
    with (
        pytest.raises(SessionsError, match="does not belong to root or has other hard links; nothing was changed"),
        without_tombstone(str(place)),
    ):
        pytest.fail("it went on")
    assert place.exists()


def test_one_that_is_exchanged_before_it_is_removed_stays(place: pathlib.Path) -> None:
    other = put_file(place.parent / "other", "precious")
    with (
        pytest.raises(SessionsError, match="was replaced while it was being read; nothing was changed"),
        striking("stat", "auth", lambda: exchange(place, other)),
        without_tombstone(str(place)),
    ):
        pytest.fail("it went on")
    assert place.read_text() == "precious"
    assert is_tombstone(str(other))


def test_a_directory_that_is_exchanged_leads_nowhere_else(tmp_path: pathlib.Path) -> None:
    """The one above is opened once: what is removed, and put back by an error, is in there wherever it is now."""
    for name in ("app", "other"):
        (tmp_path / name).mkdir()
        with opened_directory(str(tmp_path / name)) as parent:
            leave_tombstone(parent, "auth", name)
    with (
        pytest.raises(ValueError, match="x"),
        striking("unlink", "auth", lambda: exchange(tmp_path / "app", tmp_path / "other"), after=True),
        without_tombstone(str(tmp_path / "app/auth")),
    ):
        assert (tmp_path / "app/auth").read_text().endswith("other\n")
        assert not (tmp_path / "other/auth").exists()
        raise ValueError("x")
    assert (tmp_path / "other/auth").read_text() == f"{TOMBSTONE}app\n"


def test_a_link_in_the_place_of_a_directory_is_not_followed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / "roots").mkdir()
    with opened_directory(str(tmp_path / "roots")) as parent:
        leave_tombstone(parent, "auth", TEXT)
    (tmp_path / "link").symlink_to("roots")
    with (
        striking("open", "app", lambda: exchange(tmp_path / "app", tmp_path / "link")),
        without_tombstone(str(tmp_path / "app/auth")),
    ):
        pass
    assert is_tombstone(str(tmp_path / "roots/auth"))
