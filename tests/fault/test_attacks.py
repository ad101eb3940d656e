# SPDX-License-Identifier: GPL-3.0-or-later
"""The backend's user swaps what root is working on, and plants what root must not touch: no escape.

An escape is content of a root-only file anywhere it was not, a file written or removed outside, or an owner or mode changed outside.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import typing as t

import pytest

from faultkit import BACKEND, ENGINES, EVERYWHERE, Scene, content, write_account

MakeScene = t.Callable[..., Scene]
ATTACKER = pathlib.Path(__file__).with_name("attacker.py")
CANARY = b"CANARY-of-root"
ACCOUNT = "5511999990001"
# Seconds between two swaps. Fast ones hit between two system calls, slow ones between two steps of a run, when all was well at the first.
PAUSES = (0.0, 0.0, 0.0003, 0.001, 0.003, 0.006, 0.012, 0.025)
STATES = ("staged", "migrated", "retired")
LONG = "d" * 250
# What the backend's user swaps, see swaps().
KINDS = ("account", "root", "parent", "file", "folder", "hard link", "published", "path", "parent of the path")
# Each with the engine that reads and writes most itself, and with one of the others in turn.
IN_TURN = [
    (kind, engine) for number, kind in enumerate(KINDS) for engine in ("native", ("rsync", "rename")[number % 2])
]
SWAPPED = list(itertools.product(KINDS, ENGINES)) if EVERYWHERE else IN_TURN


class Victim:
    """A tree of root that looks like accounts, so that whoever is led there finds what he expects."""

    def __init__(self, root: pathlib.Path) -> None:
        root.chmod(0o755)
        self.root = root / "victim"
        for account in (ACCOUNT, "open"):
            write_account(self.root / account, {**content(account, 2), "secret.json": CANARY}, uid=0)
            for file in filter(pathlib.Path.is_file, (self.root / account).rglob("*")):
                file.write_bytes(CANARY + b" " + file.read_bytes())
        (self.root / "empty").mkdir()
        self.root.chmod(0o755)
        (self.root / "open").chmod(0o755)
        self._before = self._looks()

    def require_untouched(self, *places: pathlib.Path) -> None:
        assert self._looks() == self._before, "something outside was changed"
        own = {look[0] for look in self._before.values()}
        for path in (
            pathlib.Path(folder, name) for place in places for folder, _, names in os.walk(place) for name in names
        ):
            # A second name of root's file is no copy of it: whoever could not read the file by its first name cannot by that one.
            if path.is_file() and not path.is_symlink() and path.stat().st_ino not in own:
                assert CANARY not in path.read_bytes(), "content of a file of root got out"

    def _looks(self) -> dict[str, tuple[int, ...]]:
        paths = [self.root, *self.root.rglob("*")]
        return {str(path): _look(path.lstat()) for path in paths}


def _look(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns)


@contextlib.contextmanager
def attacked(pairs: t.Sequence[tuple[pathlib.Path, pathlib.Path]], pause: float = 0) -> t.Iterator[None]:
    names = [str(name) for pair in pairs for name in pair]
    argv = [sys.executable, "-I", str(ATTACKER), str(BACKEND), str(pause), *names]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as attacker:
        try:
            assert attacker.stdout
            assert attacker.stdout.readline() == "ready\n"
            yield
        finally:
            attacker.kill()


def as_backend(function: t.Callable[[], None]) -> None:
    """Do something as the backend's user."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setgroups([])
            os.setgid(BACKEND)
            os.setuid(BACKEND)
            function()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def attackable(scene: MakeScene, **fields: t.Any) -> Scene:
    """Make a scene whose sessions path is there and belongs to the backend's user; one account lies deeper than the other."""
    made = scene(legacy={ACCOUNT: 2, "tenant/5511999990002": 2}, **fields)
    made.path.mkdir(parents=True)
    os.chown(made.path, BACKEND, BACKEND)
    return made


def link_to(victim: pathlib.Path, decoy: pathlib.Path) -> None:
    as_backend(lambda: decoy.symlink_to(victim))


def swaps(scene: Scene, victim: Victim, kind: str) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Lay out decoys, as the backend's user, and return what is exchanged for what."""
    app, account = scene.source.parent, scene.source / ACCOUNT
    if kind in ("parent", "parent of the path"):
        os.chown(scene.root, BACKEND, BACKEND)
        swapped, below = (app, scene.source) if kind == "parent" else (scene.path.parent, scene.path)
        as_backend(lambda: (scene.root / "decoy").mkdir())
        link_to(victim.root, scene.root / "decoy" / below.name)
        return [(swapped, scene.root / "decoy")]
    if kind == "path":
        os.chown(scene.path.parent, BACKEND, BACKEND)
        link_to(victim.root, scene.path.parent / "decoy")
        return [(scene.path, scene.path.parent / "decoy")]
    if kind == "account":
        link_to(victim.root / ACCOUNT, app / "decoy")
        return [(account, app / "decoy")]
    if kind == "root":
        link_to(victim.root, app / "decoy")
        return [(scene.source, app / "decoy")]
    if kind == "file":
        link_to(victim.root / ACCOUNT / "creds.json", app / "decoy")
        return [(account / "session-0.0.json", app / "decoy"), (account / "creds.json", app / "decoy")]
    if kind == "folder":
        link_to(victim.root / ACCOUNT / "deep", app / "decoy")
        return [(account / "deep", app / "decoy")]
    if kind == "published":
        link_to(victim.root / "empty", scene.path / "decoy")
        as_backend(lambda: (scene.path / "tenant").mkdir())
        return [(scene.path / "tenant", scene.path / "decoy")]
    assert kind == "hard link"
    # Root makes it: the kernel lets a user link to files of others only where fs.protected_hardlinks is 0, and that is the whole machine's.
    os.link(victim.root / "open" / "creds.json", app / "decoy")
    return [(account / "session-0.0.json", app / "decoy")]


