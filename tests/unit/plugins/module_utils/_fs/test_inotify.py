# SPDX-License-Identifier: GPL-3.0-or-later
"""What a watch tells: every touch by its name, and no answer at all where it might not have heard of all."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import pathlib
import typing as t

import pytest

from accounts import put_account, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs import inotify
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.inotify import Watch


@pytest.fixture
def account(tmp_path: pathlib.Path) -> pathlib.Path:
    return put_account(tmp_path / "legacy/wa1")


@pytest.fixture
def watch(account: pathlib.Path) -> t.Iterator[Watch]:
    with contextlib.closing(watching(account)) as made:
        yield made


def watching(account: pathlib.Path) -> Watch:
    made, directory = Watch(), os.open(account, os.O_RDONLY | os.O_DIRECTORY)
    made.add("wa1", directory)
    os.close(directory)
    made.begin()
    return made


def told(watch: Watch) -> set[str] | None:
    touched = watch.touched().get("wa1")
    return set(touched.names) if touched else None


def in_place(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    os.pwrite(descriptor, b"X", 0)
    os.close(descriptor)


def through_memory(path: pathlib.Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[0:1] = b"X"


TOUCHES: dict[str, tuple[t.Callable[[pathlib.Path], t.Any], set[str]]] = {
    "nothing": (lambda account: (account / "creds.json").read_bytes(), set()),
    "written in place": (lambda account: in_place(account / "creds.json"), {"creds.json"}),
    "written through memory": (lambda account: through_memory(account / "creds.json"), {"creds.json"}),
    "made shorter": (lambda account: os.truncate(account / "creds.json", 3), {"creds.json"}),
    "other mode": (lambda account: (account / "creds.json").chmod(0o640), {"creds.json"}),
    "other times": (lambda account: os.utime(account / "creds.json", (5, 5)), {"creds.json"}),
    "new": (lambda account: (account / "new\nline").touch(), {"new\nline"}),
    "gone": (lambda account: (account / "creds.json").unlink(), {"creds.json"}),
    "renamed": (lambda account: (account / "creds.json").rename(account / "other"), {"creds.json", "other"}),
    "moved away": (lambda account: (account / "creds.json").rename(account / "../other"), {"creds.json"}),
    "moved in": (lambda account: put_file(account / "../other", "1").rename(account / "in"), {"in"}),
    "linked": (lambda account: (account / "link").symlink_to("creds.json"), {"link"}),
    "called by no text": (lambda account: (account / os.fsdecode(b"\xff\xfe")).touch(), {os.fsdecode(b"\xff\xfe")}),
}


@pytest.mark.parametrize("touch", TOUCHES)
def test_each_touch_is_told(account: pathlib.Path, watch: Watch, touch: str) -> None:
    do, names = TOUCHES[touch]
    do(account)
    assert told(watch) == names
    assert told(watch) == names, "asking does not forget"
    watch.begin()
    assert told(watch) == set()


def test_a_file_that_was_open_before_is_told(account: pathlib.Path) -> None:
    with (account / "creds.json").open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        watch = watching(account)
        memory[0:1] = b"X"
    assert told(watch) == {"creds.json"}
    watch.close()


UNSURE: dict[str, t.Callable[[pathlib.Path], t.Any]] = {
    "a directory in it": lambda account: (account / "folder").mkdir(),
    "its own mode": lambda account: account.chmod(0o755),
    "another in its place": lambda account: (account.rename(account.with_name("old")), put_account(account)),
    "gone": lambda account: ([path.unlink() for path in account.iterdir()], account.rmdir()),
}


@pytest.mark.parametrize("what", UNSURE)
def test_there_is_no_answer_where_names_are_not_all(account: pathlib.Path, watch: Watch, what: str) -> None:
    UNSURE[what](account)
    assert told(watch) is None


@pytest.mark.parametrize("what", ["another in its place", "gone"])
def test_another_directory_of_the_name_is_never_answered_for(account: pathlib.Path, watch: Watch, what: str) -> None:
    UNSURE[what](account)
    watch.begin()
    assert told(watch) is None


def test_a_queue_that_ran_over_answers_only_for_what_comes_after(account: pathlib.Path, watch: Watch) -> None:
    most = int(pathlib.Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
    for number in range(most + 10):
        os.utime(account / ("creds.json" if number % 2 else "pre-key-1.json"))
    assert told(watch) is None
    watch.begin()
    in_place(account / "creds.json")
    assert told(watch) == {"creds.json"}


def test_read_in_time_the_queue_does_not_run_over(account: pathlib.Path, watch: Watch) -> None:
    most = int(pathlib.Path("/proc/sys/fs/inotify/max_queued_events").read_text(encoding="ascii"))
    for number in range(most + 10):
        os.utime(account / ("creds.json" if number % 2 else "pre-key-1.json"))
        if number % 4096 == 0:
            watch.read()
    assert told(watch) == {"creds.json", "pre-key-1.json"}


def test_distrusted_there_is_no_answer(watch: Watch) -> None:
    watch.invalidate(["wa1", "unknown"])
    assert told(watch) is None


def test_where_others_write_too_nothing_is_watched(account: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inotify, "_TELLING", frozenset())
    with contextlib.closing(watching(account)) as watch:
        assert told(watch) is None


def test_beyond_the_limit_of_watches_there_is_no_answer(account: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: t.Any) -> t.NoReturn:
        raise OSError(errno.ENOSPC, "no")

    monkeypatch.setattr(inotify, "inotify_add", refused)
    with contextlib.closing(watching(account)) as watch:
        assert told(watch) is None
