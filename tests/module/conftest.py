# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the real modules, each in a process of its own, against real directories and real filesystems.

Everything happens in a mount namespace of the test process: what a test mounts is gone with the process, however it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import typing as t

import ansible
import pytest

import disks
from module_server import Server, served

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
COLLECTIONS = REPOSITORY / "playbooks" / "collections"

Result = dict[str, t.Any]


class RunModule(t.Protocol):
    """Signature of the fixture ``run_module``."""

    def __call__(self, name: str, /, check: bool = False, diff: bool = False, **options: t.Any) -> Result: ...


class Mount(t.Protocol):
    """Signature of the fixture ``mount``."""

    def __call__(
        self, kind: str, where: pathlib.Path, *, options: str = "", megabytes: int = 16, inodes: int = 0
    ) -> pathlib.Path: ...


@pytest.fixture(scope="session")
def run_module() -> RunModule:
    """Run the module ``name`` with ``options`` and return what it printed, for example ``{"changed": False, ...}``.

    A failed module gives ``{"failed": True, "msg": ...}``;
    ``warnings`` is always a list of sentences. ``WA_MODULE_PYTHON`` names another Python to stand for a target's.
    """

    def run(name: str, /, check: bool = False, diff: bool = False, **options: t.Any) -> Result:
        arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": diff}
        search_path = os.pathsep.join([str(COLLECTIONS), str(pathlib.Path(ansible.__file__).parents[1])])
        done = subprocess.run(
            [
                os.environ.get("WA_MODULE_PYTHON", sys.executable),
                "-m",
                f"ansible_collections.whatsapp_ops.sessions.plugins.modules.{name}",
            ],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            capture_output=True,
            text=True,
            timeout=120,
            cwd="/",
            env={
                **os.environ,
                "PYTHONPATH": search_path,
                "PYTHONWARNINGS": "error::ResourceWarning",
            },
            check=False,
        )
        return _parsed(name, done.stdout or done.stderr)

    return run


class Host:
    """A throw-away host with a real systemd (tests/lab), on which modules run with the host's own Python."""

    def __init__(self, suite: str, lab: pathlib.Path) -> None:
        self.suite = suite
        self._environment = {**os.environ, "LAB_DIR": str(lab)}

    def lab(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the lab's own command; raise AssertionError with its last words when it fails."""
        done = subprocess.run(
            [str(REPOSITORY / "tests/lab/lab"), *words],
            env=self._environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=900,  # the first host of a release has to wait for its image
            check=False,
        )
        assert done.returncode == 0, f"lab {words[0]} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done

    def up(self) -> None:
        """Boot, with the checkout and this ansible-core in view."""
        views = {REPOSITORY: "/opt/checkout", pathlib.Path(ansible.__file__).parents[1]: "/opt/controller"}
        options = [word for source, target in views.items() for word in ("--bind-ro", f"{source}:{target}")]
        self.lab("up", self.suite, self.suite, *options)
        self.lab("wait", self.suite)

    def ssh(self, command: str, stdin: str = "") -> str:
        """Run a shell command as root; return what it printed."""
        return self.lab("ssh", self.suite, command, stdin=stdin).stdout

    def python(self, arguments: str, stdin: str = "") -> str:
        """Run the host's Python, which finds the collection and ansible-core."""
        search_path = "/opt/checkout/playbooks/collections:/opt/controller"
        return self.ssh(
            f"PYTHONPYCACHEPREFIX=/var/cache/bytecode PYTHONPATH={search_path} python3 {arguments}", stdin=stdin
        )

    def run_module(self, name: str, /, check: bool = False, diff: bool = False, **options: t.Any) -> Result:
        """Do on the host what the fixture ``run_module`` does here."""
        arguments = {**options, "_ansible_check_mode": check, "_ansible_diff": diff}
        command = (
            f"-m ansible_collections.whatsapp_ops.sessions.plugins.modules.{name} || true"  # a failure is a result too
        )
        return _parsed(name, self.python(command, stdin=json.dumps({"ANSIBLE_MODULE_ARGS": arguments})))


@pytest.fixture(scope="session", params=["bookworm", "trixie"])
def host(request: pytest.FixtureRequest) -> t.Iterator[Host]:
    """A host of each Debian release that is supported; gone when the tests end."""
    work = REPOSITORY / ".work"
    work.mkdir(exist_ok=True)
    booted = Host(request.param, pathlib.Path(tempfile.mkdtemp(prefix="lab-modules-", dir=work)))
    try:
        booted.up()
        yield booted
    finally:
        booted.lab("destroy")


def _parsed(name: str, printed: str) -> Result:
    """Read what a module printed; its warnings are sentences whatever the ansible-core."""
    try:
        result: Result = json.loads(printed)
    except json.JSONDecodeError:
        raise AssertionError(f"{name} printed no result:\n{printed}") from None
    return {**result, "warnings": [_sentence(warning) for warning in result.get("warnings", [])]}


def _sentence(warning: str | dict[str, t.Any]) -> str:
    """Give a warning as text; since ansible-core 2.19 modules print an object that the controller makes one of."""
    return warning if isinstance(warning, str) else warning["event"]["msg"]


@pytest.fixture(scope="session")
def _own_mounts() -> t.Iterator[None]:
    """Move this process into a mount namespace of its own, from which nothing gets out."""
    if os.geteuid() != 0:
        pytest.fail("module tests mount filesystems and change owners: run them as root")
    disks.unshare_mounts()
    disks.keep_apart(pathlib.Path("/var/lib"))  # where control directories are
    with tempfile.TemporaryDirectory(prefix="wa-modules-") as temporary, pytest.MonkeyPatch.context() as patch:
        # Of this process alone: tests look for what is left behind there, and others run at the same time.
        os.chmod(temporary, 0o1777)
        patch.setenv("TMPDIR", temporary)
        patch.setattr(tempfile, "tempdir", None)
        yield


@pytest.fixture(scope="module")
def server(_own_mounts: None) -> t.Iterator[Server]:
    """A process that runs modules, started once for all tests of a file."""
    with served() as running:
        yield running


@pytest.fixture(scope="session")
def _disk(_own_mounts: None) -> pathlib.Path:
    """A real disk filesystem of our own at /srv, which other processes do not see."""
    disk = pathlib.Path("/srv")
    disks.mount_image("ext4", disk, megabytes=256)
    return disk


@pytest.fixture
def place(_disk: pathlib.Path) -> pathlib.Path:
    """A new directory on a disk filesystem, with no directory above it that anyone but root can write."""
    made = pathlib.Path(tempfile.mkdtemp(prefix="wa-", dir=_disk))
    made.chmod(0o755)
    return made


@pytest.fixture
def mount(_own_mounts: None) -> t.Iterator[Mount]:
    """Mount a filesystem for one test: ``tmpfs``, ``overlay``, or one with a disk image behind it (``ext4``, ``xfs``)."""
    with contextlib.ExitStack() as mounted:

        def make(
            kind: str, where: pathlib.Path, *, options: str = "", megabytes: int = 16, inodes: int = 0
        ) -> pathlib.Path:
            where.mkdir(parents=True, exist_ok=True)
            if kind == "tmpfs":
                disks.mount_memory(where, options=options, megabytes=megabytes)
            elif kind == "overlay":
                disks.mount_overlay(where)
            else:
                disks.mount_image(kind, where, options=options, megabytes=megabytes, inodes=inodes)
            mounted.callback(disks.unmount, where)
            where.chmod(0o755)
            return where

        yield make
