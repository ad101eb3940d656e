# SPDX-License-Identifier: GPL-3.0-or-later
"""Filling the staging area: what is known of a copy and for how long, and a source that somebody writes to."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import itertools
import marshal
import os
import pathlib
import time
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts import CANARY, OLD, content, put_account, put_file, use
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts import copy_index
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import (
    existing_control,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import mark_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.work_area import opened_staging
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.masking import account_key
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs import copy_file, inotify
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.inotify import Touched
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.walk_tree import Tally
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.account import open_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import space
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import staging as apply_staging
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.space import (
    has_ample_room,
    need_of,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.stage import ENGINES, Stage, Task
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.staging import (
    changes_since_copy,
    is_staged,
    stage_final,
    stage_live,
    watched,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.staging_area import (
    clear_staged_copy,
    clear_staging,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.take_out import split_parent
from areas import opened
from striker import exchange, striking

BAILEYS = layout_named("baileys")
KEY = account_key("wa1")


class Scene:
    """A legacy root with one account, and an open area."""

    def __init__(self, place: pathlib.Path, area: int) -> None:
        self.legacy, self.area_path = place / "legacy", place / ".sessions.whatsapp-ops"
        self.path = place / "sessions"
        self.account = put_account(self.legacy / "wa1")
        self.stage = Stage(area, BAILEYS, os.geteuid(), os.getegid(), "native", True)
        self.tasks = [Task(str(self.legacy), "wa1", "w…1")]

    @property
    def staged(self) -> pathlib.Path:
        return self.area_path / "staging" / KEY

    def with_engine(self, engine: str) -> Stage:
        return dataclasses.replace(self.stage, engine=engine)

    def is_staged(self) -> bool:
        root = os.open(self.legacy, os.O_RDONLY)
        account = open_account(root, "wa1")
        try:
            with existing_control(str(self.path)) as control, opened_staging(str(self.path), control) as staging:
                assert staging is not None
                return is_staged(staging, "wa1", mark_of(account, BAILEYS))
        finally:
            os.close(account)
            os.close(root)


@pytest.fixture
def scene(tmp_path: pathlib.Path) -> t.Iterator[Scene]:
    (tmp_path / "sessions").mkdir()
    with opened(tmp_path / "sessions") as (_control, area):
        yield Scene(tmp_path, area)


def settled(scene: Scene) -> None:
    """Stage until no file is as young as the tick of the clock."""
    while stage_live(scene.stage, scene.tasks).unsettled:
        pass


@pytest.mark.parametrize("engine", ENGINES)
def test_each_engine_ends_in_the_same(scene: Scene, engine: str) -> None:
    source = content(scene.account)
    put_file(scene.account / "x.tmp", "x")
    stage_live(scene.with_engine(engine), scene.tasks)
    stage_final(scene.with_engine(engine), scene.tasks)
    assert content(scene.staged) == source
    assert scene.account.exists() is (engine != "rename")


def test_what_is_known_is_not_read_again(scene: Scene) -> None:
    settled(scene)
    assert stage_live(scene.stage, scene.tasks).copied == 0
    use(scene.account, OLD + 60)
    put_file(scene.account / "pre-key-9.json", "{}")
    (scene.account / "pre-key-1.json").unlink()
    tally = stage_final(scene.stage, scene.tasks).tally
    assert tally.removed == 1
    assert content(scene.staged) == content(scene.account)


OTHERS: dict[str, t.Callable[[dict[str, t.Any]], t.Any]] = {
    "of another boot": lambda index: index.update(boot="another"),
    "for another owner": lambda index: index.update(owner=[4242, 4242]),
    "of no known kind": lambda index: index.update(more=1),
    "without files": lambda index: index.pop("files"),
}


@pytest.mark.parametrize("which", [*OTHERS, "cut short", "empty", "gone"])
def test_an_index_that_cannot_be_trusted_is_not(scene: Scene, which: str) -> None:
    """The copies may be torn then: each is compared with its source again."""
    settled(scene)
    index = scene.staged.with_name(f"{KEY}.index")
    if which in OTHERS:
        document = marshal.loads(index.read_bytes())
        OTHERS[which](document)
        index.write_bytes(marshal.dumps(document))
    elif which == "gone":
        index.unlink()
    else:
        index.write_bytes(index.read_bytes()[: 20 if which == "cut short" else 0])
    torn = scene.staged / "pre-key-1.json"
    put_file(torn, b"\0" * torn.stat().st_size)  # same size, same time
    assert stage_final(scene.stage, scene.tasks).tally.copied >= 1
    assert content(scene.staged) == content(scene.account)


def test_staged_is_what_looks_as_it_did(scene: Scene) -> None:
    assert not scene.is_staged()
    settled(scene)
    assert scene.is_staged()
    use(scene.account, OLD + 60)
    assert not scene.is_staged()
    settled(scene)
    assert scene.is_staged()
    clear_staging(scene.stage.area)
    assert not scene.is_staged()
    assert list((scene.area_path / "staging").iterdir()) == []


def test_nothing_known_of_another_boot_counts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(scene)
    monkeypatch.setattr(copy_index, "boot", lambda: "another")
    assert not scene.is_staged()


def test_need_is_what_is_not_there_yet(scene: Scene) -> None:
    need = need_of(scene.stage, scene.tasks)
    assert (need.files, need.bytes) == (5, sum(path.stat().st_size for path in scene.account.iterdir()))
    settled(scene)
    put_file(scene.account / "pre-key-9.json", "123")
    need = need_of(scene.stage, scene.tasks)
    assert (need.files, need.bytes) == (1, 3)


@pytest.mark.parametrize("engine", ["native", "rsync"])
def test_who_still_writes_is_noticed(scene: Scene, monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    """Something writes before every look; a thread would not get to it on a busy machine."""
    look, written = apply_staging._stage_once, iter(range(10**9))

    def write_and_look(*arguments: t.Any) -> t.Any:
        put_file(scene.account / "creds.json", f'{{"n": {next(written)}}}', at=OLD)
        return look(*arguments)

    stage_live(scene.with_engine(engine), scene.tasks)
    with monkeypatch.context() as patch:
        patch.setattr(apply_staging, "_SETTLING", 0.3)
        patch.setattr(apply_staging, "_stage_once", write_and_look)
        with pytest.raises(SessionsError, match=r"account 'w…1' from .*: a process still writes to it") as refused:
            stage_final(scene.with_engine(engine), scene.tasks)
    assert "creds" not in str(refused.value)
    stage_final(scene.with_engine(engine), scene.tasks)
    assert content(scene.staged) == content(scene.account)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_account_that_is_gone_is_told_by_its_label(scene: Scene, engine: str) -> None:
    tasks = [Task(str(scene.legacy), f"{CANARY}", "5…0")]
    with pytest.raises(SessionsError, match=r"cannot stage account '5…0' from .*: No such file") as refused:
        stage_final(scene.with_engine(engine), tasks)
    assert CANARY not in str(refused.value)


def test_moving_puts_aside_what_might_be_more_than_a_copy(scene: Scene) -> None:
    put_account(scene.staged, number=7)
    kept, source = content(scene.staged), content(scene.account)
    stage_final(scene.with_engine("rename"), scene.tasks)
    assert content(scene.staged) == source
    (aside,) = (scene.area_path / "displaced").iterdir()
    assert content(aside) == kept


@pytest.mark.parametrize(
    ("root", "name", "place"),
    [
        ("/a/b", "wa1", ("/a/b", "wa1")),
        ("/a/b", "t/wa1", ("/a/b/t", "wa1")),
        ("/a/b", ".", ("/a", "b")),
        ("/b", ".", ("/", "b")),
        ("/b", "x", ("/b", "x")),
    ],
)
def test_where_an_account_lies(root: str, name: str, place: tuple[str, str]) -> None:
    assert split_parent(root, name) == place


# --- what a watch tells ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def never(call: str) -> t.Iterator[None]:
    """Require that no process makes this system call with the account's directory: one that looks at all of it lists it."""
    refused = None
    with pytest.raises(AssertionError, match="was called with 'wa1' 0 times"), striking(call, "wa1", lambda: None):
        try:
            yield
        except SessionsError as error:
            refused = error
    if refused:
        raise refused


