# SPDX-License-Identifier: GPL-3.0-or-later
"""The helper that strikes between two system calls hits when it should, once, and says when it did not."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import striker
from striker import by, exchange, striking


def test_it_strikes_between_stat_and_open_on_the_real_file_system(tmp_path: pathlib.Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "other").write_text("other")
    mine = tmp_path / "mine"
    with striking("open", "mine", lambda: exchange(mine, tmp_path / "other")):
        seen = os.stat(mine).st_size
        descriptor = os.open(mine, os.O_RDONLY)
    assert (seen, os.read(descriptor, 9)) == (4, b"other")
    os.close(descriptor)
    assert os.open.__name__ == "open"


@pytest.mark.parametrize(("turn", "after", "seen"), [(1, False, [0, 0]), (1, True, [1, 0]), (2, False, [1, 0])])
def test_turns(tmp_path: pathlib.Path, turn: int, after: bool, seen: list[int]) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    with striking("stat", "file", lambda: os.truncate(file, 0), turn=turn, after=after):
        assert [os.stat(file).st_size, os.stat(file).st_size] == seen


def test_descriptors_have_names_and_workers_strike_too(tmp_path: pathlib.Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with striking("fchmod", tmp_path.name, (tmp_path / "struck").touch):
        child = os.fork()
        if not child:
            os.fchmod(descriptor, 0o700)
            os._exit(0)
        os.waitpid(child, 0)
    os.close(descriptor)
    assert (tmp_path / "struck").exists()


def test_a_strike_that_never_happens_is_no_success(tmp_path: pathlib.Path) -> None:
    with (
        pytest.raises(AssertionError, match="1 times, so turn 2 was never"),
        striking("listdir", tmp_path.name, print, turn=2),
    ):
        os.listdir(tmp_path)
    with pytest.raises(AssertionError, match="0 times"), striking("stat", "a", print):
        raise ValueError("ended before")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs other users")
def test_a_user_does_only_what_he_may(tmp_path: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(AssertionError, match="could not"):
        by(65534, (tmp_path / "made").mkdir)()
    assert "PermissionError" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_program_of_its_own(tmp_path: pathlib.Path) -> None:
    (tmp_path / "script.py").write_text("import os, sys\nprint(os.path.exists(sys.argv[1]), os.listdir(sys.argv[1]))\n")
    program = [sys.executable, str(tmp_path / "script.py"), str(tmp_path / "new")]
    strike = ["listdir", "new", "1", f"mkdir -p {tmp_path}/new/made"]
    done = subprocess.run(
        [sys.executable, striker.__file__, *strike, "--", *program], capture_output=True, text=True, check=False
    )
    assert done.stdout == "False ['made']\n", done.stderr
