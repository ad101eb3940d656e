# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Stage files that accounts of a legacy path share and that are migrated unchanged: indexes, settings, databases of the program."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ..._accounts.copy_index import NOTHING, read_index, write_index
from ..._accounts.extras import bring_database, bring_entries, slot_of
from ..._accounts.work_area import COMPANIONS
from ..._core.errors import SessionsError
from ..._fs.copy_file import UnfitTree
from ..._fs.copy_tree import Index, remove_tree
from ..._fs.fdopen import DirFd, open_private, opened_directory
from ..owners import companion_owners
from ..survey import Companion
from .stage import Stage

_INDEX = "index"


def bring_companions(stage: Stage, companions: t.Sequence[Companion]) -> None:
    """Copy companions while their program may be writing, except databases, which have to wait until it is stopped."""
    if companions:
        with _opened_holder(stage) as holder:
            _bring(stage, holder, [companion for companion in companions if not _is_database(stage, companion)])


def finish_companions(stage: Stage, companions: t.Sequence[Companion]) -> int:
    """Update the copies after all writers have stopped, and copy databases; return how many of these SQLite could not read."""
    bring_companions(stage, companions)
    unread = 0
    databases = [companion for companion in companions if _is_database(stage, companion)]
    if databases:
        with _opened_holder(stage) as holder:
            for companion in databases:
                with _opened_root(companion) as root:
                    unread += not bring_database(root, holder, companion.name, stage.strict_rules(companion.owners))
    return unread


def clear_companions(area: DirFd) -> None:
    """Remove the copies, their index first, as staging.py does."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(f"{COMPANIONS}/{_INDEX}", dir_fd=area)
    remove_tree(area, COMPANIONS)


def _bring(stage: Stage, holder: DirFd, companions: t.Sequence[Companion]) -> None:
    known = read_index(holder, _INDEX, stage.made)
    fresh: dict[str, Index] = {}
    for companion in companions:
        with _opened_root(companion) as root:
            rules = stage.strict_rules(companion.owners)
            fresh.update(bring_entries(root, holder, [companion.name], rules, known.parts)[0])
    for name in set(os.listdir(holder)).difference([_INDEX, *map(slot_of, fresh)]):
        remove_tree(holder, name)
    write_index(holder, _INDEX, stage.made, NOTHING._replace(parts=fresh))


@contextlib.contextmanager
def _opened_root(companion: Companion) -> t.Iterator[DirFd]:
    """Open the directory of a companion. Raises UnfitTree if its owner differs from the one observed earlier."""
    with opened_directory(companion.root) as root:
        if not companion_owners(companion.owners, os.fstat(root)):
            raise UnfitTree("the legacy path was replaced by a directory of another user; check what it is")
        yield root


@contextlib.contextmanager
def _opened_holder(stage: Stage) -> t.Iterator[DirFd]:
    holder = open_private(stage.area, COMPANIONS, called="the staging area of companions")
    try:
        yield holder
    except UnfitTree as error:
        raise SessionsError(f"cannot copy files that the accounts share: {error}; nothing was published") from error
    finally:
        os.close(holder)


def _is_database(stage: Stage, companion: Companion) -> bool:
    return stage.layout.database_matcher(companion.name.rpartition("/")[2]) is not None
