# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Which owners of legacy paths and accounts a run accepts: the single place for this rule.

Accounts are given to the backend's user. A user who could point root to accounts of another user would obtain them. A path that was
found (from the backend's environment, working directory or open files) is under the control of the backend's user. Therefore:

- A found path, and each account in it, must belong to the backend's user: the one in ``User=``. A unit that runs as root may use any
  accounts, but if its main process has dropped root privileges, that process's user counts.
- A named path may also belong to root, if all directories above it do as well, because then only root can have put it there (a backup,
  or data from another host). Any other owner must be allowed (``allow_foreign_owner``).
"""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from .._accounts.mount_points import is_closed
from .._containers.service import service_identity
from .._core.errors import SessionsError
from .._fs.fdopen import DirFd, opened_below, status_below
from .._fs.users import Identity, group_number, owner_name
from .._systemd.unit import Unit

REMEDY = "give it to that user (chown), or, if this is intended, name its directory in 'src' and set allow_foreign_owner=true"


class Owners(t.NamedTuple):
    """The owners whose accounts a run may take.

    ``users``: uids of the backend, None if it is root. ``receiver``: the future owner of the accounts. ``groups``: gids of the backend's
    user. ``foreign``: other owners of named paths are allowed. ``closed``: directories that this collection gave to root, by real path,
    see mount_points.py.
    """

    users: frozenset[int] | None
    receiver: Identity
    groups: frozenset[int] = frozenset()
    foreign: bool = False
    closed: t.Mapping[str, t.Mapping[str, int]] = {}

    def have_closed(self, real: str, status: os.stat_result) -> bool:
        """Whether the directory at ``real`` belongs to root because this collection closed it. That says nothing about its content."""
        return real in self.closed and is_closed(real, status, self.closed)

    def includes(self, uid: int) -> bool:
        """Whether files of ``uid`` count as the backend's."""
        return self.users is None or uid in self.users

    def may_write(self, status: os.stat_result) -> bool:
        """Whether the mode of a directory lets the backend's user keep accounts in it."""
        if self.includes(status.st_uid):
            return True
        return bool(status.st_mode & (stat.S_IWGRP if status.st_gid in self.groups else stat.S_IWOTH))


def owners_of(unit: Unit | None, identity: Identity, *, foreign: bool) -> Owners:
    """Return the owners whose accounts a run may give to ``identity``."""
    if unit is None:
        users = frozenset((identity.uid,)) if identity.uid else None  # giving files to root discloses nothing
        return Owners(users, identity, frozenset((identity.gid,)), foreign)
    own = service_identity(unit)
    user = own.uid or (_real_user(unit.main_pid) if unit.main_pid else 0)
    if user == identity.uid == 0:
        return Owners(None, identity, foreign=foreign)
    return Owners(frozenset((user, identity.uid)), identity, frozenset(_groups(unit, own)), foreign)


def owners_named(given: str, real: str, status: os.stat_result, whose: Owners, area: str) -> frozenset[int] | None:
    """Return the uids that may own accounts in a named legacy path, None for any.

    ``status``: of the open directory, ``real``: its path. ``area``: the directory that only root and this collection can access.
    Raises SessionsError if its owner must be allowed first.
    """
    if whose.users is None or whose.foreign:
        return None
    if status.st_uid in whose.users or whose.have_closed(real, status):
        return whose.users
    why = ""
    if status.st_uid in (0, os.geteuid()):
        from .._fs.ancestors import untrusted_writer, way_to

        if not real.startswith(f"{area}/"):
            why = untrusted_writer(way_to(real), (0, os.geteuid())) or ""
        if not why:
            return whose.users | {status.st_uid}
    raise SessionsError(
        f"the source {given} belongs to {owner_name(status.st_uid)}{f' but {why}' if why else ''}, and its accounts would be given to "
        f"{whose.receiver.owner}; nothing was changed: {REMEDY}"
    )


def companion_owners(
    owners: frozenset[int] | None, root: os.stat_result, receiver: int | None = None
) -> frozenset[int]:
    """Return the uids whose files are copied with the accounts of a legacy path; none if others can create files in it, as in /var/tmp.

    ``owners``: of its accounts, ``root``: status of the open directory, ``receiver``: uid of the future owner, whose own files count too.
    """
    if root.st_mode & stat.S_IWOTH or not (owners is None or root.st_uid in owners):
        return frozenset()
    return frozenset(uid for uid in (*(owners or ()), root.st_uid, receiver) if uid is not None)


def has_foreign(root: DirFd, path: str, owners: frozenset[int]) -> bool:
    """Whether a relative path of an open directory, or anything below it, belongs to none of ``owners``.

    A file with further hard links counts as foreign: its owner must not be changed through one of its names.
    """
    status = status_below(root, path)
    if status is None or status.st_uid not in owners:
        return True
    if not stat.S_ISDIR(status.st_mode):
        return status.st_nlink > 1
    try:
        with opened_below(root, path) as directory:
            return has_foreign_below(directory, owners)
    except (FileNotFoundError, NotADirectoryError):
        return True


def has_foreign_below(directory: DirFd, owners: frozenset[int]) -> bool:
    """Whether anything in an open directory belongs to none of ``owners``."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.stat(follow_symlinks=False).st_uid not in owners:
                return True
            if entry.is_dir(follow_symlinks=False):
                with opened_below(directory, entry.name) as below:
                    if has_foreign_below(below, owners):
                        return True
    return False


def is_owned_by(root: DirFd, path: str, owners: frozenset[int]) -> bool:
    """Whether a relative path of an open directory belongs to one of ``owners``."""
    status = status_below(root, path)
    return status is not None and status.st_uid in owners


def _groups(unit: Unit, own: Identity) -> t.Iterator[int]:
    yield from (own.gid, *os.getgrouplist(own.owner, own.gid))
    for name in unit.properties["SupplementaryGroups"].split():
        with contextlib.suppress(SessionsError):
            yield group_number(name)


def _real_user(pid: int) -> int:
    """Return the real uid of a process; 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("Uid:")), 0)
    except OSError:
        return 0