class Watched:
    """The account of a scene, copied under a watch, of which a unit will be held stopped."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.stage = dataclasses.replace(scene.stage, stopped=True)
        watch = watched(self.stage, scene.tasks)
        assert watch is not None
        self.watch = watch
        while stage_live(self.stage, scene.tasks, watch).unsettled:
            pass

    def told(self) -> dict[str, Touched]:
        root = os.open(self.scene.legacy, os.O_RDONLY)
        account = open_account(root, "wa1")
        try:
            return changes_since_copy(self.watch, self.stage, {"wa1": mark_of(account, BAILEYS)})
        finally:
            os.close(account)
            os.close(root)

    def finish(self, *, may_list: bool = True) -> Tally:
        """Run the final pass. ``may_list``: whether it may look at the whole account."""
        time.sleep(2 * apply_staging._GRAIN)  # or what was written right now would be copied twice
        with contextlib.nullcontext() if may_list else never("scandir"):
            tally = stage_final(self.stage, self.scene.tasks, self.told()).tally
        copied = content(self.scene.account)
        copied.pop(b"x.tmp", None)
        assert content(self.scene.staged) == copied
        return tally


@pytest.fixture
def under_watch(scene: Scene) -> t.Iterator[Watched]:
    made = Watched(scene)
    yield made
    made.watch.close()


def test_only_what_was_touched_is_looked_at(under_watch: Watched) -> None:
    account = under_watch.scene.account
    use(account, OLD + 60)
    put_file(account / "pre-key-9.json", "{}")
    put_file(account / "session-1.json.tmp", "{}")
    (account / "pre-key-1.json").unlink()
    (account / "session-1.json.tmp").unlink()
    (account / "pre-key-8.json").symlink_to("creds.json")
    (account / "pre-key-8.json").unlink()
    assert under_watch.finish(may_list=False).copied == 2
    assert stage_live(under_watch.stage, under_watch.scene.tasks).unsettled == 0, "the copies are compared again"
    assert content(under_watch.scene.staged) == content(account)


def test_an_account_that_nothing_touched_is_not_looked_at(under_watch: Watched) -> None:
    told = under_watch.told()
    with never("open"):
        assert stage_final(under_watch.stage, under_watch.scene.tasks, told).tally == Tally()
    assert under_watch.finish(may_list=False) == Tally()


def test_what_was_touched_is_copied_until_it_is_settled(under_watch: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    use(under_watch.scene.account, OLD + 60)
    racy = iter([True] * 4 + [False] * 9)
    monkeypatch.setattr(copy_file, "_is_racy", lambda status: next(racy))
    assert under_watch.finish(may_list=False).copied == 2


def test_who_still_writes_to_what_was_touched_is_noticed(under_watch: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each copy was made within the clock's grain of a write; a writer might not get to it on a busy machine."""
    use(under_watch.scene.account, OLD + 60)
    monkeypatch.setattr(apply_staging, "_SETTLING", 0.3)
    monkeypatch.setattr(copy_file, "_is_racy", lambda status: True)
    with pytest.raises(SessionsError, match=r"account 'w…1' from .*: a process still writes to it"):
        under_watch.finish(may_list=False)


