# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Services of Docker Compose that no unit starts, described as a unit is: what runs, since when, and how it can be stopped and started.

Compose keeps the container, and with it the container's own layer, when it stops it. It throws both away when it makes the container anew:
at the next ``up`` after a change of the project, or with ``--force-recreate``. Where the project lies is written on the container.
Reads only; stopping and starting is in _compose_run.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import typing as t

from ._bounded_json import parsed_json
from ._command import SEARCH_PATH, run_for_lines
from ._container_inspect import Box, inspected
from ._container_view import payload_groups
from ._container_words import DOCKER, Line, Mounted
from ._errors import SessionsError
from ._parents import way_to, who_else_can_swap
from ._paths import read_file
from ._proc import process_file

_SECONDS = 20.0
_ANSWER_AT_MOST = 4 << 20  # bytes
_BOXES_AT_MOST = 20
LABEL = "com.docker.compose."
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ID = re.compile(r"[0-9a-f]{64}")
# What Compose looks for where no file is named, in its order, and what it merges into that by itself.
_BASES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_OVERRIDES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
# They bring in other files, which nothing here would look at.
_OTHER_FILES = re.compile(rb"^(include|[ \t]+extends)[ \t]*:", re.MULTILINE)
# How programs end that end because they were asked to, and by SIGKILL, as the engine does where they do not in time.
_STOPPED_WITH = (0, 130, 137, 143)


class Compose(t.NamedTuple):
    """One service of a project and its only container. ``directory``: of the project; ``files``: those that the container was made of;
    ``environment_files``: those named on the command line then. ``config``: what Compose knows the service's configuration by.
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
        """How to call it in a sentence."""
        return f"Docker Compose, service {self.service} of the project {self.project}, container {self.box.name}"

    @property
    def command(self) -> list[str]:
        """The command of Compose for the project, without its verb. Files that Compose finds by itself are not named: it merges then."""
        words = [DOCKER, "compose", "--project-name", self.project, "--project-directory", self.directory]
        for file in self.environment_files:
            words += ["--env-file", file]
        for file in () if self.finds_its_files else self.files:
            words += ["--file", file]
        return words

    @property
    def finds_its_files(self) -> bool:
        """Whether the container was made of the files that Compose finds by itself in the project's directory."""
        merged = {f"{self.directory}/{name}" for name in _OVERRIDES}
        base, rest = self.files[:1], self.files[1:]
        return bool(base) and base == found_files(self.directory)[:1] and len(rest) <= 1 and merged.issuperset(rest)

    @property
    def read(self) -> tuple[str, ...]:
        """The files that Compose reads now: an override file may have come or gone since the container was made."""
        return found_files(self.directory) if self.finds_its_files else self.files

    @property
    def override(self) -> str:
        """The file that Compose merges by itself; '' where it would not, or one is there already."""
        found = found_files(self.directory)
        if len(found) != 1 or self.files != found:
            return ""
        stem, ending = os.path.splitext(found[0])
        return f"{stem}.override{ending}"


def compose_service(name: str) -> Compose | None:
    """Find the service or container of Compose that is called ``name``; None where there is none, or no Docker.

    Raises SessionsError where it has several containers.
    """
    for condition in conditions_for(DOCKER, name):
        found = [_described(box) for box in _boxes(condition)]
        ours = [compose for compose in found if compose is not None]
        if len(ours) > 1:
            names = ", ".join(compose.box.name for compose in ours)
            raise SessionsError(
                f"{len(ours)} containers are called {name} by Docker Compose ({names}); nothing was changed: name the one that is meant by "
                "the name of its container (role: wa_service), and give each of them a sessions path of its own"
            )
        if ours:
            return ours[0]
    return None


def properties_of(compose: Compose) -> dict[str, str]:
    """Say how the container is in the words of systemd, as far as anybody asks for them of a container."""
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
            shown["InvocationID"] = f"{box.id[:16]}{since:016x}"  # Docker starts the same container again and again
            shown["ControlGroup"] = payload_groups(box)[0]
    return shown


def next_line(compose: Compose) -> Line:
    """Ask Compose what it would make the container of now. Raises SessionsError where it does not say, or must not be asked."""
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
        raise SessionsError("Compose describes the project in a way that is not known") from error
    return Line(DOCKER, "up", compose.box.name, "", tuple(mounts), (compose.service,))


