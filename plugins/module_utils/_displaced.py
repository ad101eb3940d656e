# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Accounts that were put aside because another copy of them won: what each was, in a note beside it, and the list of them.

Nothing here may remove one. The way back is one rename, with the backend stopped.
"""

from __future__ import annotations

import json
import os
import typing as t

from ._area import DISPLACED, area_path, open_private, write_document_at
from ._paths import opened_directory, read_file_at


class Displaced(t.NamedTuple):
    """One account that was put aside: its name, the moment (``_area.moment``), and where it is now."""

    account: str
    moment: str
    path: str


def note(area: int, new_name: str, account: str, source: str) -> None:
    """Write down, in the open area, what the account is that is about to be put aside under ``new_name``."""
    displaced = open_private(area, DISPLACED, called="the directory of displaced accounts")
    try:
        known = {"account": account, "from": source, "displaced": _moment_of(new_name)}
        write_document_at(displaced, f"{new_name}.json", known)
    finally:
        os.close(displaced)


def listed(path: str) -> tuple[Displaced, ...]:
    """List what was put aside from the sessions path ``path``, oldest first. Empty for who may not look: only root may."""
    place = f"{area_path(path)}/{DISPLACED}"
    try:
        with opened_directory(place) as displaced:
            entries = set(os.listdir(displaced))
            names = sorted(name for name in entries if f"{name}.json" in entries)
            return tuple(Displaced(_account(displaced, name), _moment_of(name), f"{place}/{name}") for name in names)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return ()


def _account(displaced: int, name: str) -> str:
    try:
        known: dict[str, t.Any] = json.loads(read_file_at(displaced, f"{name}.json") or b"")
        return str(known["account"])
    except (ValueError, KeyError, TypeError):
        return name


def _moment_of(new_name: str) -> str:
    return new_name.partition("-")[0]
