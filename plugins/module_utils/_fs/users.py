# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Look up names and numbers of users and groups on this host."""

from __future__ import annotations

import grp
import pwd
import typing as t

from .._core.errors import SessionsError


class Identity(t.NamedTuple):
    """A user and a group, as numbers for the kernel and as names for people (the number if there is no name)."""

    uid: int
    gid: int
    owner: str
    group: str


def identity_of(owner: str, group: str | None = None) -> Identity:
    """Look up ``owner`` (a name or number); ``group`` defaults to that user's primary group.

    Raises SessionsError for a name that does not exist on this host, or a number without an account and without a group.
    """
    account = _account(owner)
    if account is None and not owner.isdecimal():
        raise SessionsError(f"the user {owner!r} does not exist on this host; create it or set 'owner' to another one")
    uid = account.pw_uid if account else int(owner)
    if group is None and account is None:
        raise SessionsError(f"the user {owner} has no account on this host, so no primary group; set 'group'")
    gid = account.pw_gid if group is None and account is not None else group_number(str(group))
    return Identity(uid, gid, owner_name(uid), group_name(gid))


def group_number(group: str) -> int:
    """Look up ``group`` (a name or number); raise SessionsError if the name does not exist on this host."""
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if group.isdecimal():
            return int(group)
    raise SessionsError(f"the group {group!r} does not exist on this host; create it or set 'group' to another one")


def owner_name(uid: int) -> str:
    """Return the name of ``uid``, or the number as text if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Return the name of ``gid``, or the number as text if it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _account(owner: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(owner)
    except KeyError:
        pass
    try:
        return pwd.getpwuid(int(owner)) if owner.isdecimal() else None
    except KeyError:
        return None
