# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Stop a backend, keep it from being started, and make sure that it runs again at the end, whatever happens in between.

The guard is a drop-in in /run with ``AssertPathExists=!FLAG``: while the flag exists, a start fails (a masked unit with a file in /etc can
still be started, tested on systemd 252 and 257). If this process is killed, a transient unit (rescue.py) undoes incomplete work, lifts the
guard and starts the backend: systemd is its parent, so it survives this process, the connection and the login session. It also ends a run
that keeps the backend stopped for too long.

A power failure removes all of that. So during the cutover there is also a unit in /etc: if the host boots meanwhile, it runs the same
program, which undoes the work before the backend starts. It is a unit of its own, ordered before the backend. As a command in the backend's
unit it would run as root in an environment that the service user may control (``LD_PRELOAD`` in an environment file).
"""

from __future__ import annotations

import contextlib
import fcntl
import inspect
import os
import signal
import sys
import time
import typing as t

from ..._accounts.control_directory import PROGRAM
from ..._containers.service import compose_of, read_service
from ..._core import progress
from ..._core.errors import SessionsError, StartFailed
from ..._core.limits import BOOT_SECONDS, STOPPED_SECONDS, STUCK_SECONDS
from ..._fs.files import write_atomic
from ..._proc.command import run, run_checked
from ..._systemd.start import start
from ..._systemd.unit import Unit, daemon_reload
from . import rescue

if t.TYPE_CHECKING:
    from ..._containers.compose import Compose

_RUNTIME = "/run/whatsapp-ops"
_DEFERRED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGQUIT)
# A wrapper (sh, npm) that passes on that its child ended by SIGINT or SIGTERM, sh(1): 128 + number.
_ENDED_BY_OUR_SIGNAL = ("130", "143")


class Stopwatch:
    """Measure the phases of a run, in seconds."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}
        self.downtime = 0.0

    @contextlib.contextmanager
    def down(self, counted: bool) -> t.Iterator[None]:
        """Measure the downtime; ``counted`` is false for a backend that was not running before."""
        begin = time.monotonic()
        if counted:
            progress.backend(False)
        try:
            yield
        finally:
            if counted:
                progress.backend(True)
                self.downtime = round(time.monotonic() - begin, 3)

    @contextlib.contextmanager
    def phase(self, name: str) -> t.Iterator[None]:
        """Measure one phase; repeated phases add up."""
        begin = time.monotonic()
        progress.phase(name)
        try:
            yield
        finally:
            self.phases[name] = round(self.phases.get(name, 0.0) + time.monotonic() - begin, 3)


@contextlib.contextmanager
def signals_blocked() -> t.Iterator[None]:
    """Ignore hang-up and termination signals: a dropped connection must not leave a backend stopped."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _DEFERRED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Cutover(t.NamedTuple):
    """How a backend is held stopped: ``intent`` is the path of the run's intent (see rescue.py), ``timeout`` the seconds for each stop and
    start, ``mounts`` the paths that must be mounted to undo the intent. ``frozen``: control groups of a container that is suspended
    instead, see container_run.py. ``restored``: the backend is stopped for a rollback and must run at the end. ``inside``: the directory
    in a Compose container whose layer holds the accounts to migrate, '' if none, see compose_run.py. ``back``: the accounts are rolled
    back into a new container, see compose_rollback.py. ``unclean``: it need not end cleanly, because nothing that it writes is copied.
    """

    unit: Unit
    intent: str
    timeout: float
    watch: Stopwatch
    mounts: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    restored: bool = False
    inside: str = ""
    back: bool = False
    unclean: bool = False

    @property
    def compose(self) -> Compose | None:
        """The Compose service; None for a unit of systemd."""
        return compose_of(self.unit)

    @property
    def start(self) -> str:
        """What to start if the run is killed, see rescue.py."""
        return "only" if self.restored else "yes" if self.unit.active else "no"

    @property
    def starts(self) -> str:
        """The commands that start a Compose container, for rescue.py; '' for a unit."""
        if self.compose is None:
            return ""
        if self.back:
            from .compose_rollback import starts_back

            return starts_back(self.compose)
        from .compose_run import starts_of

        return starts_of(self.compose, self.unit.active, bool(self.inside))


@contextlib.contextmanager
def rescuer_armed(cutover: Cutover) -> t.Iterator[None]:
    """Let systemd finish or undo the body's work on the unit if this process is killed or hangs."""
    with _rescued(cutover, cutover.unit.name):
        yield


