# SPDX-License-Identifier: GPL-3.0-or-later
"""The jail: what is in there sees one directory, is nobody of importance, has nothing open, and does not outlive who asked."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import typing as t

import pytest

from accounts import CANARY, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._jail import in_jail

NOBODY = 65534
COLLECTIONS = pathlib.Path(__file__).resolve().parents[4] / "playbooks" / "collections"
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to give up")


@pytest.fixture
def jail(tmp_path: pathlib.Path) -> t.Iterator[int]:
    """An open directory below one that only we can enter, with one file in it."""
    (tmp_path / "private").mkdir(mode=0o700)
    inside = tmp_path / "private/jail"
    inside.mkdir()
    put_file(inside / "held", CANARY).chmod(0o644)
    put_file(tmp_path / "outside", CANARY)
    if os.geteuid() == 0:
        os.chown(inside, NOBODY, NOBODY)
    descriptor = os.open(inside, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def ask(jail: int, work: t.Callable[[], str]) -> str | None:
    return in_jail(jail, NOBODY, NOBODY, work)


def test_it_answers_from_the_directory(jail: int) -> None:
    with open("/etc/hostname", "rb") as held:
        assert (
            ask(jail, lambda: f"{sorted(os.listdir('.'))} {pathlib.Path('held').read_text()}") == f"['held'] {CANARY}"
        )
        held.read()  # what is closed in the jail is open here


@root
def test_it_has_given_up_root_for_good(jail: int) -> None:
    def look() -> str:
        with pytest.raises(PermissionError):
            os.setresuid(0, 0, 0)
        return json.dumps([os.getresuid(), os.getresgid(), os.getgroups()])

    assert json.loads(ask(jail, look) or "") == [[NOBODY] * 3, [NOBODY] * 3, []]


@root
@pytest.mark.parametrize("way_out", ["/etc/passwd", "../../outside", "/proc/self/root/etc/passwd"])
def test_nothing_else_is_there(jail: int, way_out: str) -> None:
    assert ask(jail, lambda: str(os.path.lexists(way_out))) == "False"


@root
def test_no_open_directory_leads_out(jail: int, tmp_path: pathlib.Path) -> None:
    outside = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)

    def climb() -> str:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fchdir(outside)
        return "kept in"

    try:
        assert ask(jail, climb) == "kept in"
    finally:
        os.close(outside)


def killed() -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


@pytest.mark.parametrize("work", [killed, lambda: os.readlink("missing"), lambda: str(1 / 0), lambda: sys.exit(3)])
def test_what_fails_in_there_gives_no_answer(
    jail: int, work: t.Callable[[], str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert ask(jail, work) is None
    assert capfd.readouterr() == ("", "")


def test_an_empty_answer_is_one(jail: int) -> None:
    assert ask(jail, str) == ""


def test_it_dies_with_who_asked(jail: int) -> None:
    """Its parent may hold locks that must not be held any longer than it lives."""
    program = f"""
        import os, sys, time
        from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._jail import in_jail
        def work():
            os.write(1, f"{{os.getpid()}}\\n".encode())
            time.sleep(600)
        in_jail({jail}, {NOBODY}, {NOBODY}, work)
        """
    asking = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        pass_fds=[jail],
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
    )
    assert asking.stdout is not None
    with asking.stdout as told:
        prisoner = os.pidfd_open(int(told.readline()))
        asking.kill()
        asking.wait()
        assert told.read() == b""  # ends when nobody has its other end any more: the prisoner is gone
    os.close(prisoner)
