# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Query a container engine for one container, with limits on time and output. Changes nothing."""

from __future__ import annotations

import re
import typing as t

from .._core.bounded_json import parsed_json
from .._core.errors import SessionsError
from .._proc.command import run_for_lines

_SECONDS = 20.0
_ANSWER_AT_MOST = 4 << 20  # bytes; enough for a container with a thousand mounts
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_ID = re.compile(r"[0-9a-f]{64}")


class BoxMount(t.NamedTuple):
    """A mount of a container. ``kind``: bind, volume, tmpfs, ...; ``name``: of a volume, '' for a directory of the host."""

    kind: str
    source: str
    destination: str
    name: str
    writable: bool

    @property
    def lasting(self) -> bool:
        """Whether its content outlives the container."""
        return self.kind == "bind" or (self.kind == "volume" and not is_anonymous(self.name))


class Box(t.NamedTuple):
    """A container. ``pid``: of its first process, 0 if it is not running. ``upper``: the directory of its own layer on the host, '' if
    unknown; ``lowers``: those of its image. ``removed``: whether the engine removes it when it ends. ``policy``: its restart policy;
    ``signal`` and ``grace``: the stop signal, and the seconds until it is killed.
    """

    engine: str
    id: str
    name: str
    pid: int
    paused: bool
    removed: bool
    mounts: tuple[BoxMount, ...]
    upper: str
    lowers: tuple[str, ...]
    labels: t.Mapping[str, str]
    status: str = ""
    exit_code: int = 0
    policy: str = "no"
    signal: str = "SIGTERM"
    grace: float = 10.0


def is_anonymous(name: str) -> bool:
    """Return whether the engine generated the volume's name: it then removes the volume with its container."""
    return bool(_ID.fullmatch(name))


def inspected(engine: str, name: str) -> Box | None:
    """Return the container with the name or ID ``name``; None if the engine has none.

    Raises SessionsError if the engine gives no readable answer.
    """
    if not _NAME.fullmatch(name):
        return None
    kept: list[bytes] = []
    done = run_for_lines(
        [engine, "inspect", "--type", "container", name],
        kept.append,
        timeout=_SECONDS,
        longest=1 << 16,
        at_most=_ANSWER_AT_MOST,
    )
    if done.rc and "no such" in done.stderr.lower():
        return None
    if done.rc:
        last = (done.stderr.strip().splitlines() or ["no answer in time"])[-1]
        raise SessionsError(
            f"cannot inspect the container {name} with {engine}: {last}; nothing was changed, make sure that {engine} works and run again"
        )
    try:
        return parse_box(engine, parsed_json(b"".join(kept))[0])
    except (ValueError, RecursionError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise SessionsError(
            f"the output of '{engine} inspect {name}' has an unknown format; nothing was changed, check that output"
        ) from error


def parse_box(engine: str, told: t.Mapping[str, t.Any]) -> Box:
    """Parse the description of one container. Raises KeyError, TypeError, AttributeError if it is malformed."""
    state, host, config = told["State"], told.get("HostConfig") or {}, told.get("Config") or {}
    layers = (told.get("GraphDriver") or {}).get("Data") or {}
    upper = str(layers.get("UpperDir") or "")
    return Box(
        engine=engine,
        id=str(told["Id"]),
        name=str(told.get("Name") or "").lstrip("/"),
        pid=int(state.get("Pid") or 0) if state.get("Running") else 0,
        paused=bool(state.get("Paused")),
        removed=bool(host.get("AutoRemove")),
        mounts=tuple(map(_mount, told.get("Mounts") or ())),
        upper=upper if upper.startswith("/") else "",
        lowers=tuple(part for part in str(layers.get("LowerDir") or "").split(":") if part.startswith("/")),
        labels={str(name): str(value) for name, value in (config.get("Labels") or {}).items()},
        status=str(state.get("Status") or ""),
        exit_code=int(state.get("ExitCode") or 0),
        policy=_policy(host.get("RestartPolicy") or {}),
        signal=str(config.get("StopSignal") or "SIGTERM"),
        grace=float(10 if config.get("StopTimeout") is None else config["StopTimeout"]),
    )


def _policy(told: t.Mapping[str, t.Any]) -> str:
    """Return the restart policy in the syntax of the option --restart."""
    name, most = str(told.get("Name") or "no"), int(told.get("MaximumRetryCount") or 0)
    return f"{name}:{most}" if most else name


def _mount(told: t.Mapping[str, t.Any]) -> BoxMount:
    return BoxMount(
        kind=str(told["Type"]),
        source=str(told.get("Source") or ""),
        destination=str(told["Destination"]),
        name=str(told.get("Name") or ""),
        writable=told.get("RW") is not False,
    )