@pytest.mark.parametrize(("kind", "engine"), SWAPPED)
def test_swapped_under_the_run(
    scene: MakeScene, place: pathlib.Path, engine: str, kind: str, record_property: t.Any
) -> None:
    for pause in PAUSES:
        victim = Victim(pathlib.Path(tempfile.mkdtemp(dir=place)))
        struck = attackable(scene, engine=engine)
        with attacked(swaps(struck, victim, kind), pause):
            outcomes = [struck.run(state=state) for state in STATES]
        assert all(outcome.get("foreseen", True) for outcome in outcomes), outcomes
        victim.require_untouched(struck.root)
    record_property("runs under attack", len(PAUSES) * len(STATES))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_attack_gets_through_to_who_works_by_name(scene: MakeScene, place: pathlib.Path, kind: str) -> None:
    """Or else the test above would show nothing: a copy by path names is led astray by the same attacker."""
    for _attempt in range(200):
        victim = Victim(pathlib.Path(tempfile.mkdtemp(dir=place)))
        struck = attackable(scene)
        with attacked(swaps(struck, victim, kind)), contextlib.suppress(OSError, shutil.Error):
            for _copy in range(5):
                shutil.copytree(struck.source, struck.path, dirs_exist_ok=True)
        try:
            victim.require_untouched(struck.path)
        except AssertionError:
            return
    pytest.fail("the attacker never got through")


@pytest.mark.parametrize("engine", ENGINES)
def test_planted(scene: MakeScene, place: pathlib.Path, engine: str) -> None:
    """FIFOs, sockets, devices, links of both kinds, set-id bits, odd names: the run neither hangs nor brings them along."""
    victim = Victim(place)
    struck = scene(engine=engine)
    account = struck.source / ACCOUNT
    os.mkfifo(account / "fifo")
    os.mknod(account / "disk", stat.S_IFBLK | 0o666, os.makedev(7, 0))
    os.mknod(account / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    link_to(victim.root / ACCOUNT / "creds.json", account / "session-link.json")
    link_to(victim.root / ACCOUNT, account / "folder-link")
    (account / "session-0.0.json").chmod(0o6755)
    (account / "deep").chmod(0o3777)
    names = {"-rf", "new\nline", "; true", "*", "\udcff"}
    as_backend(lambda: plant(account, names))
    outcome = struck.run()
    assert outcome.get("changed"), outcome
    found = {name: mode for name, mode in modes_below(struck.path / ACCOUNT) if name not in content(ACCOUNT, 2)}
    assert names <= found.keys()
    assert found[LONG] == stat.S_IFDIR | 0o700
    assert all(stat.S_ISREG(mode) or stat.S_ISDIR(mode) for mode in found.values())
    assert not any(mode & 0o7000 for mode in found.values())
    victim.require_untouched(struck.path, struck.area)


def plant(account: pathlib.Path, names: t.Collection[str]) -> None:
    """Make odd files, a socket, and directories so deep that no path name reaches their end (PATH_MAX is 4096)."""
    os.chdir(account)
    for name in names:
        pathlib.Path(name).write_text("x")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    for _level in range(20):
        os.mkdir(LONG, 0o700)
        os.chdir(LONG)


def modes_below(directory: pathlib.Path) -> t.Iterator[tuple[str, int]]:
    for _path, folders, files, descriptor in os.fwalk(directory):
        for name in (*folders, *files):
            yield name, os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode


@pytest.mark.parametrize("engine", ENGINES)
def test_a_hard_link_to_a_file_of_root_changes_no_hands(scene: MakeScene, place: pathlib.Path, engine: str) -> None:
    for folder, mode in ((ACCOUNT, 0o600), ("open", 0o644)):
        victim = Victim(pathlib.Path(tempfile.mkdtemp(dir=place)))
        secret = victim.root / folder / "secret.json"
        struck = scene(engine=engine, legacy={ACCOUNT: 2})
        secret.chmod(mode)
        os.link(secret, struck.source / ACCOUNT / "session-9.0.json")
        before = (secret.lstat().st_uid, secret.lstat().st_mode, secret.read_bytes())
        outcome = struck.run()
        assert (secret.lstat().st_uid, secret.lstat().st_mode, secret.read_bytes()) == before
        assert mode == 0o644 or "private file of another user" in outcome["failed"], outcome
