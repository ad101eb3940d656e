# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Follow a symbolic link in place of an account if its creator gains nothing by that: see ``open_linked`` for the rules.

Operators link accounts to a data disk or a shared directory. The service user can create links as well, so the kernel never follows one
automatically.
"""

from __future__ import annotations

import os
import stat

from .._core import names as core_names
from .._core.errors import SessionsError
from .._core.names import AREA_INSIDE
from .._fs.fdopen import DirFd, LinkOfContainer, open_directory, real_path, status_of

_NOT_ON_DISK = ("/proc", "/sys", "/dev")

NOWHERE = "it is a link to a missing directory (check that its volume is mounted)"
FOREIGN = "it is a link of an unprivileged user to a directory of another user, which is not followed"
INSIDE = "it is a link to the root itself, or to a directory that contains the root or is in it"
TWICE = "it is a link to the same directory as another link in the root"
OURS = "it is a link into a directory that this collection manages"
CONTAINER = "it is a link in storage that a container can write, which is never followed"
NO_DISK = "it is a link to something that is not on a disk"


class UnsafeLink(NotADirectoryError):
    """A symbolic link that is not followed. ``why``: the reason in a few words, without its target."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def is_link(directory: DirFd, name: str) -> bool:
    """Return whether the entry ``name`` of an open directory is a symbolic link."""
    status = status_of(directory, name)
    return status is not None and stat.S_ISLNK(status.st_mode)


def open_linked(root: DirFd, parent: DirFd, name: str) -> DirFd:
    """Return a descriptor of the target of the link ``name`` in the open directory ``parent``, which is in ``root``.

    The rules for links on the way to any path apply (fdopen.py): root created them, or they lead to a directory of their creator.
    The target must not be in the root (it would be found twice), contain the root, or be the work area. Raises UnsafeLink, OSError.
    """
    found = follow(parent, name)
    why = unfit_target(root, found)
    if why:
        os.close(found)
        raise UnsafeLink(why)
    return found


def follow(parent: DirFd, name: str) -> DirFd:
    """Return a descriptor of the directory that a link leads to, wherever it is. Raises UnsafeLink, OSError."""
    try:
        return open_directory(name, start=parent)
    except LinkOfContainer as error:
        raise UnsafeLink(CONTAINER) from error
    except FileNotFoundError as error:
        raise UnsafeLink(NOWHERE) from error
    except SessionsError as error:
        raise UnsafeLink(FOREIGN) from error


def unfit_target(root: DirFd, found: DirFd) -> str:
    """Return why the open target ``found`` of a link is not an additional account of the open ``root``; '' if it may be one."""
    target, top = real_path(found), real_path(root)
    if _is_within(target, top) or _is_within(top, target):
        return INSIDE
    if _is_within(target, os.path.realpath(core_names.HOME)) or any(
        part.endswith(AREA_INSIDE) for part in target.split("/")
    ):
        return OURS
    return NO_DISK if any(_is_within(target, place) for place in _NOT_ON_DISK) else ""


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")
