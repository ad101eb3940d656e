# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Every reason against a sessions directory, as one table. Pure: each reason looks at what is known and answers with a sentence or None."""

from __future__ import annotations

import re
import typing as t

from ._dir_state import Params, State
from ._filesystem import is_own_mount, why_ephemeral
from ._mode import directory_bits, octal
from ._parents import who_else_can_swap

# Directories of the system itself, hier(7): changing their owner breaks the host.
_SYSTEM = frozenset(
    "/ /boot /etc /home /media /mnt /opt /root /run /srv /tmp /usr /var "
    "/etc/systemd /etc/systemd/system /usr/local /usr/share /usr/src "
    "/var/backups /var/cache /var/db /var/empty /var/lib /var/lib/private /var/local /var/lock /var/log /var/mail /var/opt "
    "/var/run /var/snap /var/spool /var/spool/cron /var/tmp /var/www "
    "/var/lib/apt /var/lib/containers /var/lib/dbus /var/lib/docker /var/lib/dpkg /var/lib/rpm /var/lib/systemd "
    "/run/lock /run/systemd /run/user".split()
)
# Nothing below these is a place for data either: programs, or what the kernel shows. A home directory belongs to a person.
_PROGRAMS_AND_KERNEL = re.compile(
    r"/(bin|sbin|lib(|32|64|x32)|proc|sys|usr/(|local/)(bin|sbin|include|lib(|32|64|x32|exec)))(/.*)?|/dev(/(?!shm/).*|)|/home/[^/]+|/boot/.*"
)


def is_taken(path: str) -> bool:
    """Whether ``path`` is a directory of the system or of a person, so never one for sessions alone."""
    return path in _SYSTEM or _PROGRAMS_AND_KERNEL.fullmatch(path) is not None


def _taken_behind_a_link(state: State, params: Params) -> str | None:
    """A link above may lead to a directory that is_taken() would have refused by name."""
    if not is_taken(state.way.path):
        return None
    return (
        f"{params.path} is in truth {state.way.path}, a directory of the system or of a person; "
        "give one that is to hold nothing but sessions"
    )


def _not_a_directory(state: State, params: Params) -> str | None:
    if state.entry is None or state.entry.kind == "directory":
        return None
    if state.entry.kind == "link":
        return (
            f"{params.path} is a symbolic link, which somebody could turn elsewhere; "
            "give the directory that it leads to, or remove the link"
        )
    return f"{params.path} is there already and is not a directory; move it away or give another path"


def _swappable(state: State, params: Params) -> str | None:
    who = who_else_can_swap(state.way, state.trusted)
    if who is None:
        return None
    return (
        f"{params.path} is not safe: {who}, so somebody other than root and {state.wanted.owner} could put another directory in its place; "
        "take that right away or give a path below directories that only root can write"
    )


def _ephemeral(state: State, params: Params) -> str | None:
    why = None if params.allow_ephemeral else why_ephemeral(state.filesystem, state.way.path)
    if why is None:
        return None
    return f"{params.path} would not outlive a restart: {why}; give a path on a disk, or set allow_ephemeral where sessions may be lost"


def _without_its_mount(state: State, params: Params) -> str | None:
    if not params.require_mount or is_own_mount(state.filesystem):
        return None
    return (
        f"{params.path} is not on a mount of its own but on the filesystem of {state.filesystem.mount_point}, and require_mount is set; "
        "mount its volume and run again"
    )


def _read_only(state: State, params: Params) -> str | None:
    if not state.filesystem.read_only:
        return None
    return (
        f"{params.path} is on a filesystem that is mounted read-only (at {state.filesystem.mount_point}); "
        "see why (after an error of the disk the kernel does that), mount it writable and run again"
    )


def _too_few_bytes(state: State, params: Params) -> str | None:
    free = state.filesystem.free_bytes
    if free >= params.min_free_bytes:
        return None
    return (
        f"the filesystem of {params.path} (mounted at {state.filesystem.mount_point}) has {free} bytes free, "
        f"fewer than the {params.min_free_bytes} of min_free_bytes; free space and run again"
    )


def _too_few_inodes(state: State, params: Params) -> str | None:
    free = state.filesystem.free_inodes
    if free is None or free >= params.min_free_inodes:
        return None
    return (
        f"the filesystem of {params.path} (mounted at {state.filesystem.mount_point}) has room for {free} more files, "
        f"fewer than the {params.min_free_inodes} of min_free_inodes; remove files that nobody needs and run again"
    )


def _closed_to_owner(state: State, params: Params) -> str | None:
    if state.closed_to_owner is None:
        return None
    return (
        f"{state.wanted.owner} cannot get to {params.path}: it may not pass {state.closed_to_owner}; "
        f"let it (chmod o+x {state.closed_to_owner}) or give another path"
    )


def _sandboxed(state: State, params: Params) -> str | None:
    if state.sandbox is None or state.sandbox.writable:
        return None
    lines = " and ".join(state.sandbox.lines)
    return (
        f"{state.sandbox.directive} keeps the unit {params.unit} from writing in {params.path}; "
        f"add {lines} to [Service] in a drop-in of the unit, or give another path"
    )


def _another_mode_at_each_start(state: State, params: Params) -> str | None:
    if state.kept is None or not params.mode_given:
        return None
    bits = directory_bits(params.mode, state.kept.bits)
    if bits == state.kept.bits:
        return None
    return (
        f"{params.unit} has {state.kept.line}, so that systemd gives {params.path} the mode {octal(state.kept.bits)} at each start, and "
        f"mode is {octal(bits)} (role: wa_mode); set {state.kept.mode_option}={octal(bits)} in a drop-in of the unit, or leave mode out"
    )


def _not_empty(state: State, params: Params) -> str | None:
    if not state.entries:
        return None
    return f"{params.path} holds {state.entries} entries, and only an empty directory is removed; move away what is in it first"


Reason = t.Callable[[State, Params], t.Optional[str]]

# By state: the first that applies is told, so what explains the others comes before them.
AGAINST: dict[str, tuple[Reason, ...]] = {
    "present": (
        _taken_behind_a_link,
        _not_a_directory,
        _ephemeral,
        _swappable,
        _without_its_mount,
        _read_only,
        _too_few_bytes,
        _too_few_inodes,
        _closed_to_owner,
        _sandboxed,
        _another_mode_at_each_start,
    ),
    "absent": (_taken_behind_a_link, _not_a_directory, _not_empty),
}
