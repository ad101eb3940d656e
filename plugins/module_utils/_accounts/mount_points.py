# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The directories that the sessions path is mounted over for a unit whose program has a fixed accounts directory.

Outside the unit, the old accounts are still visible in such a directory. It is therefore closed to all users but root: linking a device
by hand, or starting the program outside its unit, then fails loudly instead of using old keys. It remains a directory, because the mount
needs one. Other users can still pass through it to entries that they own.

The receipt records in ``closed``, by real path, the former owner and mode and the inode of each directory. It is written before the
directory is closed, so that the next run can complete a run that was killed in between.
"""

from __future__ import annotations

import os
import typing as t

from .._core.errors import SessionsError
from .._fs.fdopen import DirFd, open_directory, real_path

Document = t.Mapping[str, t.Any]
Note = t.Mapping[str, int]


def closed_in(receipt: Document) -> dict[str, Note]:
    """Return a receipt's records of closed directories, by real path."""
    return {
        str(path): {name: int(note[name]) for name in ("uid", "gid", "mode", "inode")}
        for path, note in receipt.get("closed", {}).items()
    }


def is_closed(path: str, status: os.stat_result, notes: t.Mapping[str, Note]) -> bool:
    """Whether the directory at the real path ``path`` was closed by this collection."""
    return status.st_uid == 0 and path in notes and notes[path]["inode"] == status.st_ino


def still_open(points: t.Iterable[str], owners: t.Collection[int]) -> tuple[str, ...]:
    """Return those of ``points`` (real paths) that must be closed because they belong to one of ``owners`` (uids)."""
    return tuple(
        point for point in points if (status := status_of_point(point)) is not None and status.st_uid in owners
    )


def filled(points: t.Iterable[str], notes: t.Mapping[str, Note]) -> tuple[str, ...]:
    """Return those of ``points``, and of the closed directories in ``notes``, that are not empty."""
    noted = (
        path for path, note in notes.items() if (status := status_of_point(path)) and is_closed(path, status, notes)
    )
    return tuple(point for point in dict.fromkeys((*points, *noted)) if _names(point))


def opened_point(point: str) -> DirFd:
    """Open a directory by its real path. Raises NotADirectoryError if the path contains a symbolic link."""
    directory = open_directory(point)
    if real_path(directory) != point:
        os.close(directory)
        raise NotADirectoryError(point)
    return directory


def status_of_point(point: str) -> os.stat_result | None:
    try:
        directory = opened_point(point)
    except (OSError, SessionsError):
        return None
    try:
        return os.fstat(directory)
    finally:
        os.close(directory)


def _names(point: str) -> list[str]:
    try:
        directory = opened_point(point)
    except (OSError, SessionsError):
        return []
    try:
        return os.listdir(directory)
    finally:
        os.close(directory)
