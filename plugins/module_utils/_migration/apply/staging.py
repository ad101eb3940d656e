# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Fills the staging area with one of three engines, and runs the final pass.

A staged account is a directory ``staging/<key>`` and an index ``staging/<key>.index`` that records the state of each source file that
was copied. The index is valid only within one boot (it is not made durable before the copies are) and for one owner of the copies.
Parts of the account outside its directory are staged in ``staging/<key>.parts``, copies of its SQLite databases in
``staging/<key>.stores``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
import typing as t

from ..._accounts.copy_index import Known, is_staged, mark_document, read_index, write_index, write_unsynced
from ..._accounts.extras import bring_entries, measure_entries, move_entries_to_staging, require_entries_fit, slot_of
from ..._accounts.receipts import Mark, mark_with_parts
from ..._accounts.work_area import DISPLACED, STAGING, moment
from ..._core import progress
from ..._core.errors import SessionsError
from ..._core.limits import STOPPED_SECONDS
from ..._core.masking import account_key
from ..._fs.copy_tree import (
    Index,
    Rules,
    Tally,
    UnfitTree,
    chown_tree,
    has_links,
    measure,
    remove_tree,
    require_fit,
    require_may_change_hands,
    sync_entries,
    sync_tree,
)
from ..._fs.fdopen import open_private, opened_directory
from ..._fs.files import read_file_at
from ..._fs.free_space import SpaceReserve, has_room_for_all
from ..._fs.inotify import Touched, Watch
from ..._fs.patterns import name_matcher, path_matcher
from ..._fs.syscalls import rename_new
from ..._layouts.layout import OF_A_PROGRAM, Layout
from ..._layouts.registry import open_account, opened_account
from ..._layouts.sqlite import (
    DamagedStore,
    Records,
    bring_stores,
    may_be_damaged,
    measure_stores,
    put_store,
    store_names,
    store_patterns,
    try_stores,
)
from ..._proc.pool import parallel_map
from ..._proc.rsync import fill_by_rsync
from .rescue import open_real

ENGINES = ("native", "rsync", "rename")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Seconds. On filesystems with timestamps of whole seconds, it takes two of them to see that a file is unchanged, see copy_file.py.
_SETTLING = 5.0
_GRAIN = 0.02
_TRIALS, _BETWEEN_TRIALS = 4, 0.25
_KNOWLEDGE = (".index", ".mark")  # suffixes of the records about a staged copy


class DamagedAccounts(Exception):
    """SQLite finds databases of these accounts damaged, and the run cannot continue without them."""

    def __init__(self, names: t.Collection[str]) -> None:
        super().__init__(f"{len(names)} accounts")
        self.names = frozenset(names)


@dataclasses.dataclass(frozen=True)
class Task:
    """One account to stage: the real path of its root, its name below it, and its masked name.

    ``parts``: relative paths of the root that belong to it; some may be missing. ``owner``: the uid of its directory when it was
    surveyed, None if unknown. ``inode``: the inode of that directory, 0 if unknown.
    """

    root: str
    name: str
    label: str
    parts: tuple[str, ...] = ()
    owner: int | None = None
    inode: int = 0


