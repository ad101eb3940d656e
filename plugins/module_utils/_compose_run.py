# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Stops and starts the container of a service of Docker Compose, by the engine's own means.

Compose keeps the layer of a container that it stops. So what the program writes while it stops is there afterwards, and is copied from the
stopped container; the container is thrown away only when a new one is made of the project, after all of that is published. While accounts
are on their way Docker starts the container at no boot and no crash (its restart policy is taken away), and whoever starts it by hand is
noticed before anything is committed.
"""

from __future__ import annotations

import contextlib
import json
import os
import time

from ._command import run, run_checked
from ._compose import Compose, next_line
from ._container_hold import held_still
from ._container_inspect import Box, inspected
from ._container_view import payload_groups
from ._container_words import DOCKER, lasting_mount_over
from ._errors import SessionsError
from ._proc import stat_of
from ._rescue import run_all, start_of

_KILLED = 137
_ENDED_WELL = (0, 130, 143)  # by itself, or by a signal that it was asked to end by
_ENDS_WITHIN = 10.0  # seconds, after SIGKILL
_OFTEN = 0.05


def starts_of(compose: Compose, active: bool, anew: bool) -> str:
    """Return, as JSON, the commands that have the service as it was before, and those once all is published, see _rescue.py.

    ``active``: whether it ran. ``anew``: whether it then gets a container that has the sessions path mounted.
    """
    box = compose.box
    former = [[DOCKER, "update", f"--restart={box.policy}", box.id], *([[DOCKER, "start", box.id]] if active else [])]
    up = [*compose.command, "up", "--detach", "--no-deps", compose.service]
    return json.dumps({"former": former, "published": [up] if anew else former})


def started(compose: Compose, starts: str, intent: str, timeout: float) -> str:
    """Have the service run if it ran; return why it does not, '' where it does."""
    why = run_all(start_of(starts, intent), timeout)
    return f"{compose.service} of the project {compose.project} did not start: {why}" if why else ""


def keep_from_starting(compose: Compose) -> None:
    """Have Docker start the container by itself no more."""
    run_checked(
        [DOCKER, "update", "--restart=no", compose.box.id], purpose=f"keep {compose.box.name} from being started"
    )


def stop(compose: Compose, timeout: float) -> None:
    """Stop whatever container the service has, as Docker does it. Raises SessionsError when it takes longer than ``timeout`` seconds."""
    done = run([DOCKER, "stop", compose.box.name], timeout=timeout)
    if done.rc:
        raise SessionsError(f"docker cannot stop {compose.box.name}; nothing was published, see why and run again")


def stop_cleanly(compose: Compose, inside: str, timeout: float) -> None:
    """Stop the container by its own signal, and by force only at a moment when no file below ``inside`` is open in it.

    Programs that are the first process of a container often know no signal, and are ended by force at each stop. Raises SessionsError where
    the last writes may be torn.
    """
    box = inspected(DOCKER, compose.box.id)
    if box is None or not box.pid:
        raise SessionsError(
            f"{compose.box.name} does not run any more; nothing was changed, see why it ended and run again"
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
                    f"{box.name} did not end within {box.grace:g} seconds after {box.signal}, and cannot be ended by force without tearing "
                    f"what it writes ({error}); nothing was published: have it end when it is asked to, and run again"
                ) from error
        well = (*_ENDED_WELL, _KILLED)
    after = _stopped(box)
    if after.exit_code not in well:
        raise SessionsError(
            f"{box.name} did not stop cleanly (exit code {after.exit_code}), so its last writes may be torn; nothing was published, "
            "see why it cannot end and run again"
        )


def require_next(compose: Compose, inside: str, path: str) -> None:
    """See that the container is stopped still, and that the next one has ``path`` at ``inside``. Raises SessionsError."""
    now = inspected(DOCKER, compose.box.id)
    if now is None or now.pid:
        raise SessionsError(
            f"somebody started {compose.box.name}, or made it anew, while its accounts were copied; run again"
        )
    planned = lasting_mount_over(next_line(compose), inside)
    if planned is None or planned.destination != inside or os.path.realpath(planned.source) != os.path.realpath(path):
        raise SessionsError(
            f"Compose would not mount {path} at {inside} in the next container of {compose.service}, so something overrides it"
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
    """Wait until Docker knows that a container has ended."""
    deadline = time.monotonic() + _ENDS_WITHIN
    while True:
        now = inspected(DOCKER, box.id)
        if now is not None and not now.pid:
            return now
        if now is None or time.monotonic() > deadline:
            raise SessionsError(f"{box.name} did not stop; nothing was published, see 'docker ps --all' and run again")
        time.sleep(_OFTEN)
