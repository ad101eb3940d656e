# SPDX-License-Identifier: GPL-3.0-or-later
"""Control groups for tests, in the hierarchy by which systemd tracks processes."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import time
import typing as t

_HIERARCHIES = ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup")  # version 1 (also on hybrid hosts), version 2
_END = 20.0  # seconds within which all processes of a group have to end


class Group:
    """A separate control group, like that of a unit."""

    def __init__(self, name: str) -> None:
        top = next(path for path in map(pathlib.Path, _HIERARCHIES) if (path / "cgroup.procs").exists())
        self.directory = top / name
        self.path = f"/{name}"
        self._begun: list[subprocess.Popen[str]] = []
        self.directory.mkdir()

    def begin(self, *argv: str, **options: t.Any) -> subprocess.Popen[str]:
        """Start a program inside the group from its first instruction; it ends with the group at the latest."""
        words = ["sh", "-c", f'echo $$ >{self.directory}/cgroup.procs; exec "$@"', "sh", *argv]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._begun.append(subprocess.Popen(words, text=True, **{**pipes, **options}))
        return self._begun[-1]

    def end(self) -> None:
        """End all its processes, including their children, and remove it."""
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
    """Remove a group. It fails with EBUSY while the kernel still cleans up processes that it no longer lists."""
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
    """Create a temporary control group."""
    made = Group(name)
    try:
        yield made
    finally:
        made.end()
