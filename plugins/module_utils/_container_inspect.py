# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Asks a container engine about one container, with a limit on time and answer. Changes nothing."""

from __future__ import annotations

import re
import typing as t

from ._bounded_json import parsed_json
from ._command import run_for_lines
from ._errors import SessionsError

_SECONDS = 20.0
_ANSWER_AT_MOST = 4 << 20  # bytes; a container with a thousand mounts has less
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_ID = re.compile(r"[0-9a-f]{64}")


class BoxMount(t.NamedTuple):
    """A mount of a container. ``kind``: bind, volume, tmpfs or another one; ``name``: of a volume, '' for a directory of the host."""

    kind: str
    source: str
    destination: str
    name: str
    writable: bool

    @property
    def lasting(self) -> bool:
        """Whether what is in it outlives the container."""
        return self.kind == "bind" or (self.kind == "volume" and not is_anonymous(self.name))


class Box(t.NamedTuple):
    """A container. ``pid``: of its first process, 0 where it does not run. ``upper``: the directory of the host where its own layer
    lies, '' where that is not known; ``lowers``: those of its image. ``removed``: whether the engine removes it when it ends.
    ``policy``: when the engine starts it by itself; ``signal`` and ``grace``: what it is asked to end by, and within how many seconds.
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
    """Whether an engine made up the name of a volume: it removes that with the container."""
    return bool(_ID.fullmatch(name))


def inspected(engine: str, name: str) -> Box | None:
    """Return the container ``name`` (or id) of an engine; None where it has none of that name.

    Raises SessionsError where the engine gives no answer that can be read.
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
        last = (done.stderr.strip().splitlines() or ["it gave no answer in time"])[-1]
        raise SessionsError(
            f"cannot ask {engine} about the container {name}: {last}; nothing was changed, see that {engine} runs and run again"
        )
    try:
        return parse_box(engine, parsed_json(b"".join(kept))[0])
    except (ValueError, RecursionError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise SessionsError(
            f"{engine} describes the container {name} in a way that is not known; nothing was changed, see '{engine} inspect {name}'"
        ) from error


def parse_box(engine: str, told: t.Mapping[str, t.Any]) -> Box:
    """Read the description of one container. Raises KeyError, TypeError, AttributeError for what is none."""
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
    """Return when an engine starts a container by itself, in the words of its option --restart."""
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
