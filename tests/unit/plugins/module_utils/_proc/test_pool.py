# SPDX-License-Identifier: GPL-3.0-or-later
"""Work spread over processes: in order, whole, and no error is lost with a process."""

from __future__ import annotations

import errno
import os
import pathlib
import signal
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc import pool
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.pool import in_background, parallel_map


@pytest.fixture(autouse=True, params=[1, 2, 5])
def _cpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(request.param)))


def processes() -> list[str]:
    return pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@settings(max_examples=15)
@given(st.lists(st.integers(), max_size=12))
def test_results_come_in_the_order_of_their_items(items: list[int]) -> None:
    assert parallel_map(lambda item: [item, item * 2], items) == [[item, item * 2] for item in items]
    assert processes() == []


def test_a_long_item_does_not_hold_up_the_others(tmp_path: pathlib.Path) -> None:
    """The first item ends only once all others are done; with one CPU they come in order, and nobody waits for anybody."""
    others = range(1, 7)
    alone = len(os.sched_getaffinity(0)) == 1

    def work(item: int) -> int:
        while item == 0 and not alone and len(list(tmp_path.iterdir())) < len(others):
            pass
        (tmp_path / str(item)).touch()
        return item

    assert parallel_map(work, range(7)) == list(range(7))


def test_more_items_than_a_pipe_holds() -> None:
    assert parallel_map(lambda item: item, range(30_000)) == list(range(30_000))


def test_an_item_that_nobody_was_given_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_give_out", lambda giving, number: giving.close())
    if len(os.sched_getaffinity(0)) > 1:
        with pytest.raises(SessionsError, match="not every account reached a copying process"):
            parallel_map(lambda item: item, range(3))


def test_work_meanwhile_ends_with_the_body(tmp_path: pathlib.Path) -> None:
    done = tmp_path / "done"
    with in_background(done.touch, 0.001):
        while not done.exists():
            pass
        assert processes()
    assert processes() == []


def test_what_fails_meanwhile_stays_there(capfd: pytest.CaptureFixture[str]) -> None:
    with in_background(fails, 0.001):
        while pathlib.Path(f"/proc/{processes()[0]}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            pass
    assert capfd.readouterr() == ("", "")


def fails() -> None:
    raise OSError(errno.EIO, "a secret name")


def test_replies_larger_than_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [len(reply) for reply in parallel_map(lambda item: "x" * (1 << 20), range(5))] == [1 << 20] * 5


def fails_with(error: BaseException) -> t.Callable[[int], int]:
    def work(item: int) -> int:
        if item == 3:
            raise error
        return item

    return work


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (SessionsError("an account is odd"), (SessionsError, "an account is odd")),
        (OSError(errno.ENOSPC, "No space left on device"), (OSError, "No space left")),
        (OSError("odd"), (OSError, "odd")),
    ],
)
def test_errors_arrive(error: BaseException, expected: tuple[type[BaseException], str]) -> None:
    with pytest.raises(expected[0], match=expected[1]) as raised:
        parallel_map(fails_with(error), range(6))
    if isinstance(error, OSError):
        assert getattr(raised.value, "errno", None) in (error.errno, 0)
    assert processes() == []


def test_the_number_of_an_error_arrives() -> None:
    with pytest.raises(OSError) as raised:
        parallel_map(fails_with(OSError(errno.ENOSPC, "No space left on device")), range(6))
    assert raised.value.errno == errno.ENOSPC


@pytest.mark.parametrize("_cpus", [2, 5], indirect=True)
class TestWithProcesses:
    def test_a_defect_is_told_by_kind_and_its_text_is_not(self) -> None:
        with pytest.raises(SessionsError, match="failed with KeyError") as raised:
            parallel_map(fails_with(KeyError("/session/5511999990000.json")), range(6))
        assert "5511999990000" not in str(raised.value)

    def test_a_killed_process_is_noticed(self) -> None:
        def work(item: int) -> int:
            if item == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return item

        with pytest.raises(SessionsError, match="was killed; nothing was published: run again"):
            parallel_map(work, range(6))
        assert processes() == []

    def test_they_are_processes_and_nothing_of_theirs_comes_back(self) -> None:
        seen: list[int] = []
        assert os.getpid() not in parallel_map(lambda item: (seen.append(item), os.getpid())[1], range(6))
        assert seen == []

    def test_no_descriptor_stays_open(self) -> None:
        before = os.listdir("/proc/self/fd")
        parallel_map(lambda item: item, range(6))
        with pytest.raises(SessionsError):
            parallel_map(fails_with(SessionsError("x")), range(6))
        assert os.listdir("/proc/self/fd") == before

    def test_when_no_process_can_be_made_none_is_left_behind(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fork, forked = os.fork, []

        def second_fails() -> int:
            if forked:
                raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
            forked.append(1)
            return fork()

        monkeypatch.setattr(pool.os, "fork", second_fails)
        with pytest.raises(OSError, match="temporarily"):
            parallel_map(lambda item: item, range(6))
        assert processes() == []
