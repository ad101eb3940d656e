# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's user exchanges what root has looked at for what another user owns, at each moment at which root opens something.

Whatever the moment: nothing of the other user is copied, moved away, given away or closed to him.
"""

from __future__ import annotations

import itertools
import os
import pathlib
import typing as t

import pytest

from accounts import give, put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.locks import (
    locked_accounts,
    remove_locks,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import job as core_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import job as migration_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.pair import Choice
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.sources import Source
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.survey import Roots, survey
from layouts import put_root_of
from striker import exchange, striking

pytestmark = pytest.mark.usefixtures("_own_mounts")  # control directories are not left on the machine

WA, BOB = 65534, 4321
SECRET = b"BOBSECRET"
ACCOUNT, COMPANION = "wa1", "notes.json"


class Scene:
    """An application of WA with accounts, and beside them what is BOB's: ``decoys`` has the same names as the legacy path."""

    def __init__(self, place: pathlib.Path) -> None:
        place.mkdir(mode=0o755)
        self.legacy, self.path, self.decoys = place / "app/legacy", place / "srv/sessions", place / "app/decoys"
        self.path.parent.mkdir()
        put_account(self.legacy / ACCOUNT)
        put_account(self.legacy / "wa2", number=2)
        put_file(self.legacy / COMPANION, "{}")
        give(place / "app", WA, WA)
        put_account(self.decoys / ACCOUNT, number=3)
        put_file(self.decoys / ACCOUNT / "session-9.0.json", SECRET)
        put_file(self.decoys / COMPANION, SECRET)
        give(self.decoys, BOB, BOB)
        self._before = self._secrets()

    def migrate(self, **options: t.Any) -> None:
        given = {"src": [str(self.legacy)], "path": str(self.path), "owner": "nobody", **options}
        core_job.execute(migration_job, given, check_mode=False)

    def exchange(self, name: str) -> None:
        exchange(self.legacy / name, self.decoys / name)

    def require_untouched(self) -> None:
        """All that is BOB's is where only the exchange put it, and his."""
        assert self._secrets() == self._before
        for inode, place in self._where().items():
            assert inode in self._before
            assert not place.is_relative_to(self.path)
            assert place.is_relative_to(self.legacy) or place.is_relative_to(self.decoys), place

    def _where(self) -> dict[int, pathlib.Path]:
        top = self.path.parent.parent
        paths = (pathlib.Path(folder, name) for folder, _, names in os.walk(top) for name in names)
        return {path.stat().st_ino: path for path in paths if not path.is_symlink() and SECRET in path.read_bytes()}

    def _secrets(self) -> dict[int, tuple[int, int]]:
        return {inode: (path.stat().st_uid, path.stat().st_mode) for inode, path in self._where().items()}


def at_each_moment(place: pathlib.Path, call: str, struck: str, exchanged: str, **options: t.Any) -> int:
    """Migrate again and again, each time with the strike one call later; return how many strikes there were."""
    for turn in itertools.count(1):
        scene = Scene(place / str(turn))
        refused = ""
        try:
            with striking(call, struck, lambda here=scene: here.exchange(exchanged), turn=turn):
                scene.migrate(**options)
        except SessionsError as error:
            refused = str(error)
        except AssertionError as error:
            assert "was never reached" in str(error)
            return turn - 1
        scene.require_untouched()
        assert SECRET.decode() not in refused
    raise AssertionError


@pytest.mark.parametrize("engine", ["native", "rename", "rsync"])
@pytest.mark.parametrize("struck", ["legacy", ACCOUNT])
@pytest.mark.parametrize("exchanged", ["", ACCOUNT])
def test_an_account_that_is_exchanged_is_not_taken(
    tmp_path: pathlib.Path, engine: str, struck: str, exchanged: str
) -> None:
    assert at_each_moment(tmp_path, "open", struck, exchanged, engine=engine) >= 3


@pytest.mark.parametrize(("call", "struck"), [("open", "legacy"), ("open", COMPANION), ("stat", COMPANION)])
@pytest.mark.parametrize("exchanged", ["", COMPANION])
def test_what_lies_beside_accounts_does_not_travel_when_it_is_exchanged(
    tmp_path: pathlib.Path, call: str, struck: str, exchanged: str
) -> None:
    assert at_each_moment(tmp_path, call, struck, exchanged) >= 2


@pytest.mark.parametrize("struck", ["legacy", ACCOUNT, "app"])
@pytest.mark.parametrize("exchanged", ["", ACCOUNT])
def test_what_is_put_out_of_use_is_the_backend_s_own(tmp_path: pathlib.Path, struck: str, exchanged: str) -> None:
    assert at_each_moment(tmp_path, "open", struck, exchanged, state="retired") >= 3


def test_what_is_exchanged_between_its_check_and_its_rename_is_not_put_out_of_use(tmp_path: pathlib.Path) -> None:
    """The descriptor of the directory that holds the legacy path is duplicated then, too."""
    assert at_each_moment(tmp_path, "dup", "app", "", state="retired") >= 1


def test_a_root_that_is_exchanged_after_it_was_found_is_refused(tmp_path: pathlib.Path) -> None:
    scene = Scene(tmp_path / "one")
    source = Source("/given", str(scene.legacy), frozenset((WA,)))
    scene.exchange("")
    with pytest.raises(SessionsError, match=f"in /given belongs to {BOB}, not to nobody; nothing was changed"):
        survey(Roots([source], str(scene.path), layout_named("baileys")), {}, Choice("newest"))


@pytest.mark.parametrize("way", ["link", "directory"])
def test_locks_of_somebody_else_stay(tmp_path: pathlib.Path, way: str) -> None:
    """Root looks at the locks of the sessions path, which is then exchanged for something else."""
    layout = layout_named("wwebjs")
    for name in ("sessions", "bobs"):
        put_root_of("wwebjs", tmp_path / name)
    give(tmp_path / "sessions", WA, WA)
    give(tmp_path / "bobs", BOB, BOB)
    decoy = tmp_path / "bobs"
    if way == "link":
        decoy = tmp_path / "link"
        decoy.symlink_to("bobs")
        os.chown(decoy, WA, WA, follow_symlinks=False)
    path = str(tmp_path / "sessions")
    names, inode = locked_accounts(path, layout), os.stat(path).st_ino
    assert names
    before = sorted(tmp_path.joinpath("bobs").rglob("Singleton*"))
    assert before
    turns = itertools.count(1)
    try:
        for turn in turns:
            with striking("open", "sessions", lambda: exchange(path, decoy), turn=turn):
                try:
                    remove_locks(path, names, layout, inode)
                except (SessionsError, OSError):
                    pass
            bobs = tmp_path / "bobs" if way == "link" else tmp_path / "sessions"
            assert len(list(bobs.rglob("Singleton*"))) == len(before)
            exchange(path, decoy)
    except AssertionError as error:
        if "was never reached" not in str(error):
            raise
    assert next(turns) > 2