@dataclasses.dataclass(frozen=True)
class Stage:
    """Where and how to stage: the open area, the layout, owner of the copies, engine and whether copies are read back.

    ``stopped``: the final pass runs while a unit is kept stopped; without a unit, other processes may write at any time.
    ``with_caches``: also copy caches, which the library can recreate; the engine 'rename' moves them anyway. ``kept_free``: the bytes and
    inodes to keep free on the disk. ``until``: the deadline (monotonic time). ``needed``: names of accounts that the run cannot continue
    without. ``closed``: a legacy path was given to root by this collection, so its content is not trusted as root's.
    """

    area: int
    layout: Layout
    uid: int
    gid: int
    engine: str
    checksum: bool
    stopped: bool = False
    with_caches: bool = False
    kept_free: tuple[int, int] = (0, 0)
    until: float = math.inf
    needed: frozenset[str] = frozenset()
    closed: bool = False

    @property
    def made(self) -> dict[str, t.Any]:
        """How copies are made; copies that were made in another way cannot be reused."""
        left_out = [*self.left_out, *self.caches]
        return {"owner": [self.uid, self.gid], "layout": self.layout.name, "left_out": left_out}

    @property
    def left_out(self) -> tuple[str, ...]:
        """Patterns of names that are not copied with the other files of an account; its databases are copied by SQLite."""
        return (*self.layout.volatile, *OF_A_PROGRAM, *store_patterns(self.layout))

    @property
    def caches(self) -> tuple[str, ...]:
        """Patterns of the paths in an account that are left out as caches."""
        return () if self.with_caches else self.layout.caches

    @property
    def is_cache(self) -> t.Callable[[str], t.Any] | None:
        """The test whether a relative path is a cache that is left out; None if none is."""
        return path_matcher(self.caches) if self.caches else None

    def rules(self, owner: int) -> Rules:
        """How to copy an account's tree that belongs to the uid ``owner``."""
        room = SpaceReserve(self.kept_free)
        return Rules(
            self.uid,
            self.gid,
            self._owners(owner),
            name_matcher(self.left_out),
            self.checksum,
            self.is_cache,
            room,
            until=self.until,
        )

    def strict_rules(self, owners: frozenset[int]) -> Rules:
        """How to copy a tree in which every entry must belong to one of ``owners``."""
        return dataclasses.replace(self.whole_rules(self.uid), owners=owners, strict=True)

    def whole_rules(self, owner: int) -> Rules:
        """How to copy or move a tree completely, except for volatile files."""
        owners, room = self._owners(owner), SpaceReserve(self.kept_free)
        return Rules(
            self.uid, self.gid, owners, self.layout.volatile_matcher, self.checksum, room=room, until=self.until
        )

    def _owners(self, owner: int) -> frozenset[int]:
        """Return the uids whose files are copied whatever their modes; not root in a closed directory: its user may have moved them in."""
        return frozenset((self.uid,) if self.closed and owner == 0 else (self.uid, owner))


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
            with contextlib.suppress(OSError), _opened_source(task) as (_root, source):
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
    for task, tally in zip(tasks, _of_each(stage, tasks, _stage_on_trial)):
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
    staging = open_private(stage.area, STAGING, called="the staging area")
    try:
        honest = all(name in marks and is_staged(staging, name, marks[name]) for name in quiet)
    finally:
        os.close(staging)
    return touched if honest else {}


def stage_final(stage: Stage, tasks: t.Sequence[Task], touched: t.Mapping[str, Touched] | None = None) -> Staged:
    """Update each staged account from its source now that the backend is stopped. Raises SessionsError if a process still writes.

    ``touched``: what was touched since the accounts were copied, see told_by. Also raises SessionsError if it takes longer than a backend
    may be stopped, whatever the owner does to the accounts meanwhile.
    """
    if stage.stopped:
        stage = dataclasses.replace(stage, until=time.monotonic() + STOPPED_SECONDS)
    progress.expect(accounts=len(tasks))
    if stage.engine == "rename":
        return Staged(_in_all(stage, tasks, _take), frozenset())
    tally, damaged, told = Tally(), set(), touched or {}
    tasks = [task for task in tasks if task.name not in told or told[task.name].names]
    outcomes = parallel_map(lambda task: _stage_for_good(stage, task, told.get(task.name)), tasks)
    for task, outcome in zip(tasks, outcomes):
        if outcome is None:
            damaged.add(task.name)
        else:
            tally.add(Tally(**outcome))
    return Staged(tally, frozenset(damaged))


def has_ample_room(stage: Stage, tasks: t.Sequence[Task]) -> bool:
    """Whether there is so much space that the accounts need not be measured. Never with rsync, which does not watch the free space."""
    return stage.engine == "native" and has_room_for_all(stage.area, _sources(tasks))


def need_of(stage: Stage, tasks: t.Sequence[Task]) -> Tally:
    """Return the files and bytes of all accounts that staging would still copy."""
    return _in_all(stage, tasks, _measure)


def open_staged(area: int, name: str) -> int:
    """Open the staged copy of the account ``name``."""
    staging = open_private(area, STAGING, called="the staging area")
    try:
        return os.open(account_key(name), _DIRECTORY, dir_fd=staging)
    finally:
        os.close(staging)


def split_parent(root: str, name: str) -> tuple[str, str]:
    """Return the parent directory of an account and its name in it; the account ``.`` is its root."""
    path = root if name == "." else f"{root}/{name}"
    folder, _mark, last = path.rpartition("/")
    return folder or "/", last


def part_slot(name: str, part: str) -> str:
    """Return the directory below the staging area for a part of the account ``name``."""
    return f"{_parts_name(name)}/{slot_of(part)}"


