# SPDX-License-Identifier: GPL-3.0-or-later
"""Who works on a directory: found among real processes."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
import time
import typing as t

import pytest

from accounts import put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc import open_files, procfs
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.open_files import Holder, holders
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.procfs import process_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import process_environment

READY = "import os, sys; print('ready', flush=True); sys.stdin.read()"


@contextlib.contextmanager
def process(code: str = "", **options: t.Any) -> t.Iterator[subprocess.Popen[str]]:
    """Run a process that does ``code`` and then stays until the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-c", f"{code}\n{READY}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    ) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            yield running
        finally:
            running.kill()


@pytest.fixture
def legacy(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "legacy/wa1").mkdir(parents=True)
    put_file(tmp_path / "legacy/wa1/creds.json", "{}")
    (tmp_path / "legacy-two").mkdir()
    put_file(tmp_path / "legacy-two/file", "{}")
    return tmp_path / "legacy"


HOWS = {
    "inside": ("import os; os.chdir({0!r})", "inside"),
    "deeper inside": ("import os; os.chdir({0!r} + '/wa1')", "inside"),
    "writing": ("f = open({0!r} + '/wa1/creds.json', 'r+')", "writing"),
    "appending": ("f = open({0!r} + '/wa1/log', 'a')", "writing"),
    "reading": ("f = open({0!r} + '/wa1/creds.json')", ""),
    "listing": ("import os; f = os.open({0!r}, os.O_RDONLY)", ""),
    "beside": ("import os; os.chdir({0!r} + '-two'); f = open('file', 'r+')", ""),
    "above": ("import os; os.chdir({0!r} + '/..')", ""),
}


@pytest.mark.parametrize("case", HOWS)
def test_how_a_process_holds_a_directory(legacy: pathlib.Path, case: str) -> None:
    code, how = HOWS[case]
    with process(code.format(str(legacy)), cwd="/") as running:
        found = holders([str(legacy)], "", 0)
    assert found == ((Holder(running.pid, found[0].command, how),) if how else ())
    assert holders([str(legacy)], "", 0) == ()


def test_a_second_backend_holds_nothing_and_is_found_all_the_same(legacy: pathlib.Path) -> None:
    with process(cwd=legacy.parent) as main, process(cwd=legacy.parent) as copy, process(cwd="/"):
        found = holders([str(legacy)], "", main.pid)
        assert (copy.pid, "copy") in [(holder.pid, holder.how) for holder in found]
        assert holders([str(legacy)], "", 0) == ()


def test_what_runs_in_the_root_directory_is_no_copy(legacy: pathlib.Path) -> None:
    with process(cwd="/") as main, process(cwd="/"):
        assert holders([str(legacy)], "", main.pid) == ()


def test_another_service_whose_environment_leads_there_counts(
    legacy: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libraries open their files for moments only, so that nothing else tells of a second instance on the same directory."""
    with subprocess.Popen(
        ["/bin/cat"], stdin=subprocess.PIPE, cwd="/", env={"SESSIONS_PATH": f"{legacy}/wa1"}, text=True
    ) as running:
        until = time.monotonic() + 20
        while b"SESSIONS_PATH" not in pathlib.Path(f"/proc/{running.pid}/environ").read_bytes():
            assert time.monotonic() < until
        assert holders([str(legacy)], "", 0) == ()
        monkeypatch.setattr(open_files, "unit_in", lambda group: "wa@2.service")
        monkeypatch.setattr(open_files, "_others", lambda group: iter([running.pid]))
        assert holders([str(legacy)], "", 0) == (Holder(running.pid, "cat", "named", "wa@2.service"),)
        assert holders([f"{legacy}/wa"], "", 0) == ()


def test_the_unit_s_own_processes_do_not_count(legacy: pathlib.Path) -> None:
    with process(cwd=legacy) as running:
        groups = pathlib.Path(f"/proc/{running.pid}/cgroup").read_text().splitlines()
        group = max((line.split(":", 2)[2] for line in groups), key=len)
        if group == "/":
            pytest.skip("this machine has no control groups to tell processes apart")
        assert holders([str(legacy)], group, 0) == ()
        assert len(holders([str(legacy)], f"{group}-other", 0)) == 1
        assert len(holders([str(legacy)], "", 0)) == 1


def test_we_ourselves_and_who_called_us_do_not_count(legacy: pathlib.Path) -> None:
    before = os.getcwd()
    os.chdir(legacy)
    try:
        assert holders([str(legacy)], "", 0) == ()
    finally:
        os.chdir(before)


def test_a_name_cannot_break_a_line(legacy: pathlib.Path) -> None:
    code = "open('/proc/self/comm', 'w').write('a\\nb\\x1b')"
    with process(code, cwd=legacy):
        (found,) = holders([str(legacy)], "", 0)
    assert found.command == "a?b?"


# --- processes that are in the way on purpose -----------------------------------------------------------------


def test_a_hundred_thousand_open_files_have_an_end(legacy: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hoard = "import os; kept = [os.open('/dev/null', os.O_RDWR) for _ in range(500)]"
    with process(hoard, cwd="/") as running:
        assert running.pid not in {holder.pid for holder in holders([str(legacy)], "", 0)}
        monkeypatch.setattr(open_files, "HOLDERS_SECONDS", 0)
        with pytest.raises(
            SessionsError, match=r"could not be checked within 0 seconds, because PID \d+ .* nothing was changed"
        ):
            holders([str(legacy)], "", 0)


def test_an_environment_is_read_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process can say that its environment is of any size, prctl(2) PR_SET_MM_MAP."""
    with process(env={"A": "1", **{f"V{number}": "x" * 1000 for number in range(100)}}) as running:
        assert len(process_file(running.pid, "environ")) > 100_000
        monkeypatch.setattr(procfs, "PROC_BYTES", 10_000)
        assert len(process_file(running.pid, "environ")) == 10_000
        assert process_environment(running.pid, ["A"]) == {"A": "1"}


def test_a_process_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where its memory is a file of a filesystem that somebody serves, and does not."""
    reading, writing = os.pipe()
    monkeypatch.setattr(procfs, "_read", lambda path: os.read(reading, 1))
    monkeypatch.setattr(procfs, "PROC_SECONDS", 0.2)
    with pytest.raises(SessionsError, match=r"the environ of process .* could not be read within"):
        process_environment(os.getpid(), ["A"])
    os.close(writing)


def test_a_process_that_is_gone_has_no_environment() -> None:
    with process() as running:
        pass
    assert process_environment(running.pid, ["A"]) == {}
