# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""List accounts that were put aside because another copy won a conflict, and record what each was in a note of the control directory.

Nothing here removes one. To restore an account, stop the backend and rename it back.
"""

from __future__ import annotations

import json
import os
import typing as t

from .._fs.fdopen import DirFd, open_private, opened_below
from .._fs.files import read_file_at
from .control_directory import NOTES, existing_control, write_document_at
from .work_area import DISPLACED, area_path, existing_area


class Displaced(t.NamedTuple):
    """One account that was put aside: its name, the time (``_area.moment``), and its current path."""

    account: str
    moment: str
    path: str


def note(control: DirFd, new_name: str, account: str, source: str) -> None:
    """Record in the open control directory which account is about to be put aside under ``new_name``."""
    notes = open_private(control, NOTES, called="the directory of notes about displaced accounts")
    try:
        known = {"account": account, "from": source, "displaced": _moment_of(new_name)}
        write_document_at(notes, f"{new_name}.json", known)
    finally:
        os.close(notes)


def listed(path: str) -> tuple[Displaced, ...]:
    """Return the accounts put aside from the sessions path ``path``, oldest first. Empty for users without access: only root has it."""
    place = f"{area_path(path)}/{DISPLACED}"
    try:
        with existing_control(path) as control, existing_area(path, control) as area:
            if control is None or area is None:
                return ()
            with opened_below(control, NOTES) as notes, opened_below(area, DISPLACED) as displaced:
                noted = set(os.listdir(notes))
                names = sorted(name for name in os.listdir(displaced) if f"{name}.json" in noted)
                return tuple(Displaced(_account(notes, name), _moment_of(name), f"{place}/{name}") for name in names)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ()


def _account(notes: DirFd, name: str) -> str:
    try:
        known: dict[str, t.Any] = json.loads(read_file_at(notes, f"{name}.json") or b"")
        return str(known["account"])
    except (ValueError, KeyError, TypeError):
        return name


def _moment_of(new_name: str) -> str:
    return new_name.partition("-")[0]
