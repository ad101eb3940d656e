# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The directories where a program looks for its accounts, once the sessions path is mounted there for its unit.

Outside of the unit the old accounts still lie there. So the directory is closed to everybody but root: who links a device by hand, or
starts the program outside of its unit, fails loudly instead of using old keys. It has to stay a directory, for the mount needs one.
Other users keep the way through it to what is theirs in it.

The receipt keeps in ``closed``, by real path, whose a directory was, with which mode, and which one it is; it is written before the
directory is closed, so that a run that is killed in between leaves something that the next one completes.
"""

from __future__ import annotations

import os
import typing as t

from ._errors import SessionsError
from ._paths import open_directory, real_path

Document = t.Mapping[str, t.Any]
Note = t.Mapping[str, int]


def closed_in(receipt: Document) -> dict[str, Note]:
    """Return what a receipt says about closed directories, by real path."""
    return {
        str(path): {name: int(note[name]) for name in ("uid", "gid", "mode", "inode")}
        for path, note in receipt.get("closed", {}).items()
    }


def is_closed(path: str, status: os.stat_result, notes: t.Mapping[str, Note]) -> bool:
    """Whether the directory at the real path ``path`` is one that was closed."""
    return status.st_uid == 0 and path in notes and notes[path]["inode"] == status.st_ino


def still_open(points: t.Iterable[str], owners: t.Collection[int]) -> tuple[str, ...]:
    """Return those of ``points`` (real paths) that can and have to be closed: they belong to one of ``owners``."""
    return tuple(
        point for point in points if (status := status_of_point(point)) is not None and status.st_uid in owners
    )


def filled(points: t.Iterable[str], notes: t.Mapping[str, Note]) -> tuple[str, ...]:
    """Return those of ``points``, and of the directories in ``notes``, that hold something."""
    noted = (
        path for path, note in notes.items() if (status := status_of_point(path)) and is_closed(path, status, notes)
    )
    return tuple(point for point in dict.fromkeys((*points, *noted)) if _names(point))


def opened_point(point: str) -> int:
    """Open a directory by its real path: a link on the way leads nowhere."""
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
