# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Whether a running process lacks current settings of its unit, verified in the process where possible. Reads only.

A play can be killed between a change and the restart, so "this run changed something" is not sufficient. The process itself is checked:

===================  ==========================================================================================
Environment, ...     /proc/PID/environ against the environment of the next start
UMask                /proc/PID/status
stop and restart     systemd reads them when it needs them: a reload is enough (systemd.kill(5), systemd.service(5))
[Unit], [Install]    take effect at the next start only
all others           not visible in the process: outdated if the drop-in is newer than the process, or was not loaded
===================  ==========================================================================================

A process that was started after the last change and the last reload and still differs has its environment changed by another program (a
wrapper in ``ExecStart=``): another restart would not help, so none is requested.
"""

from __future__ import annotations

import os
import re
import time
import typing as t

from .effective import (
    Sources,
    effective_in,
    environment_names,
    execution_section,
    loaded_environment,
    option_history,
    winning,
)
from .option_types import same_value
from .unit import Unit, process_environment
from .unit_file import Setting

_DEFAULT_UMASK = "0022"  # systemd.exec(5)
_ENVIRONMENT = frozenset(("Environment", "EnvironmentFile", "UnsetEnvironment"))
_IN_FORCE_AFTER_RELOAD = frozenset(
    (
        "KillMode KillSignal RestartKillSignal FinalKillSignal WatchdogSignal SendSIGHUP SendSIGKILL "
        "TimeoutStartSec TimeoutStopSec TimeoutSec TimeoutAbortSec TimeoutStartFailureMode TimeoutStopFailureMode "
        "Restart RestartSec RestartSteps RestartMaxDelaySec RestartMode SuccessExitStatus RestartPreventExitStatus RestartForceExitStatus "
        "ExecReload ExecStop ExecStopPost StartLimitInterval StartLimitBurst StartLimitAction FileDescriptorStoreMax"
    ).split()
)


class Moments(t.NamedTuple):
    """Times in seconds on the clock of file times: the last write of this collection's drop-in and of any file of the unit, and the
    last reload. ``math.inf``: it will happen in this run.
    """

    own: float
    files: float
    reload: float


def outdated_options(unit: Unit, sources: Sources, settings: t.Iterable[Setting], moments: Moments) -> tuple[str, ...]:
    """Return the options and variables of ``settings`` that the unit's running process gets only by a restart."""
    given = tuple(setting for setting in settings if setting.section == execution_section(sources.name))
    if not unit.main_pid or not os.path.exists(f"/proc/{unit.main_pid}"):
        return ()
    started = started_at(unit)
    restart_helps = started <= max(moments.files, moments.reload)
    found: list[str] = []
    if restart_helps:
        found += _different_variables(unit, sources, environment_names(sources, given))
        found += _different_umask(unit, sources, given)
    if started <= moments.own:
        found += dict.fromkeys(setting.option for setting in given if not _provable(setting.option))
    return tuple(found)


def started_at(unit: Unit) -> float:
    """Return the start time of the main process of ``unit`` on the clock of file times, in seconds."""
    return on_file_clock(unit.properties["ExecMainStartTimestampMonotonic"])


def on_file_clock(monotonic: str) -> float:
    """Convert one of systemd's monotonic timestamps (microseconds, as printed) to the clock of file times, in seconds."""
    return time.time() - time.monotonic() + int(monotonic or 0) / 1e6


def _provable(option: str) -> bool:
    return option in _ENVIRONMENT or option in _IN_FORCE_AFTER_RELOAD or option == "UMask"


def _different_variables(unit: Unit, sources: Sources, names: t.Sequence[str]) -> list[str]:
    if _not_yet_executed(unit.main_pid):
        return []
    has = process_environment(unit.main_pid, names)
    return [name for name in names if has.get(name) != _expected(unit, sources, name)]


def _expected(unit: Unit, sources: Sources, name: str) -> str | None:
    effective = effective_in(sources, name)
    if effective.source in sources.files and re.search("%[A-Za-z]", effective.value or ""):
        # The collection cannot expand this specifier, but systemd has done so.
        return loaded_environment(unit).get(name, effective.value)
    return effective.value


def _not_yet_executed(pid: int) -> bool:
    """Whether the process is between fork and exec of systemd, and so still has systemd's own environment."""
    try:
        return os.readlink(f"/proc/{pid}/exe") == os.readlink("/proc/1/exe")
    except OSError:
        return False


def _different_umask(unit: Unit, sources: Sources, settings: t.Iterable[Setting]) -> list[str]:
    if not any(setting.option == "UMask" for setting in settings):
        return []
    winner = winning(option_history(sources, execution_section(sources.name), "UMask"))
    wanted = (winner.value if winner else None) or _DEFAULT_UMASK
    return [] if same_value("UMask", _umask_of(unit.main_pid) or wanted, wanted) else ["UMask"]


def _umask_of(pid: int) -> str | None:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            found = re.search(r"^Umask:\s*([0-7]+)$", file.read(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return None
    return found[1] if found else None