def test_a_watch_that_hears_nothing_gives_itself_away(under_watch: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inotify.Watch, "read", lambda watch: None)
    use(under_watch.scene.account, OLD + 60)
    assert under_watch.told() == {}
    assert under_watch.finish().copied == 1


def test_what_is_written_by_another_name_is_seen(scene: Scene) -> None:
    """The event is told in the directory of the other name."""
    os.link(scene.account / "pre-key-1.json", scene.legacy / "other")
    under_watch = Watched(scene)
    (scene.legacy / "other").write_text("other")
    assert under_watch.told() == {}
    assert under_watch.finish().copied == 1


def test_what_is_written_by_another_name_is_seen_where_the_file_was_known(scene: Scene) -> None:
    settled(scene)
    os.link(scene.account / "pre-key-1.json", scene.legacy / "other")
    settled(scene)
    under_watch = Watched(scene)
    (scene.legacy / "other").write_text("other")
    assert under_watch.finish().copied == 1


def test_what_is_written_by_a_name_that_came_later_is_seen(under_watch: Watched) -> None:
    account = under_watch.scene.account
    os.link(account / "pre-key-1.json", account / "other")
    (account / "other").write_text("other")
    assert under_watch.finish().copied == 2


def test_what_lies_in_directories_below_is_seen(scene: Scene) -> None:
    (scene.account / "folder").mkdir()
    put_file(scene.account / "folder/key", "1")
    under_watch = Watched(scene)
    put_file(scene.account / "folder/key", "2", at=OLD + 60)
    put_file(scene.account / "creds.json", "{}", at=OLD + 60)
    under_watch.finish()


