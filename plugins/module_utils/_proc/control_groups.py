# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Find the control group of a process, and the processes in and below a group: cgroups(7), version 1 as used by systemd, and 2."""

from __future__ import annotations

import os
import typing as t

# Mount points of the hierarchy in which systemd tracks processes: version 2, hybrid, version 1.
_HIERARCHIES = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")
_STARTERS = ("cron.service", "crond.service", "atd.service", "ssh.service", "sshd.service")
_GROUPS_AT_MOST = 1000
_PROCESSES_AT_MOST = 10000
_LONGEST = 1 << 16  # bytes of /proc/PID/cgroup


class Processes(t.NamedTuple):
    """The processes of a control group, and whether the list is complete."""

    pids: tuple[int, ...]
    complete: bool


def group_of(pid: int) -> str:
    """Return the control group of a process as systemd names it; '' if the process is gone."""
    try:
        with open(f"/proc/{pid}/cgroup", "rb") as file:
            return parse_group(os.fsdecode(file.read(_LONGEST)))
    except OSError:
        return ""


def parse_group(text: str) -> str:
    """Return systemd's group from the lines of ``/proc/PID/cgroup``; container engines manage other hierarchies on their own."""
    found = {}
    for line in text.split("\n"):
        hierarchy, _mark, rest = line.partition(":")
        controllers, _mark, path = rest.partition(":")
        if controllers == "name=systemd" or (hierarchy == "0" and not controllers):
            found[controllers] = path
    return found.get("name=systemd") or found.get("", "")


def can_freeze(group: str) -> bool:
    """Return whether the kernel can freeze the control group: only in version 2. systemd reports that a unit can freeze even where not."""
    return bool(group.strip("/")) and os.path.exists(f"{_HIERARCHIES[0]}{group}/cgroup.freeze")


def unit_in(group: str) -> str:
    """Return the service that a control group belongs to; '' for a login or a service that starts commands for others."""
    services = [part for part in group.split("/") if part.endswith(".service") and not part.startswith("user@")]
    return services[-1] if services and services[-1] not in _STARTERS else ""


def is_of(group: str, groups: t.Iterable[str]) -> bool:
    """Return whether ``group`` is one of ``groups`` or below one."""
    return any(
        wanted.strip("/") and (group == wanted or group.startswith(f"{wanted.rstrip('/')}/")) for wanted in groups
    )


def processes_of(groups: t.Iterable[str], hierarchies: t.Sequence[str] = _HIERARCHIES) -> Processes:
    """Return the processes in ``groups`` and below them."""
    pids: dict[int, None] = {}
    complete = True
    left = _GROUPS_AT_MOST
    queue = [top for group in groups if group.strip("/") for top in _directories_of(group, hierarchies)]
    while queue:
        if not left or len(pids) > _PROCESSES_AT_MOST:
            complete = False
            break
        left -= 1
        directory = queue.pop()
        listed, below = _members(directory)
        pids.update(dict.fromkeys(listed))
        queue.extend(below)
    found = tuple(pid for pid in pids if pid)  # 0: a process outside this PID namespace
    return Processes(found[:_PROCESSES_AT_MOST], complete)


def _directories_of(group: str, hierarchies: t.Sequence[str]) -> list[str]:
    return [path for path in (f"{top}/{group.strip('/')}" for top in hierarchies) if os.path.isdir(path)]


def _members(directory: str) -> tuple[list[int], list[str]]:
    """Return the processes of one group, and the directories of its child groups."""
    try:
        with os.scandir(directory) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        with open(f"{directory}/cgroup.procs", encoding="ascii") as file:
            return [int(line) for line in file if line.strip().isdecimal()], below
    except OSError:
        return [], []  # the group is gone, or it contains only threads