@contextlib.contextmanager
def run_in_the_end(cutover: Cutover) -> t.Iterator[None]:
    """Let systemd start the unit, which the body stops, if this process is killed. Nothing else is undone.

    The body may hold the unit stopped for another cutover, whose guard keeps this one from starting the unit before that is undone.
    """
    with _rescued(cutover._replace(restored=True), f"{cutover.unit.name}.back"):
        yield


@contextlib.contextmanager
def _rescued(cutover: Cutover, called: str) -> t.Iterator[None]:
    """``called``: the base name of the lock and files of this run; a nested run has its own."""
    with signals_blocked(), _alive(called):
        with cutover.watch.phase("guard"):
            _leave_rescuer(cutover, called)
            _mark_busy(called)
        try:
            yield
        finally:
            _remove(_busy_file(called))


@contextlib.contextmanager
def stopped(cutover: Cutover) -> t.Iterator[None]:
    """Hold the unit stopped, see guarded. Raises SessionsError if it does not stop cleanly (it is then started again)."""
    with guarded(cutover):
        with cutover.watch.phase("stop"):
            _stop(cutover)
        yield


@contextlib.contextmanager
def held_frozen(cutover: Cutover) -> t.Iterator[None]:
    """Mark for the rescuer that a container's processes are suspended. Used within rescuer_armed, around the code that suspends them."""
    write_atomic(_flag(cutover.unit.name), b"", 0o644)
    try:
        yield
    finally:
        _remove(_flag(cutover.unit.name))


@contextlib.contextmanager
def guarded(cutover: Cutover) -> t.Iterator[None]:
    """Keep the unit from being started, and start it at the end if it ran before, even if the body raises.

    Used within rescuer_armed. Raises StartFailed if the body succeeded and the unit does not start.
    """
    unit, watch = cutover.unit, cutover.watch
    with watch.phase("guard"):
        _leave_rescuer_at_boot(cutover)
        _raise_guard(unit)
    try:
        with watch.down(unit.active):
            try:
                yield
            except SessionsError as error:
                _release_after(error, cutover)
                raise
            except BaseException:
                _release(cutover)
                raise
            _release(cutover)
    finally:
        if os.path.lexists(_guard_file(unit.name)) or cutover.compose:
            _remove_guard(unit.name)


def _release(cutover: Cutover) -> None:
    unit = cutover.unit
    _remove(_flag(unit.name))
    if cutover.compose:
        from .compose_run import started

        with cutover.watch.phase("start"):
            why = started(cutover.compose, cutover.starts, cutover.intent, cutover.timeout)
        if why:
            raise StartFailed(why)
    elif unit.active:
        with cutover.watch.phase("start"):
            start(unit.name, cutover.timeout)


def _release_after(error: SessionsError, cutover: Cutover) -> None:
    """Release the unit after an error; if its start fails too, raise both errors, the original one first."""
    try:
        _release(cutover)
    except StartFailed as second:
        raise SessionsError(f"{error}. After that, {second}", **error.facts) from error


def stop_again(cutover: Cutover) -> None:
    """Stop the backend again without checking its result. Raises SessionsError if that takes too long."""
    if cutover.compose:
        from .compose_run import stop

        stop(cutover.compose, cutover.timeout)
    else:
        stop_now(cutover.unit.name, cutover.timeout)


