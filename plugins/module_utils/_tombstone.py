# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The file that takes the place of what was moved away: whoever looks for accounts there fails, instead of making new ones.

Never follows a link, and never returns what the file says.
"""

from __future__ import annotations

import os

from ._errors import SessionsError
from ._layout import opened_below
from ._paths import read_file, read_file_at

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
