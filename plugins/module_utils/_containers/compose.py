# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Describe services of Docker Compose that no unit starts in the terms of a unit: state, start time, and how to stop and start them.

Compose keeps a container and its writable layer when it stops the container. It discards both when it recreates the container: at the next
``up`` after a change of the project, or with ``--force-recreate``. Labels of the container name the directory of the project.
Reads only; stopping and starting is in compose_run.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import typing as t

from .._core.bounded_json import parsed_json
from .._core.errors import SessionsError
from .._fs.ancestors import untrusted_writer, way_to
from .._fs.files import read_file
from .._proc.command import SEARCH_PATH, run_for_lines
from .._proc.procfs import process_file
from .command_lines import DOCKER, Line, Mounted
from .inspect import Box, inspected
from .view import payload_groups

_SECONDS = 20.0
_ANSWER_AT_MOST = 4 << 20  # bytes
_BOXES_AT_MOST = 20
LABEL = "com.docker.compose."
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ID = re.compile(r"[0-9a-f]{64}")
# The files that Compose looks for by default, in its order, and those that it merges into them automatically.
_BASES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
# Keys that include other files, whose owners are not checked here.
_OTHER_FILES = re.compile(rb"^(include|[ \t]+extends)[ \t]*:", re.MULTILINE)
# Exit codes of programs that end on request, and of SIGKILL, which the engine sends to those that do not end in time.
_STOPPED_WITH = (0, 130, 137, 143)


class Compose(t.NamedTuple):
    """One service of a project and its only container. ``directory``: of the project; ``files``: the Compose files that the container
    was created from; ``environment_files``: those given on that command line. ``config``: Compose's hash of the service's configuration.
    """

    project: str
    service: str
    directory: str
    files: tuple[str, ...]
    environment_files: tuple[str, ...]
    config: str
    box: Box

    @property
    def called(self) -> str:
        """The service's name in messages."""
        return f"Docker Compose, service {self.service} of the project {self.project}, container {self.box.name}"

    @property
    def command(self) -> list[str]:
        """The Compose command for the project, without its verb. Default files are not named, so that Compose still merges them."""
        words = [DOCKER, "compose", "--project-name", self.project, "--project-directory", self.directory]
        for file in self.environment_files:
            words += ["--env-file", file]
        for file in () if self.finds_its_files else self.files:
            words += ["--file", file]
        return words

    @property
    def finds_its_files(self) -> bool:
        """Whether the container was created from the default files in the project's directory."""
        merged = {f"{self.directory}/{name}" for name in _OVERRIDES}
        base, rest = self.files[:1], self.files[1:]
        return bool(base) and base == found_files(self.directory)[:1] and len(rest) <= 1 and merged.issuperset(rest)

    @property
    def read(self) -> tuple[str, ...]:
        """The files that Compose reads now: an override file may have been added or removed since the container was created."""
        return found_files(self.directory) if self.finds_its_files else self.files

    @property
    def override(self) -> str:
        """The path of an override file that Compose would merge automatically; '' if it would not or if there is one already."""
        found = found_files(self.directory)
        if len(found) != 1 or self.files != found:
            return ""
        stem, ending = os.path.splitext(found[0])
        return f"{stem}.override{ending}"


def compose_service(name: str) -> Compose | None:
    """Return the Compose service or container ``name``; None if there is none, or no Docker.

    Raises SessionsError if several containers have that name.
    """
    for condition in conditions_for(DOCKER, name):
        found = [_described(box) for box in _boxes(condition)]
        ours = [compose for compose in found if compose is not None]
        if len(ours) > 1:
            names = ", ".join(compose.box.name for compose in ours)
            raise SessionsError(
                f"{len(ours)} containers of Docker Compose match the name {name} ({names}); nothing was changed: "
                "set 'unit' to the name of the right container, "
                "and give each of them a sessions path of its own"
            )
        if ours:
            return ours[0]
    return None


def properties_of(compose: Compose) -> dict[str, str]:
    """Return the state of the container as systemd properties, as far as they are used for containers."""
    box = compose.box
    state = "active" if box.pid else "failed"
    if box.status == "restarting":
        state = "activating"
    elif not box.pid and (box.exit_code in _STOPPED_WITH or box.status == "created"):
        state = "inactive"
    shown = {
        "Id": box.name,
        "LoadState": "loaded",
        "ActiveState": state,
        "SubState": box.status,
        "MainPID": str(box.pid),
    }
    if box.pid:
        with contextlib.suppress(SessionsError, OSError, ValueError, IndexError):
            since = _started(box.pid)
            shown["ExecMainStartTimestampMonotonic"] = str(since)
            shown["InvocationID"] = f"{box.id[:16]}{since:016x}"  # a restart does not change the container's ID
            shown["ControlGroup"] = payload_groups(box)[0]
    return shown


def next_line(compose: Compose) -> Line:
    """Return what Compose would create the container from now. Raises SessionsError if it fails or root must not run it."""
    why = _untrusted(compose)
    if why:
        raise SessionsError(why)
    lines: list[bytes] = []
    _ask([*compose.command, "config", "--format", "json", compose.service], lines)
    try:
        told = parsed_json(b"".join(lines))
        volumes = told.get("volumes") or {}
        mounts = [_mounted(one, volumes) for one in told["services"][compose.service].get("volumes") or ()]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise SessionsError(
            "the output of 'docker compose config' has an unknown format; update Docker Compose and run again"
        ) from error
    return Line(DOCKER, "up", compose.box.name, "", tuple(mounts), (compose.service,))


