# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing and taking back: whatever was done of an intent, taking it back gives exactly what was there, as often as one likes."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import stat
import subprocess
import sys
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import OLD, content, put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils import _publish, _rescue
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._area import (
    INTENT,
    opened_area,
    read_document_at,
    write_document_at,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._beside import slot_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._paths import opened_directory, write_atomic
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._publish import Place, Publication
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._receipts import account_key
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._rescue import (
    DISPLACING,
    is_used,
    kept_file,
    open_real,
    planned_move,
    stuck_moves,
    take_back,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._staging import part_slot

Intent = dict[str, t.Any]
OURS = (os.geteuid(), os.getegid())


class Scene:
    """A sessions path with wa1 and wa2, staged copies of wa2 and wa3, and the plan to publish them."""

    def __init__(self, place: pathlib.Path) -> None:
        self.place, self.path = place, place / "sessions"
        for name in ("wa1", "wa2"):
            put_account(self.path / name)
        self.publications = [Publication("wa2", "w…2", "/old", True), Publication("t/wa3", "t…3", "/old", False)]
        with opened_area(str(self.path)) as area:
            for publication in self.publications:
                put_account(self.area / "staging" / account_key(publication.name), number=9)
            put_file(self.area / "receipt.json", "{}").chmod(0o640)
            with opened_directory(str(self.path)) as root:
                self.at = Place(area, root, *OURS)
                _publish.make_folders(self.at, _publish.paths_of(self.publications, []))
                moves = _publish.publishing_moves(self.at, self.publications)
                self.files = [str(self.area / "receipt.json"), str(place / "etc/wa.service.d/20.conf")]
                self.intent = _publish.announce(self.at, moves, self.files)

    @property
    def area(self) -> pathlib.Path:
        return self.place / ".sessions.whatsapp-ops"

    def carry_out(self, steps: int) -> None:
        """Do the first steps of the intent: renames, then files."""
        _publish.carry_out(self.intent["moves"][:steps])
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


@pytest.mark.parametrize("steps", range(6))
def test_taking_back_is_exact_and_may_be_done_twice(scene: Scene, steps: int) -> None:
    (scene.place / "etc").mkdir()
    before = scene.seen()
    scene.carry_out(steps)
    assert steps == 0 or scene.seen() != before
    for _time in range(2):
        take_back(scene.intent)
        assert scene.seen() == before
    assert stuck_moves(scene.intent) == []
    assert not os.path.exists(scene.files[1])


def test_all_of_it(scene: Scene) -> None:
    scene.carry_out(3)
    assert sorted(os.listdir(scene.path)) == ["t", "wa1", "wa2"]
    assert content(scene.path / "wa2") == content(scene.path / "t/wa3")
    (displaced,) = (scene.area / "displaced").iterdir()
    assert content(displaced) == content(scene.path / "wa1")
    assert list((scene.area / "staging").iterdir()) == []


def test_a_committed_intent_is_never_taken_back(scene: Scene) -> None:
    scene.carry_out(5)
    with opened_area(str(scene.path)) as area:
        _publish.commit(area, scene.intent)
        intent = read_document_at(area, INTENT)
    before = scene.seen()
    take_back(intent)
    assert scene.seen() == before
    assert stuck_moves(intent) == []


def test_what_appears_meanwhile_is_neither_replaced_nor_moved(scene: Scene) -> None:
    put_account(scene.path / "t/wa3", "fresh")
    mine = content(scene.path / "t/wa3")
    with pytest.raises(SessionsError, match=r"something appeared in .*; nothing is published, run again"):
        scene.carry_out(3)
    take_back(scene.intent)
    assert content(scene.path / "t/wa3") == mine
    assert (scene.area / "staging" / account_key("t/wa3")).exists()


def test_what_took_the_former_place_is_told_and_stays(scene: Scene) -> None:
    scene.carry_out(1)  # wa2 is displaced
    put_account(scene.path / "wa2", "fresh")
    mine = content(scene.path / "wa2")
    for _time in range(2):
        take_back(scene.intent)
        assert stuck_moves(scene.intent) == [scene.intent["moves"][0]]
    assert content(scene.path / "wa2") == mine


def test_one_failure_does_not_keep_the_rest_from_being_taken_back(scene: Scene) -> None:
    scene.carry_out(5)
    os.unlink(scene.files[1])
    os.mkdir(scene.files[1])  # what cannot be unlinked
    with pytest.raises(OSError):
        take_back(scene.intent)
    assert sorted(os.listdir(scene.path)) == ["t", "wa1", "wa2"]
    assert list((scene.path / "t").iterdir()) == []
    assert (scene.area / "receipt.json").read_text() == "{}"


def test_a_displaced_account_has_a_note_that_leads_back(scene: Scene) -> None:
    with opened_area(str(scene.path)) as area, opened_directory(str(scene.path)) as root:
        _publish.note_displaced(Place(area, root, *OURS), scene.intent["moves"])
    scene.carry_out(3)
    (note,) = (scene.area / "displaced").glob("*.json")
    told = json.loads(note.read_text())
    assert (told["account"], told["from"]) == ("wa2", str(scene.path))
    os.rename(scene.path / "wa2", scene.place / "x")
    os.rename(note.with_suffix(""), pathlib.Path(told["from"]) / told["account"])
    assert content(scene.path / "wa2") == content(scene.path / "wa1")


def test_the_way_back_does_not_depend_on_links(tmp_path: pathlib.Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    file = put_file(tmp_path / "real/env", "A=1\n")
    file.chmod(0o640)
    kept = [kept_file(str(tmp_path / "link/env")), kept_file(str(tmp_path / "link/new"))]
    put_file(file, "A=2\n")
    put_file(tmp_path / "real/new", "x")
    take_back({"moves": [], "files": kept})
    assert (file.read_text(), stat.S_IMODE(file.stat().st_mode)) == ("A=1\n", 0o640)
    assert [path.name for path in (tmp_path / "real").iterdir()] == ["env"]


def test_a_file_in_a_directory_that_was_never_made(tmp_path: pathlib.Path) -> None:
    take_back({"moves": [], "files": [kept_file(str(tmp_path / "never/made/env"))]})
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
                DISPLACING, str(path.parent), name, str(place / f"d{target}"), f"n{number}", path.stat().st_ino
            )
        )
    _publish.carry_out(moves[:done])
    take_back({"moves": moves, "files": []})
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
        with opened_area(str(self.path)) as area, opened_directory(str(self.path)) as root:
            put_account(self.area / "staging" / account_key("data/one"), number=9)
            beside = self.area / "companions" / slot_of("deep/index.json")
            for directory in (self.area / "staging" / slot, beside):
                directory.mkdir(parents=True)
            put_file(self.area / "staging" / slot / "one.json", "new")
            put_file(beside / "index.json", "beside")
            at = Place(area, root, *OURS)
            names = ["deep/index.json", "deep/never-staged.json"]
            _publish.make_folders(at, _publish.paths_of([publication], names))
            moves = [*_publish.publishing_moves(at, [publication]), *_publish.beside_moves(at, names)]
            self.intent = _publish.announce(at, moves, [])

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
        _publish.carry_out([move] if move else [])
        if (whole.path / "data/one").exists():
            which = "one" if content(whole.path / "data/one") == old else "nine"
            assert (whole.path / "tokens/one.json").read_bytes() == parts[which]
    assert (whole.path / "tokens/one.json").read_bytes() == b"new"
    assert (whole.path / "deep/index.json").read_bytes() == b"beside"


@pytest.mark.parametrize("steps", range(6))
def test_parts_and_what_lies_beside_are_taken_back_as_well(whole: Whole, steps: int) -> None:
    before = whole.seen()
    _publish.carry_out(whole.intent["moves"][:steps])
    assert (whole.seen() != before) is (steps > 0)
    take_back(whole.intent)
    assert whole.seen() == before


def test_what_lies_beside_gives_way_to_what_is_there_by_now(whole: Whole) -> None:
    put_file(whole.path / "deep/index.json", "mine")
    _publish.carry_out(whole.intent["moves"])
    take_back(whole.intent)
    assert (whole.path / "deep/index.json").read_text() == "mine"


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: put_file(path, "")])
def test_a_file_goes_back_only_where_nothing_is(whole: Whole, make: t.Callable[[pathlib.Path], t.Any]) -> None:
    """An empty directory gives way to a directory, and never to a file."""
    _publish.carry_out(whole.intent["moves"][:2])  # the account and its part are displaced
    make(whole.path / "tokens/one.json")
    take_back(whole.intent)
    assert stuck_moves(whole.intent) == [whole.intent["moves"][1]]
    assert (whole.path / "data/one").exists()


