# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Follows a symbolic link in the place of an account, where its maker gains nothing by that: see ``open_linked`` for the rules.

People link accounts to a data disk or a shared folder. The service user can make links as well, so that none is followed by the kernel.
"""

from __future__ import annotations

import os
import stat

from ._control import HOME
from ._errors import SessionsError
from ._layout import status_of
from ._paths import LinkOfContainer, open_directory, real_path

# Our own directories (see _area.py) are called so, or end so.
AREA_INSIDE = ".whatsapp-ops"
_NOT_ON_DISK = ("/proc", "/sys", "/dev")

NOWHERE = "it is a link that leads nowhere (see that its volume is mounted)"
FOREIGN = "it is a link of an unprivileged user to a directory of another user, which is not followed"
INSIDE = "it is a link to a directory that is, or holds, or lies in the root itself"
TWICE = "it is a link to a directory that another link in the root leads to"
OURS = "it is a link into a directory that this collection keeps for itself"
CONTAINER = "it is a link in what a container can write, which is never followed"
NO_DISK = "it is a link to what is on no disk"


class UnsafeLink(NotADirectoryError):
    """A link that is not followed. ``why``: in a few words, without where it leads."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def is_link(directory: int, name: str) -> bool:
    """Whether the entry ``name`` of an open directory is a symbolic link."""
    status = status_of(directory, name)
    return status is not None and stat.S_ISLNK(status.st_mode)


def open_linked(root: int, parent: int, name: str) -> int:
    """Return a descriptor of the directory that the link ``name`` in the open directory ``parent``, which is in ``root``, leads to.

    Links on the way count like those on the way to any path (_paths.py): root made them, or they lead to a directory of their maker.
    What they lead to must neither be in the root, so that it is there already, nor hold the root, nor be ours. Raises UnsafeLink, OSError.
    """
    found = follow(parent, name)
    why = unfit_target(root, found)
    if why:
        os.close(found)
        raise UnsafeLink(why)
    return found


def follow(parent: int, name: str) -> int:
    """Return a descriptor of the directory that a link leads to, whichever that is. Raises UnsafeLink, OSError."""
    try:
        return open_directory(name, start=parent)
    except LinkOfContainer as error:
        raise UnsafeLink(CONTAINER) from error
    except FileNotFoundError as error:
        raise UnsafeLink(NOWHERE) from error
    except SessionsError as error:
        raise UnsafeLink(FOREIGN) from error


def unfit_target(root: int, found: int) -> str:
    """Say why an open directory that a link leads to is no account of the open ``root`` of its own; '' where it may be one."""
    target, top = real_path(found), real_path(root)
    if _is_within(target, top) or _is_within(top, target):
        return INSIDE
    if _is_within(target, os.path.realpath(HOME)) or any(part.endswith(AREA_INSIDE) for part in target.split("/")):
        return OURS
    return NO_DISK if any(_is_within(target, place) for place in _NOT_ON_DISK) else ""


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")
