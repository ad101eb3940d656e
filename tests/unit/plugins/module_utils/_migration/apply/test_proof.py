# SPDX-License-Identifier: GPL-3.0-or-later
"""What proves after a start that a backend uses its new path: the opens of its accounts, and the values that its process has."""

from __future__ import annotations

import os
import pathlib
import re
import typing as t

import pytest

from accounts import put_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import StartFailed
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts import account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import proof as apply_proof
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.proof import (
    Start,
    prove,
    watched_use,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.switch import Switch
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage import open_watch
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._usage.in_use import (
    NOWHERE,
    UNKNOWN,
    USED,
    Leads,
    Verdict,
)

NOTHING = Switch((), None)
GROUP = "/system.slice/wa.service"


class Scene:
    """A unit whose main process is this one, an account at two places, and opens of it by whom nobody can name."""

    def __init__(self, place: pathlib.Path) -> None:
        self.new, self.old = (put_account(place / name / "wa1").parent for name in ("new", "old"))
        shown = {"MainPID": str(os.getpid()), "ActiveState": "active", "SubState": "running", "ControlGroup": GROUP}
        self.unit = Unit("wa.service", {**dict.fromkeys(PROPERTIES, ""), **shown})

    def after(self, *opened: pathlib.Path, use_timeout: float = 0, has_accounts: bool = True) -> tuple[str, ...]:
        """Prove a start after which accounts were opened at these roots."""
        path, former, layout = str(self.new), (str(self.old),), layout_named("baileys")
        with watched_use(self.unit, path, former, layout) as watch:
            for root in opened:
                (root / "wa1/creds.json").read_bytes()
            return prove(Start("wa.service", path, former, layout, NOTHING, has_accounts, 1.0, use_timeout), watch)


@pytest.fixture
def scene(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    made = Scene(tmp_path)
    monkeypatch.setattr(open_watch, "has_fanotify", lambda: False)
    monkeypatch.setattr(apply_proof, "read_service", lambda _name: made.unit)
    monkeypatch.setattr(apply_proof, "needs_restart", lambda _switch, _unit: False)
    monkeypatch.setattr(apply_proof, "OPENED_WITHIN", 0.2)
    monkeypatch.setattr(apply_proof, "_SETTLING", 0.1)
    return made


def test_accounts_that_are_opened_at_the_new_path_are_used_there(scene: Scene) -> None:
    assert scene.after(scene.new) == ()


def test_accounts_that_are_opened_at_the_former_path_alone_are_still_used_there(scene: Scene) -> None:
    words = f"wa.service keeps using {scene.old} although it was started for {scene.new}"
    with pytest.raises(StartFailed, match=re.escape(words)):
        scene.after(scene.old)


def test_an_open_by_nobody_knows_whom_does_not_speak_against_an_open_at_the_new_path(scene: Scene) -> None:
    assert scene.after(scene.new, scene.old) == ()


def test_a_backend_that_opens_nothing_is_not_called_done(scene: Scene) -> None:
    words = f"wa.service opened none of the accounts in {scene.new} within 0.2 seconds after its start; make sure that it uses them"
    assert scene.after() == (words,)
    with pytest.raises(StartFailed, match=r"within 0\.3 seconds after its start, so nothing shows that it uses them"):
        scene.after(use_timeout=0.3)


@pytest.mark.parametrize("held", ["new", "old"])
def test_who_holds_a_place_open_uses_it(scene: Scene, monkeypatch: pytest.MonkeyPatch, held: str) -> None:
    leads = Leads(open_files=frozenset((str(getattr(scene, held)),)), processes=1)
    monkeypatch.setattr(apply_proof, "leads_to", lambda *_about: leads)
    if held == "new":
        assert scene.after(use_timeout=60) == ()
    else:
        with pytest.raises(StartFailed, match="nothing shows that it uses them"):
            scene.after(use_timeout=0.3)


def test_without_linked_accounts_there_is_nothing_to_open(scene: Scene) -> None:
    assert scene.after(use_timeout=0.3, has_accounts=False) == ()


def test_what_the_process_has_counts_less_than_what_it_opens(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply_proof, "needs_restart", lambda _switch, _unit: True)
    monkeypatch.setattr(apply_proof, "_PROVED_WITHIN", 0.1)
    with pytest.raises(StartFailed, match=r"keeps using .*: its main process does not have the values of the switch"):
        scene.after(scene.old)
    with pytest.raises(StartFailed, match="was started, but its main process does not have the values of the switch"):
        scene.after()
    assert scene.after(scene.new) == ()  # bound to the place, or by a wrapper


@pytest.mark.parametrize("fails", ["UseWatch", "opened_directory"])
def test_where_it_cannot_be_watched_what_the_processes_lead_to_counts(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def fail(*_arguments: t.Any) -> t.Any:
        raise OSError(24, "Too many open files")

    before = set(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(apply_proof, fails, fail)
    monkeypatch.setattr(apply_proof, "_SETTLING", 0.01)
    asked: list[t.Any] = []
    answers: list[str] = []
    monkeypatch.setattr(
        apply_proof,
        "use_of",
        lambda *about: asked.append(about) or Verdict(answers.pop(0) if len(answers) > 1 else answers[0]),
    )
    unwatched = "which accounts wa.service opens could not be watched, so only its environment, directories and open files were checked"
    for told, seen in (([USED], True), ([NOWHERE, UNKNOWN, USED], True), ([NOWHERE], False), ([UNKNOWN], False)):
        monkeypatch.setattr(apply_proof, "OPENED_WITHIN", 10.0 if seen else 0.2)
        answers[:] = told  # it opens its accounts only after a while, or not at all
        first, *others = scene.after(scene.old)
        assert (first, bool(others)) == (unwatched, not seen)
    assert asked[0][1:3] == (str(scene.new), (str(scene.old),))
    answers[:] = [NOWHERE]
    with pytest.raises(StartFailed, match="opened none of the accounts"):
        scene.after(use_timeout=0.3)
    assert set(os.listdir("/proc/self/fd")) == before


def test_an_account_that_goes_while_it_is_looked_at_keeps_no_other_one_from_being_watched(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_account(scene.new / "wa0")
    opened = account.opened_account

    def gone(root: int, name: str) -> t.Any:
        if name == "wa0":
            raise FileNotFoundError(name)
        return opened(root, name)

    monkeypatch.setattr(account, "opened_account", gone)
    with watched_use(scene.unit, str(scene.new), (), layout_named("baileys")) as watch:
        assert watch is not None
        (scene.new / "wa1/creds.json").read_bytes()
        assert watch.wait_for(lambda seen: any(use.opens for use in seen.values()), 5)
        assert not watch.seen()[str(scene.new)].complete
