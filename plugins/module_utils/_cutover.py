# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Stops a backend, keeps everybody from starting it, and has it running again in the end, whatever happens in between.

The guard is a drop-in in /run with ``AssertPathExists=!FLAG``: while the flag exists a start fails (a masked unit whose file lies in
/etc could still be started, proven on systemd 252 and 257). Should this very process be killed, a transient unit (_rescue.py) takes
back what is half done, lifts the guard and starts the backend: systemd is its parent, so it survives us, the connection and the login.

All of that is gone when the host loses power. So there is a drop-in in /etc, too, while accounts are on their way: should the host boot
meanwhile, the same program takes them back before the backend starts.
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
from ._area import RESCUER
from ._command import run, run_checked
from ._errors import SessionsError
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


@contextlib.contextmanager
def watched_over(unit: Unit, intent: str, watch: Stopwatch) -> t.Iterator[None]:
    """Have somebody finish, or take back, what the body does with ``unit``, should this process be killed.

    ``intent`` is the path where the body keeps its intent, see _rescue.py.
    """
    with undisturbed(), _alive(unit.name):
        with watch.phase("guard"):
            _leave_rescuer(unit, intent)
            _mark_busy(unit.name)
        try:
            yield
        finally:
            _remove(_busy_file(unit.name))


@contextlib.contextmanager
def stopped(unit: Unit, intent: str, timeout: float, watch: Stopwatch) -> t.Iterator[None]:
    """Hold ``unit`` stopped, see guarded. Raises SessionsError when it does not stop cleanly (it then runs again)."""
    with guarded(unit, intent, timeout, watch):
        with watch.phase("stop"):
            _stop(unit, timeout)
        yield


@contextlib.contextmanager
def guarded(unit: Unit, intent: str, timeout: float, watch: Stopwatch) -> t.Iterator[None]:
    """Let nobody start ``unit``, and start it in the end if it ran before, also when the body raises.

    To be used within watched_over, with the same ``intent``; ``timeout`` in seconds for each of stop and start.
    Raises StartFailed when the body is through and the unit does not start.
    """
    with watch.phase("guard"):
        _leave_rescuer_at_boot(unit.name, intent)
        _raise_guard(unit.name)
    try:
        with watch.down(unit.active):
            try:
                yield
            except SessionsError as error:
                _release_after(error, unit, timeout, watch)
                raise
            except BaseException:
                _release(unit, timeout, watch)
                raise
            _release(unit, timeout, watch)
    finally:
        if os.path.lexists(_guard_file(unit.name)):
            _remove_guard(unit.name)
        _remove(_boot_program(intent))


def _release(unit: Unit, timeout: float, watch: Stopwatch) -> None:
    _remove(_flag(unit.name))
    if unit.active:
        with watch.phase("start"):
            start(unit.name, timeout)


def _release_after(error: SessionsError, unit: Unit, timeout: float, watch: Stopwatch) -> None:
    """Both are told when the start fails, too: what went wrong first is what has to be mended."""
    try:
        _release(unit, timeout, watch)
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
    if any(os.path.lexists(path) for path in (_busy_file(unit), _flag(unit), _guard_file(unit), _boot_file(unit))):
        _remove(_flag(unit))
        _remove_guard(unit)
        _remove(_busy_file(unit))


def _raise_guard(unit: str) -> None:
    os.makedirs(os.path.dirname(_guard_file(unit)), mode=0o755, exist_ok=True)
    assertion = f"AssertPathExists=!{_flag(unit).replace('%', '%%')}"
    text = f"# whatsapp_ops.sessions is moving this unit's sessions; gone when it is done\n[Unit]\n{assertion}\n"
    write_atomic(_guard_file(unit), text.encode(), 0o644)
    daemon_reload()
    write_atomic(_flag(unit), b"", 0o644)


def _leave_rescuer(unit: Unit, intent: str) -> None:
    """Have systemd run a copy of _rescue.py, which does nothing unless this process is gone and the flag still there."""
    program = f"{_RUNTIME}/{unit.name}.rescue.py"
    write_atomic(program, inspect.getsource(_rescue).encode(), 0o600)
    arguments = [
        _lock_file(unit.name),
        _busy_file(unit.name),
        _flag(unit.name),
        _guard_file(unit.name),
        _boot_file(unit.name),
        intent,
        unit.name,
        "yes" if unit.active else "no",
    ]
    name = f"whatsapp-ops-rescue-{os.getpid()}-{time.monotonic_ns()}"
    waiting = ["systemd-run", "--quiet", "--collect", f"--unit={name}", "--", sys.executable, "-I", program, *arguments]
    run_checked(waiting, purpose="leave a helper that starts the backend if this run dies")


def _leave_rescuer_at_boot(unit: str, intent: str) -> None:
    """Have systemd run a copy of _rescue.py before it starts ``unit``, should the host boot before this is removed again."""
    program = _boot_program(intent)
    command = " ".join(map(_word, (sys.executable, "-I", program, "boot", intent, _boot_file(unit)))).replace("$", "$$")
    text = (
        "# whatsapp_ops.sessions is moving this unit's sessions; gone when it is done\n"
        f"[Unit]\nRequiresMountsFor={_word(os.path.dirname(intent))}\n[Service]\nExecStartPre=-+{command}\n"
    )
    try:
        os.makedirs(os.path.dirname(_boot_file(unit)), mode=0o755, exist_ok=True)
        write_atomic(program, inspect.getsource(_rescue).encode(), 0o600)
        write_atomic(_boot_file(unit), text.encode(), 0o644)
    except OSError:
        pass  # /etc is read-only: less is certain then, and nothing is wrong yet


def let_go(unit: str) -> None:
    """Let systemd start ``unit`` from the next reload on, at a boot, too: it would be right to, with what is on the disk by now."""
    for path in (_boot_file(unit), _guard_file(unit)):
        _remove(path)
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


def _stop(unit: Unit, timeout: float) -> None:
    stop_now(unit.name, timeout)
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


def _boot_program(intent: str) -> str:
    return f"{os.path.dirname(intent)}/{RESCUER}"


def _boot_file(unit: str) -> str:
    return f"/etc/systemd/system/{unit}.d/00-whatsapp-ops-boot.conf"