def forget_index(staging: int, name: str) -> None:
    """Remove the records about the staged copy of the account ``name``."""
    for kind in _KNOWLEDGE:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{account_key(name)}{kind}", dir_fd=staging)


def clear_staging(area: int) -> None:
    """Remove everything staged, the records first: a run killed in between must not leave half a copy that counts as complete."""
    staging = open_private(area, STAGING, called="the staging area")
    try:
        for name in sorted(os.listdir(staging), key=lambda name: not name.endswith(_KNOWLEDGE)):
            remove_tree(staging, name)
    finally:
        os.close(staging)


def _in_all(stage: Stage, tasks: t.Sequence[Task], work: t.Callable[[Stage, Task], Tally]) -> Tally:
    total = Tally()
    for tally in _of_each(stage, tasks, work):
        total.add(tally)
    return total


def _of_each(stage: Stage, tasks: t.Sequence[Task], work: t.Callable[[Stage, Task], Tally]) -> t.Iterator[Tally]:
    for figures in parallel_map(lambda task: dataclasses.asdict(_named(stage, task, work)), tasks):
        yield Tally(**figures)


def require_movable(stage: Stage, tasks: t.Iterable[Task]) -> None:
    """Raise SessionsError for accounts that the engine 'rename' would refuse after it took them out of their place.

    Asked for while the backend runs: it is not interrupted for nothing, and no part of a refused account has changed hands.
    """
    for task in tasks:
        _named(stage, task, _seen_movable)


def _seen_movable(stage: Stage, task: Task) -> Tally:
    with opened_directory(task.root) as root, opened_account(root, task.name) as source:
        rules = stage.whole_rules(os.fstat(source).st_uid)
        require_fit(source, rules, require_may_change_hands)
        require_entries_fit(root, task.parts, rules, require_may_change_hands)
    return Tally()


def _named(stage: Stage, task: Task, work: t.Callable[[Stage, Task], Tally]) -> Tally:
    """Do the work. Errors name the account, never a file."""
    try:
        return work(stage, task)
    except DamagedStore:
        raise
    except UnfitTree as error:
        raise SessionsError(
            f"cannot stage account {task.label!r} from {task.root}: {error}; nothing was published"
        ) from error
    except OSError as error:
        raise SessionsError(
            f"cannot stage account {task.label!r} from {task.root}: {error.strerror}; nothing was published"
        ) from error
    finally:
        progress.advance(accounts=1)


def _stage_for_good(stage: Stage, task: Task, touched: Touched | None) -> dict[str, int] | None:
    """Return the figures of the final pass, None for an account with damaged databases."""

    def work(stage: Stage, task: Task) -> Tally:
        tally = _stage_touched(stage, task, touched) if touched else None
        return tally or _stage_completely(stage, task)

    try:
        return dataclasses.asdict(_named(stage, task, work))
    except DamagedStore:
        return None


def _stage_completely(stage: Stage, task: Task) -> Tally:
    tally = _stage_until_settled(stage, task)
    if stage.layout.databases:
        _put_stores(stage, task)
    return tally


def _stage_touched(stage: Stage, task: Task, touched: Touched) -> Tally | None:
    """Copy again what was touched; None if that may not be sufficient. Discards the index, which is not needed afterwards."""
    with _opened(stage, task) as (_root, source, staging):
        status = os.fstat(source)
        if (status.st_dev, status.st_ino) != touched.folder or has_links(source, touched.names):
            return None
        forget_index(staging, task.name)
        target, total, left = _open_target(staging, task.name), Tally(), set(touched.names)
        deadline = time.monotonic() + _SETTLING
        try:
            while left:
                left, tally = sync_entries(source, target, left, stage.rules(status.st_uid))
                total.add(tally)
                if left:
                    _wait_until(deadline)
        finally:
            os.close(target)
        return total


def _wait_until(deadline: float, unsettled: bool = True) -> None:
    """Pause so that files with timestamps within the clock's resolution can settle. Raises UnfitTree after the deadline."""
    if time.monotonic() > deadline:
        raise UnfitTree(
            "a process still writes to it although its backend is stopped; find that process (fuser, lsof) and stop it"
        )
    if unsettled:
        time.sleep(_GRAIN)


