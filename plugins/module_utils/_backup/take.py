# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Takes the snapshot of one account, in a directory that does not count as a snapshot yet. Never writes to the account.

The account is copied again and again until one pass finds nothing to copy. Every file then equals its copy at the moment when that pass
began, because no ctime changed in between: the copy is one state of the account, although its backend was running. Files that a library
rewrites in place have to be closed at that moment as well, because a file may stay half written while its process waits for CPU or disk.

Unchanged files are hard links to those of the previous snapshot. A changed file is copied to a new file, never into the linked one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import time
import typing as t

from .._accounts.copy_index import NOTHING, Known, write_unsynced
from .._accounts.extras import bring_entries, slot_of
from .._accounts.receipts import Mark, mark_in, mark_with_parts
from .._accounts.work_area import moment as moment_now
from .._core.bounded_json import parsed_json
from .._core.errors import SessionsError
from .._core.limits import QUIET_SECONDS
from .._core.masking import account_key
from .._fs.copy_file import Rules, UnfitTree
from .._fs.copy_tree import Index, remove_tree, sync_tree
from .._fs.fdopen import OPEN_DIRECTORY, DirFd, exists, open_private, opened_below, opened_directory
from .._fs.files import read_file_at
from .._fs.free_space import SpaceReserve
from .._fs.leases import has_writer, leases_allowed
from .._fs.link_tree import link_below, link_tree
from .._fs.syscalls import rename_new
from .._fs.walk_tree import Tally, files_below
from .._layouts.account import AccountRef, open_account
from .._layouts.sqlite import Records, bring_stores, put_store, records_of_store, store_names
from .known import Choice, document_of, files_in, read_known
from .store import FILES, PARTIAL, ROOT, SAVED_STATES, Snapshot, name_of, opened_snapshot, write_manifest

_BETWEEN = 0.02  # seconds: files that were written within the resolution of timestamps do not count as copied, see copy_file.py
_STORES, _PARTS, _MOMENT = "stores", "parts", "moment.json"


@dataclasses.dataclass(frozen=True)
class Order:
    """One account to save. ``previous``: the directory of its newest snapshot, '' if none. ``kept_free``: bytes and inodes to keep free."""

    path: str
    name: str
    choice: Choice
    previous: str = ""
    sequence: int = 1
    kept_free: tuple[int, int] = (0, 0)

    @property
    def partial(self) -> str:
        """The directory in the store that the snapshot is written to."""
        return f"{PARTIAL}{account_key(self.name)}"


class Unsound(UnfitTree):
    """The copy is not an account that a backend could use."""


def begin(store: DirFd, order: Order) -> bool:
    """Copy the account while its backend may be writing; return whether the copy is one state of it. Raises UnfitTree, OSError."""
    remove_tree(store, order.partial)
    with _opened(store, order) as copy:
        copy.link_previous()
        copy.once()
        return copy.until_quiet(time.monotonic() + QUIET_SECONDS, is_held=False)


def resume(store: DirFd, order: Order, until: float) -> bool:
    """Copy what changed since, while its backend is held; return whether the copy is one state of the account.

    Raises UnfitTree after the monotonic time ``until``.
    """
    with _opened(store, order, until) as copy:
        return copy.until_quiet(until, is_held=True)


def complete(store: DirFd, order: Order) -> Snapshot:
    """Finish a copy that is one state of the account, and judge it. Its manifest is written, but nothing is durable yet.

    Raises Unsound if a backend could not use it, UnfitTree, OSError.
    """
    with _opened(store, order) as copy:
        copy.put_databases()
        copy.put_parts()
        return copy.described()


def publish(store: DirFd, order: Order, name: str) -> None:
    """Let a complete and durable snapshot appear under its ``name``."""
    rename_new(store, order.partial, store, name)


def discard(store: DirFd, order: Order) -> None:
    """Remove what was written for a snapshot that cannot be completed."""
    remove_tree(store, order.partial)


@contextlib.contextmanager
def _opened(store: DirFd, order: Order, until: float = math.inf) -> t.Iterator[_Copy]:
    """Open the account and its unfinished snapshot. ``until``: the monotonic time by which a pass has to be finished."""
    with contextlib.ExitStack() as stack:

        def kept_open(descriptor: DirFd) -> DirFd:
            stack.callback(os.close, descriptor)
            return descriptor

        root = stack.enter_context(opened_directory(order.path))
        source = kept_open(open_account(root, order.name))
        partial = kept_open(open_private(store, order.partial, called="a directory in the directory of backups"))
        top = kept_open(open_private(partial, ROOT, called="a snapshot"))
        target = kept_open(_made_below(top, order.name))
        copy = _Copy(store, order, root, source, partial, top, target, until)
        try:
            yield copy
        finally:
            copy.remember()