def stop_now(unit: str, timeout: float) -> None:
    """Stop ``unit`` without checking its result. Raises SessionsError if that takes longer than ``timeout`` seconds."""
    try:
        run(["systemctl", "stop", "--", unit], timeout=timeout)
    except SessionsError as error:
        raise SessionsError(
            f"{unit} did not stop within {timeout:g} seconds; nothing was published. "
            "Increase the option 'unit_timeout' or find out why it does not stop, and run again"
        ) from error


def lift_leftover_guard(unit: str) -> None:
    """Remove files in /run and /etc left by a run that was killed together with its rescuer, for example by a power failure."""
    links = (_boot_link(unit), _boot_link(unit, of_compose=True))
    left = (_busy_file(unit), _flag(unit), _guard_file(unit), _boot_unit(unit), *links, _boot_drop_in(unit))
    if any(map(os.path.lexists, left)):
        _remove(_flag(unit))
        _remove_guard(unit)
        _remove(_busy_file(unit))


def _raise_guard(unit: Unit) -> None:
    compose = compose_of(unit)
    if compose:
        from .compose_run import keep_from_starting

        keep_from_starting(compose)
        write_atomic(_flag(unit.name), b"", 0o644)
    else:
        _raise_guard_of_unit(unit.name)


def _raise_guard_of_unit(unit: str) -> None:
    os.makedirs(os.path.dirname(_guard_file(unit)), mode=0o755, exist_ok=True)
    assertion = f"AssertPathExists=!{_flag(unit).replace('%', '%%')}"
    text = f"# whatsapp_ops.sessions is moving this unit's sessions; removed when it is done\n[Unit]\n{assertion}\n"
    write_atomic(_guard_file(unit), text.encode(), 0o644)
    daemon_reload()
    write_atomic(_flag(unit), b"", 0o644)


def _leave_rescuer(cutover: Cutover, called: str) -> None:
    """Let systemd run a copy of rescue.py, which acts only if this process is gone and the flag still exists."""
    unit, program = cutover.unit, _program(cutover.intent)
    write_atomic(program, inspect.getsource(rescue).encode(), 0o600)
    given = rescue.Rescue(
        lock=_lock_file(called),
        busy=_busy_file(called),
        flag=_flag(called),
        guard=_guard_file(called),
        boot_unit=_boot_unit(called),
        boot_link=_boot_link(called, bool(cutover.compose)),
        intent=cutover.intent,
        unit=unit.name,
        start=cutover.start,
        run=str(os.getpid()),
        run_since=rescue.started_at(os.getpid()),
        held_at_most=f"{STOPPED_SECONDS + STUCK_SECONDS + 2 * cutover.timeout:g}",
        frozen="\n".join(cutover.frozen),
        starts=cutover.starts,
    )
    name = f"whatsapp-ops-rescue-{os.getpid()}-{time.monotonic_ns()}"
    waiting = ["systemd-run", "--quiet", "--collect", f"--unit={name}", "--", sys.executable, "-I", program, *given]
    run_checked(waiting, purpose="start a helper that restores the backend if this run is killed")


def _leave_rescuer_at_boot(cutover: Cutover) -> None:
    """Let systemd run a copy of rescue.py before it starts the unit, if the host boots before this is removed again."""
    unit, program, compose = cutover.unit.name, _program(cutover.intent), cutover.compose
    place, link = _boot_unit(unit), _boot_link(unit, bool(compose))
    words = (sys.executable, "-I", program, "boot", cutover.intent, place, link, cutover.starts)
    # Docker itself does not start a Compose container that is being migrated, see compose_run.py.
    order = "Wants=docker.service\nAfter=docker.service" if compose else f"Before={unit}"
    command = " ".join(map(_word, words)).replace("$", "$$")
    mounts = " ".join(map(_word, (os.path.dirname(program), *cutover.mounts)))
    text = (
        "# whatsapp_ops.sessions is moving the sessions of this unit; removed when it is done\n"
        f"[Unit]\nDescription=Undo an interrupted move of the sessions of {unit}\n{order}\n"
        # A boot removes the flag. While it exists, the run itself or its rescuer undoes the work.
        f"ConditionPathExists=!{_flag(unit).replace('%', '%%')}\n"
        f"ConditionPathExists=!{_busy_file(unit).replace('%', '%%')}\n"
        f"RequiresMountsFor={mounts}\n"
        f"[Service]\nType=oneshot\nTimeoutStartSec={BOOT_SECONDS}\nExecStart={command}\n"
    )
    try:
        os.makedirs(os.path.dirname(link), mode=0o755, exist_ok=True)
        write_atomic(place, text.encode(), 0o644)
        with contextlib.suppress(FileExistsError):
            os.symlink(f"../{os.path.basename(place)}", link)
    except OSError:
        pass  # /etc is read-only: only the protection against a power failure is missing


