# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Fills the staging area: the three engines, each in its own way, and the pass that all of them end in.

A staged account is a directory ``staging/<key>`` and an index ``staging/<key>.index`` that says which state of each source file the
copy was made from. The index counts only within one boot (it is not made durable before the copies are) and for one owner of the copies.
What belongs to the account elsewhere is staged in ``staging/<key>.parts``, its SQLite databases are collected in ``staging/<key>.stores``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import typing as t

from ._area import DISPLACED, STAGING, moment, open_private
from ._beside import bring_entries, measure_entries, slot_of, take_entries
from ._errors import SessionsError
from ._index import Known, is_staged, mark_document, read_index, write_index, write_unsynced
from ._kernel import rename_new
from ._layout import Layout, name_matcher, path_matcher
from ._layouts import open_account
from ._paths import read_file_at
from ._receipts import Mark, account_key, mark_with_parts
from ._rescue import open_real
from ._room import Room, has_room_for_all
from ._rsync import fill_by_rsync
from ._stores import (
    DamagedStore,
    Records,
    bring_stores,
    measure_stores,
    put_stores,
    store_names,
    store_patterns,
)
from ._tree import (
    Index,
    Rules,
    Tally,
    UnfitTree,
    bring_names,
    bring_up_to_date,
    hand_over,
    has_links,
    measure,
    remove_tree,
)
from ._watch import Touched, Watch
from ._workers import spread

ENGINES = ("native", "rsync", "rename")
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Seconds. Filesystems that stamp with whole seconds tell only after two of them that a file was left alone, see _tree.py.
_SETTLING = 5.0
_GRAIN = 0.02


@dataclasses.dataclass(frozen=True)
class Task:
    """One account to stage: where it is (the real path of its root, and its name below it) and how to call it to people.

    ``parts``: relative paths of the root that belong to it; some may be missing.
    """

    root: str
    name: str
    label: str
    parts: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Stage:
    """Where and how to stage: the open area, the layout, owner of the copies, engine and whether copies are read back.

    ``stopped``: the final pass runs while a unit is held stopped. Without one nothing is known of who else may write.
    ``with_caches``: copy also what the library makes anew. The engine 'rename' moves it anyway. ``kept_free``: how many bytes and inodes
    the disk has to have left.
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

    @property
    def made(self) -> dict[str, t.Any]:
        """In what way copies are made: other ones are of no use."""
        left_out = [*self.left_out, *self.caches]
        return {"owner": [self.uid, self.gid], "layout": self.layout.name, "left_out": left_out}

    @property
    def left_out(self) -> tuple[str, ...]:
        """Patterns of the names that are not copied with the other files of an account; its databases are copied by SQLite."""
        return (*self.layout.volatile, *store_patterns(self.layout))

    @property
    def caches(self) -> tuple[str, ...]:
        """Patterns of the paths in an account that are left out."""
        return () if self.with_caches else self.layout.caches

    @property
    def is_cache(self) -> t.Callable[[str], t.Any] | None:
        """The test whether a relative path is left out for that; None where none is."""
        return path_matcher(self.caches) if self.caches else None

    def rules(self, owner: int) -> Rules:
        """How to copy an account's tree that belongs to the user ``owner``."""
        owners = frozenset((self.uid, owner))
        room = Room(self.kept_free)
        return Rules(self.uid, self.gid, owners, name_matcher(self.left_out), self.checksum, self.is_cache, room)

    def whole_rules(self, owner: int) -> Rules:
        """How to treat a tree that stays as it is, but for what must never be kept."""
        owners, room = frozenset((self.uid, owner)), Room(self.kept_free)
        return Rules(self.uid, self.gid, owners, self.layout.volatile_matcher, self.checksum, room=room)


@dataclasses.dataclass(frozen=True)
class Staged:
    """What a final pass did, and the names of the accounts that it could not make a sound copy of, because SQLite finds them damaged."""

    tally: Tally
    damaged: frozenset[str]


def watched(stage: Stage, tasks: t.Sequence[Task]) -> Watch | None:
    """Watch what will be touched in the accounts from now on. None where that would tell nothing: no unit will be held stopped."""
    if not stage.stopped or stage.engine == "rename" or stage.layout.databases:
        return None
    try:
        watch = Watch()
    except OSError:
        return None  # the kernel's limit of such queues is reached: then everything is looked at
    for task in tasks:
        if not task.parts:
            with contextlib.suppress(OSError), _opened_source(task) as (_root, source):
                watch.add(task.name, source)
    return watch


