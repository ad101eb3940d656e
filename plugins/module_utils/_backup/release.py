# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Lets a backend run again that a backup has frozen or stopped. systemd runs a copy of this file on its own, see quiesce.py.

It waits until the run releases its lock, by ending or by being killed, or until its time is over. It imports nothing but the standard
library, and never stops anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time

THAW, RESUME, START = "thaw", "resume", "start"
_BETWEEN = 0.05  # seconds
_HIERARCHIES = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")


def main(lock: str, seconds: str, action: str, unit: str, *groups: str) -> None:
    """Wait for ``lock``, at most ``seconds``, and then release the unit, or the processes of its control groups."""
    wait_for(lock, time.monotonic() + float(seconds))
    if action == START:
        _systemctl("reset-failed", unit)
        _systemctl("start", unit)
    elif action == THAW:
        _systemctl("thaw", unit)
    else:
        for pid in processes_in(groups):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)


def wait_for(lock: str, deadline: float) -> None:
    """Return when no process holds ``lock``, or at the monotonic time ``deadline``."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        while time.monotonic() < deadline:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(_BETWEEN)
    finally:
        os.close(descriptor)


def processes_in(groups: tuple[str, ...]) -> list[int]:
    """Return the processes in control groups and below them, cgroups(7)."""
    found = []
    for top in (f"{hierarchy}/{group.strip('/')}" for group in groups for hierarchy in _HIERARCHIES):
        for directory, _folders, _files in os.walk(top):
            with contextlib.suppress(OSError), open(f"{directory}/cgroup.procs", encoding="ascii") as file:
                found += [int(line) for line in file if line.strip().isdecimal()]
    return found


def _systemctl(verb: str, unit: str) -> None:
    # The collection's own way to run programs is not installed on the host.
    subprocess.run(["systemctl", verb, "--", unit], check=False)  # pylint: disable=ansible-bad-function


if __name__ == "__main__":
    main(*sys.argv[1:])