def remove_guard_drop_ins(unit: str) -> None:
    """Let systemd start ``unit`` from the next reload on, even at boot: the data on disk is consistent again."""
    links = (_boot_link(unit), _boot_link(unit, of_compose=True))
    for path in (*links, _boot_unit(unit), _boot_drop_in(unit), _guard_file(unit)):
        _remove(path)
        if os.path.dirname(path).endswith((".d", ".wants")):
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(path))


def _word(text: str) -> str:
    """Return ``text`` quoted as one word of a unit file, systemd.syntax(7)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


@contextlib.contextmanager
def _alive(unit: str) -> t.Iterator[None]:
    """Hold the lock that shows the rescuer that this process is alive."""
    os.makedirs(_RUNTIME, mode=0o755, exist_ok=True)
    descriptor = os.open(_lock_file(unit), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _stop(cutover: Cutover) -> None:
    unit = cutover.unit
    if cutover.compose and cutover.inside:
        from .compose_run import stop_cleanly

        stop_cleanly(cutover.compose, cutover.inside, cutover.timeout)
        return
    stop_again(cutover)
    if cutover.compose:
        return
    after = read_service(unit.name)
    state, result, status = (after.properties[name] for name in ("ActiveState", "Result", "ExecMainStatus"))
    clean = cutover.unclean or result == "success" or (result == "exit-code" and status in _ENDED_BY_OUR_SIGNAL)
    if state not in ("inactive", "failed") or (unit.active and not clean):
        raise SessionsError(
            f"{unit.name} did not stop cleanly (state {state}, result {result}), so its last writes may be incomplete; "
            "nothing was published. Increase TimeoutStopSec= or find out why it does not stop, and run again"
        )


def _mark_busy(unit: str) -> None:
    write_atomic(_busy_file(unit), b"", 0o600)


def _remove_guard(unit: str) -> None:
    remove_guard_drop_ins(unit)
    daemon_reload()


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _flag(unit: str) -> str:
    return f"{_RUNTIME}/{unit}.moving"


def _busy_file(unit: str) -> str:
    return f"{_RUNTIME}/{unit}.busy"


def _lock_file(unit: str) -> str:
    return f"{_RUNTIME}/{unit}.lock"


def _guard_file(unit: str) -> str:
    return f"/run/systemd/system/{unit}.d/00-whatsapp-ops-guard.conf"


def _program(intent: str) -> str:
    return f"{os.path.dirname(intent)}/{PROGRAM}"


def _boot_unit(unit: str) -> str:
    return f"/etc/systemd/system/whatsapp-ops-undo-{unit}"


def _boot_link(unit: str, of_compose: bool = False) -> str:
    wants = "multi-user.target" if of_compose else unit
    return f"/etc/systemd/system/{wants}.wants/whatsapp-ops-undo-{unit}"


def _boot_drop_in(unit: str) -> str:
    """Return the drop-in that the first release used for this purpose; it ran in the backend's environment."""
    return f"/etc/systemd/system/{unit}.d/00-whatsapp-ops-boot.conf"
