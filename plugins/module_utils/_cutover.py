# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Stops a backend, keeps everybody from starting it, and has it running again in the end, whatever happens in between.

The guard is a drop-in in /run with ``AssertPathExists=!FLAG``: while the flag exists a start fails (a masked unit whose file lies in
/etc could still be started, proven on systemd 252 and 257). Should this very process be killed, a transient unit (_rescue.py) takes
back what is half done, lifts the guard and starts the backend: systemd is its parent, so it survives us, the connection and the login.
It also ends a run that holds the backend stopped for too long, whatever keeps it.

All of that is gone when the host loses power. So there is a unit in /etc, too, while accounts are on their way: should the host boot
meanwhile, the same program takes them back before the backend starts. It is a unit of its own, ordered before the backend, and not a line
in the backend's unit: there it would run as root in an environment that the service user may rule (``LD_PRELOAD`` in an environment file).
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

from . import _rescue
from ._command import run, run_checked
from ._control import PROGRAM
from ._errors import SessionsError
from ._limits import BOOT_SECONDS, STOPPED_SECONDS, STUCK_SECONDS
from ._paths import write_atomic
from ._unit import Unit, daemon_reload, read_unit

_RUNTIME = "/run/whatsapp-ops"
_DEFERRED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGQUIT)
# A wrapper (sh, npm) that passes on how its child ended by SIGINT or SIGTERM, sh(1): 128 + number.
_ENDED_BY_OUR_SIGNAL = ("130", "143")


class Stopwatch:
    """Names the phases of a run and how long each took, in seconds."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}
        self.downtime = 0.0

    @contextlib.contextmanager
    def down(self, counted: bool) -> t.Iterator[None]:
        """Time the interruption; a backend that did not run before is not interrupted."""
        begin = time.monotonic()
        try:
            yield
        finally:
            if counted:
                self.downtime = round(time.monotonic() - begin, 3)

    @contextlib.contextmanager
    def phase(self, name: str) -> t.Iterator[None]:
        """Time one phase; a phase that comes again adds up."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] = round(self.phases.get(name, 0.0) + time.monotonic() - begin, 3)


@contextlib.contextmanager
def undisturbed() -> t.Iterator[None]:
    """Let no hang-up and no polite kill end the process in between: a dropped connection must not leave a backend stopped."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _DEFERRED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class StartFailed(SessionsError):
    """The unit was released but did not come up."""


class Cutover(t.NamedTuple):
    """What is held stopped and how: ``intent`` is the path where the run keeps its intent (see _rescue.py), ``timeout`` the seconds for
    each of stop and start, ``mounts`` the paths that have to be mounted before the intent can be undone. ``frozen``: control groups of a
    container that is held still instead, see _container_run.py. ``restored``: it is down on its way back, and has to run in the end.
    ``inside``: where in a container of Compose the accounts are that are taken from its layer, '' where none are, see _compose_run.py.
    ``back``: they go into a new one, see _compose_back.py.
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

    @property
    def start(self) -> str:
        """What is to be done in the end should the run be killed, see _rescue.py."""
        return "only" if self.restored else "yes" if self.unit.active else "no"

    @property
    def starts(self) -> str:
        """How a container of Compose is started, for _rescue.py; '' for a unit."""
        if not self.unit.compose:
            return ""
        if self.back:
            from ._compose_back import starts_back

            return starts_back(self.unit.compose)
        from ._compose_run import starts_of

        return starts_of(self.unit.compose, self.unit.active, bool(self.inside))


@contextlib.contextmanager
def watched_over(cutover: Cutover) -> t.Iterator[None]:
    """Have systemd finish, or take back, what the body does with the unit, should this process be killed or hang."""
    with _rescued(cutover, cutover.unit.name):
        yield


@contextlib.contextmanager
def run_in_the_end(cutover: Cutover) -> t.Iterator[None]:
    """Have systemd start the unit, which the body stops, should this process be killed. Nothing is taken back by that.

    The body may hold it stopped for another cutover: the guard of that keeps this one from starting the unit before it was taken back.
    """
    with _rescued(cutover._replace(restored=True), f"{cutover.unit.name}.back"):
        yield


@contextlib.contextmanager
def _rescued(cutover: Cutover, called: str) -> t.Iterator[None]:
    """``called``: what the lock and the files of this run are named after; one within another has names of its own."""
    with undisturbed(), _alive(called):
        with cutover.watch.phase("guard"):
            _leave_rescuer(cutover, called)
            _mark_busy(called)
        try:
            yield
        finally:
            _remove(_busy_file(called))


