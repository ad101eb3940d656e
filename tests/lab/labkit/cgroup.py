# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates a cgroup for each host, on machines without systemd.

All hierarchies that systemd inside a host uses: the unified one, or the named and the accounting ones of version 1.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .command import until

MOUNTED = Path("/sys/fs/cgroup")
HIERARCHIES = (".", "systemd", "unified", "memory", "pids", "cpuacct")


def enter(tag: str, name: str) -> None:
    """Move this process to the cgroup of a host, and create that cgroup."""
    for hierarchy in _hierarchies():
        group = _group(hierarchy, tag, name)
        group.mkdir(parents=True, exist_ok=True)
        (group / "cgroup.procs").write_text(str(os.getpid()))


def is_populated(tag: str, name: str) -> bool:
    return any(True for _ in _processes(tag, name))


def kill(tag: str, name: str) -> None:
    """Kill all remaining processes of a host."""
    for pid in _processes(tag, name):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def remove(tag: str, name: str) -> None:
    """Remove the cgroups of a host, and those above them once they are empty."""
    for hierarchy in _hierarchies():
        group = _group(hierarchy, tag, name)
        until(lambda: _is_removed(group), 5)  # noqa: B023 - asked within this round of the loop
        for parent in (group.parent, group.parent.parent):
            _remove(parent)


def _hierarchies() -> Iterator[Path]:
    return (MOUNTED / part for part in HIERARCHIES if os.access(MOUNTED / part / "cgroup.procs", os.W_OK))


def _group(hierarchy: Path, tag: str, name: str) -> Path:
    return hierarchy / "wa-lab" / tag / name


def _processes(tag: str, name: str) -> Iterator[int]:
    for hierarchy in _hierarchies():
        for processes in _group(hierarchy, tag, name).rglob("cgroup.procs"):
            # A group can vanish while it is read; then it has no processes.
            with suppress(OSError):
                yield from map(int, processes.read_text().split())


def _is_removed(group: Path) -> bool:
    """Remove it from the leaves up; processes that have just ended may still occupy it briefly."""
    for below in sorted(group.rglob("*"), key=lambda path: len(path.parts), reverse=True) if group.exists() else ():
        if below.is_dir():
            _remove(below)
    _remove(group)
    return not group.exists()


def _remove(group: Path) -> None:
    with suppress(OSError):
        group.rmdir()
