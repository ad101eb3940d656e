# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Fills the staging area: live copies while the backend runs, and the final pass when it is stopped.

The engine 'native' copies by itself, 'rsync' lets rsync make the first copy, and 'rename' moves the accounts (take_out.py). What lies
where in the staging area is said in staging_area.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import typing as t

from ..._accounts.copy_index import Known, is_staged, mark_document, write_unsynced
from ..._accounts.extras import bring_entries
from ..._accounts.receipts import Mark, mark_with_parts
from ..._core import progress
from ..._core.limits import STOPPED_SECONDS
from ..._fs.copy_file import UnfitTree
from ..._fs.copy_tree import Index, sync_entries, sync_tree
from ..._fs.inotify import Touched, Watch
from ..._fs.walk_tree import Tally, has_links
from ..._layouts.account import AccountRef
from ..._layouts.sqlite import DamagedStore
from ..._proc.pool import parallel_map
from ..._proc.rsync import fill_by_rsync
from .stage import Stage, Task
from .stage_stores import are_sound, bring_stores_of, known_stores, put_stores_of
from .staging_area import Opened, StagedCopy, forget_index, opened_copies, sum_of, tally_each
from .take_out import take_out

if t.TYPE_CHECKING:
    from ..._fs.fdopen import DirFd

# Seconds. On filesystems with timestamps of whole seconds, it takes two of them to see that a file is unchanged, see copy_file.py.
_SETTLING = 5.0
_GRAIN = 0.02
_TRIALS, _BETWEEN_TRIALS = 4, 0.25


class DamagedAccounts(Exception):
    """SQLite finds databases of these accounts damaged, and the run cannot continue without them."""

    def __init__(self, names: t.Collection[str]) -> None:
        super().__init__(f"{len(names)} accounts")
        self.names = frozenset(names)


@dataclasses.dataclass(frozen=True)
class Staged:
    """The result of the final pass, and the names of the accounts with databases that SQLite finds damaged."""

    tally: Tally
    damaged: frozenset[str]


def watched(stage: Stage, tasks: t.Sequence[Task]) -> Watch | None:
    """Watch for changes in the accounts from now on. Returns None if that would be of no use, such as without a unit to stop."""
    if not stage.stopped or stage.engine == "rename" or stage.layout.databases:
        return None
    try:
        watch = Watch()
    except OSError:
        return None  # the kernel's limit of inotify queues is reached: the final pass checks everything
    for task in tasks:
        if not task.parts:
            with contextlib.suppress(OSError), task.opened() as (_root, source):
                watch.add(task.name, source)
    return watch


def stage_live(stage: Stage, tasks: t.Sequence[Task], watch: Watch | None = None) -> Tally:
    """Copy each account while its backend may be writing; what it writes meanwhile is left for ``stage_final``.

    Raises DamagedAccounts if SQLite finds a database of a ``needed`` account damaged in every trial.
    """
    if stage.engine == "rename":
        return Tally()
    if watch is not None:
        watch.begin()
    total, unsure, damaged = Tally(), [], []
    progress.expect(accounts=len(tasks))
    for task, tally in zip(tasks, tally_each(stage, tasks, _stage_on_trial)):
        total.add(tally)
        if tally.unwatched or tally.unsettled:
            unsure.append(task.name)
        if tally.damaged:
            damaged.append(task.name)
    if damaged:
        raise DamagedAccounts(damaged)
    if watch is not None:
        watch.invalidate(unsure)
    return total


def changes_since_copy(watch: Watch | None, stage: Stage, marks: t.Mapping[str, Mark]) -> dict[str, Touched]:
    """Return what was touched in accounts since they were copied; accounts that are not in the result must be checked completely.

    ``marks``: the marks of the accounts now that their backend is stopped. If a mark differs although no change was reported, the watch
    is unreliable and the result is empty.
    """
    if watch is None:
        return {}
    touched = watch.touched()
    quiet = [name for name, told in touched.items() if not told.names]
    with opened_copies(stage.area) as staging:
        honest = all(name in marks and is_staged(staging, name, marks[name]) for name in quiet)
    return touched if honest else {}


def stage_final(stage: Stage, tasks: t.Sequence[Task], touched: t.Mapping[str, Touched] | None = None) -> Staged:
    """Update each staged account from its source now that the backend is stopped. Raises SessionsError if a process still writes.

    ``touched``: what was touched since the accounts were copied, see changes_since_copy. Also raises SessionsError if it takes longer
    than a backend may be stopped, whatever the owner does to the accounts meanwhile.
    """
    if stage.stopped:
        stage = dataclasses.replace(stage, until=time.monotonic() + STOPPED_SECONDS)
    progress.expect(accounts=len(tasks))
    if stage.engine == "rename":
        return Staged(sum_of(stage, tasks, take_out), frozenset())
    tally, damaged, told = Tally(), set(), touched or {}
    tasks = [task for task in tasks if task.name not in told or told[task.name].names]
    outcomes = parallel_map(lambda task: _stage_for_good(StagedCopy(stage, task), told.get(task.name)), tasks)
    for task, outcome in zip(tasks, outcomes):
        if outcome is None:
            damaged.add(task.name)
        else:
            tally.add(Tally(**outcome))
    return Staged(tally, frozenset(damaged))


