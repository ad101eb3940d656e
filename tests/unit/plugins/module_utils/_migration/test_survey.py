# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking at both sides of a migration: whose receipt counts, what the backend uses, what vanishes meanwhile, what is written down."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import os
import pathlib
import re
import typing as t

import pytest

from accounts import OLD, put_account, put_file, use
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import (
    RECEIPT,
    Entry,
    entries_in,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.work_area import known_document
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import job as core_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.layout import Judgement
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import job as migration_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import run as apply_run
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.pair import Choice
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.sources import Source
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.survey import Roots, Survey, survey
from areas import opened
from striker import striking

BAILEYS = layout_named("baileys")


class Scene:
    """A legacy root and a sessions path, and the job between them."""

    def __init__(self, place: pathlib.Path) -> None:
        self.legacy, self.path = place / "legacy", place / "sessions"
        self.legacy.mkdir()

    def look(self, *sources: pathlib.Path, at_path: bool | None = None, **receipts: Entry) -> Survey:
        given = [Source(str(source), str(source)) for source in sources or (self.legacy,)]
        return survey(Roots(given, str(self.path), BAILEYS, at_path), receipts or self.receipts(), Choice("newest"))

    def actions(self, *sources: pathlib.Path, at_path: bool | None = None) -> list[str]:
        return [account.decision.action for account in self.look(*sources, at_path=at_path).accounts]

    def receipts(self) -> dict[str, Entry]:
        return entries_in(known_document(str(self.path), RECEIPT))

    @property
    def options(self) -> dict[str, t.Any]:
        owner = {"owner": str(os.geteuid()), "group": str(os.getegid())}
        return {"src": [str(self.legacy)], "path": str(self.path), **owner}

    def migrate(self) -> None:
        core_job.execute(migration_job, self.options, check_mode=False)


@pytest.fixture
def scene(tmp_path: pathlib.Path) -> Scene:
    return Scene(tmp_path)


def test_what_is_where(scene: Scene) -> None:
    put_account(scene.legacy / "wa1")
    put_account(scene.legacy / "wa2", "fresh")
    put_file(scene.legacy / "index.json", "{}")
    put_file(scene.legacy / "settings.json", "{}")
    put_account(scene.path / "wa9", "pending")
    put_file(scene.path / "settings.json", "{}")
    seen = scene.look()
    assert [(account.name, account.legacy.state) for account in seen.accounts] == [("wa1", "paired"), ("wa2", "fresh")]
    assert seen.present == {"wa9": "pending"}
    assert [companion.name for companion in seen.companions] == ["index.json"]
    assert seen.path_inode == scene.path.stat().st_ino
    assert [account.name for account in seen.to_publish] == ["wa1", "wa2"]


@pytest.mark.parametrize(
    ("at_path", "legacy_at", "present_at", "action"),
    [
        (None, 5, 0, "migrated"),
        (None, 0, 5, "kept"),
        (False, 5, 0, "migrated"),  # it runs, and nothing shows that it uses the sessions path
        (False, 0, 5, "diverged"),
        (True, 5, 0, "kept"),
        (True, 0, 5, "kept"),
    ],
)
def test_what_the_backend_uses(
    scene: Scene, at_path: bool | None, legacy_at: int, present_at: int, action: str
) -> None:
    put_account(scene.legacy / "wa1", number=1, device=1, at=OLD + legacy_at)
    put_account(scene.path / "wa1", number=2, device=1, at=OLD + present_at)
    assert scene.actions(at_path=at_path) == [action]


def test_a_receipt_counts_for_its_own_source(scene: Scene, tmp_path: pathlib.Path) -> None:
    put_account(scene.legacy / "wa1")
    older, newer = tmp_path / "older", tmp_path / "newer"
    put_account(older / "wa1", at=OLD - 60, number=3, device=1)
    scene.migrate()
    assert scene.actions() == ["unchanged"]
    assert scene.actions(older) == ["kept"]
    put_account(newer / "wa1", at=OLD + 60, number=4, device=1)
    assert scene.actions(newer) == ["migrated"]


def test_what_was_removed_is_brought_back_only_from_where_it_was_used_since(
    scene: Scene, tmp_path: pathlib.Path
) -> None:
    put_account(scene.legacy / "wa1")
    older, newer = tmp_path / "older", tmp_path / "newer"
    put_account(older / "wa1", number=3, device=1)
    scene.migrate()
    (scene.path / "wa1").rename(tmp_path / "logged-out")
    put_account(newer / "wa1", at=OLD - 60, number=4, device=1)  # put there now, whatever its times say
    assert [scene.actions(place) for place in (scene.legacy, older, newer)] == [["skipped"], ["skipped"], ["migrated"]]


def test_keys_that_were_written_in_place_are_use(scene: Scene) -> None:
    """No mark shows it: neither the credentials nor the directory changed."""
    put_account(scene.legacy / "wa1")
    scene.migrate()
    put_file(scene.path / "wa1/pre-key-1.json", '{"private": "of a message that came since"}', at=OLD * 2)
    use(scene.legacy / "wa1", OLD + 60)
    assert scene.actions() == ["diverged"]


@pytest.mark.parametrize(
    ("gone", "judged"),
    [("legacy", ["", "corrupt", "look again", "diverged"]), ("present", ["migrated", "look again", "diverged"])],
)
def test_what_vanishes_during_a_look(tmp_path: pathlib.Path, gone: str, judged: list[str]) -> None:
    """At each moment at which the account is opened, in turn: first as gone, then not at all, and once both were compared as it was.

    A legacy account that is gone is never published, and one at the sessions path never replaced by mistake.
    """
    outcomes = []
    for turn in itertools.count(1):
        (tmp_path / str(turn)).mkdir()
        scene = Scene(tmp_path / str(turn))
        put_account(scene.legacy / "wa1", number=1, device=1)
        put_account(scene.path / "wa1", number=2, device=1)
        account = (scene.legacy if gone == "legacy" else scene.path) / "wa1"
        try:
            with striking("open", "wa1", lambda at=account, to=tmp_path / f"gone-{turn}": at.rename(to), turn=turn):
                outcomes.append(" ".join(scene.actions()))
        except FileNotFoundError:
            outcomes.append("look again")
        except AssertionError as error:
            if "was never reached" not in str(error):
                raise
            break
    # The last look was not disturbed.
    assert [outcome for outcome, _alike in itertools.groupby(outcomes[:-1])] == judged


def test_an_adopted_account_is_remembered_as_it_was_judged(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What its backend writes between the look and the receipt is use, and must show as such later."""
    put_account(scene.legacy / "wa1", number=1, device=1, at=OLD - 60)
    put_account(scene.path / "wa1", number=2, device=1)
    judged = scene.look().accounts[0].present
    writing = apply_run.opened_area

    def used_meanwhile(path: str, control: int) -> t.Any:
        use(scene.path / "wa1", OLD + 1)
        return writing(path, control)

    monkeypatch.setattr(apply_run, "opened_area", used_meanwhile)
    scene.migrate()
    (entry,) = scene.receipts().values()
    assert judged is not None
    assert entry.present == judged.mark
    use(scene.legacy / "wa1", OLD + 120)
    assert scene.actions() == ["diverged"]


def test_a_sessions_path_that_is_not_made_yet(scene: Scene) -> None:
    put_account(scene.legacy / "wa1")
    seen = scene.look()
    assert (seen.path_inode, seen.present) == (0, {})
    with opened(scene.path):  # beside it, where it will be
        assert scene.actions() == ["migrated"]


# --- what is judged, and how often ------------------------------------------------------------------------


class Judge:
    """Counts how often accounts are judged."""

    def __init__(self) -> None:
        self.asked = 0
        self.layout = dataclasses.replace(BAILEYS, judge=self._judge)

    def _judge(self, directory: int) -> t.Any:
        self.asked += 1
        return BAILEYS.judge(directory)

    def look(self, scene: Scene, before: Survey | None = None, on_conflict: str = "newest") -> Survey:
        self.asked = 0
        source = Source(str(scene.legacy), str(scene.legacy))
        return survey(Roots([source], str(scene.path), self.layout), scene.receipts(), Choice(on_conflict), before)


def test_an_account_that_looks_as_it_did_is_not_judged_again(scene: Scene) -> None:
    judge = Judge()
    for name in ("wa1", "wa2"):
        put_account(scene.legacy / name)
        put_account(scene.path / name, number=2, device=1)
    first = judge.look(scene)
    assert judge.asked == 4
    assert judge.look(scene, first) == first
    assert judge.asked == 0
    put_file(scene.legacy / "wa2/creds.json", "")
    again = judge.look(scene, first)
    assert judge.asked == 1
    assert [account.legacy.state for account in again.accounts] == ["paired", "corrupt"]


def test_a_legacy_copy_that_nobody_used_since_is_not_judged(scene: Scene) -> None:
    judge = Judge()
    put_account(scene.legacy / "wa1")
    scene.migrate()
    seen = judge.look(scene)
    assert (judge.asked, [account.decision.action for account in seen.accounts]) == (1, ["unchanged"])
    put_file(scene.path / "wa1/creds.json", "")
    judge.look(scene)
    assert judge.asked == 2  # it may have to come back
    (seen,) = judge.look(scene, on_conflict="replace").accounts
    assert (seen.decision.action, seen.legacy.state) == ("migrated", "paired")


def test_what_could_not_be_judged_is_judged_again(scene: Scene) -> None:
    """A store that its program was writing to, say: nothing says that it looks otherwise once that has stopped."""
    judge = Judge()
    put_account(scene.legacy / "wa1")
    judge.layout = dataclasses.replace(BAILEYS, judge=lambda directory: Judgement("unknown"))
    before = judge.look(scene)
    judge.layout = BAILEYS
    assert [account.legacy.state for account in judge.look(scene, before).accounts] == ["paired"]


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES])
@pytest.mark.parametrize("attempt", range(2))
def test_an_account_that_cannot_be_opened_is_not_one_that_is_gone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, number: int, attempt: int
) -> None:
    """The others would be published without it. It is opened when accounts are listed, and again when it is looked at."""
    put_account(scene.legacy / "wa1")
    put_account(scene.legacy / "wa2")
    opens, turn = os.open, iter(range(100))

    def open_or_fail(path: t.Any, *arguments: t.Any, **named: t.Any) -> int:
        if path == "wa2" and next(turn) == attempt:
            raise OSError(number, os.strerror(number))
        return opens(path, *arguments, **named)

    monkeypatch.setattr(os, "open", open_or_fail)
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        scene.look()


# --- a root that is an account and holds others ------------------------------------------------------------------


def decided(seen: Survey) -> dict[str, tuple[str, bool, bool]]:
    return {one.name: (one.decision.action, one.decision.publish, one.is_inside) for one in seen.accounts}


WHOLE, INSIDE = ("migrated", True, False), ("migrated", False, True)


def test_what_lies_in_the_account_of_the_root_travels_with_it(scene: Scene) -> None:
    put_account(scene.legacy)
    put_account(scene.legacy / "user", number=2)
    put_file(put_account(scene.legacy / "broken", number=3) / "creds.json", "")
    assert decided(scene.look()) == {".": WHOLE, "broken": INSIDE, "user": INSIDE}
    assert not scene.look().left
    scene.migrate()
    assert set(scene.actions()) == {"unchanged"}
    use(scene.legacy, OLD + 3600)
    assert decided(scene.look())["user"] == INSIDE  # of one generation at both places


def test_it_does_not_where_the_sessions_path_has_newer_keys_or_others(scene: Scene) -> None:
    put_account(scene.legacy)
    put_account(scene.legacy / "user", number=2)
    scene.migrate()
    use(scene.legacy, OLD + 3600)
    use(scene.path / "user", OLD + 7200)
    assert decided(scene.look())["user"] == ("unchanged", False, False)
    put_account(scene.path / "third", number=4)
    assert not any(one.is_inside for one in scene.look().accounts)


def test_what_another_legacy_path_has_does_not_travel_in_the_account_of_a_root(
    scene: Scene, tmp_path: pathlib.Path
) -> None:
    put_account(scene.legacy)
    put_account(tmp_path / "other/user", number=2)
    assert decided(scene.look(scene.legacy, tmp_path / "other"))["user"] == WHOLE
