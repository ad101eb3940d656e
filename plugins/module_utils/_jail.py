# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Has work on files that nobody vouches for done by a process that has given up root and sees one directory only.

A library that takes path names (SQLite, say) can then not be led to any other file, and what a crafted file makes it do harms nobody:
time, memory and what it writes are limited. The process runs as a user of its own, whom nobody else is, so no process of the service
user can stop, trace or kill it.
"""

from __future__ import annotations

import functools
import grp
import os
import pwd
import resource
import typing as t

from ._child import PastLimit, answer_of, harden, leave_open, limit
from ._limits import JAIL_BYTES_PER_SECOND, JAIL_FILE_MARGIN, JAIL_MEMORY, JAIL_OPEN_FILES, JAIL_SECONDS

__all__ = ["JailUser", "PastLimit", "in_jail", "jail_user", "seconds_for"]

# Numbers that neither systemd (https://systemd.io/UIDS-GIDS) nor Debian (Policy 9.2.2) gives to anybody, and that containers have, too.
_NUMBERS = range(65530, 65519, -1)


class JailUser(t.NamedTuple):
    """Who the jail's process runs as."""

    uid: int
    gid: int


def seconds_for(size: int) -> float:
    """Say how long work on databases of ``size`` bytes may take."""
    return JAIL_SECONDS + size / JAIL_BYTES_PER_SECOND


@functools.cache
def jail_user() -> JailUser:
    """Choose a user and a group that no account of this host has. Who is not root works as what he is."""
    if os.geteuid() != 0:
        return JailUser(os.geteuid(), os.getegid())
    uid = next((number for number in _NUMBERS if not _has(pwd.getpwuid, number)), _NUMBERS[0])
    gid = next((number for number in _NUMBERS if not _has(grp.getgrgid, number)), _NUMBERS[0])
    return JailUser(_mapped("uid", uid), _mapped("gid", gid))


def in_jail(directory: int, work: t.Callable[[], str], *, size: int, seconds: float | None = None) -> str | None:
    """Return what ``work`` answers with the open ``directory`` for its root; None when it failed or was killed.

    It runs as jail_user(), to whom what is in the directory has to belong. ``size``: bytes of the files there, which it may write once
    more; ``seconds``: how long it may take. Raises PastLimit. Import beforehand what ``work`` needs: a jail has nothing to import.
    """
    seconds = seconds_for(size) if seconds is None else seconds

    def lock_up(kept: int) -> None:
        _lock_up(directory, kept)
        limit(
            {
                resource.RLIMIT_CPU: int(seconds) + 1,  # for the case that the parent itself is held up
                resource.RLIMIT_AS: JAIL_MEMORY,
                resource.RLIMIT_FSIZE: size + JAIL_FILE_MARGIN,
                resource.RLIMIT_NOFILE: JAIL_OPEN_FILES,
                resource.RLIMIT_NPROC: 0,
            }
        )

    answer = answer_of(lock_up, lambda: os.fsencode(work()), seconds=seconds)
    return None if answer is None else os.fsdecode(answer)


def _lock_up(directory: int, kept: int) -> None:
    """Leave the process nothing but the directory and the open file ``kept``: an open directory of root leads out of every jail."""
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
    """Securebits that a caller has changed would leave the capabilities where they are, capabilities(7)."""
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
    """Return ``number``, or the highest one that this user namespace knows: a container may have few, user_namespaces(7)."""
    with open(f"/proc/self/{kind}_map", encoding="ascii") as file:
        ranges = [(int(first), int(length)) for first, _outside, length in (line.split() for line in file)]
    if any(first <= number < first + length for first, length in ranges):
        return number
    return max((first + length - 1 for first, length in ranges), default=number)