@pytest.mark.parametrize(
    ("written", "used"), [("data/one/creds.json", True), ("tokens/one.json", True), ("deep/index.json", False)]
)
def test_a_part_that_was_written_is_use_and_what_lies_beside_is_none(whole: Whole, written: str, used: bool) -> None:
    _publish.carry_out(whole.intent["moves"])
    since = (OLD + 5) * 10**9
    for path in whole.path.rglob("*"):
        os.utime(path, (OLD, OLD))
    assert not is_used(whole.intent, since)
    os.utime(whole.path / written, (OLD + 9, OLD + 9))
    assert is_used(whole.intent, since) is used


# --- the program that waits for a run to die ---------------------------------------------------------------


FILES = ("lock", "busy", "flag", "guard", "boot")


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
        program = [sys.executable, "-I", _rescue.__file__, *files, str(intent), "wa.service", start]
        return subprocess.Popen(program, env=self.environment)

    def after_boot(self, intent: pathlib.Path, **environment: str) -> int:
        """Run it as systemd does before it starts the backend."""
        program = [sys.executable, "-I", _rescue.__file__, "boot", str(intent), str(self.run / "boot")]
        return subprocess.run(program, env={**self.environment, **environment}, timeout=20, check=False).returncode

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
        process = rescuer.start(scene.area / INTENT, start)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        assert rescuer.told() == []
    assert process.wait(20) == 0
    assert (content(scene.path), content(scene.area / "staging")) == before
    assert not (scene.area / INTENT).exists()
    assert sorted(os.listdir(rescuer.run)) == ["lock"]
    started = ["reset-failed -- wa.service", "start -- wa.service"] if start == "yes" else []
    assert rescuer.told() == ["daemon-reload", *started]


