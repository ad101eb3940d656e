# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Stages what is not in an account's directory: what belongs to one account elsewhere below its root, and what lies beside all of them.

Each entry is staged in a directory that is called by the entry's number, so that entries of one name do not get in each other's way.
"""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from ._area import open_private
from ._copy import Rules, digest_of
from ._kernel import rename_new
from ._layout import is_folder, opened_below
from ._stores import bring_stores, put_stores
from ._tree import Tally, bring_entry, hand_over_entry, remove_tree, same_content

_CALLED = "a directory in the staging area"


def bring_entries(root: int, holder: int, paths: t.Mapping[int, str], rules: Rules) -> Tally:
    """Make the staged copies of ``paths``, relative to the open ``root``, equal to what is there; what is not there is not staged."""
    tally = Tally()
    for number, path in paths.items():
        try:
            with _opened_parent(root, path) as (parent, name):
                tally.add(_bring(parent, holder, number, name, rules))
        except (FileNotFoundError, NotADirectoryError):
            remove_tree(holder, str(number))
    return tally


def take_entries(root: int, holder: int, paths: t.Sequence[str], rules: Rules) -> Tally:
    """Move ``paths``, relative to the open ``root``, into the staging area as they are, and give them to their new owner there."""
    tally = Tally()
    for number, path in enumerate(paths):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), _opened_parent(root, path) as (parent, name):
            if _is_file_or_directory(parent, name):
                with _opened_slot(holder, str(number)) as slot:
                    rename_new(parent, name, slot, name)
                    tally.add(hand_over_entry(slot, name, rules))
    return tally


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
            return _is_file_or_directory(parent, name)
    except (FileNotFoundError, NotADirectoryError):
        return False


def same_entries(one: int, other: int, paths: t.Sequence[str], is_volatile: t.Callable[[str], t.Any]) -> bool:
    """Whether two open roots have the same content at each of the relative ``paths``."""
    return all(_same_entry(one, other, path, is_volatile) for path in paths)


def bring_database(root: int, holder: int, number: int, path: str, rules: Rules) -> None:
    """Stage a database that lies at the relative ``path`` as one file; nobody may write to it any more. Raises UnfitTree, OSError."""
    remove_tree(holder, str(number))
    with (
        _opened_parent(root, path) as (parent, name),
        _opened_slot(holder, str(number)) as slot,
        _opened_slot(holder, f"{number}.raw") as raw,
    ):
        bring_stores(parent, raw, [name], rules, {})
        put_stores(raw, slot, [name], rules)


def _bring(parent: int, holder: int, number: int, name: str, rules: Rules) -> Tally:
    if not _is_file_or_directory(parent, name):
        remove_tree(holder, str(number))
        return Tally(left_out=1)
    with _opened_slot(holder, str(number)) as slot:
        return bring_entry(parent, slot, name, rules)


def _is_file_or_directory(parent: int, name: str) -> bool:
    mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


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
