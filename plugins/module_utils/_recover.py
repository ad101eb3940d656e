# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Deals with what a run that was killed left behind: a cutover that is half done, and what only lies about.

A published account that its backend has written to since must never be taken back: its legacy copy is the older one then.
"""

from __future__ import annotations

import os
import typing as t

from ._companions import clear_companions
from ._control import INTENT, NOTES, open_private, read_document_at, remove_document_at
from ._cutover import lift_leftover_guard
from ._errors import SessionsError
from ._left_over import TEMPORARY, left_over
from ._masking import masked
from ._rescue import TAKING, Opened, is_used, stuck_moves, take_back
from ._staging import clear_staging
from ._tree import remove_tree
from ._unit import Unit

Intent = t.Mapping[str, t.Any]


def recover(control: int, unit: Unit | None, in_use: bool) -> None:
    """Take back what a killed run did, unless the backend works on it already: then it is final, and only the rest goes back.

    ``in_use``: whether the running backend was seen to use the path that accounts were moved to.
    """
    intent = read_document_at(control, INTENT)
    if intent and not intent.get("committed"):
        try:
            if in_use or _is_written(control, intent):
                intent = {**intent, "files": [], "moves": [move for move in intent["moves"] if _is_taking(move)]}
            take_back(intent)
        except OSError as error:
            raise SessionsError(
                f"an earlier run was interrupted, and what it did cannot be undone: {error.strerror}; put that right and run again"
            ) from error
        require_all_taken_back(intent)
    remove_document_at(control, INTENT)
    if unit is not None:
        lift_leftover_guard(unit.name)


def require_all_taken_back(intent: Intent, opened: Opened | None = None) -> None:
    """Stop where an account could not go back to its place: what lies in staging then is no copy but the account itself."""
    stuck = stuck_moves(intent, opened)
    if stuck:
        raise SessionsError(
            f"a run was killed while it moved account {masked(stuck[0]['name'])!r} out of {stuck[0]['source']}, and its backend made "
            "a new one there since, which keeps the old one from going back; move it away and run again"
        )


def tidy(control: int, area: int, unit: Unit | None) -> None:
    """Remove what nothing needs any more: staged copies, temporary files, the intent of a cutover that is done."""
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


def _is_written(control: int, intent: Intent) -> bool:
    announced = os.stat(INTENT, dir_fd=control, follow_symlinks=False).st_mtime_ns
    return is_used(intent, announced)


def _is_taking(move: Intent) -> bool:
    return bool(move["why"] == TAKING)
