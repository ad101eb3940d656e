# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Keep copies that may be the last ones: those of a container whose layer is lost if it ends while it is copied.

Whatever ends it (the OOM killer, a watchdog, a manual restart) deletes the originals. So a note next to the intent names the source while a
run is copying it, and once that source is gone no copy is undone or cleared.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ..._accounts.control_directory import INTENT, read_document_at, remove_document_at, write_document_at
from ..._accounts.work_area import COMPANIONS, STAGING, boot, moment
from ..._core.errors import SessionsError
from ..._fs.fdopen import DirFd, open_private, real_path
from ..._proc.control_groups import group_of
from ..._proc.procfs import stat_of

_NOTE = "source.json"


def note_source(control: DirFd, identity: str, pid: int) -> None:
    """Record durably that copies are made from the container ``identity``, whose first process is ``pid``."""
    write_document_at(control, _NOTE, {"boot": boot(), "identity": identity, "pid": pid})


def forget_source(control: DirFd) -> None:
    """Record that the copies are no longer needed, or are published."""
    remove_document_at(control, _NOTE)


def is_committed(control: DirFd) -> bool:
    """Return whether all copies are published."""
    return bool(read_document_at(control, INTENT).get("committed"))


def is_source_gone(control: DirFd) -> bool:
    """Return whether the recorded container has ended."""
    note = read_document_at(control, _NOTE)
    return bool(note) and not (note.get("boot") == boot() and _lives(str(note.get("identity")), int(note["pid"])))


@contextlib.contextmanager
def kept_if_last(control: DirFd, area: DirFd, unit: str, path: str) -> t.Iterator[None]:
    """Keep the copies if the body fails and the source is gone; then raises SessionsError with their location."""
    try:
        yield
    except BaseException as error:
        if is_source_gone(control) and not is_committed(control):
            raise _kept(control, area, unit, path) from error
        if is_committed(control) or not read_document_at(control, INTENT):  # else the next run undoes the rest
            forget_source(control)
        raise
    forget_source(control)


def require_none_left(control: DirFd, area: DirFd, unit: str, path: str) -> None:
    """Keep the copies of a killed run if its source is gone. Raises SessionsError with their location, once."""
    if not is_source_gone(control):
        return
    if not is_committed(control) and (_has_copies(area) or read_document_at(control, INTENT)):
        raise _kept(control, area, unit, path)
    forget_source(control)


def _kept(control: DirFd, area: DirFd, unit: str, path: str) -> SessionsError:
    """Put the staged copies aside, and leave the published ones."""
    kept = f"kept-{moment()}"
    if _has_copies(area):
        holder = open_private(area, kept, called=f"{real_path(area)}/{kept}")
        try:
            for name in (STAGING, COMPANIONS):
                with contextlib.suppress(FileNotFoundError):
                    os.rename(name, name, src_dir_fd=area, dst_dir_fd=holder)
            os.fsync(holder)
        finally:
            os.close(holder)
        os.fsync(area)
        where = f"in {real_path(area)}/{kept}, one directory per account, and accounts that were published already are at {path}"
    else:
        where = f"at {path}"
    remove_document_at(control, INTENT)  # else the next run would undo what is published
    forget_source(control)
    return SessionsError(
        f"the container of {unit} ended while its accounts were copied, and they may have been deleted with it; "
        f"the copies were kept: they are {where}. Find out why it ended, check which copies are complete, move them to {path} and run again"
    )


def _has_copies(area: DirFd) -> bool:
    for name in (STAGING, COMPANIONS):
        with contextlib.suppress(FileNotFoundError):
            directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=area)
            try:
                if os.listdir(directory):
                    return True
            finally:
                os.close(directory)
    return False


def _lives(identity: str, pid: int) -> bool:
    try:
        return stat_of(pid).state not in "ZX" and identity in group_of(pid)
    except OSError:
        return False