def is_changed(compose: Compose) -> bool:
    """Whether Compose would make the container of something else now than it did. Raises SessionsError where it does not say."""
    lines: list[bytes] = []
    _ask([*compose.command, "config", "--hash", compose.service], lines)
    words = b"".join(lines).decode("ascii", "replace").split()
    return words != [compose.service, compose.config]


def found_files(directory: str) -> tuple[str, ...]:
    """Return the files that Compose finds by itself in the directory of a project: its own, and one that is merged into that."""
    base = [name for name in _BASES if os.path.lexists(f"{directory}/{name}")][:1]
    merged = [name for name in _OVERRIDES if base and os.path.lexists(f"{directory}/{name}")][:1]
    return tuple(f"{directory}/{name}" for name in (*base, *merged))


def conditions_for(engine: str, name: str) -> tuple[str, ...]:
    """How to ask for what is called ``name``: the containers of a Compose service, else one of that name. None where there is no engine."""
    if not _NAME.fullmatch(name) or not any(os.path.exists(f"{folder}/{engine}") for folder in SEARCH_PATH.split(":")):
        return ()
    return f"label={LABEL}service={name}", f"name=^/?{re.escape(name)}$"


def identities(engine: str, condition: str, *options: str) -> list[str]:
    """Return the containers that ``ps`` of an engine shows for a condition, a number of them at most."""
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
        return None  # of `docker compose run`, or of something that only looks like Compose
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
    """Return when a process was started, in microseconds since the boot, proc_pid_stat(5)."""
    ticks = int(process_file(pid, "stat").rpartition(b")")[2].split()[19])
    return ticks * 1_000_000 // os.sysconf("SC_CLK_TCK")


def _untrusted(compose: Compose) -> str:
    """Say why root must not have Compose read the files of the project: who can write them rules what it starts; '' where nobody can."""
    if not compose.files:
        return "Compose did not write on the container which files it was made of"
    for file in (*compose.read, *compose.environment_files):
        try:
            who = _who_else_can_write(file)
            text = b"" if who else read_file(os.path.realpath(file))
        except (OSError, SessionsError):
            text = None
        if text is None:
            return f"{file}, which the project was made of, cannot be read"
        if who:
            return f"{who}, so root does not have Compose read {file}: let root alone own the project's directory and files"
        if file not in compose.environment_files and _OTHER_FILES.search(text):
            return f"{file} brings in other files (include, extends), and nothing says who can write those"
    with contextlib.suppress(FileNotFoundError):
        who = _who_else_can_write(f"{compose.directory}/.env")
        if who:
            return f"{who}, so root does not have Compose read {compose.directory}/.env: let root alone own it"
    return ""


def _who_else_can_write(file: str) -> str:
    """Say who but root can write a file, or put another one in its place; '' where nobody can. Raises OSError where it is not there."""
    real = os.path.realpath(file)
    status = os.stat(real)
    why = who_else_can_swap(way_to(file), (0,)) or who_else_can_swap(way_to(real), (0,)) or ""
    if not why and (status.st_uid or not stat.S_ISREG(status.st_mode) or status.st_mode & 0o022):
        why = f"{real} is not a file that root alone can write"
    return why


def _ask(argv: t.Sequence[str], lines: list[bytes]) -> None:
    done = run_for_lines(argv, lines.append, timeout=_SECONDS, longest=1 << 16, at_most=_ANSWER_AT_MOST)
    if done.rc:
        # What it says of a file may show what is in it, a password, say.
        raise SessionsError(
            "Compose cannot make sense of the project: see what 'docker compose config' says in its directory"
        )


def _mounted(told: t.Mapping[str, t.Any], volumes: t.Mapping[str, t.Any]) -> Mounted:
    source, kind = str(told.get("source") or ""), told["type"]
    if kind == "volume" and source:
        source = str((volumes.get(source) or {}).get("name") or source)
    whole = not told.get("read_only") and not (told.get("volume") or {}).get("subpath")
    return Mounted(source if kind in ("bind", "volume") else "", os.path.normpath(str(told["target"])), whole)