def _stage_until_settled(stage: Stage, task: Task) -> Tally:
    total = last = _stage_once(stage, task)
    deadline = time.monotonic() + _SETTLING
    # A pass that copies nothing has seen a consistent state, even if a process can write. With a stopped unit, none is needed.
    while last.unsettled or (last.copied and not stage.stopped):
        _wait_until(deadline, last.unsettled > 0)
        last = _stage_once(stage, task)
        total.unsettled = last.unsettled
        total.copied += last.copied
    return total


def _stage_on_trial(stage: Stage, task: Task) -> Tally:
    """Like _stage_once, and let SQLite check the copied databases, so that damage is found before the backend is stopped."""
    if not stage.layout.databases:
        return _stage_once(stage, task)
    before = _known_stores(stage, task)
    tally = _stage_once(stage, task)
    after = _known_stores(stage, task)
    sound = _tried(stage, task, [name for name, records in after.items() if before.get(name) != records])
    for _attempt in range(_TRIALS - 1 if task.name in stage.needed else 0):
        if sound:
            break
        time.sleep(_BETWEEN_TRIALS)  # its program may have been writing during the copy
        tally.add(_stage_once(stage, task))
        sound = _tried(stage, task, list(_known_stores(stage, task)))
    tally.damaged = int(not sound and task.name in stage.needed)
    return tally


def _tried(stage: Stage, task: Task, names: t.Collection[str]) -> bool:
    if not names:
        return True
    with _opened(stage, task) as (_root, source, staging):
        rules = stage.rules(os.fstat(source).st_uid)
        with _opened_holder(staging, _stores_name(task.name)) as scratch:
            return try_stores(scratch, names, rules, may_be_damaged(source, stage.layout))


def _known_stores(stage: Stage, task: Task) -> Records:
    staging = open_private(stage.area, STAGING, called="the staging area")
    try:
        return read_index(staging, f"{account_key(task.name)}.index", stage.made).stores
    finally:
        os.close(staging)


def _stage_once(stage: Stage, task: Task) -> Tally:
    with _opened(stage, task) as (root, source, staging):
        mark = mark_with_parts(root, task.name, source, stage.layout)
        rules = stage.rules(os.fstat(source).st_uid)
        target = _open_target(staging, task.name)
        try:
            known = read_index(staging, f"{account_key(task.name)}.index", stage.made)
            if stage.engine == "rsync" and not known.files:
                fill_by_rsync(source, target, task.label, stage.left_out, stage.caches)
            files, tally = sync_tree(source, target, rules, known.files)
        finally:
            os.close(target)
        stores: Records = {}
        parts: dict[str, Index] = {}
        if stage.layout.databases:
            stores, figures = _bring_stores(stage, task, source, staging, known.stores)
            tally.add(figures)
        if task.parts:
            with _opened_holder(staging, _parts_name(task.name)) as holder:
                rules = stage.whole_rules(os.fstat(source).st_uid)
                parts, figures = bring_entries(root, holder, task.parts, rules, known.beside)
                tally.add(figures)
        fresh = Known(files, stores, parts)
        if fresh != known or not files:
            write_index(staging, f"{account_key(task.name)}.index", stage.made, fresh)
        write_unsynced(staging, f"{account_key(task.name)}.mark", mark_document(mark))
        return tally


def _bring_stores(stage: Stage, task: Task, source: int, staging: int, known: Records) -> tuple[Records, Tally]:
    with _opened_holder(staging, _stores_name(task.name)) as scratch:
        names = store_names(source, stage.layout)
        return bring_stores(source, scratch, names, stage.rules(os.fstat(source).st_uid), known)


def _put_stores(stage: Stage, task: Task) -> None:
    """Combine the files of each database into one. That consumes the copies, so the index is discarded."""
    with _opened(stage, task) as (_root, source, staging):
        names = store_names(source, stage.layout)
        if not names:
            return
        forget_index(staging, task.name)
        with _opened_holder(staging, _stores_name(task.name)) as scratch:
            target = _open_target(staging, task.name)
            try:
                for name in names:
                    put_store(source, scratch, target, name, stage.rules(os.fstat(source).st_uid), stage.layout)
            finally:
                os.close(target)


@contextlib.contextmanager
def _opened(stage: Stage, task: Task) -> t.Iterator[tuple[int, int, int]]:
    """Open the root of an account, the account and the staging area."""
    with _opened_source(task) as (root, source):
        staging = open_private(stage.area, STAGING, called="the staging area")
        try:
            yield root, source, staging
        finally:
            os.close(staging)


