# SPDX-License-Identifier: GPL-3.0-or-later
"""The program of a job: it has all the code that the job imports and nothing else, and runs without Ansible."""

from __future__ import annotations

import io
import json
import pathlib
import subprocess
import sys
import typing as t
import zipfile

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._timer import bundle
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._timer.bundle import (
    PACKAGE,
    needed,
    own_source,
    program_for,
)

# A job of the least code: it counts the letters of its option, and fails for one that is empty.
JOB = b"""
from .._core.errors import SessionsError
from .._core.job import Report

def read_params(options):
    if not options["word"]:
        raise SessionsError("the word is empty; give another one")
    return options["word"]

def observe(params):
    return len(params) if params != "CANARY" else {}["CANARY"]

def plan(state, params):
    return ()

def diff(state, steps, params):
    return {}

def report(params, state, steps, evidence):
    return Report({"letters": state, "word": params, "long": state > 3})
"""


def with_job(path: str) -> bytes | None:
    return JOB if path == "_count/job.py" else own_source(path)


def members(program: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(program)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_program_has_the_code_of_its_job_alone() -> None:
    found = members(program_for("_count.job", with_job))
    code = {name.removeprefix(f"{PACKAGE}/") for name in found} - {"__main__.py", "__init__.py"}
    assert "_count/job.py" in code
    assert {name.partition("/")[0] for name in code} == {"_core", "_fs", "_timer", "_count"}
    assert "_core/module.py" not in code  # the one file that imports Ansible
    assert found[f"{PACKAGE}/_core/job.py"] == own_source("_core/job.py")


def test_the_same_code_gives_the_same_bytes() -> None:
    assert program_for("_count.job", with_job) == program_for("_count.job", with_job)


def test_code_is_read_from_the_zip_file_that_ansible_sends(tmp_path: pathlib.Path) -> None:
    sent = tmp_path / "sent.zip"
    with zipfile.ZipFile(sent, "w") as archive:
        for path, content in needed(["_timer.bundle"], own_source).items():
            archive.writestr(f"sent/{path}", content)
        archive.writestr("sent/__init__.py", "")
    asked = "from sent._timer.bundle import own_source as read; print(read('_core/errors.py') is not None, read('_core/x.py'))"
    done = subprocess.run(
        [sys.executable, "-c", asked], env={"PYTHONPATH": str(sent)}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "None"]


def test_code_that_is_missing_is_named() -> None:
    with pytest.raises(SessionsError, match=r"_core/errors\.py is missing"):
        program_for("_count.job", lambda path: None if path == "_core/errors.py" else with_job(path))


@pytest.fixture
def run(tmp_path: pathlib.Path) -> t.Callable[..., subprocess.CompletedProcess[str]]:
    """Run the program as systemd does, with the content of its file of options."""
    program, options = tmp_path / "count.pyz", tmp_path / "options.json"
    program.write_bytes(program_for("_count.job", with_job))

    def command(content: str, mode: int = 0o600) -> subprocess.CompletedProcess[str]:
        options.write_text(content)
        options.chmod(mode)
        return subprocess.run(
            [sys.executable, "-I", "-B", program, options], capture_output=True, text=True, cwd="/", env={}, check=False
        )

    return command


def test_a_run_prints_counts_and_nothing_else(run: t.Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run(json.dumps({"word": "secret"}))
    assert (done.returncode, done.stdout, done.stderr) == (0, "letters=6 long=1\n", "")


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        ('{"word": ""}', 0o600, "the word is empty; give another one"),
        ('{"word": "x"}', 0o644, "is not private to root"),
        ("[1]", 0o600, "is damaged"),
        ("{", 0o600, "is damaged"),
        ("[" * 100_000, 0o600, "is damaged"),
        ('{"word": "CANARY"}', 0o600, "unexpected error: KeyError"),
    ],
)
def test_a_failed_run_says_why_in_one_sentence(
    run: t.Callable[..., subprocess.CompletedProcess[str]], content: str, mode: int, words: str
) -> None:
    done = run(content, mode)
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "CANARY" not in done.stderr


def test_options_that_are_gone_are_named(tmp_path: pathlib.Path) -> None:
    program = tmp_path / "count.pyz"
    program.write_bytes(program_for("_count.job", with_job))
    done = subprocess.run(
        [sys.executable, "-I", program, tmp_path / "none.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "does not exist; run session_timer again" in done.stderr


def test_the_code_of_this_checkout_is_found() -> None:
    assert bundle.own_source("_timer/bundle.py") == pathlib.Path(bundle.__file__).read_bytes()
