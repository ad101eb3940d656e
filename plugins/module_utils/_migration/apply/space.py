# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""How much staging has to copy, and whether the disk has room for it. Reads only."""

from __future__ import annotations

import os
import typing as t

from ..._accounts.entries import measure_entries
from ..._core.errors import SessionsError
from ..._fs.free_space import RESERVE, has_room, has_room_for_all
from ..._fs.patterns import name_matcher
from ..._fs.walk_tree import Tally, measure
from ..._layouts.sqlite import measure_stores
from .stage import Stage, Task
from .staging_area import StagedCopy, open_staged, sum_of

if t.TYPE_CHECKING:
    from ..._fs.fdopen import DirFd


def has_ample_room(stage: Stage, tasks: t.Sequence[Task]) -> bool:
    """Whether there is so much space that the accounts need not be measured. Never with rsync, which does not watch the free space."""
    return stage.engine == "native" and has_room_for_all(stage.area, _sources(tasks))


def require_space(area: DirFd, need: Tally, path: str) -> None:
    """Raise SessionsError if ``need`` would fill the disk of the open directory ``area``."""
    disk = os.fstatvfs(area)
    size = need.bytes + need.files * disk.f_frsize
    if not has_room(disk, size, need.files):
        raise SessionsError(
            f"the disk of {path} has {disk.f_bavail * disk.f_frsize >> 20} MiB and {disk.f_favail} inodes free, but "
            f"the accounts need {int(size * RESERVE) >> 20} MiB and {need.files} inodes; nothing was changed: free space and run again"
        )


def need_of(stage: Stage, tasks: t.Sequence[Task]) -> Tally:
    """Return the files and bytes of all accounts that staging would still copy."""
    return sum_of(stage, tasks, _need_now)


def need_at(copy: StagedCopy) -> Tally:
    """Return the files and bytes that staging one account copies if nothing of it is staged."""
    stage, task = copy.stage, copy.task
    with task.opened() as (root, source):
        need = measure(source, name_matcher(stage.left_out), stage.is_cache)
        need.add(measure_stores(source, stage.layout))
        need.add(measure_entries(root, task.parts))
        return need


def _need_now(copy: StagedCopy) -> Tally:
    need, have = need_at(copy), _have_of(copy)
    need.files, need.bytes = max(0, need.files - have.files), max(0, need.bytes - have.bytes)
    return need


def _have_of(copy: StagedCopy) -> Tally:
    try:
        staged = open_staged(copy.stage.area, copy.task.name)
    except FileNotFoundError:
        return Tally()
    try:
        return measure(staged, copy.stage.layout.volatile_matcher)
    finally:
        os.close(staged)


def _sources(tasks: t.Iterable[Task]) -> t.Iterator[int]:
    for task in tasks:
        with task.opened() as opened:
            yield from opened
