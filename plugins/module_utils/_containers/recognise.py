# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Recognise how a unit runs its program in a container: the engine, the container, the command of its next start. Reads only."""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

from .._core.errors import SessionsError
from .._core.query_cache import cached_query
from .._fs.files import read_file
from .._proc.procfs import process_file, stat_of
from .._systemd import specifiers
from .._systemd.effective import option_history, read_sources
from .._systemd.unit_file import words
from .command_lines import DOCKER, PODMAN, Line, parse_line
from .detect import engine_processes
from .inspect import Box, inspected
from .view import Root, payload_owner, roots_of

if t.TYPE_CHECKING:
    from .._layouts.layout import Layout
    from .._systemd.unit import Unit
    from .compose import Compose

_GENERATIONS = 8  # between the process that supervises a container and its first process
_ID = re.compile(r"[0-9a-f]{64}")


class Container(t.NamedTuple):
    """How a unit runs its program. ``line``: the command of the next start, None if another program builds it. ``box``: the running
    container, None if there is none or it is unknown which one it is (``trouble`` says why). ``quadlet``: its file, '' if none.
    ``active``: whether the unit is running, starting or stopping. ``compose``: the Docker Compose service that stands in for a unit.
    """

    unit: str
    engine: str
    line: Line | None
    box: Box | None
    quadlet: str
    trouble: str = ""
    active: bool = False
    compose: Compose | None = None

    @property
    def called(self) -> str:
        """How to refer to it in messages."""
        if self.compose:
            return self.compose.called
        how = "a Quadlet" if self.quadlet else f"{self.engine} {self.line.verb}" if self.line else self.engine
        return f"{how}, container {self.box.name}" if self.box else how


@cached_query
def recognised(name: str) -> Container:
    """Describe how the unit ``name`` runs its program in a container."""
    from .service import compose_of, read_service

    unit = read_service(name)
    compose = compose_of(unit)
    if compose:
        from .compose_services import container_of_compose

        return container_of_compose(unit.name, compose, unit.active)
    source = unit.properties["SourcePath"]
    quadlet = source if source.endswith(".container") else ""
    line = next_line(unit)
    running = engine_processes(unit)
    engine = line.engine if line else _engine_of(running)
    container = Container(name, engine, line, None, quadlet, active=unit.active)
    if source.endswith((".kube", ".pod")) or (line and line.verb in ("compose", "play", "kube", "pod")):
        return container._replace(trouble=f"'{line.verb if line else source}' may start several containers")
    if engine == PODMAN and unit.properties["User"] not in ("", "root"):
        return container._replace(trouble=f"the containers of user {unit.properties['User']} are rootless")
    if not unit.active:
        return container
    called, keeper = _name_of(line, running)
    box = inspected(engine, called) if called else None
    if not called or (box and box.pid and keeper and not _descends(box.pid, keeper)):
        return container._replace(
            trouble="it is unknown which container belongs to the unit; give the container a name (--name)"
        )
    return container._replace(box=box, trouble="" if box else f"{engine} has no container {called}")


def _engine_of(running: t.Iterable[tuple[str, int]]) -> str:
    names = [name for name, _pid in running]
    return PODMAN if "conmon" in names or any(name.startswith(PODMAN) for name in names) else DOCKER


def next_line(unit: Unit) -> Line | None:
    """Return the engine command of the next start from the unit's files; None if there is none."""
    sources = read_sources(unit.name)
    lines: list[Line] = []
    for place in option_history(sources, "Service", "ExecStart"):
        if place.value is None:
            lines.clear()
            continue
        line = parse_line([specifiers.expand(word, sources.name) for word in words(place.value)])
        lines += [line] if line else []
    return next((line for line in lines if line.verb in ("run", "start")), lines[-1] if lines else None)


def _descends(pid: int, ancestor: int) -> bool:
    """Return whether a process is a descendant of another one."""
    for _generation in range(_GENERATIONS):
        if pid == ancestor:
            return True
        try:
            pid = stat_of(pid).parent
        except OSError:
            return False
    return False


def _name_of(line: Line | None, running: t.Iterable[tuple[str, int]]) -> tuple[str, int]:
    """Return the container's name or ID, and the PID of its supervising process if only that process shows it, else 0."""
    if line and line.name and "$" not in line.name:
        return line.name, 0
    if line and line.cidfile.startswith("/"):
        with contextlib.suppress(SessionsError):
            found = (read_file(os.path.normpath(line.cidfile), at_most=1024) or b"").decode("ascii", "replace").strip()
            if _ID.fullmatch(found):
                return found, 0
    for name, pid in running:
        with contextlib.suppress(OSError):
            arguments = os.fsdecode(process_file(pid, "cmdline")).rstrip("\0").split("\0")
            if name == "conmon" and "-c" in arguments[:-1]:
                return arguments[arguments.index("-c") + 1], pid
            started = parse_line(arguments)
            if started and started.name:
                return started.name, 0
    return "", 0


@cached_query
def roots_in(unit: str, layout: Layout | None) -> tuple[Root, ...]:
    """Return the directories with accounts in the unit's container; none if it is not running."""
    container = recognised(unit)
    return roots_of(container.box, layout) if container.box and container.box.pid else ()


def owner_in(container: Container) -> tuple[int, int] | None:
    """Return the host's uid and gid of the program's accounts; None if the container is not running."""
    if container.box is None or not container.box.pid:
        return None
    roots = roots_in(container.unit, None)
    return roots[0].owner if roots else payload_owner(container.box)
