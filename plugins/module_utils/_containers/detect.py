# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Detect whether a unit runs its program in a container. Units without one do not need handling.py, which handles them."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

from .._proc.control_groups import processes_of
from .service import compose_of

if t.TYPE_CHECKING:
    from .._layouts.layout import Layout
    from .._systemd.unit import Unit
    from .recognise import Container

_ENGINES = ("docker", "podman", "docker-compose", "podman-compose")
# Programs that may run between systemd and an engine.
_SHELLS = ("bash", "busybox", "dash", "sh")
_STARTING = frozenset(("run", "start", "attach", "compose", "up"))
_STARTED = re.compile(r"path=(\S+) ;")


def container_of(unit: Unit) -> Container | None:
    """Describe how the unit or Compose service runs its program in a container; None if it runs without one."""
    if compose_of(unit) is None and not _may_be_one(unit):
        return None
    from .recognise import recognised

    return recognised(unit.name)


def has_mounted(container: Container, path: str, layout: Layout | None) -> bool:
    """Return whether the running container mounts ``path`` where its program keeps accounts, and the next one will."""
    from .._core.errors import SessionsError
    from .handling import handling_of

    if container.box is None or not container.box.pid:
        return False
    try:
        return handling_of(container, path, layout).root is None
    except SessionsError:
        return False


def engine_processes(unit: Unit) -> list[tuple[str, int]]:
    """Return name and PID of the unit's processes by which an engine runs a container; only processes of the host's root.

    Other users can choose any process name, and so can root of the container, whose processes may belong to the unit, too.
    """
    found = []
    for pid in processes_of((unit.properties.get("ControlGroup", ""),)).pids:
        with contextlib.suppress(OSError):
            name = _program(pid)
            if name not in ("conmon", *_ENGINES) or os.stat(f"/proc/{pid}").st_uid or not is_of_host(pid):
                continue
            if name == "conmon" or _STARTING.intersection(_arguments(pid)):
                found.append((name, pid))
    return found


def is_of_host(pid: int) -> bool:
    """Return whether a process sees the host's processes and files, like an engine, instead of those of a container. Raises OSError."""
    if os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid"):
        return False
    return os.path.samestat(os.stat(f"/proc/{pid}/root"), os.stat("/proc/self/root"))


def _may_be_one(unit: Unit) -> bool:
    source, started = (unit.properties.get(name, "") for name in ("SourcePath", "ExecStart"))
    if source.endswith((".container", ".kube", ".pod")):
        return True
    programs = (os.path.basename(program) for program in _STARTED.findall(started))
    if any(program in _ENGINES for program in programs):
        return True
    # A program that only calls an engine occasionally runs outside a container.
    main = _program(unit.main_pid) if unit.properties.get("MainPID") else ""
    return main in ("conmon", *_ENGINES, *_SHELLS) and bool(engine_processes(unit))


def _arguments(pid: int) -> list[str]:
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return os.fsdecode(file.read(1 << 16)).split("\0")


def _program(pid: int) -> str:
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe"))
    except OSError:
        return ""
