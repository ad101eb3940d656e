# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Closes the directories that became mount points to everybody but root, and gives them back; see _mount_points.py, which only looks."""

from __future__ import annotations

import contextlib
import os
import stat
import time
import typing as t

from ._control import read_document_at, write_document_at
from ._errors import SessionsError
from ._layout import opened_below
from ._mount_points import Note, is_closed, opened_point, status_of_point
from ._paths import open_directory, real_path
from ._receipts import RECEIPT

_MODE = stat.S_IRWXU
_LOOK_AT_MOST = 10.0  # seconds
_DEEPEST = 64


def close(control: int, points: t.Iterable[str], owners: t.Collection[int], gid: int) -> None:
    """Give ``points`` to root alone, and write down whose they were. One that was exchanged since it was looked at is left alone.

    Other users who could go through one to what is theirs in it still can: its service is kept out as the group ``gid`` then.
    """
    with contextlib.ExitStack() as stack:
        opened: dict[str, int] = {}
        for point in points:
            with contextlib.suppress(OSError, SessionsError):
                opened[point] = opened_point(point)
                stack.callback(os.close, opened[point])
        statuses = {point: os.fstat(directory) for point, directory in opened.items()}
        own = {point: status for point, status in statuses.items() if status.st_uid in owners}
        if not own:
            return
        receipt = read_document_at(control, RECEIPT)
        notes = {point: _note(status) for point, status in own.items()}
        write_document_at(control, RECEIPT, {**receipt, "closed": {**receipt.get("closed", {}), **notes}})
        deadline = time.monotonic() + _LOOK_AT_MOST
        for point, status in own.items():
            if status.st_mode & stat.S_IXOTH and _holds_others(opened[point], (0, *owners), deadline, _DEEPEST):
                _give(opened[point], gid, _MODE | stat.S_IXOTH)  # of user, group and others the first that fits decides
            else:
                _give(opened[point], 0, _MODE)


def _holds_others(directory: int, owners: t.Collection[int], deadline: float, levels: int) -> bool:
    """Whether something in an open directory belongs to another user; what takes too long to see, or is exchanged meanwhile, does not."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if not levels or time.monotonic() > deadline:
                    return False
                if entry.stat(follow_symlinks=False).st_uid not in owners:
                    return True
                if entry.is_dir(follow_symlinks=False):
                    with opened_below(directory, entry.name) as below:
                        if _holds_others(below, owners, deadline, levels - 1):
                            return True
    except (OSError, SessionsError):
        pass
    return False


def _give(directory: int, gid: int, mode: int) -> None:
    """Give an open directory to root."""
    os.fchown(directory, 0, gid)
    os.fchmod(directory, mode)
    os.fsync(directory)


@contextlib.contextmanager
def given_back(
    path: str, notes: t.Mapping[str, Note], uid: int, gid: int, is_bound: t.Callable[[], bool]
) -> t.Iterator[None]:
    """Open what was closed at ``path`` and below it, because its accounts come back there; an error closes it again.

    ``uid``, ``gid``: whose an empty directory becomes that systemd made for the mount in a later release; it must not lie in one
    of root's. ``is_bound``: asked after an error, whether the unit is still to have its mount there.
    """
    real = os.path.realpath(path)
    modes = [note["mode"] for note in notes.values()]
    with contextlib.ExitStack() as stack:
        changed: dict[int, os.stat_result] = {}
        points = [point for point in notes if point == real or point.startswith(f"{real}/")]
        for point in points or [path] * bool(notes):
            try:
                # By its name in a later release: who made a link on the way must not get what it leads to.
                directory = opened_point(point) if points else open_directory(point)
            except (OSError, SessionsError):
                continue
            stack.callback(os.close, directory)
            status, note = os.fstat(directory), notes.get(point)
            if status.st_uid != 0 or not (is_closed(point, status, notes) or not os.listdir(directory)):
                continue
            above = status_of_point(os.path.dirname(real_path(directory)))
            if note is None and (above is None or above.st_uid == 0):
                continue  # one of the host's own, that a user may have had root led to
            whose = note or {"uid": uid, "gid": gid, "mode": modes[0]}
            os.fchown(directory, whose["uid"], whose["gid"])
            os.fchmod(directory, whose["mode"])
            changed[directory] = status
        try:
            yield
        except BaseException:
            with contextlib.suppress(OSError, SessionsError):
                for directory, status in changed.items() if is_bound() else ():
                    _give(directory, status.st_gid, stat.S_IMODE(status.st_mode))
            raise


def _note(status: os.stat_result) -> dict[str, int]:
    return {
        "uid": status.st_uid,
        "gid": status.st_gid,
        "mode": stat.S_IMODE(status.st_mode),
        "inode": status.st_ino,
    }