@contextlib.contextmanager
def stopped(cutover: Cutover) -> t.Iterator[None]:
    """Hold the unit stopped, see guarded. Raises SessionsError when it does not stop cleanly (it then runs again)."""
    with guarded(cutover):
        with cutover.watch.phase("stop"):
            _stop(cutover)
        yield


@contextlib.contextmanager
def held_frozen(cutover: Cutover) -> t.Iterator[None]:
    """Mark, for the rescuer, that the processes of a container are held still. To be used within watched_over, around what holds them."""
    write_atomic(_flag(cutover.unit.name), b"", 0o644)
    try:
        yield
    finally:
        _remove(_flag(cutover.unit.name))


@contextlib.contextmanager
def guarded(cutover: Cutover) -> t.Iterator[None]:
    """Let nobody start the unit, and start it in the end if it ran before, also when the body raises.

    To be used within watched_over. Raises StartFailed when the body is through and the unit does not start.
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
        if os.path.lexists(_guard_file(unit.name)) or unit.compose:
            _remove_guard(unit.name)


def _release(cutover: Cutover) -> None:
    unit = cutover.unit
    _remove(_flag(unit.name))
    if unit.compose:
        from ._compose_run import started

        with cutover.watch.phase("start"):
            why = started(unit.compose, cutover.starts, cutover.intent, cutover.timeout)
        if why:
            raise StartFailed(why)
    elif unit.active:
        with cutover.watch.phase("start"):
            start(unit.name, cutover.timeout)


def _release_after(error: SessionsError, cutover: Cutover) -> None:
    """Both are told when the start fails, too: what went wrong first is what has to be fixed."""
    try:
        _release(cutover)
    except StartFailed as second:
        raise SessionsError(f"{error}. After that {second}", **error.facts) from error


def start(unit: str, timeout: float) -> None:
    """Start ``unit``, whatever its start limit says (several stops and starts in a row reach it). Raises StartFailed."""
    run(["systemctl", "reset-failed", "--", unit])
    try:
        done = run(["systemctl", "start", "--", unit], timeout=timeout)
    except SessionsError as error:
        raise StartFailed(
            f"{unit} did not start within {timeout:g} seconds; see 'systemctl status {unit}' on the host"
        ) from error
    if done.rc != 0:
        raise StartFailed(
            f"{unit} did not start (result {read_unit(unit).properties['Result']}); see 'systemctl status {unit}' on the host"
        )


def stop_again(cutover: Cutover) -> None:
    """Stop what was started, without asking how it ended. Raises SessionsError when it takes too long."""
    if cutover.unit.compose:
        from ._compose_run import stop

        stop(cutover.unit.compose, cutover.timeout)
    else:
        stop_now(cutover.unit.name, cutover.timeout)


def stop_now(unit: str, timeout: float) -> None:
    """Stop ``unit`` without asking how it ended. Raises SessionsError when it takes longer than ``timeout`` seconds."""
    try:
        run(["systemctl", "stop", "--", unit], timeout=timeout)
    except SessionsError as error:
        raise SessionsError(
            f"{unit} did not stop within {timeout:g} seconds; nothing was published. "
            "Raise the option 'unit_timeout' or see why it cannot end, and run again"
        ) from error


def lift_leftover_guard(unit: str) -> None:
    """Remove what a run that was killed together with its rescuer (a power cut, say) may have left in /run."""
    links = (_boot_link(unit), _boot_link(unit, of_compose=True))
    left = (_busy_file(unit), _flag(unit), _guard_file(unit), _boot_unit(unit), *links, _boot_drop_in(unit))
    if any(map(os.path.lexists, left)):
        _remove(_flag(unit))
        _remove_guard(unit)
        _remove(_busy_file(unit))


def _raise_guard(unit: Unit) -> None:
    if unit.compose:
        from ._compose_run import keep_from_starting

        keep_from_starting(unit.compose)
        write_atomic(_flag(unit.name), b"", 0o644)
    else:
        _raise_guard_of_unit(unit.name)


def _raise_guard_of_unit(unit: str) -> None:
    os.makedirs(os.path.dirname(_guard_file(unit)), mode=0o755, exist_ok=True)
    assertion = f"AssertPathExists=!{_flag(unit).replace('%', '%%')}"
    text = f"# whatsapp_ops.sessions is moving this unit's sessions; gone when it is done\n[Unit]\n{assertion}\n"
    write_atomic(_guard_file(unit), text.encode(), 0o644)
    daemon_reload()
    write_atomic(_flag(unit), b"", 0o644)


def _leave_rescuer(cutover: Cutover, called: str) -> None:
    """Have systemd run a copy of _rescue.py, which does nothing unless this process is gone and the flag still there."""
    unit, program = cutover.unit, _program(cutover.intent)
    write_atomic(program, inspect.getsource(_rescue).encode(), 0o600)
    given = _rescue.Rescue(
        lock=_lock_file(called),
        busy=_busy_file(called),
        flag=_flag(called),
        guard=_guard_file(called),
        boot_unit=_boot_unit(called),
        boot_link=_boot_link(called, bool(unit.compose)),
        intent=cutover.intent,
        unit=unit.name,
        start=cutover.start,
        run=str(os.getpid()),
        run_since=_rescue.started_at(os.getpid()),
        held_at_most=f"{STOPPED_SECONDS + STUCK_SECONDS + 2 * cutover.timeout:g}",
        frozen="\n".join(cutover.frozen),
        starts=cutover.starts,
    )
    name = f"whatsapp-ops-rescue-{os.getpid()}-{time.monotonic_ns()}"
    waiting = ["systemd-run", "--quiet", "--collect", f"--unit={name}", "--", sys.executable, "-I", program, *given]
    run_checked(waiting, purpose="leave a helper that starts the backend if this run dies")


def _leave_rescuer_at_boot(cutover: Cutover) -> None:
    """Have systemd run a copy of _rescue.py before it starts the unit, should the host boot before this is removed again."""
    unit, program, compose = cutover.unit.name, _program(cutover.intent), cutover.unit.compose
    place, link = _boot_unit(unit), _boot_link(unit, bool(compose))
    words = (sys.executable, "-I", program, "boot", cutover.intent, place, link, cutover.starts)
    # Docker itself starts no container of Compose that is being moved, see _compose_run.py.
    order = "Wants=docker.service\nAfter=docker.service" if compose else f"Before={unit}"
    command = " ".join(map(_word, words)).replace("$", "$$")
    mounts = " ".join(map(_word, (os.path.dirname(program), *cutover.mounts)))
    text = (
        "# whatsapp_ops.sessions is moving the sessions of this unit; gone when it is done\n"
        f"[Unit]\nDescription=Undo an interrupted move of the sessions of {unit}\n{order}\n"
        # The flag is gone after a boot. Before one the run itself does all of this.
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
        pass  # /etc is read-only: less is certain then, and nothing is wrong yet


def let_go(unit: str) -> None:
    """Let systemd start ``unit`` from the next reload on, at a boot, too: it would be right to, with what is on the disk by now."""
    links = (_boot_link(unit), _boot_link(unit, of_compose=True))
    for path in (*links, _boot_unit(unit), _boot_drop_in(unit), _guard_file(unit)):
        _remove(path)
        if os.path.dirname(path).endswith((".d", ".wants")):
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(path))


def _word(text: str) -> str:
    """Write one word of a unit file so that systemd reads exactly ``text``, systemd.syntax(7)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


