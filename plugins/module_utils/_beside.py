# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Stages what is not in an account's directory: what belongs to one account elsewhere below its root, and what lies beside all of them.

Each entry is staged in a directory of its own, so that entries of one name do not get in each other's way.
"""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from ._control import open_private
from ._copy import Rules, digest_of
from ._kernel import rename_new
from ._layout import exists, is_folder, opened_below
from ._receipts import account_key
from ._stores import DamagedStore, bring_stores, put_as_it_is, put_stores
from ._tree import Fit, Index, Tally, bring_entry, hand_over_entry, remove_tree, require_entry_fit, same_content

_CALLED = "a directory in the staging area"


def slot_of(path: str) -> str:
    """Return the name of the directory that the entry at the relative ``path`` is staged in."""
    return account_key(path)


def bring_entries(
    root: int, holder: int, paths: t.Sequence[str], rules: Rules, known: t.Mapping[str, Index]
) -> tuple[dict[str, Index], Tally]:
    """Make the staged copies of ``paths``, relative to the open ``root``, equal to what is there; what is not there is not staged.

    ``known`` is what the pass before returned, per path.
    """
    tally = Tally()
    fresh: dict[str, Index] = {}
    for path in paths:
        if not is_kept(root, path):
            remove_tree(holder, slot_of(path))
            continue
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),  # it was removed since
            _opened_parent(root, path) as (parent, name),
            _opened_slot(holder, slot_of(path)) as slot,
        ):
            fresh[path], figures = bring_entry(parent, slot, name, rules, known.get(path, {}))
            tally.add(figures)
    return fresh, tally


def take_entries(root: int, holder: int, paths: t.Sequence[str], rules: Rules) -> Tally:
    """Move ``paths``, relative to the open ``root``, into the staging area as they are, and give them to their new owner there."""
    tally = Tally()
    for path in paths:
        if is_kept(root, path):
            with _opened_parent(root, path) as (parent, name), _opened_slot(holder, slot_of(path)) as slot:
                rename_new(parent, name, slot, name)
                tally.add(hand_over_entry(slot, name, rules))
    return tally


def require_entries_fit(root: int, paths: t.Sequence[str], rules: Rules, fit: Fit) -> None:
    """Raise UnfitTree for what bring_entries, or take_entries, would raise it for: see require_fit."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), _opened_parent(root, path) as (parent, name):
            require_entry_fit(parent, name, rules, fit)


def measure_entries(root: int, paths: t.Sequence[str]) -> Tally:
    """Count the files among ``paths``, which are relative to the open ``root``."""
    tally = Tally()
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), _opened_parent(root, path) as (parent, name):
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            tally.add(Tally(files=1, bytes=status.st_size, newest_ns=status.st_mtime_ns))
    return tally


def is_kept(root: int, path: str) -> bool:
    """Whether something that is staged is at the relative ``path``: links, sockets and the like are not."""
    try:
        with _opened_parent(root, path) as (parent, name):
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            return stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def same_entries(one: int, other: int, paths: t.Sequence[str], is_volatile: t.Callable[[str], t.Any]) -> bool:
    """Whether two open roots have the same content at each of the relative ``paths``."""
    return all(_same_entry(one, other, path, is_volatile) for path in paths)


def bring_database(root: int, holder: int, path: str, rules: Rules) -> bool:
    """Stage the database at the relative ``path`` as one file; nobody may write to it any more. Raises UnfitTree, OSError.

    What SQLite cannot read, and has no log, is staged as it is, for other programs call other files so, too. Returns whether it is one.
    """
    remove_tree(holder, slot_of(path))
    with (
        _opened_parent(root, path) as (parent, name),
        _opened_slot(holder, slot_of(path)) as slot,
        _opened_slot(holder, f"{slot_of(path)}.raw") as raw,
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


def _same_entry(one: int, other: int, path: str, is_volatile: t.Callable[[str], t.Any]) -> bool:
    kept = is_kept(one, path), is_kept(other, path)
    if not all(kept):
        return not any(kept)
    with _opened_parent(one, path) as (left, name), _opened_parent(other, path) as (right, _name):
        folders = is_folder(left, name), is_folder(right, name)
        if not any(folders):
            return digest_of(left, name) == digest_of(right, name)
        with opened_below(left, name) as below, opened_below(right, name) as other_below:
            return all(folders) and same_content(below, other_below, is_volatile)


@contextlib.contextmanager
def _opened_parent(root: int, path: str) -> t.Iterator[tuple[int, str]]:
    folder, _slash, name = path.rpartition("/")
    with opened_below(root, folder or ".") as parent:
        yield parent, name


@contextlib.contextmanager
def _opened_slot(holder: int, name: str) -> t.Iterator[int]:
    slot = open_private(holder, name, called=_CALLED)
    try:
        yield slot
    finally:
        os.close(slot)