def _stage_for_good(copy: StagedCopy, touched: Touched | None) -> dict[str, int] | None:
    """Return the figures of the final pass, None for an account with damaged databases."""
    try:
        with copy.errors_named():
            tally = _stage_touched(copy, touched) if touched else None
            return dataclasses.asdict(tally or _stage_completely(copy))
    except DamagedStore:
        return None


def _stage_completely(copy: StagedCopy) -> Tally:
    tally = _stage_until_settled(copy)
    if copy.stage.layout.databases:
        put_stores_of(copy)
    return tally


def _stage_touched(copy: StagedCopy, touched: Touched) -> Tally | None:
    """Copy again what was touched; None if that may not be sufficient. Discards the index, which is not needed afterwards."""
    with copy.opened() as (_root, source, staging):
        status = os.fstat(source)
        if (status.st_dev, status.st_ino) != touched.folder or has_links(source, touched.names):
            return None
        forget_index(staging, copy.task.name)
        total, left = Tally(), set(touched.names)
        deadline = time.monotonic() + _SETTLING
        with copy.opened_target(staging) as target:
            while left:
                left, tally = sync_entries(source, target, left, copy.stage.rules(status.st_uid))
                total.add(tally)
                if left:
                    _wait_until(deadline)
        return total


def _wait_until(deadline: float, unsettled: bool = True) -> None:
    """Pause so that files with timestamps within the clock's resolution can settle. Raises UnfitTree after the deadline."""
    if time.monotonic() > deadline:
        raise UnfitTree(
            "a process still writes to it although its backend is stopped; find that process (fuser, lsof) and stop it"
        )
    if unsettled:
        time.sleep(_GRAIN)


def _stage_until_settled(copy: StagedCopy) -> Tally:
    total = last = _stage_once(copy)
    deadline = time.monotonic() + _SETTLING
    # A pass that copies nothing has seen a consistent state, even if a process can write. With a stopped unit, none is needed.
    while last.unsettled or (last.copied and not copy.stage.stopped):
        _wait_until(deadline, last.unsettled > 0)
        last = _stage_once(copy)
        total.unsettled = last.unsettled
        total.copied += last.copied
    return total


def _stage_on_trial(copy: StagedCopy) -> Tally:
    """Like _stage_once, and let SQLite check the copied databases, so that damage is found before the backend is stopped."""
    if not copy.stage.layout.databases:
        return _stage_once(copy)
    is_needed = copy.task.name in copy.stage.needed
    before = known_stores(copy)
    tally = _stage_once(copy)
    after = known_stores(copy)
    sound = are_sound(copy, [name for name, records in after.items() if before.get(name) != records])
    for _attempt in range(_TRIALS - 1 if is_needed else 0):
        if sound:
            break
        time.sleep(_BETWEEN_TRIALS)  # its program may have been writing during the copy
        tally.add(_stage_once(copy))
        sound = are_sound(copy, list(known_stores(copy)))
    tally.damaged = int(not sound and is_needed)
    return tally


def _stage_once(copy: StagedCopy) -> Tally:
    with copy.opened() as opened:
        mark = mark_with_parts(AccountRef(opened.root, copy.task.name, copy.stage.layout), opened.source)
        with copy.opened_target(opened.staging) as target:  # first: this discards the index of a copy that is gone
            known = copy.known(opened.staging)
            files, tally = _bring_files(copy, opened.source, target, known.files)
        stores, figures = bring_stores_of(copy, opened, known.stores)
        tally.add(figures)
        parts, figures = _bring_parts(copy, opened, known.parts)
        tally.add(figures)
        fresh = Known(files, stores, parts)
        if fresh != known or not files:
            copy.note(opened.staging, fresh)
        write_unsynced(opened.staging, f"{copy.key}.mark", mark_document(mark))
        return tally


def _bring_files(copy: StagedCopy, source: DirFd, target: DirFd, known: Index) -> tuple[Index, Tally]:
    stage = copy.stage
    if stage.engine == "rsync" and not known:
        fill_by_rsync(source, target, copy.task.label, stage.left_out, stage.caches)
    return sync_tree(source, target, stage.rules(os.fstat(source).st_uid), known)


def _bring_parts(copy: StagedCopy, opened: Opened, known: t.Mapping[str, Index]) -> tuple[dict[str, Index], Tally]:
    if not copy.task.parts:
        return {}, Tally()
    with copy.opened_parts(opened.staging) as holder:
        rules = copy.stage.whole_rules(os.fstat(opened.source).st_uid)
        return bring_entries(opened.root, holder, copy.task.parts, rules, known)
