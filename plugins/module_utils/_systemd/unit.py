# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Reads what systemd knows about a unit. Starting and stopping is in guard.py."""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t

from .._core.errors import SessionsError
from .._core.limits import RELOAD_SECONDS
from .._core.query_cache import cached_query
from .._fs.users import Identity, identity_of
from .._proc.command import run_checked
from .._proc.procfs import environment_of

_NAME = re.compile(r"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?")
# When systemd last read all unit files: at the last reload, or at boot.
_LOADED = ("UnitsLoadTimestampMonotonic", "UnitsLoadStartTimestampMonotonic")
_STOP_TIMEOUT = "DefaultTimeoutStopUSec"
_SUFFIXES = (
    ".service",
    ".socket",
    ".timer",
    ".target",
    ".mount",
    ".automount",
    ".swap",
    ".device",
    ".path",
    ".slice",
    ".scope",
)

# All properties that any part of the collection needs, read with one call of systemctl (13 ms measured on systemd 252).
PROPERTIES = (
    "Id LoadState ActiveState SubState Result MainPID ControlGroup FragmentPath SourcePath DropInPaths NeedDaemonReload "
    "User Group UID GID DynamicUser WorkingDirectory RootDirectory RootImage Environment EnvironmentFiles UnsetEnvironment PassEnvironment "
    "KillMode KillSignal TimeoutStopUSec Restart UMask ExecStart ExecMainStatus ExecMainStartTimestampMonotonic "
    "ProtectSystem ProtectHome PrivateTmp ReadWritePaths ReadOnlyPaths InaccessiblePaths TemporaryFileSystem BindPaths BindReadOnlyPaths "
    "StateDirectory CacheDirectory LogsDirectory StateDirectoryMode CacheDirectoryMode LogsDirectoryMode "
    "SupplementaryGroups RequiresMountsFor "
    "InvocationID LogNamespace StandardOutput StandardError"
).split()


class UnknownUnit(SessionsError):
    """systemd has no unit of that name. ``missing``: the message without the advice."""

    def __init__(self, missing: str) -> None:
        super().__init__(f"{missing}; check the name in 'unit' or install the backend first")
        self.missing = missing


@dataclasses.dataclass(frozen=True)
class Unit:
    """One loaded unit. ``properties``: every property of PROPERTIES as ``systemctl show`` prints it."""

    name: str
    properties: t.Mapping[str, str]

    @property
    def active(self) -> bool:
        """Whether the backend runs, is starting or stopping, or waits for an automatic restart."""
        return self.properties["ActiveState"] in ("active", "activating", "reloading", "deactivating")

    @property
    def main_pid(self) -> int:
        """PID of the main process, 0 if there is none."""
        return int(self.properties["MainPID"] or 0)

    @property
    def drop_in_paths(self) -> tuple[str, ...]:
        """Drop-ins in the order in which systemd reads them; later ones take precedence."""
        return tuple(self.properties["DropInPaths"].split())

    @property
    def working_directory(self) -> str:
        """WorkingDirectory= without the prefix ``!`` (it may be missing); ``~`` stands for the home directory, systemd.exec(5)."""
        shown = self.properties["WorkingDirectory"].lstrip("!")
        return shown or "/"


def unit_name(name: str) -> str:
    """Return ``name`` with its suffix (``.service`` if none is given). Raises SessionsError if it is not a valid unit name."""
    if not _NAME.fullmatch(name) or len(name) > 255:
        raise SessionsError(
            f"{name!r} is not a valid unit name: only letters, digits and :-_.\\@ are allowed; give the name as systemctl shows it"
        )
    return name if name.endswith(_SUFFIXES) else f"{name}.service"


