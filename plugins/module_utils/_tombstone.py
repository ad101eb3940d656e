# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The file that takes the place of what was moved away: whoever looks for accounts there fails, instead of making new ones.

Never follows a link. One that changed owner since (chown -R of a deployment) still keeps old accounts from being used; it is removed
only while it is root's.
"""

from __future__ import annotations

import os
import stat

from ._errors import SessionsError
from ._layout import opened_below
from ._paths import READ_FLAGS, read_file, read_file_at

# How such a file begins.
TOMBSTONE = "whatsapp_ops.sessions moved what was here.\n"
_LARGEST = 4096


def leave_tombstone(parent: int, name: str, text: str) -> None:
    """Make the file ``name`` in an open directory; ``text`` is one sentence that says where to look instead."""
    descriptor = os.open(
        name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444, dir_fd=parent
    )
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{TOMBSTONE}{text}\n")
        file.flush()
        os.fchmod(descriptor, 0o444)
        os.fsync(descriptor)


def take_tombstone(parent: int, name: str, called: str) -> str | None:
    """Remove the tombstone ``name`` from an open directory and return the sentence in it; None where there is none.

    Raises SessionsError for one that root did not leave there, or that was exchanged while it was looked at. ``called``: its path.
    """
    try:
        descriptor = os.open(name, READ_FLAGS, dir_fd=parent)
    except OSError:  # nothing is there, or a link
        return None
    try:
        status = os.fstat(descriptor)
        content = os.read(descriptor, _LARGEST + 1) if stat.S_ISREG(status.st_mode) else b""
        if len(content) > _LARGEST or not content.startswith(TOMBSTONE.encode()):
            return None
        if status.st_uid not in (0, os.geteuid()) or status.st_nlink != 1:
            raise SessionsError(
                f"{called} says that accounts were moved from there, but it is not, or not only, a file of root; nothing was changed: "
                "give it to root (chown root) and remove its other names, and run again"
            )
        now = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if (now.st_dev, now.st_ino) != (
            status.st_dev,
            status.st_ino,
        ):  # its number is not given to another one while it is open
            raise SessionsError(f"{called} was exchanged while it was looked at; nothing was changed, run again")
        os.unlink(name, dir_fd=parent)
        os.fsync(parent)
    finally:
        os.close(descriptor)
    return content[len(TOMBSTONE) :].decode("utf-8", "replace").rstrip("\n")


def is_tombstone(path: str) -> bool:
    """Whether the file at ``path``, which may be a link to it, is one."""
    try:
        content = read_file(os.path.realpath(path), at_most=_LARGEST)
    except (SessionsError, OSError):
        return False
    return content is not None and content.startswith(TOMBSTONE.encode())


def is_tombstone_at(root: int, path: str) -> bool:
    """Whether the file at a relative path of an open directory is one."""
    folder, _slash, name = path.rpartition("/")
    try:
        with opened_below(root, folder or ".") as parent:
            content = read_file_at(parent, name, at_most=_LARGEST)
    except (SessionsError, OSError):
        return False
    return content is not None and content.startswith(TOMBSTONE.encode())