@contextlib.contextmanager
def _opened_source(task: Task) -> t.Iterator[tuple[int, int]]:
    """Open the root of an account and the account."""
    root = open_real(task.root)
    try:
        source = open_account(root, task.name)
        try:
            _require_same_owner(source, task)
            yield root, source
        finally:
            os.close(source)
    finally:
        os.close(root)


def _require_same_owner(source: int, task: Task) -> None:
    if task.owner is not None and os.fstat(source).st_uid != task.owner:
        raise UnfitTree("its directory was replaced with one of another user during the run; check what it is")


def _sources(tasks: t.Iterable[Task]) -> t.Iterator[int]:
    for task in tasks:
        with _opened_source(task) as opened:
            yield from opened


@contextlib.contextmanager
def _opened_holder(staging: int, name: str) -> t.Iterator[int]:
    holder = open_private(staging, name, called="a directory in the staging area")
    try:
        yield holder
    finally:
        os.close(holder)


def _parts_name(name: str) -> str:
    return f"{account_key(name)}.parts"


def _stores_name(name: str) -> str:
    return f"{account_key(name)}.stores"


def _open_target(staging: int, name: str) -> int:
    # Only root can enter the staging area, so this collection has created the directory, whatever its owner is now.
    try:
        return os.open(account_key(name), _DIRECTORY, dir_fd=staging)
    except FileNotFoundError:
        forget_index(staging, name)  # it describes a copy that was published or removed
        os.mkdir(account_key(name), 0o700, dir_fd=staging)
        return os.open(account_key(name), _DIRECTORY, dir_fd=staging)


def need_at(stage: Stage, task: Task) -> Tally:
    """Return the files and bytes that staging one account copies if nothing of it is staged."""
    with _opened_source(task) as (root, source):
        need = measure(source, name_matcher(stage.left_out), stage.is_cache)
        need.add(measure_stores(source, stage.layout))
        need.add(measure_entries(root, task.parts))
        return need


def _measure(stage: Stage, task: Task) -> Tally:
    need = need_at(stage, task)
    have = _measure_staged(stage, task)
    need.files, need.bytes = max(0, need.files - have.files), max(0, need.bytes - have.bytes)
    return need


def _measure_staged(stage: Stage, task: Task) -> Tally:
    try:
        staged = open_staged(stage.area, task.name)
    except FileNotFoundError:
        return Tally()
    try:
        return measure(staged, stage.layout.volatile_matcher)
    finally:
        os.close(staged)


def _take(stage: Stage, task: Task) -> Tally:
    """Move the account itself to staging (engine 'rename'). Its owner is changed after that, when no other user can reach it."""
    folder, name = split_parent(task.root, task.name)
    with contextlib.ExitStack() as stack:
        staging = open_private(stage.area, STAGING, called="the staging area")
        stack.callback(os.close, staging)
        root, parent = open_real(task.root), open_real(folder)
        stack.callback(os.close, root)
        stack.callback(os.close, parent)
        clear_staged_copy(stage.area, staging, task.name)
        rename_new(parent, name, staging, account_key(task.name))
        target = open_staged(stage.area, task.name)
        stack.callback(os.close, target)
        try:
            _require_same_owner(target, task)
            if os.fstat(target).st_ino != task.inode != 0:
                raise UnfitTree(
                    "it was replaced with another directory while it was being moved; find out what replaces it"
                )
        except UnfitTree:
            rename_new(staging, account_key(task.name), parent, name)
            raise
        rules = stage.whole_rules(os.fstat(target).st_uid)
        tally = chown_tree(target, rules)
        if task.parts:
            holder = stack.enter_context(_opened_holder(staging, _parts_name(task.name)))
            tally.add(move_entries_to_staging(root, holder, task.parts, rules))
        return tally


def clear_staged_copy(area: int, staging: int, name: str) -> None:
    """Remove a copy of another engine. A directory without an index may be more than a copy, so it is displaced instead."""
    key = account_key(name)
    if read_file_at(staging, f"{key}.index", at_most=1 << 30, called="an index") is not None:
        forget_index(staging, name)  # must be first, see clear_staging
        remove_tree(staging, key)
        return
    displaced = open_private(area, DISPLACED, called="the directory of displaced accounts")
    try:
        with contextlib.suppress(FileNotFoundError):
            rename_new(staging, key, displaced, f"{moment()}-{key[:16]}-staged")
    finally:
        os.close(displaced)
