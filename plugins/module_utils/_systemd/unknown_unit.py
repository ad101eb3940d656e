# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Explains a unit name that systemd does not know: a unit of a user manager, a template, or a misspelt name.

Used only for an unknown unit. Opens no file in users' home directories, and only checks whether it exists.
"""

from __future__ import annotations

import os
import pwd
import re
import time
import typing as t

from .._proc.command import run

_USER_UNITS = (".config/systemd/user", ".local/share/systemd/user")
_UNITS_OF_ALL_USERS = ("/etc/systemd/user", "/run/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user")
_CONTROL_GROUPS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")
_MANAGER = re.compile(r"user@(\d+)\.service")
_USERS_AT_MOST, _GROUPS_AT_MOST, _NAMED_AT_MOST = 1000, 2000, 5
_SECONDS = 2.0


class UserUnit(t.NamedTuple):
    """A unit of a user manager: the user (None for all users), and its file ('' if only its processes were found)."""

    user: str | None
    file: str = ""


def why_unknown(unit: str) -> str:
    """Return the end of an error sentence: what is known about ``unit``, and what to do; '' if nothing is known."""
    own = user_unit(unit)
    if own:
        return _about_user_unit(unit, own)
    stem = unit.rpartition(".")[0]
    template = f"{stem.partition('@')[0]}@.service"
    if _listed("list-unit-files", template):
        return f"; {template} is a template: {name_an_instance(template)}"
    similar = _listed("list-unit-files", f"*{_unmarked(stem)}*.service")
    return f"; there are {', '.join(similar[:_NAMED_AT_MOST])}" if similar else ""


def name_an_instance(template: str) -> str:
    """Return the advice to name an instance of a template, with the loaded ones as examples."""
    running = _listed("list-units", template.replace("@.", "@*."))
    example = running[0] if running else template.replace("@.", "@1.")
    there = f"; this host has {', '.join(running[:_NAMED_AT_MOST])}" if running else ""
    return f"name one instance in 'unit', such as {example}{there}"


def user_unit(unit: str) -> UserUnit | None:
    """Search for ``unit`` in user managers: unit files, and control groups of running units. None if not found."""
    running = _running_for(unit)
    deadline = time.monotonic() + _SECONDS
    for entry in pwd.getpwall()[:_USERS_AT_MOST]:
        if time.monotonic() > deadline:
            break
        for place in _USER_UNITS:
            file = f"{entry.pw_dir}/{place}/{unit}"
            if entry.pw_dir.startswith("/") and os.path.lexists(file):
                return UserUnit(entry.pw_name, file)
    for place in _UNITS_OF_ALL_USERS:
        if os.path.lexists(f"{place}/{unit}"):
            return UserUnit(running, f"{place}/{unit}")
    return UserUnit(running) if running else None


def _running_for(unit: str) -> str | None:
    """Return the user whose manager runs ``unit``, None if none does."""
    for top in _CONTROL_GROUPS:
        for place, folders, _files in _some(os.walk(f"{top}/user.slice")):
            if unit in folders:
                manager = _MANAGER.search(place)
                if manager:
                    return _name_of(int(manager[1]))
    return None


def _some(walk: t.Iterator[tuple[str, list[str], list[str]]]) -> t.Iterator[tuple[str, list[str], list[str]]]:
    return (found for _number, found in zip(range(_GROUPS_AT_MOST), walk))


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _about_user_unit(unit: str, own: UserUnit) -> str:
    whose = f"the user {own.user}" if own.user else "each user"
    as_user = f"User={own.user}" if own.user else "User="
    copied = f"copy {own.file} to /etc/systemd/system" if own.file else f"create /etc/systemd/system/{unit}"
    disable = f"systemctl --user disable --now {unit}" + (f", as {own.user}" if own.user else "")
    return (
        f", but it is a unit of the user manager of {whose} (systemctl --user), and this collection manages only system units: "
        f"{copied} with {as_user} and WantedBy=multi-user.target, remove it from the user manager ({disable}), enable and start it with "
        "systemctl, and run again"
    )


def _listed(command: str, pattern: str) -> list[str]:
    done = run(["systemctl", command, "--all", "--full", "--plain", "--no-legend", "--no-pager", "--", pattern])
    return sorted(line.split()[0] for line in done.stdout.splitlines() if line.strip()) if done.rc == 0 else []


def _unmarked(stem: str) -> str:
    """Replace characters that are special in a pattern."""
    return re.sub(r"[^A-Za-z0-9_.-]", "?", stem.partition("@")[0])