def test_another_directory_in_the_accounts_place_is_looked_at_as_a_whole(under_watch: Watched) -> None:
    scene = under_watch.scene
    use(scene.account, OLD + 60)
    told = under_watch.told()
    scene.account.rename(scene.legacy.parent / "old")
    put_account(scene.account, number=7)
    stage_final(under_watch.stage, scene.tasks, told)
    assert content(scene.staged) == content(scene.account)


def test_no_watch_where_it_would_tell_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    held = dataclasses.replace(scene.stage, stopped=True)
    assert watched(scene.stage, scene.tasks) is None, "nobody is held stopped"
    assert watched(dataclasses.replace(held, engine="rename"), scene.tasks) is None
    assert watched(dataclasses.replace(held, layout=layout_named("whatsmeow")), scene.tasks) is None

    def refused() -> t.NoReturn:
        raise OSError(errno.EMFILE, "no")

    monkeypatch.setattr(apply_staging, "Watch", refused)
    assert watched(held, scene.tasks) is None


DEEDS: dict[str, t.Callable[[pathlib.Path, pathlib.Path], t.Any]] = {
    "write": lambda one, other: one.write_text(other.name * 3),
    "append": lambda one, other: one.open("a").write("x"),
    "remove": lambda one, other: one.unlink(missing_ok=True),
    "rename": lambda one, other: one.exists() and one.replace(other),
    "save": lambda one, other: (put_file(one.with_name("x.tmp"), other.name), one.with_name("x.tmp").replace(one)),
    "mode": lambda one, other: one.exists() and one.chmod(0o640),
    "link": lambda one, other: one.exists() and not other.exists() and os.link(one, other),
    "folder": lambda one, other: not one.exists() and one.mkdir(),
}


def deeds(*kinds: str) -> st.SearchStrategy[list[tuple[str, int, int]]]:
    return st.lists(st.tuples(st.sampled_from(sorted(kinds)), st.integers(0, 7), st.integers(0, 7)), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
@given(before=deeds(*DEEDS), in_background=deeds(*set(DEEDS) - {"link"}))
def test_a_watch_misses_nothing_that_a_look_at_everything_finds(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[str, int, int]],
    in_background: list[tuple[str, int, int]],
) -> None:
    place = tmp_path_factory.mktemp("watched")
    (place / "sessions").mkdir()
    with opened(place / "sessions") as (_control, area):
        scene = Scene(place, area)
        names = [*sorted(os.listdir(scene.account)), *"abc"]

        def do(deeds: list[tuple[str, int, int]]) -> None:
            for deed, one, other in deeds:
                with contextlib.suppress(IsADirectoryError, PermissionError, NotADirectoryError):
                    DEEDS[deed](scene.account / names[one], scene.account / names[other])

        do(before)
        under_watch = Watched(scene)
        copied = inodes(scene.account)
        do(in_background)
        told = under_watch.told().get("wa1")
        found = inodes(scene.account)
        if told:
            assert {name for name in {*copied, *found} if copied.get(name) != found.get(name)} <= told.names
        under_watch.finish()
        assert {name: look[4] for name, look in inodes(scene.staged).items()} == {
            name: look[4] for name, look in found.items() if name != "x.tmp"
        }, "modes"
        under_watch.watch.close()


