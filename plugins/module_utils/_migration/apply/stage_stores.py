# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The databases of staged accounts: copied file by file while a backend writes, combined and checked by SQLite."""

from __future__ import annotations

import os
import typing as t

from ..._fs.walk_tree import Tally
from ..._layouts.sqlite import Records, bring_stores, may_be_damaged, put_store, store_names, try_stores
from .staging_area import Opened, StagedCopy, forget_index, opened_copies

if t.TYPE_CHECKING:
    pass


def bring_stores_of(copy: StagedCopy, opened: Opened, known: Records) -> tuple[Records, Tally]:
    """Copy the files of databases that differ from what is ``known``; return what is known then."""
    layout, source = copy.stage.layout, opened.source
    if not layout.databases:
        return {}, Tally()
    with copy.opened_stores(opened.staging) as scratch:
        rules = copy.stage.rules(os.fstat(source).st_uid)
        return bring_stores(source, scratch, store_names(source, layout), rules, known)


def known_stores(copy: StagedCopy) -> Records:
    """Return what is known of the copied databases."""
    with opened_copies(copy.stage.area) as staging:
        return copy.known(staging).stores


def are_sound(copy: StagedCopy, names: t.Collection[str]) -> bool:
    """Whether SQLite finds none of the copied databases ``names`` damaged that its program needs."""
    if not names:
        return True
    with copy.opened() as (_root, source, staging):
        rules = copy.stage.rules(os.fstat(source).st_uid)
        with copy.opened_stores(staging) as scratch:
            return try_stores(scratch, names, rules, may_be_damaged(source, copy.stage.layout))


def put_stores_of(copy: StagedCopy) -> None:
    """Combine the files of each database into one. That consumes the copies, so the index is discarded."""
    with copy.opened() as (_root, source, staging):
        names = store_names(source, copy.stage.layout)
        if not names:
            return
        forget_index(staging, copy.task.name)
        rules = copy.stage.rules(os.fstat(source).st_uid)
        with copy.opened_stores(staging) as scratch, copy.opened_target(staging) as target:
            for name in names:
                put_store(source, scratch, target, name, rules, copy.stage.layout)
