# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Recovers from a killed run: undoes a half-finished cutover and removes leftovers.

Publishing an account must never be undone once its backend has written to it, because its legacy copy is older.
"""

from __future__ import annotations

import os
import typing as t

from ..._accounts.control_directory import INTENT, NOTES, read_document_at, remove_document_at
from ..._accounts.leftovers import TEMPORARY, left_over
from ..._core.errors import SessionsError
from ..._core.masking import masked
from ..._fs.copy_tree import remove_tree
from ..._fs.fdopen import DirFd, open_private
from ..._systemd.unit import Unit
from .companions import clear_companions
from .guard import lift_leftover_guard
from .rescue import Intent, Move, MoveKind, Opened, is_used, undo_moves, unreversible_moves
from .staging_area import clear_staging


def recover(control: DirFd, unit: Unit | None, in_use: bool) -> None:
    """Undo what a killed run did. If the backend already uses the published accounts, only accounts that are still staged are returned.

    ``in_use``: whether the running backend is known to use the path that accounts were moved to.
    """
    intent = t.cast(Intent, read_document_at(control, INTENT))
    if intent and not intent.get("committed"):
        try:
            if in_use or _is_written(control, intent):
                intent = intent.copy()
                intent["files"], intent["moves"] = [], [move for move in intent["moves"] if _is_taking(move)]
            undo_moves(intent)
        except OSError as error:
            raise SessionsError(
                f"an earlier run was interrupted, and its changes cannot be undone: {error.strerror}; fix that and run again"
            ) from error
        require_all_taken_back(intent)
    remove_document_at(control, INTENT)
    if unit is not None:
        lift_leftover_guard(unit.name)


def require_all_taken_back(intent: Intent, opened: Opened | None = None) -> None:
    """Raise SessionsError if an account could not be moved back: then staging contains the account itself, not a copy."""
    stuck = unreversible_moves(intent, opened)
    if stuck:
        raise SessionsError(
            f"a run was killed while it moved account {masked(stuck[0]['name'])!r} out of {stuck[0]['source']}, and the backend has "
            "created a new account of that name since, so the old one cannot be moved back; move the new one away and run again"
        )


def tidy(control: DirFd, area: DirFd, unit: Unit | None) -> None:
    """Remove what is no longer needed: staged copies, temporary files, the intent of a finished cutover."""
    remove_document_at(control, INTENT)
    clear_staging(area)
    clear_companions(area)
    for directory in (control, area):
        for name in list(left_over(directory)):
            remove_tree(directory, name)
    notes = open_private(control, NOTES, called="the directory of notes about displaced accounts")
    try:
        for name in filter(TEMPORARY.fullmatch, os.listdir(notes)):
            remove_tree(notes, name)
    finally:
        os.close(notes)
    if unit is not None:
        lift_leftover_guard(unit.name)


def _is_written(control: DirFd, intent: Intent) -> bool:
    announced = os.stat(INTENT, dir_fd=control, follow_symlinks=False).st_mtime_ns
    return is_used(intent, announced)


def _is_taking(move: Move) -> bool:
    return move["why"] == MoveKind.TAKING