def stage_live(stage: Stage, tasks: t.Sequence[Task], watch: Watch | None = None) -> Tally:
    """Copy each account while its backend may be writing; what it writes meanwhile is left for ``stage_final``."""
    if stage.engine == "rename":
        return Tally()
    if watch is not None:
        watch.begin()
    total, unsure = Tally(), []
    for task, tally in zip(tasks, _of_each(stage, tasks, _stage_once)):
        total.add(tally)
        if tally.unwatched or tally.unsettled:
            unsure.append(task.name)
    if watch is not None:
        watch.distrust(unsure)
    return total


def told_by(watch: Watch | None, stage: Stage, marks: t.Mapping[str, Mark]) -> dict[str, Touched]:
    """Say what was touched in accounts since they were copied; those that are missing have to be looked at as a whole.

    ``marks``: how the accounts look now that nobody writes any more. One that looks different while nothing was told gives the watch away:
    then nothing that it told counts.
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
    """Bring each staged account up to date with a source that nobody writes to any more. Raises SessionsError when somebody does.

    ``touched``: what is known to have been touched since the accounts were copied, see told_by.
    """
    if stage.engine == "rename":
        return Staged(_in_all(stage, tasks, _take), frozenset())
    tally, damaged, told = Tally(), set(), touched or {}
    tasks = [task for task in tasks if task.name not in told or told[task.name].names]
    outcomes = spread(lambda task: _stage_for_good(stage, task, told.get(task.name)), tasks)
    for task, outcome in zip(tasks, outcomes):
        if outcome is None:
            damaged.add(task.name)
        else:
            tally.add(Tally(**outcome))
    return Staged(tally, frozenset(damaged))


def has_ample_room(stage: Stage, tasks: t.Sequence[Task]) -> bool:
    """Whether there is so much room that nobody has to measure what the accounts need; rsync does not notice when it gets scarce."""
    return stage.engine == "native" and has_room_for_all(stage.area, _sources(tasks))


def need_of(stage: Stage, tasks: t.Sequence[Task]) -> Tally:
    """Measure what staging would copy beyond what is staged already: files and bytes of all accounts."""
    return _in_all(stage, tasks, _measure)


def open_staged(area: int, name: str) -> int:
    """Open the staged copy of the account ``name``."""
    staging = open_private(area, STAGING, called="the staging area")
    try:
        return os.open(account_key(name), _DIRECTORY, dir_fd=staging)
    finally:
        os.close(staging)


def place_of(root: str, name: str) -> tuple[str, str]:
    """Return the directory that an account lies in, and its name there; an account called ``.`` is its root."""
    path = root if name == "." else f"{root}/{name}"
    folder, _mark, last = path.rpartition("/")
    return folder or "/", last


def part_slot(name: str, part: str) -> str:
    """Return in which directory below the staging area the part of the account ``name`` is staged."""
    return f"{_parts_name(name)}/{slot_of(part)}"


def forget_index(staging: int, name: str) -> None:
    """Remove what is known of the staged copy of the account ``name``."""
    for kind in ("index", "mark"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{account_key(name)}.{kind}", dir_fd=staging)


def clear_staging(area: int) -> None:
    """Remove everything staged."""
    staging = open_private(area, STAGING, called="the staging area")
    try:
        for name in os.listdir(staging):
            remove_tree(staging, name)
    finally:
        os.close(staging)


def _in_all(stage: Stage, tasks: t.Sequence[Task], work: t.Callable[[Stage, Task], Tally]) -> Tally:
    total = Tally()
    for tally in _of_each(stage, tasks, work):
        total.add(tally)
    return total


def _of_each(stage: Stage, tasks: t.Sequence[Task], work: t.Callable[[Stage, Task], Tally]) -> t.Iterator[Tally]:
    for figures in spread(lambda task: dataclasses.asdict(_named(stage, task, work)), tasks):
        yield Tally(**figures)


def _named(stage: Stage, task: Task, work: t.Callable[[Stage, Task], Tally]) -> Tally:
    """Do the work; an error says which account it is about and never which file."""
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


def _stage_for_good(stage: Stage, task: Task, touched: Touched | None) -> dict[str, int] | None:
    """Return the figures of the final pass, None for an account whose databases are damaged."""

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
    """Copy again what was touched; None where that may not be all. The index counts no more then: it is not needed."""
    with _opened(stage, task) as (_root, source, staging):
        status = os.fstat(source)
        if (status.st_dev, status.st_ino) != touched.folder or has_links(source, touched.names):
            return None
        forget_index(staging, task.name)
        target, total, left = _open_target(staging, task.name), Tally(), set(touched.names)
        deadline = time.monotonic() + _SETTLING
        try:
            while left:
                left, tally = bring_names(source, target, left, stage.rules(status.st_uid))
                total.add(tally)
                if left:
                    _wait_until(deadline)
        finally:
            os.close(target)
        return total


def _wait_until(deadline: float, unsettled: bool = True) -> None:
    """Let files that were stamped within the clock's grain settle on one of the next passes."""
    if time.monotonic() > deadline:
        raise UnfitTree(
            "something still writes to it although its backend is stopped; find what it is (fuser, lsof) and stop it"
        )
    if unsettled:
        time.sleep(_GRAIN)


