# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Who owns files: names and numbers of users and groups, looked up on this host."""

from __future__ import annotations

import grp
import pwd
import typing as t

from ._errors import SessionsError


class Identity(t.NamedTuple):
    """A user and a group, as numbers for the kernel and as names for people (the number where no name exists)."""

    uid: int
    gid: int
    owner: str
    group: str


def identity_of(owner: str, group: str | None = None) -> Identity:
    """Look ``owner`` up (a name or a number); ``group`` defaults to that user's primary group.

    Raises SessionsError for a name that this host does not know, or a bare number without a group.
    """
    account = _account(owner)
    if account is None and not owner.isdecimal():
        raise SessionsError(f"the user {owner!r} does not exist on this host; create it or name another one in 'owner'")
    uid = account.pw_uid if account else int(owner)
    if group is None and account is None:
        raise SessionsError(f"the user {owner} has no account on this host, so no primary group; name one in 'group'")
    gid = account.pw_gid if group is None and account is not None else group_number(str(group))
    return Identity(uid, gid, owner_name(uid), group_name(gid))


def group_number(group: str) -> int:
    """Look ``group`` (a name or a number) up; raise SessionsError when this host does not know the name."""
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if group.isdecimal():
            return int(group)
    raise SessionsError(f"the group {group!r} does not exist on this host; create it or name another one in 'group'")


def owner_name(uid: int) -> str:
    """Give the name of ``uid``, or the number as text when it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Give the name of ``gid``, or the number as text when it has none."""
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