def systemd_runs() -> bool:
    """Whether this host was booted with systemd, sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


@cached_query
def read_unit(name: str) -> Unit:
    """Return the unit ``name`` as systemd knows it. Raises UnknownUnit, and SessionsError if it cannot be loaded."""
    called = unit_name(name)
    if "@." in called:
        from .unknown_unit import name_an_instance

        raise SessionsError(f"{called} is a template, which never runs itself: {name_an_instance(called)}")
    if not systemd_runs():
        raise SessionsError(
            f"systemd does not run on this host, so {called} cannot be queried; leave out 'unit' or run on the booted host"
        )
    shown = run_checked(
        ["systemctl", "show", f"--property={','.join(PROPERTIES)}", "--", called], purpose=f"query the unit {called}"
    )
    properties = {**dict.fromkeys(PROPERTIES, ""), **parse_show(shown.stdout)}
    if properties["LoadState"] == "masked":
        raise SessionsError(f"the unit {called} is masked on this host; unmask it first (systemctl unmask {called})")
    if properties["LoadState"] in ("bad-setting", "error"):
        raise SessionsError(
            f"systemd cannot load the unit {called} ({properties['LoadState']}); see 'systemctl status {called}' and fix it"
        )
    if properties["LoadState"] != "loaded":
        from .unknown_unit import why_unknown

        known = why_unknown(called)
        missing = f"the unit {called} does not exist on this host ({properties['LoadState'] or 'unknown'}){known}"
        if known.startswith(","):  # it includes advice
            raise SessionsError(missing)
        raise UnknownUnit(missing)
    return Unit(called, properties)


def parse_show(text: str) -> dict[str, str]:
    """Parse the output of ``systemctl show``. The lines of a repeated property (EnvironmentFiles) are joined by newlines."""
    properties: dict[str, str] = {}
    for line in text.splitlines():
        name, mark, value = line.partition("=")
        if mark:
            properties[name] = f"{properties[name]}\n{value}" if name in properties else value
    return properties


def instances_of(template: str) -> tuple[str, ...]:
    """Return the loaded instances of ``template`` (``wa@.service``), running or not. Empty if systemd does not run."""
    if not systemd_runs():
        return ()
    pattern = template.replace("@.", "@*.")
    listed = run_checked(
        ["systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", "--no-pager", "--", pattern],
        purpose=f"list the instances of {template}",
    )
    return tuple(line.split()[0] for line in listed.stdout.splitlines() if line.strip())


def last_reload() -> str:
    """Return when systemd last read all unit files: a monotonic timestamp in microseconds, as systemd prints it."""
    manager = _read_manager()
    return str(max(int(manager.get(name) or 0) for name in _LOADED))


def default_stop_timeout() -> str:
    """Return systemd's default stop timeout, as systemd prints a time span."""
    return _read_manager().get(_STOP_TIMEOUT) or "90s"


@cached_query
def _read_manager() -> dict[str, str]:
    properties = ",".join((*_LOADED, _STOP_TIMEOUT))
    shown = run_checked(["systemctl", "show", f"--property={properties}"], purpose="query systemd")
    return parse_show(shown.stdout)


def unit_identity(unit: Unit) -> Identity:
    """Return user and group of the unit's processes: User= (root if unset), and Group= or that user's primary group.

    Raises SessionsError for DynamicUser=, because its ids change with each start, and for a user that does not exist.
    """
    if unit.properties["DynamicUser"] == "yes":
        kept = unit.properties.get("StateDirectory", "").split()
        raise SessionsError(
            f"the unit {unit.name} has DynamicUser=, so its files change owner at each start; {_way_out(unit.name, kept)}, or give it a "
            "fixed User="
        )
    return identity_of(unit.properties["User"] or "root", unit.properties["Group"] or None)


def _way_out(unit: str, kept: t.Sequence[str]) -> str:
    """Return the advice how sessions survive a restart of a unit with DynamicUser=."""
    if not kept:
        return "use StateDirectory= in the unit for its sessions"
    path = f"/var/lib/{kept[0].partition(':')[0]}"
    return (
        f"systemd manages {path} for it (StateDirectory=), so accounts in that directory survive restarts and deployments already: stop "
        f"{unit}, move its accounts to {path}, configure it to use that path (Environment=SESSIONS_PATH={path}, or the variable that it "
        f"reads), start it, and check its accounts there (session_info)"
    )


def daemon_reload() -> None:
    """Make systemd reload its unit files."""
    run_checked(["systemctl", "daemon-reload"], purpose="make systemd reload its unit files", timeout=RELOAD_SECONDS)


def process_environment(pid: int, names: t.Collection[str]) -> dict[str, str]:
    """Return the variables ``names`` that process ``pid`` was started with. Empty if the process has ended.

    The environment may contain secrets: nothing but ``names`` is kept.
    """
    try:
        return {name: value for name, value in environment_of(pid) if name in names}
    except (FileNotFoundError, ProcessLookupError):
        return {}