def _stage_until_settled(stage: Stage, task: Task) -> Tally:
    total = last = _stage_once(stage, task)
    deadline = time.monotonic() + _SETTLING
    # A pass that copies nothing has seen all files as they were at one moment, whoever writes. Where nobody can, none is needed.
    while last.unsettled or (last.copied and not stage.stopped):
        _wait_until(deadline, last.unsettled > 0)
        last = _stage_once(stage, task)
        total.unsettled = last.unsettled
        total.copied += last.copied
    return total


def _stage_once(stage: Stage, task: Task) -> Tally:
    with _opened(stage, task) as (root, source, staging):
        known = read_index(staging, f"{account_key(task.name)}.index", stage.made)
        mark = mark_with_parts(root, task.name, source, stage.layout)
        rules = stage.rules(os.fstat(source).st_uid)
        target = _open_target(staging, task.name)
        try:
            if stage.engine == "rsync" and not known.files:
                fill_by_rsync(source, target, task.label, stage.left_out, stage.caches)
            files, tally = bring_up_to_date(source, target, rules, known.files)
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
    """Make one file of each database. That uses up what was collected, so the index does not count any more."""
    with _opened(stage, task) as (_root, source, staging):
        names = store_names(source, stage.layout)
        if not names:
            return
        forget_index(staging, task.name)
        with _opened_holder(staging, _stores_name(task.name)) as scratch:
            target = _open_target(staging, task.name)
            try:
                put_stores(scratch, target, names, stage.rules(os.fstat(source).st_uid))
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
            yield root, source
        finally:
            os.close(source)
    finally:
        os.close(root)


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
    # Nobody but root gets into the staging area, so whoever owns this directory by now, we made it.
    with contextlib.suppress(FileExistsError):
        os.mkdir(account_key(name), 0o700, dir_fd=staging)
    return os.open(account_key(name), _DIRECTORY, dir_fd=staging)


def _measure(stage: Stage, task: Task) -> Tally:
    with _opened(stage, task) as (root, source, _staging):
        need = measure(source, name_matcher(stage.left_out), stage.is_cache)
        need.add(measure_stores(source, stage.layout))
        need.add(measure_entries(root, task.parts))
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
    """The engine 'rename': the account itself becomes the staged copy. Its owner is set once it is out of everybody's reach."""
    folder, name = place_of(task.root, task.name)
    with contextlib.ExitStack() as stack:
        staging = open_private(stage.area, STAGING, called="the staging area")
        stack.callback(os.close, staging)
        root, parent = open_real(task.root), open_real(folder)
        stack.callback(os.close, root)
        stack.callback(os.close, parent)
        _make_way(stage.area, staging, task.name)
        rename_new(parent, name, staging, account_key(task.name))
        target = open_staged(stage.area, task.name)
        stack.callback(os.close, target)
        rules = stage.whole_rules(os.fstat(target).st_uid)
        tally = hand_over(target, rules)
        if task.parts:
            holder = stack.enter_context(_opened_holder(staging, _parts_name(task.name)))
            tally.add(take_entries(root, holder, task.parts, rules))
        return tally


def _make_way(area: int, staging: int, name: str) -> None:
    """Remove a copy that another engine made. What has no index might be more than a copy, so it is put aside."""
    key = account_key(name)
    if read_file_at(staging, f"{key}.index", at_most=1 << 30, called="an index") is not None:
        remove_tree(staging, key)
        forget_index(staging, name)
        return
    displaced = open_private(area, DISPLACED, called="the directory of displaced accounts")
    try:
        with contextlib.suppress(FileNotFoundError):
            rename_new(staging, key, displaced, f"{moment()}-{key[:16]}-staged")
    finally:
        os.close(displaced)
