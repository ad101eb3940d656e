# SPDX-License-Identifier: GPL-3.0-or-later
"""Directories that become mount points: closed to others, opened again, and whole after a run that died in between."""

from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import typing as t
from pathlib import Path

import pytest

from accounts import put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import (
    read_document_at,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.mount_points import (
    closed_in,
    filled,
    is_closed,
    still_open,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import RECEIPT
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.users import Identity
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.close_mount_points import (
    close,
    given_back,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.retire import retire
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.stage import Stage
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.owners import Owners
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.pair import Choice
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.retirable import emptied
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.sources import Source, named_sources
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.survey import Roots, Survey, survey

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
USER, BOB = 65534, 4242


class Place:
    """A directory of the service user with an account in it, and an open control directory."""

    def __init__(self, root: Path) -> None:
        self.point, control = root / "bot/auth", root / "control"
        put_account(self.point / "wa1")
        control.mkdir()
        for path in (root / "bot", self.point, self.point / "wa1"):
            os.chown(path, USER, USER)
        for path in (self.point / "wa1").rglob("*"):
            os.chown(path, USER, USER)
        self.point.chmod(0o2755)
        self.control = os.open(control, os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        close(self.control, [str(self.point)], {USER}, USER)

    @property
    def look(self) -> tuple[int, int, int]:
        status = self.point.stat()
        return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)

    @property
    def notes(self) -> dict[str, t.Mapping[str, int]]:
        return closed_in(read_document_at(self.control, RECEIPT))


CLOSED, OPEN = (0, 0, 0o700), (USER, USER, 0o2755)


@pytest.fixture
def place(tmp_path: Path) -> t.Iterator[Place]:
    made = Place(tmp_path)
    yield made
    os.close(made.control)


def test_closed_once_and_opened_as_it_was(place: Place) -> None:
    point = str(place.point)
    assert still_open([point], {USER}) == (point,)
    place.close()
    notes = place.notes
    place.close()
    assert (place.look, place.notes, still_open([point], {USER})) == (CLOSED, notes, ())
    assert is_closed(point, place.point.stat(), notes)
    with given_back(point, notes, 1, 1, lambda: True):
        assert place.look == OPEN
    assert place.look == OPEN


@pytest.mark.parametrize(("mode", "closed"), [(0o2755, (0, USER, 0o701)), (0o2750, CLOSED)])
@pytest.mark.parametrize("bound", [True, False])
def test_others_keep_the_way_to_what_is_theirs_and_its_user_has_none(
    place: Place, mode: int, closed: tuple[int, ...], bound: bool
) -> None:
    (place.point / "wa1/media/bobs").mkdir(parents=True)
    bobs = put_file(place.point / "wa1/media/bobs/file", "of bob")
    for path in (bobs, bobs.parent):
        os.chown(path, BOB, BOB)
    bobs.parent.chmod(0o700)
    place.point.chmod(mode)
    place.close()
    assert place.look == closed
    above = [parent for parent in place.point.parents if not parent.stat().st_mode & stat.S_IXOTH]
    for folder in (*above, place.point / "wa1", place.point / "wa1/media"):
        folder.chmod(0o755)
    assert can_read(bobs, BOB) is bool(mode & 1)
    assert not can_read(place.point / "wa1/creds.json", USER)
    with pytest.raises(ValueError, match="stop"), given_back(str(place.point), place.notes, 1, 1, lambda: bound):
        assert place.look == (USER, USER, mode)
        raise ValueError("stop")
    assert place.look == (closed if bound else (USER, USER, mode))


def test_a_user_who_digs_deep_holds_nobody_up(place: Place) -> None:
    bottom = place.point.joinpath(*["d"] * 100)
    bottom.mkdir(parents=True)
    os.chown(put_file(bottom / "file", "of bob"), BOB, BOB)
    for path in place.point.rglob("d"):
        os.chown(path, USER, USER)
    place.close()
    assert place.look == CLOSED


def can_read(file: Path, uid: int) -> bool:
    """Whether a user gets at a file, with the user's own group alone."""
    done = subprocess.run(
        ["cat", str(file)], user=uid, group=uid, extra_groups=[], capture_output=True, check=False, cwd="/"
    )
    return done.returncode == 0


@pytest.mark.parametrize(("bound", "look"), [(True, CLOSED), (False, OPEN)])
def test_an_error_closes_it_again_where_it_is_still_a_mount_point(
    place: Place, bound: bool, look: tuple[int, ...]
) -> None:
    place.close()
    with pytest.raises(ValueError, match="stop"), given_back(str(place.point), place.notes, 1, 1, lambda: bound):
        raise ValueError("stop")
    assert place.look == look


def test_a_run_that_dies_has_written_down_whose_it_was(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    change = os.fchown

    def die(directory: int, uid: int, gid: int) -> None:
        if os.readlink(f"/proc/self/fd/{directory}") == str(place.point):
            raise KeyboardInterrupt
        change(directory, uid, gid)

    monkeypatch.setattr(os, "fchown", die)
    with pytest.raises(KeyboardInterrupt):
        place.close()
    monkeypatch.undo()
    assert (place.look, place.notes[str(place.point)]["mode"]) == (OPEN, 0o2755)
    assert still_open([str(place.point)], {USER}) == (str(place.point),)
    place.close()
    assert (place.look, place.notes[str(place.point)]["uid"]) == (CLOSED, USER)


def test_the_empty_directory_of_a_later_release_is_given_to_the_backend(place: Place) -> None:
    place.close()
    notes = place.notes
    later = place.point.with_name("later")
    later.mkdir(0o755)
    with given_back(str(later), notes, USER, USER, lambda: False):
        pass
    assert (later.stat().st_uid, stat.S_IMODE(later.stat().st_mode)) == (USER, 0o2755)
    (later.with_name("full") / "x").mkdir(parents=True)
    with given_back(str(later.with_name("full")), notes, USER, USER, lambda: False):
        pass
    assert later.with_name("full").stat().st_uid == 0


def test_an_empty_directory_in_one_of_roots_stays_roots(place: Place) -> None:
    place.close()
    of_host = place.point.parents[1] / "etc/tmpfiles.d"
    of_host.mkdir(parents=True)
    with given_back(str(of_host), place.notes, USER, USER, lambda: False):
        pass
    assert of_host.stat().st_uid == 0


def test_what_is_somebody_elses_or_behind_a_link_is_left_alone(place: Place) -> None:
    link = place.point.with_name("link")
    link.symlink_to(place.point)
    close(place.control, [str(link), str(place.point)], {1}, 1)
    close(place.control, [str(link)], {USER}, USER)
    assert (place.look, place.notes) == (OPEN, {})


def test_what_is_roots_in_a_closed_directory_is_not_its_users(place: Place) -> None:
    """The user may have moved it there before; only the directory itself is root's because we closed it."""
    put_file(place.point / "roots", "secret").chmod(0o600)
    own = put_file(place.point / "own", "{}")
    os.chown(own, USER, USER)
    place.close()
    path = str(place.point)
    whose = Owners(frozenset((USER,)), Identity(USER, USER, "", ""), closed=place.notes)
    (source,) = named_sources([path], "/srv/sessions", whose)
    assert (source.owners, source.closed) == (frozenset((USER,)), True)

    def look(source: Source) -> Survey:
        return survey(Roots([source], f"{path}-sessions", layout_named("baileys")), {}, Choice("newest"))

    seen = look(source)
    assert [account.name for account in seen.accounts] == ["wa1"]
    assert seen.companions == ()
    assert look(source._replace(owners=None)).companions == ()  # other owners were allowed: of the directory, too
    os.chown(place.point / "wa1", 0, 0)
    with pytest.raises(SessionsError, match="belongs to root"):
        look(source)


def test_an_account_that_is_a_closed_directory_itself(place: Place) -> None:
    """It may be brought, but for what is root's in it."""
    for entry in (place.point / "wa1").iterdir():
        entry.rename(place.point / entry.name)
    (place.point / "wa1").rmdir()
    place.close()
    source = Source("", str(place.point), frozenset((USER,)), USER, closed=True)
    seen = survey(Roots([source], f"{place.point}-sessions", layout_named("baileys")), {}, Choice("newest"))
    assert [(account.name, account.owner) for account in seen.accounts] == [(".", 0)]
    stage = Stage(place.control, layout_named("baileys"), USER, USER, "native", True)
    assert stage.rules(0).owners == stage.whole_rules(0).owners == {0, USER}  # a backup of root's that was named
    closed = dataclasses.replace(stage, closed=True)
    assert closed.rules(0).owners == closed.whole_rules(0).owners == {USER}


def test_it_is_emptied_and_stays(place: Place) -> None:
    point = str(place.point)
    place.close()
    found = emptied(filled([], place.notes), frozenset((USER,)))
    retire(found.retirements, "/srv/sessions")
    assert (place.look, list(place.point.iterdir())) == (CLOSED, [])
    (aside,) = place.point.parent.glob("auth.migrated-*")
    assert ([entry.name for entry in aside.iterdir()], stat.S_IMODE(aside.stat().st_mode)) == (["wa1"], 0o700)
    assert filled([point], place.notes) == ()


def test_one_that_could_not_be_closed_is_emptied_and_stays_its_users(place: Place) -> None:
    """Nothing says whose it was, so a way back could not open it again."""
    retire(emptied((str(place.point),), frozenset((USER,))).retirements, "/srv/sessions")
    assert (place.look, place.notes, list(place.point.iterdir())) == (OPEN, {}, [])
    place.close()
    assert (place.look, place.notes[str(place.point)]["uid"]) == (CLOSED, USER)


def test_what_holds_something_of_another_user_is_not_emptied(place: Place) -> None:
    os.chown(place.point / "wa1", 1, 1)
    assert emptied((str(place.point),), frozenset((USER,))) == ((), 1)
