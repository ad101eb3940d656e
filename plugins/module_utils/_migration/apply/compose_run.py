# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Stop and start the container of a Docker Compose service by means of the engine.

Compose keeps the layer of a stopped container. So what the program writes while it stops is still there and is copied from the stopped
container; the container is discarded only when a new one is created, after everything is published. During the migration Docker does not
start the container at boot or after a crash (its restart policy is suspended), and a manual start is detected before anything is committed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time

from ..._containers.command_lines import DOCKER, lasting_mount_over
from ..._containers.compose import Compose, next_line
from ..._containers.hold import held_still
from ..._containers.inspect import Box, inspected
from ..._containers.view import payload_groups
from ..._core.errors import SessionsError
from ..._proc.command import run, run_checked
from ..._proc.procfs import stat_of
from .rescue import run_all, start_of

_KILLED = 137
_ENDED_WELL = (0, 130, 143)  # exited by itself, or by SIGINT or SIGTERM
_ENDS_WITHIN = 10.0  # seconds, after SIGKILL
_OFTEN = 0.05


def starts_of(compose: Compose, active: bool, anew: bool) -> str:
    """Return, as JSON, the commands that restore the service's former state, and those for after publishing, see rescue.py.

    ``active``: whether it was running. ``anew``: whether to recreate the container so that it mounts the sessions path.
    """
    box = compose.box
    former = [[DOCKER, "update", f"--restart={box.policy}", box.id], *([[DOCKER, "start", box.id]] if active else [])]
    up = [*compose.command, "up", "--detach", "--no-deps", compose.service]
    return json.dumps({"former": former, "published": [up] if anew else former})


def started(compose: Compose, starts: str, intent: str, timeout: float) -> str:
    """Start the service if it was running; return why that failed, or ''."""
    why = run_all(start_of(starts, intent), timeout)
    return f"{compose.service} of the project {compose.project} did not start: {why}" if why else ""


def keep_from_starting(compose: Compose) -> None:
    """Keep Docker from starting the container automatically."""
    run_checked(
        [DOCKER, "update", "--restart=no", compose.box.id], purpose=f"keep {compose.box.name} from being started"
    )


def stop(compose: Compose, timeout: float) -> None:
    """Stop the service's current container as Docker does. Raises SessionsError if that takes longer than ``timeout`` seconds."""
    done = run([DOCKER, "stop", compose.box.name], timeout=timeout)
    if done.rc:
        raise SessionsError(
            f"docker cannot stop {compose.box.name}; nothing was published, see the log of Docker and run again"
        )


def stop_cleanly(compose: Compose, inside: str, timeout: float) -> None:
    """Stop the container by its own signal, or by SIGKILL only while no file below ``inside`` is open in it.

    Programs that are the first process of a container often ignore signals and are killed at each stop. Raises SessionsError if the last
    writes may be incomplete.
    """
    box = inspected(DOCKER, compose.box.id)
    if box is None or not box.pid:
        raise SessionsError(
            f"{compose.box.name} is no longer running; nothing was changed, see why it ended and run again"
        )
    groups = payload_groups(box)
    run_checked([DOCKER, "kill", f"--signal={box.signal}", box.id], purpose=f"stop {box.name}")
    well: tuple[int, ...] = _ENDED_WELL
    if not _has_ended(box.pid, min(box.grace, timeout)):
        try:
            with held_still(groups, inside):
                run_checked([DOCKER, "kill", box.id], purpose=f"stop {box.name}")
        except SessionsError as error:
            if not _has_ended(box.pid, 0):
                raise SessionsError(
                    f"{box.name} did not end within {box.grace:g} seconds after {box.signal}, and killing it could leave its files "
                    f"incomplete ({error}); nothing was published: make the program end on this signal, and run again"
                ) from error
        well = (*_ENDED_WELL, _KILLED)
    after = _stopped(box)
    if after.exit_code not in well:
        raise SessionsError(
            f"{box.name} did not stop cleanly (exit code {after.exit_code}), so its last writes may be incomplete; nothing was published, "
            "see in its log why it does not stop cleanly, and run again"
        )


def require_next(compose: Compose, inside: str, path: str) -> None:
    """Check that the container is still stopped, and that the next one mounts ``path`` at ``inside``. Raises SessionsError."""
    now = inspected(DOCKER, compose.box.id)
    if now is None or now.pid:
        raise SessionsError(
            f"another process started or recreated {compose.box.name} while its accounts were copied; run again"
        )
    planned = lasting_mount_over(next_line(compose), inside)
    if planned is None or planned.destination != inside or os.path.realpath(planned.source) != os.path.realpath(path):
        raise SessionsError(
            f"Compose would not mount {path} at {inside} in the next container of {compose.service}: another setting overrides it"
        )


def _has_ended(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if stat_of(pid).state not in "ZX":
                if time.monotonic() > deadline:
                    return False
                time.sleep(_OFTEN)
                continue
        return True


def _stopped(box: Box) -> Box:
    """Wait until Docker reports the container as stopped."""
    deadline = time.monotonic() + _ENDS_WITHIN
    while True:
        now = inspected(DOCKER, box.id)
        if now is not None and not now.pid:
            return now
        if now is None or time.monotonic() > deadline:
            raise SessionsError(f"{box.name} did not stop; nothing was published, see 'docker ps --all' and run again")
        time.sleep(_OFTEN)
