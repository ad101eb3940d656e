# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The checks of check mode: everything that a migration checks while it is applied, so that every refusal is predicted.

Writes nothing but temporary copies: databases are checked in a jail (see chroot_worker.py), as in the real run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import typing as t

from ..._core.errors import SessionsError
from ..._fs.copy_file import UnfitTree, require_own
from ..._fs.fdopen import DirFd, opened_directory, opened_parent
from ..._fs.give_tree import require_entry_fit, require_fit, require_may_change_hands
from ..._fs.walk_tree import Tally
from ..._layouts.account import opened_account
from ..._layouts.sqlite import may_be_damaged, store_names
from ..._layouts.sqlite_query import answer_of_copy
from ..._proc.command import SEARCH_PATH
from ..observe import State
from ..steps import INTERRUPTING, StepKind, planned
from ..switch_refusals import require_sound
from .checks import require_nobody_holds, without_damaged
from .space import need_at, require_space
from .stage import Stage, stage_in, tasks_of
from .staging_area import StagedCopy
from .take_out import require_entries_fit


def rehearsed(state: State) -> State:
    """Return the state that the run would continue with. Raises SessionsError for what it would refuse."""
    params = state.effective
    kinds = {step.kind for step in planned(state)}
    if state.interrupted or not kinds & {*INTERRUPTING, StepKind.STAGE}:
        return state
    with _opened_nearest(params.path) as disk:
        stage, tasks = stage_in(disk, state), tasks_of(state.survey)
        damaged, need = set(), Tally()
        for copy in (StagedCopy(stage, task) for task in tasks):
            damaged |= {copy.task.name} if _is_damaged(copy) else set()
            if copy.task.name not in state.staged and params.engine != "rename":
                need.add(need_at(copy))
        require_space(disk, need, params.path)
        _require_companions_fit(stage, state)
    if params.engine == "rsync" and shutil.which("rsync", path=SEARCH_PATH) is None:
        raise SessionsError(
            "rsync is not installed on this host; nothing was changed: install it, or use the engine 'native'"
        )
    require_sound(state, damaged)
    if kinds & INTERRUPTING:
        require_nobody_holds(state)
    return without_damaged(state, damaged) if damaged else state


@contextlib.contextmanager
def _opened_nearest(path: str) -> t.Iterator[DirFd]:
    """Open the directory at ``path``, or the nearest existing one above it."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    with opened_directory(path) as directory:
        yield directory


def _is_damaged(copy: StagedCopy) -> bool:
    """Check an account as copying does; return whether SQLite finds a database damaged that its program needs."""
    task, layout = copy.task, copy.stage.layout
    with (
        copy.errors_named("nothing would be published"),
        opened_directory(task.root) as root,
        opened_account(root, task.name) as source,
    ):
        _require_fit(copy, root, source)
        if copy.stage.engine == "rename" or not layout.databases:
            return False
        spared = may_be_damaged(source, layout)
        needed = [name for name in store_names(source, layout) if not spared(name)]
        return any(_answer(source, name) == "damaged" for name in needed)


def _require_fit(copy: StagedCopy, root: DirFd, source: DirFd) -> None:
    stage, owner = copy.stage, os.fstat(source).st_uid
    moves = stage.engine == "rename"
    fit = require_may_change_hands if moves else require_own
    require_fit(source, stage.whole_rules(owner) if moves else stage.rules(owner), fit)
    require_entries_fit(root, copy.task.parts, stage.whole_rules(owner), fit)


def _answer(source: DirFd, name: str) -> str:
    import sqlite3  # observing has checked that the module exists

    try:
        with opened_parent(source, name) as (parent, last):
            answer = answer_of_copy(parent, last, sqlite3)
    except OSError:
        return "late"  # it is too large to be checked twice, or was removed meanwhile
    if answer is None:
        raise UnfitTree("a database cannot be checked within the time limit; restore a backup of it, or move it away")
    return answer


def _require_companions_fit(stage: Stage, state: State) -> None:
    if not state.survey.to_publish:
        return
    for companion in state.survey.companions:
        try:
            with opened_directory(companion.root) as root, opened_parent(root, companion.name) as (parent, name):
                require_entry_fit(parent, name, stage.strict_rules(companion.owners))
        except (FileNotFoundError, NotADirectoryError):
            continue  # it was removed meanwhile
        except UnfitTree as error:
            raise SessionsError(
                f"cannot copy files that the accounts share: {error}; nothing would be published"
            ) from error
