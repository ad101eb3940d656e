# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The engine 'rename': takes accounts out of their legacy path instead of copying them. What it cannot take, it refuses beforehand."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ..._accounts.entries import is_kept
from ..._accounts.extras import opened_slot, slot_of
from ..._fs.copy_file import Rules, UnfitTree
from ..._fs.fdopen import DirFd, opened_directory, opened_parent
from ..._fs.give_tree import (
    Fit,
    chown_tree,
    hand_over_entry,
    require_entry_fit,
    require_fit,
    require_may_change_hands,
)
from ..._fs.syscalls import rename_new
from ..._fs.walk_tree import Tally
from ..._layouts.account import opened_account
from .rescue import open_real
from .stage import Stage, Task
from .staging_area import StagedCopy, clear_staged_copy, open_staged, opened_copies


def require_movable(stage: Stage, tasks: t.Iterable[Task]) -> None:
    """Raise SessionsError for accounts that the engine 'rename' would refuse after it took them out of their place.

    Asked for while the backend runs: it is not interrupted for nothing, and no part of a refused account has changed hands.
    """
    for task in tasks:
        with (
            StagedCopy(stage, task).errors_named(),
            opened_directory(task.root) as root,
            opened_account(root, task.name) as source,
        ):
            rules = stage.whole_rules(os.fstat(source).st_uid)
            require_fit(source, rules, require_may_change_hands)
            require_entries_fit(root, task.parts, rules, require_may_change_hands)


def take_out(copy: StagedCopy) -> Tally:
    """Move the account itself to staging. Its owner is changed after that, when no other user can reach it."""
    stage, task = copy.stage, copy.task
    folder, name = split_parent(task.root, task.name)
    with contextlib.ExitStack() as stack:
        staging = stack.enter_context(opened_copies(stage.area))
        root, parent = DirFd(open_real(task.root)), DirFd(open_real(folder))
        stack.callback(os.close, root)
        stack.callback(os.close, parent)
        clear_staged_copy(stage.area, staging, task.name)
        rename_new(parent, name, staging, copy.key)
        target = open_staged(stage.area, task.name)
        stack.callback(os.close, target)
        try:
            _require_same(target, task)
        except UnfitTree:
            rename_new(staging, copy.key, parent, name)
            raise
        rules = stage.whole_rules(os.fstat(target).st_uid)
        tally = chown_tree(target, rules)
        if task.parts:
            holder = stack.enter_context(copy.opened_parts(staging))
            tally.add(_move_entries(root, holder, task.parts, rules))
        return tally


def require_entries_fit(root: DirFd, paths: t.Sequence[str], rules: Rules, fit: Fit) -> None:
    """Raise UnfitTree for what a copy or a move of the entries ``paths`` would raise it for: see require_fit."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened_parent(root, path) as (parent, name):
            require_entry_fit(parent, name, rules, fit)


def _move_entries(root: DirFd, holder: DirFd, paths: t.Sequence[str], rules: Rules) -> Tally:
    """Move ``paths``, relative to the open ``root``, into the staging area unchanged, and give them to their new owner."""
    tally = Tally()
    for path in paths:
        if is_kept(root, path):
            with opened_parent(root, path) as (parent, name), opened_slot(holder, slot_of(path)) as slot:
                rename_new(parent, name, slot, name)
                tally.add(hand_over_entry(slot, name, rules))
    return tally


def split_parent(root: str, name: str) -> tuple[str, str]:
    """Return the parent directory of an account and its name in it; the account ``.`` is its root."""
    path = root if name == "." else f"{root}/{name}"
    folder, _mark, last = path.rpartition("/")
    return folder or "/", last


def _require_same(target: DirFd, task: Task) -> None:
    """Raise UnfitTree if what was moved is not the account that was surveyed."""
    task.require_same_owner(target)
    if os.fstat(target).st_ino != task.inode != 0:
        raise UnfitTree("it was replaced with another directory while it was being moved; find out what replaces it")
