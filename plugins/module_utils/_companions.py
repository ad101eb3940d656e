# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Stages what lies beside the accounts of a legacy path and travels with them as it is: indexes, settings, databases of the program."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ._area import COMPANIONS, open_private
from ._beside import bring_database, bring_entries, slot_of
from ._copy import UnfitTree
from ._errors import SessionsError
from ._index import NOTHING, read_index, write_index
from ._paths import opened_directory
from ._staging import Stage
from ._survey import Companion
from ._tree import Index, remove_tree

_INDEX = "index"


def bring_companions(stage: Stage, companions: t.Sequence[Companion]) -> None:
    """Copy them while their program may be writing; a database waits until it does not."""
    if companions:
        with _opened_holder(stage) as holder:
            _bring(stage, holder, [companion for companion in companions if not _is_database(stage, companion)])


def finish_companions(stage: Stage, companions: t.Sequence[Companion]) -> None:
    """Bring the copies up to date with what nobody writes to any more."""
    bring_companions(stage, companions)
    databases = [companion for companion in companions if _is_database(stage, companion)]
    if databases:
        with _opened_holder(stage) as holder:
            for companion in databases:
                with opened_directory(companion.root) as root:
                    bring_database(root, holder, companion.name, stage.whole_rules(os.fstat(root).st_uid))


def _bring(stage: Stage, holder: int, companions: t.Sequence[Companion]) -> None:
    known = read_index(holder, _INDEX, stage.made)
    fresh: dict[str, Index] = {}
    for companion in companions:
        with opened_directory(companion.root) as root:
            rules = stage.whole_rules(os.fstat(root).st_uid)
            fresh.update(bring_entries(root, holder, [companion.name], rules, known.beside)[0])
    for name in set(os.listdir(holder)).difference([_INDEX, *map(slot_of, fresh)]):
        remove_tree(holder, name)
    write_index(holder, _INDEX, stage.made, NOTHING._replace(beside=fresh))


@contextlib.contextmanager
def _opened_holder(stage: Stage) -> t.Iterator[int]:
    holder = open_private(stage.area, COMPANIONS, called="the staging area of companions")
    try:
        yield holder
    except UnfitTree as error:
        raise SessionsError(f"cannot copy what lies beside the accounts: {error}; nothing was published") from error
    finally:
        os.close(holder)


def _is_database(stage: Stage, companion: Companion) -> bool:
    return stage.layout.database_matcher(companion.name.rpartition("/")[2]) is not None