@contextlib.contextmanager
def _alive(unit: str) -> t.Iterator[None]:
    """Hold the lock that tells the rescuer that this process lives."""
    os.makedirs(_RUNTIME, mode=0o755, exist_ok=True)
    descriptor = os.open(_lock_file(unit), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _stop(cutover: Cutover) -> None:
    unit = cutover.unit
    if unit.compose and cutover.inside:
        from ._compose_run import stop_cleanly

        stop_cleanly(unit.compose, cutover.inside, cutover.timeout)
        return
    stop_again(cutover)
    if unit.compose:
        return
    after = read_unit(unit.name)
    state, result, status = (after.properties[name] for name in ("ActiveState", "Result", "ExecMainStatus"))
    clean = result == "success" or (result == "exit-code" and status in _ENDED_BY_OUR_SIGNAL)
    if state not in ("inactive", "failed") or (unit.active and not clean):
        raise SessionsError(
            f"{unit.name} did not stop cleanly (state {state}, result {result}), so its last writes may be torn; "
            "nothing was published. Raise TimeoutStopSec= or see why it cannot end, and run again"
        )


def _mark_busy(unit: str) -> None:
    write_atomic(_busy_file(unit), b"", 0o600)


def _remove_guard(unit: str) -> None:
    let_go(unit)
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
    """Give the file by which the first release had the same done; it ran in the backend's environment."""
    return f"/etc/systemd/system/{unit}.d/00-whatsapp-ops-boot.conf"
