# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The units of a job as texts: its service, its timer, and the units that start it after a change of watched paths. Pure.

A path unit sees single changes, but an account is written in many steps. So it starts a second timer, which starts the service once the
settle time is over. Changes within that time start nothing else, so it also limits how often the job runs.
"""

from __future__ import annotations

import typing as t

from .._core.names import HOME
from .._systemd.unit_file import read_sections, render
from .jobs import Needs

HEADER = "# Written by Ansible (whatsapp_ops.sessions.session_timer): the next run undoes changes made here.\n"
# Bounds a job that hangs on a failed disk or a remote repository; the next start would otherwise never happen.
_START_SECONDS = 6 * 3600

# To read the accounts of other users: DAC_READ_SEARCH. To judge a database in a process without rights (_proc/chroot_worker.py): CHOWN,
# SETUID, SETGID, SYS_CHROOT, KILL. To see who has a file open: SYS_PTRACE, and LEASE for files of other users (_fs/leases.py).
_CAPABILITIES = (
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_KILL CAP_LEASE "
    "CAP_SETGID CAP_SETUID CAP_SYS_CHROOT CAP_SYS_PTRACE"
)
_SANDBOX: dict[str, t.Any] = {
    "UMask": "0077",
    "NoNewPrivileges": True,
    "CapabilityBoundingSet": _CAPABILITIES,
    "ProtectHome": "read-only",
    "PrivateDevices": True,
    "DevicePolicy": "closed",
    "ProtectKernelTunables": True,
    "ProtectKernelModules": True,
    "ProtectKernelLogs": True,
    "ProtectClock": True,
    "ProtectHostname": True,
    "RestrictNamespaces": True,
    "RestrictRealtime": True,
    "RestrictSUIDSGID": True,
    "LockPersonality": True,
    "MemoryDenyWriteExecute": True,
    "KeyringMode": "private",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": ["@system-service chroot", "~@obsolete"],
    "SystemCallErrorNumber": "EPERM",
}
_TEMPORARY = ("/tmp", "/var/tmp")  # what PrivateTmp= replaces


class Schedule(t.NamedTuple):
    """When a job runs: each option as systemd takes it, '' or () if not wanted."""

    on_calendar: str = ""
    randomized_delay: str = ""
    watch: tuple[str, ...] = ()
    settle: str = ""
    on_success: str = ""
    on_failure: str = ""


class Names(t.NamedTuple):
    """The units of one job."""

    service: str
    timer: str
    path: str
    settled: str


def names_of(stem: str) -> Names:
    """Return the names of all units that a job may have."""
    return Names(f"{stem}.service", f"{stem}.timer", f"{stem}.path", f"{stem}-settled.timer")


def unit_texts(stem: str, described: str, command: t.Sequence[str], needs: Needs, when: Schedule) -> dict[str, str]:
    """Return the text of each wanted unit by name. ``command``: words without blanks or specifiers."""
    names = names_of(stem)
    texts = {names.service: _service(described, command, needs, when)}
    if when.on_calendar:
        texts[names.timer] = _timer(described, names, when)
    if when.watch:
        texts[names.path] = _path(described, names, when)
        texts[names.settled] = _settled(described, names, when)
    return texts


def listed(paths: t.Iterable[str]) -> str:
    """Return paths as one value of an option that takes several, without blanks, quotes or specifiers that systemd would interpret."""
    return " ".join(f'"{_literal(path)}"' if set(path) & set(" \t'\"\\") else _literal(path) for path in paths)


def _literal(path: str) -> str:
    return path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")


def _service(described: str, command: t.Sequence[str], needs: Needs, when: Schedule) -> str:
    unit: dict[str, t.Any] = {"Description": described, "RequiresMountsFor": listed((*needs.mounts, HOME))}
    if when.on_success:
        unit["OnSuccess"] = when.on_success
    if when.on_failure:
        unit["OnFailure"] = when.on_failure
    service: dict[str, t.Any] = {
        "Type": "oneshot",
        "ExecStart": " ".join(command),
        "TimeoutStartSec": _START_SECONDS,
        "Nice": 10,
        "IOSchedulingClass": "idle",
        "StateDirectory": HOME.rpartition("/")[2],
        "StateDirectoryMode": "0700",
        **_SANDBOX,
        **_network(needs.network),
        # A path below /tmp would be hidden with it.
        "PrivateTmp": not any(f"{path}/".startswith(f"{place}/") for path in needs.mounts for place in _TEMPORARY),
        # To hold a backend, its control group and files in /run are written; podman writes to its storage even when it only looks.
        "ProtectControlGroups": not needs.holds,
        "ProtectSystem": "full" if needs.holds else "strict",
    }
    if needs.writes or needs.changes:
        # The minus sign: a directory that does not exist, which may have been lost, does not keep the service from starting.
        service["ReadWritePaths"] = listed((*needs.writes, *(f"-{path}" for path in needs.changes)))
    return _rendered({"Unit": unit, "Service": service})


def _network(wanted: bool) -> dict[str, t.Any]:
    if wanted:
        return {"RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6"}
    return {"PrivateNetwork": True, "IPAddressDeny": "any", "RestrictAddressFamilies": "AF_UNIX"}


def _timer(described: str, names: Names, when: Schedule) -> str:
    timer: dict[str, t.Any] = {"OnCalendar": when.on_calendar, "Persistent": True, "Unit": names.service}
    if when.randomized_delay:
        # The same delay each time, so that the interval between two runs is always the same.
        timer |= {"RandomizedDelaySec": when.randomized_delay, "FixedRandomDelay": True}
    return _rendered(
        {
            "Unit": {"Description": f"{described} (schedule)"},
            "Timer": timer,
            "Install": {"WantedBy": "timers.target"},
        }
    )


def _path(described: str, names: Names, when: Schedule) -> str:
    watched = [path.replace("%", "%%") for path in when.watch]
    return _rendered(
        {
            "Unit": {"Description": f"{described} (after changes)"},
            "Path": {"PathChanged": watched, "Unit": names.settled},
            "Install": {"WantedBy": "paths.target"},
        }
    )


def _settled(described: str, names: Names, when: Schedule) -> str:
    timer = {"OnActiveSec": when.settle, "AccuracySec": "1s", "RemainAfterElapse": False, "Unit": names.service}
    return _rendered({"Unit": {"Description": f"{described} (changes have settled)"}, "Timer": timer})


def _rendered(sections: t.Mapping[str, t.Any]) -> str:
    return render(read_sections(sections), HEADER)
