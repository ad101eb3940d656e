# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""All reasons against a sessions directory, as one table. Pure: each reason checks the observed state and returns a sentence or None."""

from __future__ import annotations

import re
import typing as t

from .._fs.ancestors import untrusted_writer
from .._fs.filesystem import is_own_mount, why_ephemeral
from .._fs.modes import directory_bits, octal
from .observe import Params, State

# Directories of the system itself, hier(7): changing their owner breaks the host.
_SYSTEM = frozenset(
    "/ /boot /etc /home /media /mnt /opt /root /run /srv /tmp /usr /var "
    "/etc/systemd /etc/systemd/system /usr/local /usr/share /usr/src "
    "/var/backups /var/cache /var/db /var/empty /var/lib /var/lib/private /var/local /var/lock /var/log /var/mail /var/opt "
    "/var/run /var/snap /var/spool /var/spool/cron /var/tmp /var/www "
    "/var/lib/apt /var/lib/containers /var/lib/dbus /var/lib/docker /var/lib/dpkg /var/lib/rpm /var/lib/systemd "
    "/run/lock /run/systemd /run/user".split()
)
# Directories below these hold programs or kernel interfaces, not data. A home directory belongs to a person.
_PROGRAMS_AND_KERNEL = re.compile(
    r"/(bin|sbin|lib(|32|64|x32)|proc|sys|usr/(|local/)(bin|sbin|include|lib(|32|64|x32|exec)))(/.*)?|/dev(/(?!shm/).*|)|/home/[^/]+|/boot/.*"
)


def is_taken(path: str) -> bool:
    """Return whether ``path`` is a system or home directory, so never one for sessions only."""
    return path in _SYSTEM or _PROGRAMS_AND_KERNEL.fullmatch(path) is not None


def _taken_behind_a_link(state: State, params: Params) -> str | None:
    """A symbolic link above may lead to a directory that is_taken() would have refused by name."""
    if not is_taken(state.way.path):
        return None
    return (
        f"{params.path} resolves to {state.way.path}, a system or home directory; "
        "set it to a directory that is used for sessions only"
    )


def _not_a_directory(state: State, params: Params) -> str | None:
    if state.entry is None or state.entry.kind == "directory":
        return None
    if state.entry.kind == "link":
        return (
            f"{params.path} is a symbolic link, which another user could redirect; "
            "set the path to its target, or remove the link"
        )
    return f"{params.path} exists and is not a directory; move it away or set another path"


def _swappable(state: State, params: Params) -> str | None:
    who = untrusted_writer(state.way, state.trusted)
    if who is None:
        return None
    return (
        f"{params.path} is not safe: {who}, so a user other than root and {state.wanted.owner} could replace the directory; "
        "remove that permission or set a path below directories that only root can write"
    )


def _ephemeral(state: State, params: Params) -> str | None:
    why = None if params.allow_ephemeral else why_ephemeral(state.filesystem, state.way.path)
    if why is None:
        return None
    return f"{params.path} would not survive a restart: {why}; set a path on a disk, or set allow_ephemeral if sessions may be lost"


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
        "find out why (the kernel does that after disk errors), mount it writable and run again"
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
        f"fewer than the {params.min_free_inodes} of min_free_inodes; remove unneeded files and run again"
    )


def _closed_to_owner(state: State, params: Params) -> str | None:
    if state.closed_to_owner is None:
        return None
    return (
        f"{state.wanted.owner} cannot access {params.path}: it may not enter {state.closed_to_owner}; "
        f"allow that (chmod o+x {state.closed_to_owner}) or set another path"
    )


def _sandboxed(state: State, params: Params) -> str | None:
    if state.sandbox is None or state.sandbox.writable:
        return None
    lines = " and ".join(state.sandbox.lines)
    return (
        f"{state.sandbox.directive} keeps the unit {params.unit} from writing in {params.path}; "
        f"add {lines} to [Service] in a drop-in of the unit, or set another path"
    )


def _another_mode_at_each_start(state: State, params: Params) -> str | None:
    if state.kept is None or not params.mode_given:
        return None
    bits = directory_bits(params.mode, state.kept.bits)
    if bits == state.kept.bits:
        return None
    return (
        f"{params.unit} has {state.kept.line}, so systemd sets the mode of {params.path} to {octal(state.kept.bits)} at each start, but "
        f"'mode' is {octal(bits)}; set {state.kept.mode_option}={octal(bits)} in a drop-in of the unit, or omit 'mode'"
    )


def _not_empty(state: State, params: Params) -> str | None:
    if not state.entries:
        return None
    return f"{params.path} holds {state.entries} entries, and only an empty directory is removed; move them away first"


Reason = t.Callable[[State, Params], t.Optional[str]]

# Per state, the first that applies is reported. So a reason that causes others comes before them.
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
