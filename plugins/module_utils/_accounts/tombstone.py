# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The file that replaces moved accounts, so that a program that expects accounts at the path fails instead of creating new ones.

Never follows a link. A tombstone with another owner (after chown -R in a deployment) still protects old accounts from being used, but
only one that belongs to root is removed.
"""

from __future__ import annotations

import os
import stat

from .._core.errors import SessionsError
from .._fs.fdopen import READ_FLAGS, DirFd, opened_parent
from .._fs.files import read_file, read_file_at

# The first line of every tombstone; existing ones are recognised by it.
TOMBSTONE = "whatsapp_ops.sessions moved what was here.\n"
_LARGEST = 4096


def leave_tombstone(parent: DirFd, name: str, text: str) -> None:
    """Create the tombstone ``name`` in an open directory; ``text``: one sentence that names the new path."""
    descriptor = os.open(
        name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444, dir_fd=parent
    )
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{TOMBSTONE}{text}\n")
        file.flush()
        os.fchmod(descriptor, 0o444)
        os.fsync(descriptor)


def take_tombstone(parent: DirFd, name: str, called: str) -> str | None:
    """Remove the tombstone ``name`` from an open directory and return its sentence; None if there is none.

    Raises SessionsError for a tombstone that does not belong to root, or that was replaced while it was read. ``called``: its path.
    """
    try:
        descriptor = os.open(name, READ_FLAGS, dir_fd=parent)
    except OSError:  # it does not exist, or is a link
        return None
    try:
        status = os.fstat(descriptor)
        content = os.read(descriptor, _LARGEST + 1) if stat.S_ISREG(status.st_mode) else b""
        if len(content) > _LARGEST or not content.startswith(TOMBSTONE.encode()):
            return None
        if status.st_uid not in (0, os.geteuid()) or status.st_nlink != 1:
            raise SessionsError(
                f"{called} is a tombstone of moved accounts, but it does not belong to root or has other hard links; nothing was changed: "
                "give it to root (chown root), remove its other hard links, and run again"
            )
        now = os.stat(name, dir_fd=parent, follow_symlinks=False)
        # The inode number is not reused while the file is open.
        if (now.st_dev, now.st_ino) != (status.st_dev, status.st_ino):
            raise SessionsError(f"{called} was replaced while it was being read; nothing was changed: run again")
        os.unlink(name, dir_fd=parent)
        os.fsync(parent)
    finally:
        os.close(descriptor)
    return content[len(TOMBSTONE) :].decode("utf-8", "replace").rstrip("\n")


def is_tombstone(path: str) -> bool:
    """Whether the file at ``path``, or the file that a link there leads to, is a tombstone."""
    try:
        content = read_file(os.path.realpath(path), at_most=_LARGEST)
    except (SessionsError, OSError):
        return False
    return content is not None and content.startswith(TOMBSTONE.encode())


def is_tombstone_at(root: DirFd, path: str) -> bool:
    """Whether the file at a relative path of an open directory is a tombstone."""
    try:
        with opened_parent(root, path) as (parent, name):
            content = read_file_at(parent, name, at_most=_LARGEST)
    except (SessionsError, OSError):
        return False
    return content is not None and content.startswith(TOMBSTONE.encode())
