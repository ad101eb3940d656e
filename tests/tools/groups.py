# SPDX-License-Identifier: GPL-3.0-or-later
"""Control groups for tests, in the hierarchy by which systemd tells processes apart."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import time
import typing as t

_HIERARCHIES = ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup")  # version 1 (also of mixed hosts), version 2
_END = 20.0  # seconds until all processes of a group have to be gone


class Group:
    """A control group of its own, as a unit has one."""

    def __init__(self, name: str) -> None:
        top = next(path for path in map(pathlib.Path, _HIERARCHIES) if (path / "cgroup.procs").exists())
        self.directory = top / name
        self.path = f"/{name}"
        self._begun: list[subprocess.Popen[str]] = []
        self.directory.mkdir()

    def begin(self, *argv: str, **options: t.Any) -> subprocess.Popen[str]:
        """Start a program that is in the group from its first instruction on; it ends with the group at the latest."""
        words = ["sh", "-c", f'echo $$ >{self.directory}/cgroup.procs; exec "$@"', "sh", *argv]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._begun.append(subprocess.Popen(words, text=True, **{**pipes, **options}))
        return self._begun[-1]

    def end(self) -> None:
        """End all its processes, their children too, and remove it."""
        folders = [pathlib.Path(folder) for folder, _folders, _files in os.walk(self.directory, topdown=False)]
        deadline = time.monotonic() + _END
        while members := [int(pid) for folder in folders for pid in (folder / "cgroup.procs").read_text().split()]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes {members} in {self.directory} did not end")
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)
        for started in self._begun:
            started.communicate()
        for folder in folders:
            _remove(folder, deadline)


def _remove(folder: pathlib.Path, deadline: float) -> None:
    """Remove a group. The kernel lists no process that it still counts while it cleans up after it: EBUSY until then."""
    while True:
        try:
            folder.rmdir()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@contextlib.contextmanager
def group(name: str) -> t.Iterator[Group]:
    """Have a control group for a while."""
    made = Group(name)
    try:
        yield made
    finally:
        made.end()
