# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Retires a legacy path after its accounts were moved: renames it and leaves a tombstone in its place.

An old release that falls back to its relative path then fails loudly, instead of starting a second client with old keys.
"""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from ..._accounts.tombstone import leave_tombstone, take_tombstone
from ..._accounts.work_area import moment
from ..._core.errors import SessionsError
from ..._fs.fdopen import READ_FLAGS, DirFd, open_private
from ..._fs.syscalls import rename_new
from ..owners import has_foreign_below
from ..retirable import Retirement
from .rescue import open_real


def retire(retirements: t.Sequence[Retirement], path: str) -> None:
    """Rename each entry to ``<name>.migrated-<time>``, accessible to root only; a file that names the new path replaces a directory.

    Raises SessionsError if an entry cannot be renamed (such as a mount point) or now belongs to another user.
    """
    now = moment()
    for retirement in retirements:
        try:
            if retirement.emptied:
                _empty(retirement, now)
            else:
                _retire_one(retirement, f"The accounts of this directory were moved to {path} at {now}.", now)
        except OSError as error:
            raise SessionsError(
                f"the accounts are in {path}, but the legacy path {retirement.root} cannot be retired: {error.strerror}; "
                "fix that and run again, or keep it with state=migrated"
            ) from error


@contextlib.contextmanager
def without_tombstone(path: str) -> t.Iterator[None]:
    """Remove a tombstone at ``path``, because accounts return to it; if the body fails, create it again."""
    directory, name = os.path.split(os.path.realpath(path))
    try:
        parent = DirFd(open_real(directory))
    except (FileNotFoundError, NotADirectoryError):  # it does not exist yet
        yield
        return
    try:
        text = take_tombstone(parent, name, path)
        try:
            yield
        except BaseException:
            if text is not None:
                with contextlib.suppress(FileExistsError):  # the path exists, so no backend starts on an empty path
                    leave_tombstone(parent, name, text)
            raise
    finally:
        os.close(parent)


def _retire_one(retirement: Retirement, text: str, now: str) -> None:
    directory, name = os.path.split(retirement.path)
    with contextlib.ExitStack() as stack:
        parent = DirFd(open_real(directory))
        stack.callback(os.close, parent)
        entry = os.open(name, READ_FLAGS, dir_fd=parent)
        stack.callback(os.close, entry)
        status = os.fstat(entry)
        _require_owned(status, retirement)
        holder = _holder(retirement.root, now) if retirement.apart else DirFd(os.dup(parent))
        stack.callback(os.close, holder)
        aside = retirement.name.replace("/", "!") if retirement.apart else f"{name}.migrated-{now}"
        rename_new(parent, name, holder, aside)
        moved = os.stat(aside, dir_fd=holder, follow_symlinks=False)
        if (moved.st_dev, moved.st_ino) != (status.st_dev, status.st_ino):
            rename_new(holder, aside, parent, name)
            raise _exchanged(retirement)
        _close_to_others(entry)
        if stat.S_ISDIR(status.st_mode):
            if has_foreign_below(DirFd(entry), retirement.owners):  # checked when no other user can change its content
                _open_to_owner(entry, status)
                rename_new(holder, aside, parent, name)
                raise _exchanged(retirement)
            leave_tombstone(parent, name, text)
        os.fsync(holder)
        os.fsync(parent)


def _empty(retirement: Retirement, now: str) -> None:
    """Move the content of a mount point to a directory next to it: the running backend has its accounts mounted over it.

    Its owner is not changed: closing it does that and records it for the rollback, in this run or the next.
    """
    with contextlib.ExitStack() as stack:
        point = DirFd(open_real(retirement.root))
        stack.callback(os.close, point)
        if retirement.owners and has_foreign_below(point, retirement.owners):
            raise _exchanged(retirement)
        holder = _holder(retirement.root, now)
        stack.callback(os.close, holder)
        for name in sorted(os.listdir(point)):
            rename_new(point, name, holder, name)
        os.fsync(holder)
        os.fsync(point)


def _require_owned(status: os.stat_result, retirement: Retirement) -> None:
    is_folder_or_single = stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1)
    if status.st_uid not in retirement.owners or not is_folder_or_single:
        raise _exchanged(retirement)


def _exchanged(retirement: Retirement) -> SessionsError:
    return SessionsError(
        f"an entry of the legacy path {retirement.root} was replaced with one of another user while it was being retired, and was left in "
        "place; the accounts are at the sessions path: check what it is, and run again"
    )


def _holder(root: str, now: str) -> DirFd:
    """Create and open the directory next to a legacy root that its content is moved to."""
    directory, name = os.path.split(root)
    parent = DirFd(open_real(directory))
    try:
        return open_private(parent, f"{name}.migrated-{now}", called=f"{root}.migrated-{now}")
    finally:
        os.close(parent)


def _open_to_owner(entry: int, status: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.fchown(entry, status.st_uid, status.st_gid)
    os.fchmod(entry, stat.S_IMODE(status.st_mode))


def _close_to_others(entry: int) -> None:
    """Give the open renamed entry to root only."""
    if os.geteuid() == 0:
        os.fchown(entry, 0, 0)
    os.fchmod(entry, stat.S_IRWXU if stat.S_ISDIR(os.fstat(entry).st_mode) else stat.S_IRUSR | stat.S_IWUSR)
