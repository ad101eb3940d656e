# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Takes over what earlier releases kept in the area next to a sessions path: receipt, intent, notes, accounts in transit between hosts.

Only if no other user than root can have written it. If another user owns a parent directory, such an area is set aside unread (see
work_area.py).
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ..._accounts.control_directory import INTENT, NOTES, read_document_at, remove_document_at, write_document_at
from ..._accounts.work_area import DISPLACED
from ..._core.errors import SessionsError
from ..._fs.fdopen import DirFd, open_private
from ..._fs.syscalls import rename_new
from .rescue import boot, identity_of, open_real

_IN_TRANSIT = ("outbox", "inbox")


def take_over(path: str, control: DirFd, area: DirFd, documents: t.Iterable[str]) -> None:
    """Move what an earlier release left in the open area of ``path`` to the open control directory. Idempotent."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink("rescue.py", dir_fd=area)
    for name in documents:
        document = read_document_at(area, name)
        if document and not read_document_at(control, name):
            write_document_at(control, name, _with_folders(document) if name == INTENT else document)
        remove_document_at(area, name)
    _take_notes(control, area)
    for name in _IN_TRANSIT:
        _take_folder(path, control, area, name)


def _with_folders(intent: dict[str, t.Any]) -> dict[str, t.Any]:
    """Add the identities of the directories to an intent: those that exist now, which only root can have replaced."""
    folders = {}
    for folder in {move[end] for move in intent["moves"] for end in ("source", "target")}:
        with contextlib.suppress(FileNotFoundError):
            descriptor = DirFd(open_real(folder))
            folders[folder] = identity_of(descriptor)
            os.close(descriptor)
    files = [{**file, "folder": None} for file in intent["files"]]
    return {**intent, "version": 2, "boot": boot(), "folders": folders, "files": files}


def _take_notes(control: DirFd, area: DirFd) -> None:
    displaced = open_private(area, DISPLACED, called="the directory of displaced accounts")
    try:
        notes = [name for name in os.listdir(displaced) if name.endswith(".json")]
        if not notes:
            return
        kept = open_private(control, NOTES, called="the directory of notes about displaced accounts")
        try:
            for name in notes:
                write_document_at(kept, name, read_document_at(displaced, name))
                remove_document_at(displaced, name)
        finally:
            os.close(kept)
    finally:
        os.close(displaced)


def _take_folder(path: str, control: DirFd, area: DirFd, name: str) -> None:
    if name not in os.listdir(area):
        return
    try:
        rename_new(area, name, control, name)
    except OSError as error:
        raise SessionsError(
            f"accounts of a move between hosts, which an earlier release kept in {name} of the area of {path}, cannot be taken over "
            f"({error.strerror}); finish that move with the earlier release, or move the directory away, and run again"
        ) from error
