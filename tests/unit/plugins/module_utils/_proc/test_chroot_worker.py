# SPDX-License-Identifier: GPL-3.0-or-later
"""The jail: what is in there sees one directory, is nobody of importance, has nothing open, and does not outlive who asked."""

from __future__ import annotations

import grp
import json
import os
import pathlib
import pwd
import resource
import select
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
import typing as t

import pytest

from accounts import CANARY, put_file
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc import bounded_child, chroot_worker
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc.chroot_worker import (
    PastLimit,
    in_jail,
    jail_user,
    seconds_for,
)
from layouts import put_endless_store

COLLECTIONS = pathlib.Path(__file__).resolve().parents[5] / "playbooks" / "collections"
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
        os.chown(inside, *jail_user())
    descriptor = os.open(inside, os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def ask(jail: int, work: t.Callable[[], str], seconds: float = 30) -> str | None:
    return in_jail(jail, work, size=0, seconds=seconds)


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

    user = jail_user()
    assert json.loads(ask(jail, look) or "") == [[user.uid] * 3, [user.gid] * 3, []]


def test_it_runs_as_a_user_whom_nobody_else_is() -> None:
    user = jail_user()
    if os.geteuid() != 0:
        assert user == (os.geteuid(), os.getegid())
        return
    with pytest.raises(KeyError):
        pwd.getpwuid(user.uid)
    with pytest.raises(KeyError):
        grp.getgrgid(user.gid)


@root
def test_a_number_that_somebody_took_is_left_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    first = chroot_worker._NUMBERS[0]
    by_number = pwd.getpwuid
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: by_number(0) if uid == first else by_number(uid))
    jail_user.cache_clear()
    try:
        assert jail_user().uid == first - 1
    finally:
        jail_user.cache_clear()


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
        import os, time
        from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._proc import chroot_worker as _jail
        def work():
            with open("pid", "w") as file:
                file.write(str(os.getpid()))
            os.rename("pid", "begun")
            time.sleep(600)
        _jail.in_jail({jail}, work, size=100, seconds=600)
        """
    asking = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        pass_fds=[jail],
        env={**os.environ, "PYTHONPATH": str(COLLECTIONS)},
    )
    prisoner = os.pidfd_open(int(awaited(jail, "begun")))
    asking.kill()
    asking.wait()
    assert select.select([prisoner], [], [], 60)[0]  # readable once it has ended
    os.close(prisoner)


def awaited(directory: int, name: str) -> str:
    """Wait for a file in an open directory and return what is in it."""
    deadline = time.monotonic() + 60
    while True:
        try:
            descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
        except FileNotFoundError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
            continue
        with os.fdopen(descriptor) as file:
            return file.read()


# --- limits ---------------------------------------------------------------------------------------------------


def forever() -> str:
    while True:
        pass


def stopped() -> str:
    os.kill(os.getpid(), signal.SIGSTOP)
    return "went on"


def endless() -> str:
    return "a" * (bounded_child.ANSWER_BYTES + 1)


def greedy() -> str:
    return str(len(bytearray(2 * chroot_worker.JAIL_MEMORY)))


@pytest.mark.parametrize("work", [forever, stopped, endless, greedy, lambda: str(time.sleep(600))])
def test_what_does_not_end_is_ended(jail: int, work: t.Callable[[], str]) -> None:
    before = set(os.listdir("/proc/self/fd"))
    begun = time.monotonic()
    with pytest.raises(PastLimit):
        ask(jail, work, 0.5)
    assert time.monotonic() - begun < 60
    assert set(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # it was reaped


@root
def test_a_crafted_schema_that_sqlite_would_check_for_days_is_ended(jail: int, tmp_path: pathlib.Path) -> None:
    put_endless_store(tmp_path / "private/jail/store")

    def check() -> str:
        store = sqlite3.connect("file:store?immutable=1", uri=True)
        store.set_progress_handler(lambda: True, 1000)  # which it does not even ask
        return str(store.execute("PRAGMA quick_check(1)").fetchall())

    (tmp_path / "private/jail/store").chmod(0o644)
    with pytest.raises(PastLimit):
        ask(jail, check, 1)


def test_more_than_was_there_cannot_be_written(jail: int) -> None:
    def write() -> str:
        with open("made", "wb") as file:
            return str(file.write(bytes(2 << 20)))

    if os.geteuid() != 0:
        os.fchmod(jail, 0o700)
    assert ask(jail, write) is None


def test_it_starts_no_process_and_leaves_no_core(jail: int) -> None:
    def look() -> str:
        limits = [resource.getrlimit(kind) for kind in (resource.RLIMIT_CORE, resource.RLIMIT_NPROC)]
        return json.dumps([*limits, resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 100])

    assert json.loads(ask(jail, look) or "") == [[0, 0], [0, 0], True]


@root
def test_no_process_of_another_user_can_stop_or_kill_it(jail: int) -> None:
    """Nobody but root has its user: a process of the service user, which the owner of the store is, cannot send it a signal."""

    def wait() -> str:
        os.write(os.open("pid", os.O_WRONLY | os.O_CREAT), str(os.getpid()).encode())
        os.rename("pid", "begun")
        while not os.path.exists("struck"):
            time.sleep(0.01)
        return "not disturbed"

    attacker = """
        import os, signal, sys, time
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
        for kind in (signal.SIGSTOP, signal.SIGKILL):
            try:
                os.kill(int(sys.argv[1]), kind)
            except PermissionError:
                print("refused")
        """
    struck: list[str] = []

    def strike() -> None:
        prisoner = awaited(jail, "begun")
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(attacker), prisoner], capture_output=True, text=True, check=False
        )
        struck.append(done.stdout + done.stderr)
        os.close(os.open("struck", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=jail))

    striking = threading.Thread(target=strike)
    striking.start()
    assert in_jail(jail, wait, size=0, seconds=100) == "not disturbed"
    striking.join()
    assert struck == ["refused\nrefused\n"]


def test_its_time_grows_with_its_size() -> None:
    assert seconds_for(0) == chroot_worker.JAIL_SECONDS
    assert seconds_for(1 << 30) > 2 * chroot_worker.JAIL_SECONDS


def test_nothing_of_it_gets_into_what_ansible_reads(jail: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert ask(jail, lambda: str(os.write(1, b"forged") + os.write(2, b"forged"))) == "12"
    assert capfd.readouterr() == ("", "")