def inodes(folder: pathlib.Path) -> dict[str, tuple[int, ...]]:
    statuses = ((entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(folder))
    return {
        name: (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode)
        for name, status in statuses
    }


# --- room on the disk ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [(1 << 60, 0), (0, 1 << 60)])
def test_nothing_is_copied_that_would_fill_the_disk(scene: Scene, kept: tuple[int, int]) -> None:
    tight = dataclasses.replace(scene.stage, kept_free=kept)
    with pytest.raises(SessionsError, match=r"account 'w…1' from .*: copying it would fill up the disk"):
        stage_live(tight, scene.tasks)


def test_what_the_accounts_need_is_not_measured_where_there_is_plenty(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(space, "has_room_for_all", lambda target, sources: [asked.append(each) for each in sources])
    assert has_ample_room(scene.stage, scene.tasks)
    assert len(asked) == 2
    assert not has_ample_room(scene.with_engine("rsync"), scene.tasks), "rsync does not notice when it gets scarce"


def test_moving_takes_the_very_directory_that_was_judged(scene: Scene) -> None:
    """What takes its place between the look and the rename goes back to where it was."""
    judged = scene.account.stat().st_ino
    other = put_account(scene.legacy / "other", number=9)
    before = content(scene.legacy)
    exchange(scene.account, other)
    exchanged = content(scene.legacy)
    assert exchanged != before
    with pytest.raises(SessionsError, match="it was replaced with another directory while it was being moved"):
        stage_final(scene.with_engine("rename"), [dataclasses.replace(scene.tasks[0], inode=judged)])
    assert content(scene.legacy) == exchanged
    assert list((scene.area_path / "staging").iterdir()) == []
    exchange(scene.account, other)
    stage_final(scene.with_engine("rename"), [dataclasses.replace(scene.tasks[0], inode=judged)])
    assert scene.staged.stat().st_ino == judged


# --- a run that is killed while it clears up --------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL."""


def killed_at(call: t.Callable[..., None], left: list[int]) -> t.Callable[..., None]:
    """Give a function of os that the run is killed at, after some calls."""

    def made(*arguments: t.Any, **options: t.Any) -> None:
        left[0] -= 1
        if not left[0]:
            raise Killed
        call(*arguments, **options)

    return made


@pytest.mark.parametrize("clearing", ["all copies", "one for another engine"])
@pytest.mark.parametrize("call", ["unlink", "rmdir"])
def test_half_a_copy_never_counts_as_a_whole_one(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, clearing: str, call: str
) -> None:
    (scene.account / "deep").mkdir()
    put_file(scene.account / "deep/file", "1")
    for turn in itertools.count(1):
        settled(scene)
        assert content(scene.staged) == content(scene.account)
        left = [turn]
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(os, call, killed_at(getattr(os, call), left))
            if clearing == "all copies":
                clear_staging(scene.stage.area)
            else:
                with opened_directory(str(scene.staged.parent)) as staging:
                    clear_staged_copy(scene.stage.area, staging, "wa1")
        stage_live(scene.stage, scene.tasks)
        assert content(scene.staged) == content(scene.account), f"killed at {call} number {turn}"
        if left[0] > 0:
            break
    assert turn > 1


def test_what_is_known_of_a_copy_that_is_gone_does_not_count(scene: Scene) -> None:
    """As when it was published, and the run was killed before it cleared up."""
    settled(scene)
    scene.staged.rename(scene.legacy.with_name("published"))
    stage_live(scene.stage, scene.tasks)
    assert content(scene.staged) == content(scene.account)
