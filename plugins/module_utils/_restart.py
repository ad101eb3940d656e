# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Whether a running process lacks what its unit says by now, proven by the process where that is possible. Reads only.

A play can die between a change and the restart, so "this run changed something" is no answer. The answer is in the process:

===================  ==========================================================================================
Environment, ...     /proc/PID/environ against what the next start will get
UMask                /proc/PID/status
stop and restart     systemd uses them when they are due: a reload is enough (systemd.kill(5), systemd.service(5))
[Unit], [Install]    matter for the next start only
all others           not to be seen in the process: the drop-in is newer than the process, or was not loaded
===================  ==========================================================================================

A process that started after the last change and the last reload and still differs gets its environment from elsewhere (a wrapper
in ``ExecStart=``): another restart would not help, so it is not asked for.
"""

from __future__ import annotations

import os
import re
import time
import typing as t

from ._effective import (
    Sources,
    effective_in,
    environment_names,
    execution_section,
    loaded_environment,
    option_history,
    winning,
)
from ._unit import Unit, process_environment
from ._unitfile import Setting
from ._values import same_value

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
    """Times on the clock of files, in seconds: when our drop-in was last written, any file of the unit, and the last reload.

    ``math.inf`` for what is going to happen in this run.
    """

    own: float
    files: float
    reload: float


def lacking(unit: Unit, sources: Sources, settings: t.Iterable[Setting], moments: Moments) -> tuple[str, ...]:
    """Name the options and variables of ``settings`` that only a restart gives to the unit's running process."""
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
    """Give the time on the clock of files at which the main process of ``unit`` was started."""
    return on_file_clock(unit.properties["ExecMainStartTimestampMonotonic"])


def on_file_clock(monotonic: str) -> float:
    """Turn one of systemd's monotonic timestamps (microseconds, as printed) into a time as files have it."""
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
        # A specifier that cannot be known here; systemd has it expanded.
        return loaded_environment(unit).get(name, effective.value)
    return effective.value


def _not_yet_executed(pid: int) -> bool:
    """Whether the process is still systemd's own copy, between fork and exec: it has systemd's environment then."""
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