def test_the_rescuer_of_a_run_that_ended_by_itself_does_nothing(tmp_path: pathlib.Path, rescuer: Rescuer) -> None:
    (rescuer.run / "busy").unlink()
    assert rescuer.start(tmp_path / "intent.json").wait(20) == 0
    assert rescuer.told() == []
    assert sorted(os.listdir(rescuer.run)) == ["boot", "flag", "guard", "lock"]


@pytest.mark.parametrize("lost", ["flag", "intent", "damaged"])
def test_the_rescuer_starts_the_backend_whatever_it_finds(tmp_path: pathlib.Path, rescuer: Rescuer, lost: str) -> None:
    scene = Scene(tmp_path)
    scene.carry_out(3)
    published = content(scene.path)
    if lost == "flag":  # the run had come as far as starting it
        (rescuer.run / "flag").unlink()
    elif lost == "intent":
        (scene.area / INTENT).unlink()
    else:
        put_file(scene.area / INTENT, "{")
    assert rescuer.start(scene.area / INTENT).wait(20) == 0
    assert content(scene.path) == published
    assert rescuer.told()[-1] == "start -- wa.service"


def test_the_rescuer_keeps_a_committed_intent_for_going_back(tmp_path: pathlib.Path, rescuer: Rescuer) -> None:
    scene = Scene(tmp_path)
    scene.carry_out(4)
    published = content(scene.path)
    put_file(scene.area / INTENT, json.dumps({**scene.intent, "committed": True}))
    assert rescuer.start(scene.area / INTENT).wait(20) == 0
    assert content(scene.path) == published
    assert (scene.area / INTENT).exists()


@pytest.mark.parametrize("below", ["", "/wa2"])
@pytest.mark.parametrize(("renames", "switched"), [(0, False), (2, False), (4, False), (2, True), (4, True)])
def test_after_a_boot_accounts_are_where_the_backend_looks(
    tmp_path: pathlib.Path, rescuer: Rescuer, renames: int, switched: bool, below: str
) -> None:
    scene = Scene(tmp_path)
    before = content(scene.path)
    scene.carry_out(renames)
    published = content(scene.path)
    named = {"SESSIONS_PATH": f"{scene.path}{below}" if switched else f"{scene.place}/old"}
    assert rescuer.after_boot(scene.area / INTENT, HOME=str(scene.place), **named) == 0
    assert content(scene.path) == (published if switched and renames == 4 else before)
    assert (scene.area / INTENT).exists() is (switched and renames == 4)
    assert not (rescuer.run / "boot").exists()


def test_after_a_boot_what_was_only_taken_goes_back(tmp_path: pathlib.Path, rescuer: Rescuer) -> None:
    """The backend was on the sessions path before, and accounts were on their way from the legacy one, none of them published."""
    scene = Scene(tmp_path)
    put_account(tmp_path / "old/wa4")
    inode = (tmp_path / "old/wa4").stat().st_ino
    taking = planned_move(_rescue.TAKING, str(tmp_path / "old"), "wa4", str(scene.area / "staging"), "key", inode)
    (tmp_path / "old/wa4").rename(scene.area / "staging/key")
    put_file(scene.area / INTENT, json.dumps({**scene.intent, "moves": [taking]}))
    assert rescuer.after_boot(scene.area / INTENT, SESSIONS_PATH=str(scene.path)) == 0
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
    source = pathlib.Path(_rescue.__file__).read_text()
    assert "from ." not in source
    assert "import ansible" not in source


def test_an_intent_is_written_for_root_alone(scene: Scene) -> None:
    assert stat.S_IMODE((scene.area / INTENT).stat().st_mode) == 0o600
    with opened_area(str(scene.path)) as area:
        write_document_at(area, INTENT, {})
        assert read_document_at(area, INTENT) == {}
