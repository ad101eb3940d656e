# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Deals with what a run that was killed left behind: a cutover that is half done, and what only lies about.

A published account that its backend has written to since must never be taken back: its legacy copy is the older one then.
"""

from __future__ import annotations

import os
import typing as t

from ._area import DISPLACED, INTENT, open_private, read_document_at, remove_document_at
from ._cutover import lift_leftover_guard
from ._errors import SessionsError
from ._left_over import TEMPORARY, left_over
from ._masking import masked
from ._rescue import TAKING, is_used, stuck_moves, take_back
from ._sources import is_in_use, values_in_use
from ._staging import clear_staging
from ._tree import remove_tree
from ._unit import Unit

Intent = t.Mapping[str, t.Any]


def recover(area: int, unit: Unit | None, path: str) -> None:
    """Take back what a killed run did, unless the backend works on it already: then it is final, and only the rest goes back."""
    intent = read_document_at(area, INTENT)
    if intent and not intent.get("committed"):
        if _is_used(area, intent, unit, path):
            intent = {**intent, "files": [], "moves": [move for move in intent["moves"] if _is_taking(move)]}
        take_back(intent)
        require_all_taken_back(intent)
    remove_document_at(area, INTENT)
    if unit is not None:
        lift_leftover_guard(unit.name)


def require_all_taken_back(intent: Intent) -> None:
    """Stop where an account could not go back to its place: what lies in staging then is no copy but the account itself."""
    stuck = stuck_moves(intent)
    if stuck:
        raise SessionsError(
            f"a run was killed while it moved account {masked(stuck[0]['name'])!r} out of {stuck[0]['source']}, and its backend made "
            "a new one there since, which keeps the old one from going back; move it away and run again"
        )


def tidy(area: int, unit: Unit | None) -> None:
    """Remove what nothing needs any more: staged copies, temporary files, the intent of a cutover that is done."""
    remove_document_at(area, INTENT)
    clear_staging(area)
    for name in list(left_over(area)):
        remove_tree(area, name)
    displaced = open_private(area, DISPLACED, called="the directory of displaced accounts")
    try:
        for name in filter(TEMPORARY.fullmatch, os.listdir(displaced)):
            remove_tree(displaced, name)
    finally:
        os.close(displaced)
    if unit is not None:
        lift_leftover_guard(unit.name)


def _is_used(area: int, intent: Intent, unit: Unit | None, path: str) -> bool:
    if unit is not None and unit.main_pid and is_in_use(path, values_in_use(unit.main_pid)):
        return True
    announced = os.stat(INTENT, dir_fd=area, follow_symlinks=False).st_mtime_ns
    return is_used(intent, announced)


def _is_taking(move: Intent) -> bool:
    return bool(move["why"] == TAKING)