def is_changed(compose: Compose) -> bool:
    """Return whether Compose would now create the container from another configuration. Raises SessionsError if it does not say."""
    lines: list[bytes] = []
    _ask([*compose.command, "config", "--hash", compose.service], lines)
    words = b"".join(lines).decode("ascii", "replace").split()
    return words != [compose.service, compose.config]


def found_files(directory: str) -> tuple[str, ...]:
    """Return the default files of a project's directory: the Compose file, and the override file that is merged into it."""
    base = [name for name in _BASES if os.path.lexists(f"{directory}/{name}")][:1]
    merged = [name for name in _OVERRIDES if base and os.path.lexists(f"{directory}/{name}")][:1]
    return tuple(f"{directory}/{name}" for name in (*base, *merged))


def conditions_for(engine: str, name: str) -> tuple[str, ...]:
    """Return filters for ``name``: containers of a Compose service, else a container of that name. Empty if there is no engine."""
    if not _NAME.fullmatch(name) or not any(os.path.exists(f"{folder}/{engine}") for folder in SEARCH_PATH.split(":")):
        return ()
    return f"label={LABEL}service={name}", f"name=^/?{re.escape(name)}$"


def identities(engine: str, condition: str, *options: str) -> list[str]:
    """Return the IDs of containers that an engine's ``ps`` lists for a filter, limited in number."""
    lines: list[bytes] = []
    argv = [engine, "ps", *options, "--quiet", "--no-trunc", "--filter", condition]
    done = run_for_lines(argv, lines.append, timeout=_SECONDS, longest=4096, at_most=_ANSWER_AT_MOST)
    found = [line.decode("ascii", "replace").strip() for line in lines] if done.rc == 0 else []
    return [identity for identity in found[:_BOXES_AT_MOST] if _ID.fullmatch(identity)]


def _boxes(condition: str) -> list[Box]:
    boxes = (inspected(DOCKER, identity) for identity in identities(DOCKER, condition, "--all"))
    return [box for box in boxes if box is not None]


def _described(box: Box) -> Compose | None:
    def label(name: str) -> str:
        return box.labels.get(f"{LABEL}{name}", "")

    directory = label("project.working_dir")
    named = bool(_NAME.fullmatch(label("project")) and _NAME.fullmatch(label("service")))
    if not named or label("oneoff") == "True" or not directory.startswith("/"):
        return None  # created by `docker compose run`, or not by Compose
    files, environment_files = (
        tuple(os.path.join(directory, file) for file in label(name).split(",") if file)
        for name in ("project.config_files", "project.environment_file")
    )
    return Compose(
        label("project"),
        label("service"),
        os.path.normpath(directory),
        tuple(map(os.path.normpath, files)),
        environment_files,
        label("config-hash"),
        box,
    )


def _started(pid: int) -> int:
    """Return when a process was started, in microseconds since boot, proc_pid_stat(5)."""
    ticks = int(process_file(pid, "stat").rpartition(b")")[2].split()[19])
    return ticks * 1_000_000 // os.sysconf("SC_CLK_TCK")


def _untrusted(compose: Compose) -> str:
    """Return why root must not let Compose read the project's files: a user who can write them controls what root starts; '' if it may."""
    if not compose.files:
        return "the container's labels do not name the Compose files that it was created from"
    for file in (*compose.read, *compose.environment_files):
        try:
            who = _who_else_can_write(file)
            text = b"" if who else read_file(os.path.realpath(file))
        except (OSError, SessionsError):
            text = None
        if text is None:
            return f"{file}, a file of the project, cannot be read"
        if who:
            return f"{who}, so root does not let Compose read {file}: make root the only owner of the project's directory and files"
        if file not in compose.environment_files and _OTHER_FILES.search(text):
            return f"{file} includes other files (include, extends), and their owners and permissions are not checked"
    with contextlib.suppress(FileNotFoundError):
        who = _who_else_can_write(f"{compose.directory}/.env")
        if who:
            return f"{who}, so root does not let Compose read {compose.directory}/.env: make root the only owner of that file"
    return ""


def _who_else_can_write(file: str) -> str:
    """Return which user besides root can write or replace a file; '' if none can. Raises OSError if it does not exist."""
    real = os.path.realpath(file)
    status = os.stat(real)
    why = untrusted_writer(way_to(file), (0,)) or untrusted_writer(way_to(real), (0,)) or ""
    if not why and (status.st_uid or not stat.S_ISREG(status.st_mode) or status.st_mode & 0o022):
        why = f"{real} is not a file that only root can write"
    return why


def _ask(argv: t.Sequence[str], lines: list[bytes]) -> None:
    done = run_for_lines(argv, lines.append, timeout=_SECONDS, longest=1 << 16, at_most=_ANSWER_AT_MOST)
    if done.rc:
        # Its error message may quote the file, for example a password.
        raise SessionsError(
            "Compose cannot read the project's configuration: see the output of 'docker compose config' in its directory"
        )


def _mounted(told: t.Mapping[str, t.Any], volumes: t.Mapping[str, t.Any]) -> Mounted:
    source, kind = str(told.get("source") or ""), told["type"]
    if kind == "volume" and source:
        source = str((volumes.get(source) or {}).get("name") or source)
    whole = not told.get("read_only") and not (told.get("volume") or {}).get("subpath")
    return Mounted(source if kind in ("bind", "volume") else "", os.path.normpath(str(told["target"])), whole)
