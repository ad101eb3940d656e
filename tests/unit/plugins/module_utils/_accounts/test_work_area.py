# SPDX-License-Identifier: GPL-3.0-or-later
"""The area beside a sessions path, whose parent may belong to anybody: one that was exchanged is not worked on."""

from __future__ import annotations

import json
import os
import pathlib
import tempfile
import typing as t

import pytest

from accounts import content, put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts import work_area
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import (
    INTENT,
    opened_control,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.displaced import listed
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.work_area import (
    known_document,
    opened_area,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.search import account_names
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import rescue
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.older_area import take_over
from areas import control_of, opened

RECEIPT = "receipt.json"
SERVICE = 12345


class Scene:
    """A sessions path whose parent belongs to root, or to the service user."""

    def __init__(self, place: pathlib.Path) -> None:
        self.parent = place / "srv"
        self.path, self.area = self.parent / "sessions", self.parent / ".sessions.whatsapp-ops"
        self.path.mkdir(parents=True)
        # Nobody else can write above, as below /srv on a host; the directories of pytest lie below /tmp.
        self.parent.chmod(0o755)

    def give_parent(self) -> None:
        self.parent.chmod(0o777)

    def asides(self) -> list[pathlib.Path]:
        return list(self.parent.glob(".sessions.whatsapp-ops.aside-*"))


@pytest.fixture
def scene(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene(tmp_path)
    only_roots = work_area._is_only_roots
    top = os.stat(tmp_path).st_ino

    def from_there(parent: int) -> bool:
        """Judge the test's own directory alone: those of pytest above it lie in /tmp."""
        return os.fstat(parent).st_ino == top or (
            work_area.is_guarded(os.fstat(parent))
            if os.fstat(parent).st_ino == os.stat(made.parent).st_ino
            else only_roots(parent)
        )

    monkeypatch.setattr(work_area, "_is_only_roots", from_there)
    return made


@pytest.mark.skipif(os.geteuid() != 0, reason="what belongs to this user counts as root's")
@pytest.mark.parametrize(("mode", "only_roots"), [(0o755, True), (0o777, False), (0o1777, False)])
def test_what_root_alone_can_have_put_there(mode: int, only_roots: bool) -> None:
    """In a sticky directory others cannot exchange what is there, but put something there before root does."""
    with tempfile.TemporaryDirectory(dir="/root") as place:
        inside = pathlib.Path(place, "inside")
        inside.mkdir()
        os.chmod(place, mode)
        with opened_directory(str(inside)) as opened_inside:
            assert work_area._is_only_roots(opened_inside) is only_roots


def test_the_same_one_is_opened_each_time(scene: Scene) -> None:
    inodes = set()
    for _time in range(2):
        with opened(scene.path) as (_control, area):
            inodes.add(os.fstat(area).st_ino)
    assert inodes == {scene.area.stat().st_ino}
    assert sorted(os.listdir(scene.area)) == ["displaced", "staging"]
    assert scene.area.stat().st_mode & 0o777 == 0o700


def test_another_one_where_others_can_write_is_set_aside_unread(scene: Scene) -> None:
    with opened(scene.path):
        pass
    scene.give_parent()
    scene.area.rename(scene.parent / "mine")
    scene.area.mkdir(mode=0o700)
    (scene.area / "staging/key").mkdir(parents=True)
    put_file(scene.area / "staging/key/creds.json", "planted")
    put_file(scene.area / RECEIPT, json.dumps({"accounts": {}}))
    with opened(scene.path) as (control, area):
        take_over(str(scene.path), control, area, (RECEIPT,))
        assert os.listdir(scene.area / "staging") == []
        assert RECEIPT not in os.listdir(control)
    (aside,) = scene.asides()
    assert (aside / "staging/key/creds.json").read_text() == "planted"


def test_one_that_root_alone_can_have_put_there_is_adopted(scene: Scene) -> None:
    """The volume was restored from a copy, say."""
    put_account(scene.area / "displaced/x")
    for folder in (scene.area, scene.area / "displaced"):
        folder.chmod(0o700)
    with opened(scene.path):
        pass
    assert scene.asides() == []
    assert (scene.area / "displaced/x/creds.json").exists()


def link_to_a_private_one(path: pathlib.Path) -> None:
    path.with_name("private").mkdir(mode=0o700)
    path.symlink_to("private")


@pytest.mark.parametrize(
    "put",
    [lambda path: path.write_text(""), lambda path: path.symlink_to("/etc"), os.mkdir, link_to_a_private_one],
)
def test_what_is_no_directory_of_root_is_named_and_stays(scene: Scene, put: t.Callable[[pathlib.Path], t.Any]) -> None:
    put(scene.area)
    scene.area.chmod(0o755) if scene.area.is_dir() and not scene.area.is_symlink() else None
    with (
        pytest.raises(SessionsError, match=r"(cannot be used|is not private to root).*move it away and run again"),
        opened(scene.path),
    ):
        pass
    assert os.path.lexists(scene.area)


@pytest.mark.parametrize("put", [lambda path: path.write_text(""), lambda path: path.symlink_to("/etc"), os.mkdir])
def test_where_others_can_write_it_is_set_aside_whatever_it_is(
    scene: Scene, put: t.Callable[[pathlib.Path], t.Any]
) -> None:
    scene.give_parent()
    put(scene.area)
    with opened(scene.path):
        pass
    assert sorted(os.listdir(scene.area)) == ["displaced", "staging"]
    assert len(scene.asides()) == 1


@pytest.mark.parametrize(("boot", "asides"), [("this one", 1), ("another one", 0)])
def test_the_same_number_on_another_disk_is_another_directory(scene: Scene, boot: str, asides: int) -> None:
    """Within one boot: disks may get other numbers at each."""
    with opened(scene.path):
        pass
    known = control_of(scene.path) / "area.json"
    document = json.loads(known.read_text())
    document["device"] += 1
    if boot == "another one":
        document["boot"] = "another one"
    put_file(known, json.dumps(document)).chmod(0o600)
    scene.give_parent()
    with opened(scene.path):
        pass
    assert len(scene.asides()) == asides


@pytest.mark.parametrize("whose", ["others may enter it", "another user's"])
@pytest.mark.parametrize("where", [".", "staging", "displaced"])
def test_only_one_of_root_alone_is_worked_in(scene: Scene, whose: str, where: str) -> None:
    """Also where it is the very directory that was made: its rights may have been changed since."""
    if whose == "another user's" and os.geteuid() != 0:
        pytest.skip("only root can give it away")
    with opened(scene.path):
        pass
    put_account(scene.area / "staging/planted")
    if whose == "another user's":
        os.chown(scene.area / where, SERVICE, SERVICE)
    else:
        (scene.area / where).chmod(0o755)
    with pytest.raises(SessionsError, match="is not private to root"), opened(scene.path):
        pytest.fail("it was worked in")
    if where == ".":
        with opened_control(str(scene.path)) as control, work_area.existing_area(str(scene.path), control) as area:
            assert area is None


def test_one_that_was_set_aside_in_a_mount_is_no_account(scene: Scene) -> None:
    put_account(scene.path / "wa1")
    for name in (".whatsapp-ops", ".whatsapp-ops.aside-20260101T000000.000000Z"):
        put_account(scene.path / name, number=2)
    with opened_directory(str(scene.path)) as root:
        assert list(account_names(root, layout_named("baileys"))) == ["wa1"]


def test_nothing_is_listed_from_another_one(scene: Scene) -> None:
    with opened(scene.path):
        pass
    control = control_of(scene.path)
    (control / "displaced").mkdir(mode=0o700)
    put_file(control / "displaced/20260101T000000.000000Z-x.json", json.dumps({"account": "wa1"}))
    put_account(scene.area / "displaced/20260101T000000.000000Z-x")
    assert [found.account for found in listed(str(scene.path))] == ["wa1"]
    scene.area.rename(scene.parent / "mine")
    put_account(scene.area / "displaced/20260101T000000.000000Z-x")
    scene.area.chmod(0o700)
    assert listed(str(scene.path)) == ()


# --- what earlier releases left there ------------------------------------------------------------------------


def put_older(scene: Scene) -> None:
    """An interrupted run of the first release: an account out of its legacy path, and one that was displaced before."""
    put_account(scene.area / "staging/key")
    put_account(scene.area / "displaced/20260101T000000.000000Z-y", number=3)
    put_file(scene.area / "displaced/20260101T000000.000000Z-y.json", json.dumps({"account": "wa3"}))
    put_file(scene.area / RECEIPT, json.dumps({"version": 1, "accounts": {}}))
    put_file(scene.area / "rescue.py", "raise SystemExit")
    put_account(scene.area / "outbox/other/sessions/wa4")
    (scene.parent / "old").mkdir()
    inode = (scene.area / "staging/key").stat().st_ino
    move = rescue.planned_move(
        rescue.MoveKind.TAKING, str(scene.parent / "old"), "wa1", str(scene.area / "staging"), "key", inode
    )
    put_file(scene.area / INTENT, json.dumps({"version": 1, "path": str(scene.path), "moves": [move], "files": []}))
    for folder in (scene.area, *(path for path in scene.area.iterdir() if path.is_dir())):
        folder.chmod(0o700)


def test_an_earlier_release_is_continued(scene: Scene) -> None:
    put_older(scene)
    before = content(scene.area / "staging/key")
    assert known_document(str(scene.path), INTENT)["version"] == 1
    for _time in range(2):
        with opened(scene.path) as (control, area):
            take_over(str(scene.path), control, area, (RECEIPT, INTENT))
    intent = known_document(str(scene.path), INTENT)
    rescue.undo_moves(intent)
    assert content(scene.parent / "old/wa1") == before
    assert known_document(str(scene.path), RECEIPT)["version"] == 1
    assert [found.account for found in listed(str(scene.path))] == ["wa3"]
    assert (control_of(scene.path) / "outbox/other/sessions/wa4/creds.json").exists()
    assert sorted(os.listdir(scene.area)) == ["displaced", "staging"]


def test_where_others_could_have_written_it_an_earlier_release_is_not_believed(scene: Scene) -> None:
    put_older(scene)
    scene.give_parent()
    assert known_document(str(scene.path), INTENT) == known_document(str(scene.path), RECEIPT) == {}
    with opened(scene.path) as (control, area):
        take_over(str(scene.path), control, area, (RECEIPT, INTENT))
        assert set(os.listdir(control)) == {"area.json"}
    (aside,) = scene.asides()
    assert (aside / INTENT).exists()


def test_an_open_area_stays_the_one_that_it_is(scene: Scene) -> None:
    scene.give_parent()
    with opened_control(str(scene.path)) as control, opened_area(str(scene.path), control) as area:
        scene.area.rename(scene.parent / "mine")
        scene.area.mkdir(mode=0o700)
        assert os.path.samestat(os.fstat(area), os.stat(scene.parent / "mine"))
