# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Process untrusted files in a child process that has given up root and sees a single directory.

Then a library that takes path names (for example SQLite) cannot be redirected to another file, and what a crafted file makes it do is
harmless: time, memory and output are limited. The child runs as a user that no other process uses, so no process of the service user can
stop, trace or kill it.
"""

from __future__ import annotations

import functools
import grp
import os
import pwd
import resource
import typing as t

from .._core.limits import JAIL_BYTES_PER_SECOND, JAIL_FILE_MARGIN, JAIL_MEMORY, JAIL_OPEN_FILES, JAIL_SECONDS
from .bounded_child import PastLimit, answer_of, harden, leave_open, limit

__all__ = ["JailUser", "PastLimit", "in_jail", "jail_user", "seconds_for"]

# Numbers that neither systemd (https://systemd.io/UIDS-GIDS) nor Debian (Policy 9.2.2) assigns, and that exist in containers, too.
_NUMBERS = range(65530, 65519, -1)


class JailUser(t.NamedTuple):
    """The uid and gid of the jail's process."""

    uid: int
    gid: int


def seconds_for(size: int) -> float:
    """Return the time limit in seconds for work on databases of ``size`` bytes."""
    return JAIL_SECONDS + size / JAIL_BYTES_PER_SECOND


@functools.cache
def jail_user() -> JailUser:
    """Return a user and group that no account of this host has; without root, the current user."""
    if os.geteuid() != 0:
        return JailUser(os.geteuid(), os.getegid())
    uid = next((number for number in _NUMBERS if not _has(pwd.getpwuid, number)), _NUMBERS[0])
    gid = next((number for number in _NUMBERS if not _has(grp.getgrgid, number)), _NUMBERS[0])
    return JailUser(_mapped("uid", uid), _mapped("gid", gid))


def in_jail(directory: int, work: t.Callable[[], str], *, size: int, seconds: float | None = None) -> str | None:
    """Return the answer of ``work``, run with the open ``directory`` as its root; None if it failed or was killed.

    It runs as jail_user(), who must own the content of the directory. ``size``: bytes of the files there, which it may write once more;
    ``seconds``: time limit. Raises PastLimit. ``work`` cannot import modules in the jail, so import them beforehand.
    """
    seconds = seconds_for(size) if seconds is None else seconds

    def lock_up(kept: int) -> None:
        _lock_up(directory, kept)
        limit(
            {
                resource.RLIMIT_CPU: int(seconds) + 1,  # in case the parent process is blocked
                resource.RLIMIT_AS: JAIL_MEMORY,
                resource.RLIMIT_FSIZE: size + JAIL_FILE_MARGIN,
                resource.RLIMIT_NOFILE: JAIL_OPEN_FILES,
                resource.RLIMIT_NPROC: 0,
            }
        )

    answer = answer_of(lock_up, lambda: os.fsencode(work()), seconds=seconds)
    return None if answer is None else os.fsdecode(answer)


def _lock_up(directory: int, kept: int) -> None:
    """Leave the process only the directory and the open file ``kept``: an open directory of root would allow it to leave the jail."""
    os.fchdir(directory)
    user = jail_user()
    leave_open(kept)
    if os.geteuid() == 0:
        os.chroot(".")
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        _require_powerless()
    harden()


def _require_powerless() -> None:
    """End the process if it can become root again: with changed securebits capabilities would be kept, capabilities(7)."""
    try:
        os.setresuid(0, 0, 0)
    except PermissionError:
        return
    os._exit(1)


def _has(look: t.Callable[[int], t.Any], number: int) -> bool:
    try:
        look(number)
    except KeyError:
        return False
    return True


def _mapped(kind: str, number: int) -> int:
    """Return ``number``, or the highest one of this user namespace: a container may have few, user_namespaces(7)."""
    with open(f"/proc/self/{kind}_map", encoding="ascii") as file:
        ranges = [(int(first), int(length)) for first, _outside, length in (line.split() for line in file)]
    if any(first <= number < first + length for first, length in ranges):
        return number
    return max((first + length - 1 for first, length in ranges), default=number)
