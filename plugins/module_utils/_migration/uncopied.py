# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Count entries in a container's directory of accounts that are not copied: a mount over that directory would hide them."""

from __future__ import annotations

import os
import stat
import typing as t

from .._containers.view import opened_plain
from .._core.names import is_area
from .._fs.fdopen import DirFd, names_in, opened_below, status_of

if t.TYPE_CHECKING:
    from .survey import Survey

_OF_DATABASES = ("-wal", "-shm", "-journal")  # copied with their database


def not_copied(root: str, seen: Survey) -> int:
    """Count the entries of ``root`` that are neither accounts, nor migrated with them, nor recreated by the library."""
    accounts = {account.name for account in seen.accounts}
    if "." in accounts:
        return 0  # all of it is one account
    parts = {part for account in accounts for part in seen.layout.sidecars_of(account)}
    copied = accounts | parts | {companion.name for companion in seen.companions}
    above = {""}
    for path in copied:
        while path:
            path = path.rpartition("/")[0]
            above.add(path)
    with opened_plain(root) as directory:
        return sum(_not_copied_in(directory, place, copied, above, seen) for place in above - copied)


def _not_copied_in(root: DirFd, place: str, copied: t.Collection[str], above: t.Collection[str], seen: Survey) -> int:
    try:
        with opened_below(root, place or ".") as directory:
            names = [name for name in names_in(directory) if not (is_area(name) or _is_empty_folder(directory, name))]
    except (FileNotFoundError, NotADirectoryError):
        return 0
    paths = [f"{place}/{name}" if place else name for name in names if not seen.layout.is_volatile(name)]
    return sum(path not in copied and path not in above and not _is_of_database(path, copied) for path in paths)


def _is_of_database(path: str, copied: t.Collection[str]) -> bool:
    return any(path.endswith(ending) and path[: -len(ending)] in copied for ending in _OF_DATABASES)


def _is_empty_folder(directory: DirFd, name: str) -> bool:
    status = status_of(directory, name)
    if status is None:
        return True  # the entry is gone
    if not stat.S_ISDIR(status.st_mode):
        return False
    try:
        with opened_below(directory, name) as below, os.scandir(below) as entries:
            return next(entries, None) is None
    except (FileNotFoundError, NotADirectoryError):
        return False
