# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress of long work: counts of several processes, and that it never fails, names or outlives anything."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import progress
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.pool import parallel_map


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> t.Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    """Write each change at once, and log to nowhere."""
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    monkeypatch.setattr(progress, "_JOURNAL", str(tmp_path / "no-journal"))
    monkeypatch.delenv(progress.REQUESTED, raising=False)


def now(directory: int) -> dict[str, t.Any]:
    found = progress.read(directory)
    assert found is not None
    return found


def test_it_counts_what_each_process_does(directory: int) -> None:
    def work(number: int) -> int:
        for _file in range(250):
            progress.advance(files=1)
        progress.advance(accounts=1)
        return number

    with progress.reported(directory, "migration"):
        progress.phase("stage")
        progress.expect(accounts=8)
        parallel_map(work, list(range(8)))
        progress.backend(True)  # of two processes that write at once, the one that counted first may be the last
        found = now(directory)
    assert (found["accounts"], found["accounts_total"], found["files"]) == (8, 8, 2000)


def test_no_count_is_lost_when_processes_count_at_once(directory: int) -> None:
    def work(number: int) -> int:
        for _account in range(1000):
            progress._works[-1].accounts.add(1)
        return number

    with progress.reported(directory, "migration"):
        for _time in range(5):
            parallel_map(work, list(range(4)))
        assert progress._works[-1].accounts.value() == 20_000


def test_each_phase_begins_at_zero_and_is_one_line_of_the_journal(
    directory: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_JOURNAL", str(tmp_path / "journal"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        journal.settimeout(5)
        with progress.reported(directory, "migration", "wa.service"):
            for name in ("stage", "stage", "publish"):
                progress.phase(name)
                progress.advance(accounts=1)
            progress.phase("switch")
            assert now(directory)["accounts"] == 0
            progress.backend(False)
            assert now(directory)["backend"] == "down"
        lines = [journal.recv(4096).decode().splitlines() for _phase in range(3)]
        journal.settimeout(0)
        with pytest.raises(BlockingIOError):
            journal.recv(1)
    assert [line[0] for line in lines] == [
        f"MESSAGE=migration of wa.service: {name}" for name in ("stage", "publish", "switch")
    ]


def test_nothing_is_left_and_the_rest_of_a_killed_run_is_removed(directory: int, tmp_path: pathlib.Path) -> None:
    for name in ("progress.json", ".progress.json.99", "receipt.json"):
        (tmp_path / name).write_text("{}")
    with progress.reported(directory, "migration"):
        assert (tmp_path / "progress.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["receipt.json"]


def test_a_run_that_was_killed_is_not_in_progress(directory: int, tmp_path: pathlib.Path) -> None:
    with progress.reported(directory, "migration"):
        kept = json.loads((tmp_path / "progress.json").read_text())
        now(directory)
    for dead in ({"pid": 1}, {"born": kept["born"] + 1}, {"pid": 1 << 30}):
        (tmp_path / "progress.json").write_text(json.dumps({**kept, **dead}))
        assert progress.read(directory) is None


@pytest.mark.parametrize("content", ["", "[]", "{}", "[" * 100_000, '{"pid": "x"}', "\0"])
def test_a_file_that_it_did_not_write_is_nothing(directory: int, tmp_path: pathlib.Path, content: str) -> None:
    (tmp_path / "progress.json").write_text(content)
    assert progress.read(directory) is None


def test_a_disk_that_refuses_it_does_not_end_the_work(directory: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: t.Any, **_options: t.Any) -> None:
        raise OSError(28, "No space left on device")

    with progress.reported(directory, "migration"):
        monkeypatch.setattr(progress.os, "rename", full)
        progress.phase("stage")
        progress.expect(accounts=2)
        progress.advance(accounts=1, files=1000)
        progress.backend(True)


def test_without_work_there_is_nothing_to_report(directory: int) -> None:
    progress.phase("stage")
    progress.advance(accounts=1, files=1)
    progress.backend(False)
    assert progress.read(directory) is None


def test_who_asked_for_it_finds_it_by_a_link_as_long_as_it_lasts(
    directory: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = tmp_path / "run"
    monkeypatch.setattr(progress, "_RUNTIME", str(links))
    monkeypatch.setenv(progress.REQUESTED, "0123456789abcdef")
    with progress.reported(directory, "migration"):
        progress.phase("stage")
        assert json.loads((links / "progress-0123456789abcdef").read_text())["phase"] == "stage"
    assert list(links.iterdir()) == []


@pytest.mark.parametrize("number", ["", "../../etc/0123", "0123456789ABCDEF", "0123456789abcdef0"])
def test_a_link_that_it_did_not_number_is_not_made(
    directory: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    monkeypatch.setattr(progress, "_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setenv(progress.REQUESTED, number)
    with progress.reported(directory, "migration"):
        assert not (tmp_path / "run").exists()


def test_work_is_reported_without_a_place_for_the_link(
    directory: int, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").write_text("in the way")
    monkeypatch.setattr(progress, "_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setenv(progress.REQUESTED, "0123456789abcdef")
    with progress.reported(directory, "migration"):
        assert now(directory)["work"] == "migration"