def _made_below(directory: DirFd, path: str) -> DirFd:
    """Open the directory at the relative ``path`` of a snapshot, creating it if necessary."""
    here = DirFd(os.open(".", OPEN_DIRECTORY, dir_fd=directory))
    for part in path.split("/"):
        try:
            below = open_private(here, part, called="a snapshot")
        finally:
            os.close(here)
        here = below
    return here


class _Copy:
    """The open account ``source``, its unfinished snapshot, and what is known about the copied files."""

    def __init__(
        self,
        store: DirFd,
        order: Order,
        root: DirFd,
        source: DirFd,
        partial: DirFd,
        top: DirFd,
        target: DirFd,
        until: float,
    ) -> None:
        self.store, self.order, self.choice, self.layout = store, order, order.choice, order.choice.layout
        self.root, self.source, self.partial, self.top, self.target = root, source, partial, top, target
        self.known = self.recorded = read_known(partial, self.choice)
        self.stores_before = self._stores_before() if self.layout.databases else {}
        self.rules = Rules(
            uid=os.geteuid(),
            gid=os.getegid(),
            owners=frozenset((os.fstat(source).st_uid,)),  # a restored file is given to that user
            is_volatile=self.choice.is_left_out,
            checksum=True,
            is_cache=self.choice.is_cache,
            room=SpaceReserve(order.kept_free),
            until=until,
            private=True,
        )

    def remember(self) -> None:
        """Record what is known about the copied files for the next step."""
        if self.known != self.recorded:
            write_unsynced(self.partial, FILES, json.dumps(document_of(self.known, self.choice)).encode())

    def link_previous(self) -> None:
        """Share the files of the previous snapshot; those that have changed are replaced in the first pass."""
        with self._previous() as previous:
            if previous is not None:
                directory, account = previous
                files = link_tree(account, self.target, read_known(directory, self.choice).files)
                self.known = NOTHING._replace(files=files)

    def once(self) -> bool:
        """Make one pass over the account; return whether everything was as the pass before had left it."""
        files, tally = sync_tree(self.source, self.target, self.rules, self.known.files)
        stores = self._bring_stores(tally) if self.layout.databases else {}
        parts: dict[str, Index] = {}
        sidecars = self.layout.sidecars_of(self.order.name)
        if sidecars:
            with self._holder(_PARTS) as holder:
                parts, figures = bring_entries(self.root, holder, sidecars, self._whole_rules, self.known.parts)
                tally.add(figures)
        before, self.known = self.known, Known(files, stores, parts)
        return self.known == before and not tally.unsettled

    def until_quiet(self, until: float, *, is_held: bool) -> bool:
        """Make passes until one finds nothing to copy, and record that moment. Returns False after the monotonic time ``until``.

        ``is_held``: the backend was frozen or stopped, so waiting does not close the file that it is writing, and such a file is looked
        for only once. Otherwise it could be closed during the pass, so it is looked for before.
        """
        while True:
            taken = time.time_ns()
            mark = mark_with_parts(AccountRef(self.root, self.order.name, self.layout), self.source)
            written = not is_held and self._is_being_written()
            same = self.once()
            if same and not written and not (is_held and self._is_being_written()):
                moment = {"taken": taken, "mark": dataclasses.asdict(mark)}
                write_unsynced(self.partial, _MOMENT, json.dumps(moment).encode())
                return True
            if (same and is_held) or time.monotonic() > until:
                return False
            time.sleep(_BETWEEN)

    def put_databases(self) -> None:
        """Put each database into the snapshot as one file; an unchanged one is shared with the previous snapshot."""
        with self._holder(_STORES) as scratch:
            for name in self.known.stores:
                if exists(scratch, account_key(name)):
                    put_store(self.source, scratch, self.target, name, self.rules, self.layout)
                else:
                    self._share_store(name)
        remove_tree(self.partial, _STORES)

    def put_parts(self) -> None:
        """Put the parts of the account that are outside its directory where they are below the sessions path."""
        with self._holder(_PARTS) as holder:
            for part in self.known.parts:
                folder, _slash, name = part.rpartition("/")
                with opened_below(holder, slot_of(part)) as slot:
                    parent = _made_below(self.top, folder or ".")
                    try:
                        rename_new(slot, name, parent, name)
                    finally:
                        os.close(parent)
        remove_tree(self.partial, _PARTS)

    def described(self) -> Snapshot:
        """Check the finished copy and write its manifest."""
        held = {path: status.st_size for path, status in files_below(self.top, lambda name: None, None)}
        above = "" if self.order.name == "." else f"{self.order.name}/"
        if any(held.get(above + path) != record[1] for path, record in files_in(self.known.files)):
            raise UnfitTree(
                "its copy in the directory of backups was changed meanwhile; find out by what, and run again"
            )
        state = self.layout.judged(self.target).state
        if state not in SAVED_STATES:
            raise Unsound(f"its copy is {state}")
        moment = parsed_json(read_file_at(self.partial, _MOMENT) or b"")
        os.unlink(_MOMENT, dir_fd=self.partial)
        mark = mark_in(moment["mark"])
        snapshot = Snapshot(
            name=name_of(self.order.name, moment_now()),
            account=self.order.name,
            layout=self.layout.name,
            taken=moment["taken"],
            confirmed=moment["taken"],
            newest=_newest_in(mark),
            state=state,
            files=len(held),
            bytes=sum(held.values()),
            mark=mark,
            path=self.order.path,
            sequence=self.order.sequence,
        )
        write_manifest(self.partial, snapshot)
        return snapshot

    @property
    def _whole_rules(self) -> Rules:
        return dataclasses.replace(self.rules, is_volatile=self.layout.volatile_matcher, is_cache=None)

    def _bring_stores(self, tally: Tally) -> Records:
        """Copy the files of changed databases; those of an unchanged one are in the previous snapshot, as one file."""
        with self._holder(_STORES) as scratch:
            names = store_names(self.source, self.layout)
            brought = {name for name in names if exists(scratch, account_key(name))}
            same: Records = {}
            for name in set(names) - brought:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # its directory was removed meanwhile
                    records = records_of_store(self.source, name)
                    if records and records == self.stores_before.get(name):
                        same[name] = records
            known = {name: self.known.stores[name] for name in brought if name in self.known.stores}
            todo = [name for name in names if name not in same]
            fresh, figures = bring_stores(self.source, scratch, todo, self.rules, known)
            tally.add(figures)
            return {**fresh, **same}

    def _share_store(self, name: str) -> None:
        with self._previous() as previous:
            if previous is None or not link_below(previous[1], self.target, name):
                raise UnfitTree("a database of its previous snapshot cannot be shared; check the directory of backups")

    def _is_being_written(self) -> bool:
        """Whether a file of the account is open for writing. Databases and browsers keep theirs open, and survive a kill at any moment."""
        if self.known.stores or self.layout.lock_of(self.source):
            return False
        with leases_allowed():
            return any(self._has_writer(place, names) for place, names in self.known.files.items())

    def _has_writer(self, place: str, names: t.Iterable[str]) -> bool:
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            opened_below(self.source, place.rstrip("/") or ".") as below,
        ):
            return any(has_writer(below, name) for name in names)
        return False

    def _stores_before(self) -> Records:
        with self._previous() as previous:
            return {} if previous is None else read_known(previous[0], self.choice).stores

    @contextlib.contextmanager
    def _previous(self) -> t.Iterator[tuple[DirFd, DirFd] | None]:
        """Open the previous snapshot, and the account in it; None if there is none, or if something of it was removed."""
        with contextlib.ExitStack() as stack:
            opened = None
            with contextlib.suppress(OSError, SessionsError):
                if self.order.previous:
                    directory = stack.enter_context(opened_snapshot(self.store, self.order.previous))
                    opened = directory, stack.enter_context(opened_below(directory, f"{ROOT}/{self.order.name}"))
            yield opened

    @contextlib.contextmanager
    def _holder(self, name: str) -> t.Iterator[DirFd]:
        holder = open_private(self.partial, name, called="a directory in the directory of backups")
        try:
            yield holder
        finally:
            os.close(holder)


def _newest_in(mark: Mark) -> int:
    """Return the newest key write, as session_info has it: parts outside the directory do not count."""
    own = (file.mtime_ns for name, file in mark.files.items() if not name.startswith("part "))
    return max(0, mark.folder.mtime_ns, *own)
