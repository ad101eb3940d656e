# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Keeps a backend from writing for a moment: freezes or stops it, and lets it run again whatever happens to this process.

Before it is held, systemd starts a process of its own that releases it if this one is killed or takes too long (release.py). A unit is
frozen by systemd where that can freeze it, otherwise and in containers its processes are suspended by signals.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import inspect
import os
import sys
import time
import typing as t

from .._accounts.control_directory import locked, opened_control
from .._containers.detect import container_of
from .._containers.hold import continue_all, stop_all
from .._containers.service import compose_of, read_service
from .._containers.view import payload_groups
from .._core.errors import SessionsError
from .._core.limits import FROZEN_SECONDS, STOPPED_SECONDS, STUCK_SECONDS
from .._fs.files import write_atomic
from .._proc.command import run, run_checked
from .._proc.control_groups import can_freeze
from .._systemd.start import start
from .._systemd.unit import Unit, parse_show
from . import release
from .release import RESUME, START, THAW

FREEZE, STOP = "freeze", "stop"
_RUNTIME = "/run/whatsapp-ops"
_FREEZE_WITHIN = 20.0  # seconds for systemctl


class Hold(t.NamedTuple):
    """How a running backend is held: ``action`` releases it, see release.py. ``timeout``: seconds for a stop and for a start."""

    unit: str
    action: str
    groups: tuple[str, ...]
    timeout: float

    @property
    def seconds(self) -> float:
        """For how long the backend may be held while accounts are copied."""
        return STOPPED_SECONDS if self.action == START else FROZEN_SECONDS

    @property
    def released_after(self) -> float:
        """After how many seconds it is released although this process still runs."""
        return self.seconds + (STUCK_SECONDS + 2 * self.timeout if self.action == START else _FREEZE_WITHIN)


@dataclasses.dataclass
class Interruption:
    """For how many seconds the backend was held in total."""

    seconds: float = 0.0

    @contextlib.contextmanager
    def counted(self) -> t.Iterator[None]:
        """Add the duration of the body."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - begin


def hold_of(unit: str, how: str, timeout: float) -> Hold | None:
    """Return how to hold the backend ``unit``; None if it does not run. Raises SessionsError if it cannot be held."""
    service = read_service(unit)
    if not service.active:
        return None
    if how == STOP:
        if compose_of(service):
            raise SessionsError(
                f"{unit} is a service of Docker Compose, which a backup does not stop; use quiesce=freeze"
            )
        return Hold(service.name, START, (), timeout)
    container = container_of(service)
    if container is not None:
        box = container.box
        return Hold(service.name, RESUME, payload_groups(box), timeout) if box is not None and box.pid else None
    return _freezing(service, timeout)


@contextlib.contextmanager
def held(hold: Hold, path: str, interruption: Interruption) -> t.Iterator[float]:
    """Hold the backend of the sessions path ``path`` in the body, which ends by the monotonic time that is yielded.

    Raises SessionsError if it cannot be held, StartFailed if a stopped one does not start again. No other run works on the path
    meanwhile: it could be holding the backend for another reason.
    """
    with opened_control(path) as control, locked(control, path), _watched_over(hold), interruption.counted():
        try:
            _ACT[hold.action](hold)
        except BaseException:
            with contextlib.suppress(SessionsError):  # the first error says why
                _RELEASE[hold.action](hold)
            raise
        try:
            yield time.monotonic() + hold.seconds
        finally:
            _RELEASE[hold.action](hold)


def _freezing(service: Unit, timeout: float) -> Hold | None:
    shown = parse_show(run(["systemctl", "show", "--property=CanFreeze,FreezerState", "--", service.name]).stdout)
    if shown.get("FreezerState") == "frozen":
        return None  # it does not write, and another user decides when it continues
    group = service.properties["ControlGroup"]
    action = THAW if shown.get("CanFreeze") == "yes" and can_freeze(group) else RESUME
    return Hold(service.name, action, (group,), timeout)


@contextlib.contextmanager
def _watched_over(hold: Hold) -> t.Iterator[None]:
    """Let systemd release the backend if this process is killed, or holds it for too long."""
    os.makedirs(_RUNTIME, mode=0o755, exist_ok=True)
    lock, program = f"{_RUNTIME}/backup-{hold.unit}.lock", f"{_RUNTIME}/backup-{hold.unit}.py"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        write_atomic(program, inspect.getsource(release).encode(), 0o600)
        name = f"whatsapp-ops-release-{os.getpid()}-{time.monotonic_ns()}"
        words = (lock, f"{hold.released_after:g}", hold.action, hold.unit, *hold.groups)
        waiting = ["systemd-run", "--quiet", "--collect", f"--unit={name}", "--", sys.executable, "-I", program, *words]
        run_checked(waiting, purpose="start the process that releases the backend if this run is killed")
        yield
    finally:
        os.close(descriptor)


def _freeze(hold: Hold) -> None:
    run_checked(["systemctl", "freeze", "--", hold.unit], purpose=f"freeze {hold.unit}", timeout=_FREEZE_WITHIN)


def _thaw(hold: Hold) -> None:
    run_checked(["systemctl", "thaw", "--", hold.unit], purpose=f"thaw {hold.unit}", timeout=_FREEZE_WITHIN)


def _suspend(hold: Hold) -> None:
    try:
        stop_all(hold.groups)
    except SessionsError as error:
        raise SessionsError(f"the processes of {hold.unit} cannot be suspended; use quiesce=stop") from error


def _resume(hold: Hold) -> None:
    continue_all(hold.groups)


def _stop(hold: Hold) -> None:
    run_checked(["systemctl", "stop", "--", hold.unit], purpose=f"stop {hold.unit}", timeout=hold.timeout)


def _start(hold: Hold) -> None:
    start(hold.unit, hold.timeout)


_ACT: dict[str, t.Callable[[Hold], None]] = {THAW: _freeze, RESUME: _suspend, START: _stop}
_RELEASE: dict[str, t.Callable[[Hold], None]] = {THAW: _thaw, RESUME: _resume, START: _start}
