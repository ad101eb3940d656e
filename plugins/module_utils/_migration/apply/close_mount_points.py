# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Restrict directories that became mount points to root, and restore their owners; see mount_points.py, which only observes them."""

from __future__ import annotations

import contextlib
import os
import stat
import time
import typing as t

from ..._accounts.control_directory import read_document_at, write_document_at
from ..._accounts.mount_points import Note, is_closed, opened_point, status_of_point
from ..._accounts.receipts import RECEIPT
from ..._core.errors import SessionsError
from ..._fs.fdopen import DirFd, open_directory, opened_below, real_path

_MODE = stat.S_IRWXU
_LOOK_AT_MOST = 10.0  # seconds
_DEEPEST = 64


def close(control: DirFd, points: t.Iterable[str], owners: t.Collection[int], gid: int) -> None:
    """Give ``points`` to root and record their former owners. A directory that was replaced in the meantime is left alone.

    If other users own something in a directory, they keep access to it: the directory then gets the group ``gid`` to exclude the service.
    """
    with contextlib.ExitStack() as stack:
        opened: dict[str, DirFd] = {}
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
                # The kernel applies the first matching class of user, group and others.
                _give(opened[point], gid, _MODE | stat.S_IXOTH)
            else:
                _give(opened[point], 0, _MODE)


def _holds_others(directory: DirFd, owners: t.Collection[int], deadline: float, levels: int) -> bool:
    """Return whether another user owns something in an open directory; False if the search takes too long or an entry is replaced."""
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


def _give(directory: DirFd, gid: int, mode: int) -> None:
    """Give an open directory to root."""
    os.fchown(directory, 0, gid)
    os.fchmod(directory, mode)
    os.fsync(directory)


@contextlib.contextmanager
def given_back(
    path: str, notes: t.Mapping[str, Note], uid: int, gid: int, is_bound: t.Callable[[], bool]
) -> t.Iterator[None]:
    """Restore the owner of the closed directories at and below ``path``, because their accounts return; an error closes them again.

    ``uid``, ``gid``: the owner of an empty directory that systemd created for the mount in a later release; its parent must not be
    owned by root. ``is_bound``: called after an error; returns whether the unit still needs its mount there.
    """
    real = os.path.realpath(path)
    modes = [note["mode"] for note in notes.values()]
    with contextlib.ExitStack() as stack:
        changed: dict[DirFd, os.stat_result] = {}
        points = [point for point in notes if point == real or point.startswith(f"{real}/")]
        for point in points or [path] * bool(notes):
            try:
                # Found by its name in a later release: a user who created a symbolic link there must not be given its target.
                directory = opened_point(point) if points else open_directory(point)
            except (OSError, SessionsError):
                continue
            stack.callback(os.close, directory)
            status, note = os.fstat(directory), notes.get(point)
            if status.st_uid != 0 or not (is_closed(point, status, notes) or not os.listdir(directory)):
                continue
            above = status_of_point(os.path.dirname(real_path(directory)))
            if note is None and (above is None or above.st_uid == 0):
                continue  # a directory of the host, to which a user may have redirected root
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
