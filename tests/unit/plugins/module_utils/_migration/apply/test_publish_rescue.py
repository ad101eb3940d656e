# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing and taking back: whatever was done of an intent, taking it back gives exactly what was there, as often as one likes."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import types
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import OLD, content, put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import (
    INTENT,
    read_document_at,
    write_document_at,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.extras import slot_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.masking import account_key
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.files import write_atomic
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import publish, rescue
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import undo as apply_undo
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.progress import Run
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.publish import Publication
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.rescue import (
    MoveKind,
    is_used,
    kept_file,
    open_real,
    planned_move,
    undo_moves,
    unreversible_moves,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.staging_area import part_slot
from areas import carry_out, control_of, opened, opened_place
from striker import exchange, striking

Intent = dict[str, t.Any]
OURS = (os.geteuid(), os.getegid())


class Scene:
    """A sessions path with wa1 and wa2, staged copies of wa2 and wa3, and the plan to publish them."""

    def __init__(self, place: pathlib.Path) -> None:
        self.place, self.path = place, place / "sessions"
        for name in ("wa1", "wa2"):
            put_account(self.path / name)
        self.publications = [Publication("wa2", "w…2", "/old", True), Publication("t/wa3", "t…3", "/old", False)]
        self.control = control_of(self.path)
        self.files = [str(place / "etc/wa.service.d/20.conf"), str(self.control / "receipt.json")]
        with opened_place(self.path) as at:
            for publication in self.publications:
                put_account(self.area / "staging" / account_key(publication.name), number=9)
            put_file(self.control / "receipt.json", "{}").chmod(0o640)
            publish.make_folders(at, publish.paths_of(self.publications, []))
            moves = publish.publishing_moves(at, self.publications)
            self.intent = publish.announce(at, moves, self.files[:1], self.files[1])

    @property
    def area(self) -> pathlib.Path:
        return self.place / ".sessions.whatsapp-ops"

    def carry_out(self, steps: int) -> None:
        """Do the first steps of the intent: renames, then files."""
        carry_out(self.intent, self.intent["moves"][:steps])
        for path in self.files[: max(0, steps - len(self.intent["moves"]))]:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_atomic(path, b"new", 0o600, uid=OURS[0], gid=OURS[1])

    def seen(self) -> dict[str, t.Any]:
        modes = {
            str(path): stat.S_IMODE(path.stat().st_mode)
            for path in self.place.rglob("*")
            if path.name != "wa.service.d"
        }
        return {
            "modes": modes,
            "content": {name: held for name, held in content(self.place).items() if b"etc" not in name},
        }


@pytest.fixture
def scene(tmp_path: pathlib.Path) -> Scene:
    return Scene(tmp_path)


@pytest.mark.parametrize("where", ["area", "path"])
def test_a_directory_in_the_place_of_another_is_not_touched(scene: Scene, where: str) -> None:
    """Who owns the parent can exchange both; what lies there then is not what the intent is about."""
    scene.carry_out(5)
    mine = getattr(scene, where)
    mine.rename(scene.place / "aside")
    shutil.copytree(scene.place / "aside", mine)
    before = content(mine)
    with pytest.raises(rescue.Exchanged, match="was replaced with another directory"):
        undo_moves(scene.intent)
    assert content(mine) == before
    assert unreversible_moves(scene.intent) != []


def test_a_run_works_on_what_it_has_open_whatever_lies_there(scene: Scene) -> None:
    before = content(scene.path)
    with contextlib.ExitStack() as stack:
        folders = stack.enter_context(publish.Folders())
        for path in scene.intent["folders"]:
            descriptor = os.open(path, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            folders.keep(descriptor)
        scene.area.rename(scene.place / "aside")
        (scene.area / "staging").mkdir(parents=True)
        put_file(scene.area / "staging/mine", "")
        publish.apply_moves(folders, scene.intent["moves"])
        assert content(scene.path) != before
        undo_moves(scene.intent, folders.opened)
    assert content(scene.path) == before
    assert content(scene.area) == {b"staging": None, b"staging/mine": b""}


@pytest.mark.root
def test_only_the_folder_that_was_made_changes_hands(tmp_path: pathlib.Path) -> None:
    path, decoy = tmp_path / "sessions", tmp_path / "sessions/decoy"
    put_file(put_account(path / "wa1").parent / "keep", "")
    decoy.mkdir(mode=0o700)
    put_file(decoy / "of-root", "")
    with opened_place(path) as at:
        place = dataclasses.replace(at, uid=12345, gid=12345)
        struck = striking("open", "made", lambda: exchange(path / "made", decoy))
        with struck, pytest.raises(SessionsError, match="was replaced while it was being created"):
            publish.make_folders(place, ["made/wa2"])
        assert (path / "made").stat().st_uid == 0  # the decoy, under the other's name
        (path / "made").rename(path / "away")
        publish.make_folders(place, ["made/wa2"])
    assert (path / "made").stat().st_uid == 12345


def test_two_directories_never_stand_under_one_path(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").mkdir()
    with publish.Folders() as folders, opened_directory(str(tmp_path / "a")) as one:
        assert folders.keep(one) == folders.keep(one) == str(tmp_path / "a")
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "a").mkdir()
        with opened_directory(str(tmp_path / "a")) as other, pytest.raises(SessionsError, match="was replaced"):
            folders.keep(other)


@pytest.mark.parametrize("put", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
def test_only_regular_files_are_read_and_for_none_anybody_is_waited(
    tmp_path: pathlib.Path, put: t.Callable[[str], t.Any]
) -> None:
    put(str(tmp_path / "env"))
    with pytest.raises(OSError, match=f"{tmp_path}/env (is not a regular file|cannot be read)"):
        kept_file(str(tmp_path / "env"))


def test_no_endless_file_is_read(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "env").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match=f"{tmp_path}/env is larger than"):
        kept_file(str(tmp_path / "env"))


@pytest.mark.parametrize("steps", range(6))
def test_taking_back_is_exact_and_may_be_done_twice(scene: Scene, steps: int) -> None:
    (scene.place / "etc").mkdir()
    before = scene.seen()
    scene.carry_out(steps)
    assert steps == 0 or scene.seen() != before
    for _time in range(2):
        undo_moves(scene.intent)
        assert scene.seen() == before
    assert unreversible_moves(scene.intent) == []
    assert not os.path.exists(scene.files[0])


def test_all_of_it(scene: Scene) -> None:
    scene.carry_out(3)
    assert sorted(os.listdir(scene.path)) == ["t", "wa1", "wa2"]
    assert content(scene.path / "wa2") == content(scene.path / "t/wa3")
    (displaced,) = (scene.area / "displaced").iterdir()
    assert content(displaced) == content(scene.path / "wa1")
    assert list((scene.area / "staging").iterdir()) == []


def test_a_committed_intent_is_never_taken_back(scene: Scene) -> None:
    scene.carry_out(5)
    with opened(scene.path) as (control, _area):
        publish.commit(control, scene.intent)
        intent = read_document_at(control, INTENT)
    before = scene.seen()
    undo_moves(intent)
    assert scene.seen() == before
    assert unreversible_moves(intent) == []


@pytest.mark.parametrize("by", ["the rescuer", "the run"])
def test_going_back_is_made_undone_first(scene: Scene, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """Who is killed in the middle of it has to be taken back, which nobody does to an intent that says that all is done."""
    scene.carry_out(3)
    told = []

    def look(*_about: t.Any) -> None:
        told.append(json.loads((scene.control / INTENT).read_text())["committed"])

    with opened(scene.path) as (control, area):
        publish.commit(control, scene.intent)
        if by == "the rescuer":
            monkeypatch.setattr(rescue, "undo_moves", look)
            monkeypatch.setattr(rescue, "is_used", lambda *_about: False)
            assert rescue.undo_committed(str(scene.control / INTENT))
        else:
            monkeypatch.setattr(apply_undo, "undo_moves", look)
            monkeypatch.setattr(apply_undo, "require_all_taken_back", lambda *_about: None)
            state = types.SimpleNamespace(unit=None, effective=types.SimpleNamespace(engine="rename"))
            apply_undo.undo(Run(control, area, publish.Folders(), t.cast("t.Any", state)))
    assert told == [False]


def test_what_appears_meanwhile_is_neither_replaced_nor_moved(scene: Scene) -> None:
    put_account(scene.path / "t/wa3", "fresh")
    mine = content(scene.path / "t/wa3")
    with pytest.raises(SessionsError, match=r"a new entry appeared in .*; nothing was published: run again"):
        scene.carry_out(3)
    undo_moves(scene.intent)
    assert content(scene.path / "t/wa3") == mine
    assert (scene.area / "staging" / account_key("t/wa3")).exists()


def test_what_took_the_former_place_is_told_and_stays(scene: Scene) -> None:
    scene.carry_out(1)  # wa2 is displaced
    put_account(scene.path / "wa2", "fresh")
    mine = content(scene.path / "wa2")
    for _time in range(2):
        undo_moves(scene.intent)
        assert unreversible_moves(scene.intent) == [scene.intent["moves"][0]]
    assert content(scene.path / "wa2") == mine


def test_one_failure_does_not_keep_the_rest_from_being_taken_back(scene: Scene) -> None:
    scene.carry_out(5)
    os.unlink(scene.files[0])
    os.mkdir(scene.files[0])  # what cannot be unlinked
    with pytest.raises(OSError):
        undo_moves(scene.intent)
    assert sorted(os.listdir(scene.path)) == ["t", "wa1", "wa2"]
    assert list((scene.path / "t").iterdir()) == []
    assert (scene.control / "receipt.json").read_text() == "{}"


def test_a_displaced_account_has_a_note_that_leads_back(scene: Scene) -> None:
    with opened_place(scene.path) as at:
        publish.note_displaced(at, scene.intent["moves"])
    scene.carry_out(3)
    (note,) = (scene.control / "displaced").glob("*.json")
    told = json.loads(note.read_text())
    assert (told["account"], told["from"]) == ("wa2", str(scene.path))
    os.rename(scene.path / "wa2", scene.place / "x")
    os.rename(scene.area / "displaced" / note.stem, pathlib.Path(told["from"]) / told["account"])
    assert content(scene.path / "wa2") == content(scene.path / "wa1")


def test_the_way_back_does_not_depend_on_links(tmp_path: pathlib.Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    file = put_file(tmp_path / "real/env", "A=1\n")
    file.chmod(0o640)
    kept = [kept_file(str(tmp_path / "link/env")), kept_file(str(tmp_path / "link/new"))]
    put_file(file, "A=2\n")
    put_file(tmp_path / "real/new", "x")
    undo_moves({"moves": [], "files": kept, "folders": {}, "boot": rescue.boot()})
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("A=1\n", 0o640)
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["env"]


@pytest.mark.parametrize("name", ["env", "new"])
def test_no_file_is_restored_in_a_directory_in_the_place_of_another(tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / "etc").mkdir()
    put_file(tmp_path / "etc/env", "A=1\n")
    kept = [kept_file(str(tmp_path / "etc" / name))]
    (tmp_path / "etc").rename(tmp_path / "aside")
    (tmp_path / "etc").mkdir()
    somebody_s = put_file(tmp_path / "etc" / name, "of somebody\n")
    with pytest.raises(rescue.Exchanged, match="was replaced with another directory"):
        undo_moves({"moves": [], "files": kept, "folders": {}, "boot": rescue.boot()})
    assert somebody_s.read_text() == "of somebody\n"


def test_a_file_in_a_directory_that_was_never_made(tmp_path: pathlib.Path) -> None:
    undo_moves({"moves": [], "files": [kept_file(str(tmp_path / "never/made/env"))], "folders": {}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", ["link", "link/below", "a/../link"])
def test_real_paths_have_no_links(tmp_path: pathlib.Path, path: str) -> None:
    (tmp_path / "a/below").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(OSError):
        os.close(open_real(str(tmp_path / path)))
    os.close(open_real(str(tmp_path / "a/below")))


PLANS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(plan=PLANS, done=st.integers(0, 8))
def test_any_plan_of_renames_is_taken_back(tmp_path_factory: pytest.TempPathFactory, plan: t.Any, done: int) -> None:
    place = tmp_path_factory.mktemp("moves")
    for number in range(4):
        (place / f"d{number}").mkdir()
        put_account(place / f"d{number}/a", number=number)
        put_file(place / f"d{number}/b", f"{number}")
    before = content(place)
    moves = []
    for number, (source, target, folder) in enumerate(plan):
        name = "a" if folder else "b"
        path = place / f"d{source}" / name
        if not path.exists() or any(move["source"] == str(path.parent) and move["name"] == name for move in moves):
            continue
        moves.append(
            planned_move(
                MoveKind.DISPLACING, str(path.parent), name, str(place / f"d{target}"), f"n{number}", path.stat().st_ino
            )
        )
    folders = {str(folder): [folder.stat().st_dev, folder.stat().st_ino] for folder in place.iterdir()}
    intent = {"moves": moves, "files": [], "folders": folders, "boot": rescue.boot()}
    carry_out(intent, moves[:done])
    undo_moves(intent)
    assert content(place) == before


# --- what is not in an account's directory -------------------------------------------------------------------


class Whole:
    """An account with a part that is at the sessions path, a newer one with one, and what lies beside them."""

    def __init__(self, place: pathlib.Path) -> None:
        self.path, self.area = place / "sessions", place / ".sessions.whatsapp-ops"
        put_account(self.path / "data/one")
        (self.path / "tokens").mkdir()
        put_file(self.path / "tokens/one.json", "old")
        publication = Publication("data/one", "o…1", "/old", True, ("tokens/one.json", "tokens/one.more"))
        slot = part_slot("data/one", "tokens/one.json")
        with opened_place(self.path) as at:
            put_account(self.area / "staging" / account_key("data/one"), number=9)
            beside = self.area / "companions" / slot_of("deep/index.json")
            for directory in (self.area / "staging" / slot, beside):
                directory.mkdir(parents=True)
            put_file(self.area / "staging" / slot / "one.json", "new")
            put_file(beside / "index.json", "beside")
            names = ["deep/index.json", "deep/never-staged.json"]
            publish.make_folders(at, publish.paths_of([publication], names))
            moves = [*publish.publishing_moves(at, [publication]), *publish.beside_moves(at, names)]
            self.intent = publish.announce(at, moves, [], str(control_of(self.path) / "receipt.json"))

    def seen(self) -> dict[bytes, bytes | None]:
        return content(self.path.parent)


@pytest.fixture
def whole(tmp_path: pathlib.Path) -> Whole:
    return Whole(tmp_path)


def test_an_account_that_is_there_is_there_with_its_part(whole: Whole) -> None:
    """At every moment: the account goes before its part, and comes after it."""
    parts = {"one": b"old", "nine": b"new"}
    old = content(whole.path / "data/one")
    for move in (None, *whole.intent["moves"]):
        carry_out(whole.intent, [move] if move else [])
        if (whole.path / "data/one").exists():
            which = "one" if content(whole.path / "data/one") == old else "nine"
            assert (whole.path / "tokens/one.json").read_bytes() == parts[which]
    assert (whole.path / "tokens/one.json").read_bytes() == b"new"
    assert (whole.path / "deep/index.json").read_bytes() == b"beside"


@pytest.mark.parametrize("steps", range(6))
def test_parts_and_what_lies_beside_are_taken_back_as_well(whole: Whole, steps: int) -> None:
    before = whole.seen()
    carry_out(whole.intent, whole.intent["moves"][:steps])
    assert (whole.seen() != before) is (steps > 0)
    undo_moves(whole.intent)
    assert whole.seen() == before


def test_what_lies_beside_gives_way_to_what_is_there_by_now(whole: Whole) -> None:
    put_file(whole.path / "deep/index.json", "mine")
    carry_out(whole.intent, whole.intent["moves"])
    undo_moves(whole.intent)
    assert (whole.path / "deep/index.json").read_text() == "mine"


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: put_file(path, "")])
def test_a_file_goes_back_only_where_nothing_is(whole: Whole, make: t.Callable[[pathlib.Path], t.Any]) -> None:
    """An empty directory gives way to a directory, and never to a file."""
    carry_out(whole.intent, whole.intent["moves"][:2])  # the account and its part are displaced
    make(whole.path / "tokens/one.json")
    undo_moves(whole.intent)
    assert unreversible_moves(whole.intent) == [whole.intent["moves"][1]]
    assert (whole.path / "data/one").exists()


@pytest.mark.parametrize(
    ("written", "used"), [("data/one/creds.json", True), ("tokens/one.json", True), ("deep/index.json", False)]
)
def test_a_part_that_was_written_is_use_and_what_lies_beside_is_none(whole: Whole, written: str, used: bool) -> None:
    carry_out(whole.intent, whole.intent["moves"])
    since = (OLD + 5) * 10**9
    for path in whole.path.rglob("*"):
        os.utime(path, (OLD, OLD))
    assert not is_used(whole.intent, since)
    os.utime(whole.path / written, (OLD + 9, OLD + 9))
    assert is_used(whole.intent, since) is used


@pytest.mark.parametrize("name", ["wa1", "."])
def test_an_account_that_is_only_switched_to_counts_as_used_once_it_is_written(
    tmp_path: pathlib.Path, name: str
) -> None:
    """All was at the sessions path already, so nothing is published: keys that were written there must not be left behind."""
    path = tmp_path / "sessions"
    put_account(path / name)
    control = control_of(path)
    setting = put_file(tmp_path / "20.conf", "old")
    with opened_place(path) as at:
        kept = publish.staying(at, [name, "gone"])
        intent = publish.announce(at, [], [str(setting)], str(control / "receipt.json"), kept)
        put_file(setting, "new")
        for file in path.rglob("*"):
            os.utime(file, (OLD, OLD))
        os.utime(path, (OLD, OLD))
        publish.commit(at.control, intent)
    os.utime(control / INTENT, (OLD + 5, OLD + 5))
    written = path / name / "creds.json"
    os.utime(written, (OLD + 9, OLD + 9))
    assert not is_used(intent, (OLD + 5) * 10**9)  # before it is committed only we can have changed anything there
    assert rescue.undo_committed(str(control / INTENT)) is False
    assert setting.read_text() == "new"

    os.utime(written, (OLD, OLD))
    assert rescue.undo_committed(str(control / INTENT)) is True
    assert setting.read_text() == "old"


# --- the program that waits for a run to die ---------------------------------------------------------------


FILES = ("lock", "busy", "flag", "guard", "boot", "link")


class Rescuer:
    """The program as systemd starts it; systemctl is one that writes down what it is told."""

    def __init__(self, place: pathlib.Path) -> None:
        self.run = place / "run"
        self.run.mkdir()
        self.calls = place / "calls"
        self.calls.touch()
        put_file(place / "bin-systemctl", f'#!/bin/sh\necho "$@" >>{self.calls}\n').chmod(0o755)
        (place / "bin").mkdir()
        (place / "bin-systemctl").rename(place / "bin/systemctl")
        self.environment = {"PATH": f"{place}/bin:{os.environ['PATH']}"}
        for name in FILES:
            (self.run / name).touch()

    def start(self, intent: pathlib.Path, start: str = "yes") -> subprocess.Popen[bytes]:
        files = [str(self.run / name) for name in FILES]
        run = [str(os.getpid()), rescue.started_at(os.getpid()), "60"]
        program = [sys.executable, "-I", rescue.__file__, *files, str(intent), "wa.service", start, *run]
        return subprocess.Popen(program, env=self.environment)

    def after_boot(self, intent: pathlib.Path) -> int:
        """Run it as systemd does before it starts the backend."""
        files = [str(self.run / name) for name in ("boot", "link")]
        program = [sys.executable, "-I", rescue.__file__, "boot", str(intent), *files]
        return subprocess.run(program, env=self.environment, timeout=20, check=False).returncode

    def told(self) -> list[str]:
        return self.calls.read_text().splitlines()


@pytest.fixture
def rescuer(tmp_path: pathlib.Path) -> Rescuer:
    return Rescuer(tmp_path)


@pytest.mark.parametrize("start", ["yes", "no"])
def test_the_rescuer_waits_then_takes_back_and_starts(tmp_path: pathlib.Path, rescuer: Rescuer, start: str) -> None:
    scene = Scene(tmp_path)
    before = content(scene.path), content(scene.area / "staging")
    scene.carry_out(4)
    with (rescuer.run / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = rescuer.start(scene.control / INTENT, start)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert rescuer.told() == []
    assert process.wait(20) == 0
    assert (content(scene.path), content(scene.area / "staging")) == before
    assert not (scene.control / INTENT).exists()
    assert sorted(os.listdir(rescuer.run)) == ["lock"]
    started = ["reset-failed -- wa.service", "start -- wa.service"] if start == "yes" else []
    assert rescuer.told() == ["daemon-reload", *started]


def test_the_rescuer_of_a_run_that_ended_by_itself_does_nothing(tmp_path: pathlib.Path, rescuer: Rescuer) -> None:
    (rescuer.run / "busy").unlink()
    assert rescuer.start(tmp_path / "intent.json").wait(20) == 0
    assert rescuer.told() == []
    assert sorted(os.listdir(rescuer.run)) == ["boot", "flag", "guard", "link", "lock"]


@pytest.mark.parametrize("lost", ["flag", "intent", "damaged"])
def test_the_rescuer_starts_the_backend_whatever_it_finds(tmp_path: pathlib.Path, rescuer: Rescuer, lost: str) -> None:
    scene = Scene(tmp_path)
    scene.carry_out(3)
    published = content(scene.path)
    if lost == "flag":  # the run had come as far as starting it
        (rescuer.run / "flag").unlink()
    elif lost == "intent":
        (scene.control / INTENT).unlink()
    else:
        put_file(scene.control / INTENT, "{")
    assert rescuer.start(scene.control / INTENT).wait(20) == 0
    assert content(scene.path) == published
    assert rescuer.told()[-1] == "start -- wa.service"


def test_the_rescuer_keeps_a_committed_intent_for_going_back(tmp_path: pathlib.Path, rescuer: Rescuer) -> None:
    scene = Scene(tmp_path)
    scene.carry_out(4)
    published = content(scene.path)
    put_file(scene.control / INTENT, json.dumps({**scene.intent, "committed": True}))
    assert rescuer.start(scene.control / INTENT).wait(20) == 0
    assert content(scene.path) == published
    assert (scene.control / INTENT).exists()


@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("steps", range(6))
def test_after_a_boot_accounts_are_where_the_backend_looks(
    tmp_path: pathlib.Path, rescuer: Rescuer, steps: int, committed: bool
) -> None:
    """On the former path, with the former files, which systemd has to read again; nothing is undone once all was done."""
    scene = Scene(tmp_path)
    before = content(scene.path)
    scene.carry_out(steps)
    done = content(scene.path)
    if committed:
        put_file(scene.control / INTENT, json.dumps({**scene.intent, "committed": True}))
    assert rescuer.after_boot(scene.control / INTENT) == 0
    assert content(scene.path) == (done if committed else before)
    assert (scene.control / INTENT).exists() is committed
    assert rescuer.told() == ["daemon-reload"]
    assert not (rescuer.run / "boot").exists()
    assert not (rescuer.run / "link").exists()


def test_after_a_boot_a_stuck_account_is_remembered(tmp_path: pathlib.Path, rescuer: Rescuer) -> None:
    """Something new has the place of an account: what is in staging is no copy then, so the next run has to know."""
    scene = Scene(tmp_path)
    scene.carry_out(1)  # wa2 is displaced
    put_account(scene.path / "wa2")
    assert rescuer.after_boot(scene.control / INTENT) == 0
    assert unreversible_moves(scene.intent) == [scene.intent["moves"][0]]
    assert (scene.control / INTENT).exists()


def test_after_a_boot_disks_may_have_other_numbers(tmp_path: pathlib.Path, rescuer: Rescuer) -> None:
    scene = Scene(tmp_path)
    before = content(scene.path)
    scene.carry_out(4)
    folders = {path: [device + 1, inode] for path, (device, inode) in scene.intent["folders"].items()}
    put_file(scene.control / INTENT, json.dumps({**scene.intent, "folders": folders}))
    assert rescuer.after_boot(scene.control / INTENT) != 0  # within one boot they are others
    put_file(scene.control / INTENT, json.dumps({**scene.intent, "folders": folders, "boot": "another"}))
    assert rescuer.after_boot(scene.control / INTENT) == 0
    assert content(scene.path) == before


def test_after_a_boot_what_was_only_taken_goes_back(tmp_path: pathlib.Path, rescuer: Rescuer) -> None:
    """The backend was on the sessions path before, and accounts were on their way from the legacy one, none of them published."""
    scene = Scene(tmp_path)
    put_account(tmp_path / "old/wa4")
    inode = (tmp_path / "old/wa4").stat().st_ino
    taking = planned_move(
        rescue.MoveKind.TAKING, str(tmp_path / "old"), "wa4", str(scene.area / "staging"), "key", inode
    )
    (tmp_path / "old/wa4").rename(scene.area / "staging/key")
    old = (tmp_path / "old").stat()
    folders = {**scene.intent["folders"], str(tmp_path / "old"): [old.st_dev, old.st_ino]}
    put_file(scene.control / INTENT, json.dumps({**scene.intent, "moves": [taking], "folders": folders}))
    assert rescuer.after_boot(scene.control / INTENT) == 0
    assert (tmp_path / "old/wa4").is_dir()


@pytest.mark.parametrize("held", [None, "{"])
def test_after_a_boot_nothing_waits_for_the_next_one(
    tmp_path: pathlib.Path, rescuer: Rescuer, held: str | None
) -> None:
    if held:
        put_file(tmp_path / "intent.json", held)
    assert (rescuer.after_boot(tmp_path / "intent.json") == 0) is (held is None)
    assert not (rescuer.run / "boot").exists()


def test_the_program_imports_nothing_of_ours() -> None:
    source = pathlib.Path(rescue.__file__).read_text()
    assert "from ." not in source
    assert "import ansible" not in source


def test_an_intent_is_written_for_root_alone(scene: Scene) -> None:
    assert stat.S_IMODE((scene.control / INTENT).stat().st_mode) == 0o600
    with opened(scene.path) as (control, _area):
        write_document_at(control, INTENT, {})
        assert read_document_at(control, INTENT) == {}
