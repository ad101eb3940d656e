# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Stage what is outside an account's directory: other entries of one account below its root, and files that all accounts share.

Each entry is staged in a directory of its own, so that entries with the same name do not collide.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from .._core.masking import account_key
from .._fs.copy_file import Rules
from .._fs.copy_tree import Index, bring_entry, remove_tree
from .._fs.fdopen import DirFd, exists, open_private, opened_parent
from .._fs.walk_tree import Tally
from .._layouts.sqlite import DamagedStore, bring_stores, put_as_it_is, put_stores
from .entries import is_kept

_CALLED = "a directory in the staging area"


def slot_of(path: str) -> str:
    """Return the name of the directory that the entry at the relative ``path`` is staged in."""
    return account_key(path)


def bring_entries(
    root: DirFd, holder: DirFd, paths: t.Sequence[str], rules: Rules, known: t.Mapping[str, Index]
) -> tuple[dict[str, Index], Tally]:
    """Synchronise the staged copies of ``paths`` with the entries below the open ``root``; copies of missing entries are removed.

    ``known``: the index of the previous pass per path. Returns the new index per path, and the totals.
    """
    tally = Tally()
    fresh: dict[str, Index] = {}
    for path in paths:
        if not is_kept(root, path):
            remove_tree(holder, slot_of(path))
            continue
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),  # removed in the meantime
            opened_parent(root, path) as (parent, name),
            opened_slot(holder, slot_of(path)) as slot,
        ):
            fresh[path], figures = bring_entry(parent, slot, name, rules, known.get(path, {}))
            tally.add(figures)
    return fresh, tally


def bring_database(root: DirFd, holder: DirFd, path: str, rules: Rules) -> bool:
    """Stage the database at the relative ``path`` as one file. No process may write to it meanwhile. Raises UnfitTree, OSError.

    A file without a log that SQLite cannot read is copied as it is, because other programs may use the same file name. Returns whether
    it is a database.
    """
    remove_tree(holder, slot_of(path))
    with (
        opened_parent(root, path) as (parent, name),
        opened_slot(holder, slot_of(path)) as slot,
        opened_slot(holder, f"{slot_of(path)}.raw") as raw,
    ):
        bring_stores(parent, raw, [name], rules, {})
        try:
            put_stores(raw, slot, [name], rules)
            return True
        except DamagedStore:
            if any(exists(parent, name + suffix) for suffix in ("-wal", "-journal")):
                raise
            put_as_it_is(parent, slot, name, rules)
            return False


@contextlib.contextmanager
def opened_slot(holder: DirFd, name: str) -> t.Iterator[DirFd]:
    """Open the directory in the staging area that one entry is staged in, creating it if necessary."""
    slot = open_private(holder, name, called=_CALLED)
    try:
        yield slot
    finally:
        os.close(slot)
