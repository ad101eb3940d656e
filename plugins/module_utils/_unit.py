# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What systemd knows about one unit. Reads only; starting and stopping is in _cutover.py."""

from __future__ import annotations

import os
import re
import typing as t

from ._command import run, run_checked
from ._errors import SessionsError
from ._identity import Identity, identity_of
from ._one_look import asked_once

_NAME = re.compile(r"[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]*)?")
# When systemd last read all unit files: at the last reload, and at boot.
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

# All that any part of the collection asks about: one call of systemctl answers it (13 ms measured on systemd 252).
PROPERTIES = (
    "Id LoadState ActiveState SubState Result MainPID ControlGroup FragmentPath DropInPaths NeedDaemonReload "
    "User Group UID GID DynamicUser WorkingDirectory RootDirectory RootImage Environment EnvironmentFiles UnsetEnvironment PassEnvironment "
    "KillMode KillSignal TimeoutStopUSec Restart UMask ExecStart ExecMainStatus ExecMainStartTimestampMonotonic "
    "ProtectSystem ProtectHome PrivateTmp ReadWritePaths ReadOnlyPaths InaccessiblePaths TemporaryFileSystem BindPaths BindReadOnlyPaths "
    "StateDirectory CacheDirectory LogsDirectory SupplementaryGroups RequiresMountsFor "
    "InvocationID LogNamespace StandardOutput StandardError"
).split()


class Unit(t.NamedTuple):
    """One loaded unit. ``properties`` holds every property of PROPERTIES as ``systemctl show`` prints it."""

    name: str
    properties: t.Mapping[str, str]

    @property
    def active(self) -> bool:
        """Whether the backend runs or is on its way up (also between two automatic restarts)."""
        return self.properties["ActiveState"] in ("active", "activating", "reloading", "deactivating")

    @property
    def main_pid(self) -> int:
        """PID of the main process, 0 when there is none."""
        return int(self.properties["MainPID"] or 0)

    @property
    def drop_in_paths(self) -> tuple[str, ...]:
        """Drop-ins in the order in which systemd reads them: later ones win."""
        return tuple(self.properties["DropInPaths"].split())

    @property
    def working_directory(self) -> str:
        """WorkingDirectory= without systemd's marks: ``!`` in front where it may be missing, ``~`` for the home (systemd.exec(5))."""
        shown = self.properties["WorkingDirectory"].lstrip("!")
        return shown or "/"


def unit_name(name: str) -> str:
    """Return ``name`` with its suffix (``.service`` where none is given); raise SessionsError when no unit could be called so."""
    if not _NAME.fullmatch(name) or len(name) > 255:
        raise SessionsError(
            f"{name!r} is not a name of a unit: letters, digits and :-_.\\@ only; give the name as systemctl shows it"
        )
    return name if name.endswith(_SUFFIXES) else f"{name}.service"


def systemd_runs() -> bool:
    """Whether this host was booted with systemd, sd_booted(3)."""
    return os.path.isdir("/run/systemd/system")


@asked_once
def read_unit(name: str) -> Unit:
    """Ask systemd about the unit ``name``. Raises SessionsError when systemd does not run or does not know the unit."""
    called = unit_name(name)
    if not systemd_runs():
        raise SessionsError(
            f"systemd does not run here, so nothing can be asked about {called}; leave 'unit' out or run on the booted host"
        )
    shown = run_checked(
        ["systemctl", "show", f"--property={','.join(PROPERTIES)}", "--", called], purpose=f"ask systemd about {called}"
    )
    properties = {**dict.fromkeys(PROPERTIES, ""), **parse_show(shown.stdout)}
    if properties["LoadState"] == "masked":
        raise SessionsError(f"the unit {called} is masked on this host; unmask it first (systemctl unmask {called})")
    if properties["LoadState"] in ("bad-setting", "error"):
        raise SessionsError(
            f"systemd cannot load the unit {called} ({properties['LoadState']}); see 'systemctl status {called}' and correct it"
        )
    if properties["LoadState"] != "loaded":
        raise SessionsError(
            f"the unit {called} does not exist on this host ({properties['LoadState'] or 'unknown'}); "
            "check the name in 'unit' or install the backend first"
        )
    return Unit(called, properties)


def parse_show(text: str) -> dict[str, str]:
    """Parse what ``systemctl show`` prints. A property that comes several times (EnvironmentFiles) keeps its lines, joined by newlines."""
    properties: dict[str, str] = {}
    for line in text.splitlines():
        name, mark, value = line.partition("=")
        if mark:
            properties[name] = f"{properties[name]}\n{value}" if name in properties else value
    return properties


def instances_of(template: str) -> tuple[str, ...]:
    """Give the loaded instances of ``template`` (``wa@.service``), running or not. Empty when systemd does not run."""
    if not systemd_runs():
        return ()
    pattern = template.replace("@.", "@*.")
    listed = run_checked(
        ["systemctl", "list-units", "--all", "--full", "--plain", "--no-legend", "--no-pager", "--", pattern],
        purpose=f"list the instances of {template}",
    )
    return tuple(line.split()[0] for line in listed.stdout.splitlines() if line.strip())


def last_reload() -> str:
    """Give the moment at which systemd last read all unit files: a monotonic timestamp in microseconds, as systemd prints it."""
    manager = _read_manager()
    return str(max(int(manager.get(name) or 0) for name in _LOADED))


def default_stop_timeout() -> str:
    """Give how long systemd waits for a stop where a unit says nothing, as systemd prints a span of time."""
    return _read_manager().get(_STOP_TIMEOUT) or "90s"


@asked_once
def _read_manager() -> dict[str, str]:
    properties = ",".join((*_LOADED, _STOP_TIMEOUT))
    shown = run_checked(["systemctl", "show", f"--property={properties}"], purpose="ask systemd about itself")
    return parse_show(shown.stdout)


def unit_identity(unit: Unit) -> Identity:
    """Return user and group that the unit's processes run as: User= (root where unset) and Group=, else that user's primary group.

    Raises SessionsError for DynamicUser=, whose numbers change with each start, and for a user that does not exist.
    """
    if unit.properties["DynamicUser"] == "yes":
        raise SessionsError(
            f"the unit {unit.name} has DynamicUser=, so its files change owner at each start; "
            "use StateDirectory= in the unit for its sessions, or give it a fixed User="
        )
    return identity_of(unit.properties["User"] or "root", unit.properties["Group"] or None)


def daemon_reload() -> None:
    """Make systemd read its unit files again."""
    run_checked(["systemctl", "daemon-reload"], purpose="make systemd read its unit files again", timeout=120)


def process_environment(pid: int, names: t.Collection[str]) -> dict[str, str]:
    """Return those of ``names`` that process ``pid`` was started with. Empty when the process is gone.

    The environment may hold secrets: nothing but ``names`` is kept.
    """
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            items = os.fsdecode(file.read()).split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    pairs = (item.partition("=") for item in items)
    return {name: value for name, _mark, value in pairs if name in names}


def is_running(name: str) -> bool:
    """Whether systemd says that the unit is active right now."""
    return run(["systemctl", "is-active", "--quiet", "--", name]).rc == 0
