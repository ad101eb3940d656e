# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Watches the accounts at all known paths and reports which of them a backend opens. Begun before its start, this proves what it uses.

fanotify(7) identifies the process of each open, so that only those of the unit's control group count. Without it (in containers without
the capability, or with old kernels) inotify(7) reports opens by any process, so nothing else may open accounts meanwhile.

Rules:

- Only opened files in an account count. Listing directories proves nothing, because programs search for accounts.
- A process that ended before its control group could be read is unknown. It proves neither that a place is used nor that it is not.
- If the kernel dropped events or a mark could not be set, the place is not ``complete``: observed opens count, but silence proves nothing.
- A directory that is an account at several places (a bind mount) belongs to the place that was added first: add the sessions path first.
- Nothing is read from an account, and no name from inside one is kept.
"""

from __future__ import annotations

import collections
import os
import select
import struct
import threading
import typing as t

from .._core.errors import SessionsError
from .._core.names import is_area
from .._fs.fanotify import fanotify_add, fanotify_new, has_fanotify, read_opened
from .._fs.fdopen import DirFd, opened_below, opened_parent
from .._fs.syscalls import inotify_add, inotify_new
from .._layouts.account import AccountRef
from .._layouts.layout import Layout
from .._layouts.search import account_names
from .._proc.control_groups import group_of, is_of
from .in_use import Use

_MODIFY, _OPEN, _MOVED_IN, _CREATE = 0x2, 0x20, 0x80, 0x100
_OVERFLOW, _ADD, _ON_DIRECTORY = 0x4000, 0x20000000, 0x40000000
_NO_WATCH = -1
_HEAD = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_BLOCK = 1 << 16
_PLACES_AT_MOST = 64  # the kernel gives a user 128 queues
_MARKS_AT_MOST = 10000
_BLOCKS_AT_ONCE = 64  # a process that opens files faster than they are counted must not delay a deadline
_GROUPS_AT_MOST = 256  # of other openers, which are only reported
# Values that cannot be names of control groups. _OUTSIDE: a process outside this PID namespace, so not of a unit of this host.
_ANYBODY, _GONE, _OUTSIDE = "*", "", "outside of this container"


class _Place:
    """The watches of a place, and the reported opens by (account, control group)."""

    def __init__(self, queue: int | None) -> None:
        self.queue = queue  # of fanotify
        # Of inotify. Each place has separate queues, so that many opens at one place do not drop events of another.
        self.names = inotify_new()
        self.root: DirFd | None = None
        self.root_watch = _NO_WATCH
        self.watches: dict[int, str] = {}  # inotify watch descriptor: account
        self.by_last_name: dict[str, str] = {}
        self.opens: collections.Counter[tuple[str, str]] = collections.Counter()
        self.complete = True


class UseWatch:
    """A watch over several places. Add all of them, then enter the context, then start the backend."""

    def __init__(self, cgroups: t.Iterable[str] = ()) -> None:
        self.cgroups = tuple(cgroups)
        self.named = has_fanotify()
        self._places: dict[str, _Place] = {}
        self._marked: dict[tuple[int, int], str] = {}  # device and inode: place
        self._groups: set[str] = set()
        self._told = threading.Condition()
        self._wake = os.pipe2(os.O_CLOEXEC)
        self._listener: threading.Thread | None = None

    def add_place(self, place: str, root: DirFd, layout: Layout) -> None:
        """Watch all accounts below the open directory ``root``, including those that are created later."""
        with self._told:
            self._watch_root(self._place(place), root)
        for name in account_names(root, layout):
            try:
                self._add_account(place, AccountRef(root, name, layout))
            except (FileNotFoundError, NotADirectoryError):  # part of it was removed meanwhile
                with self._told:
                    self._place(place).complete = False

    def _add_account(self, place: str, account: AccountRef) -> None:
        root, name, layout = account
        if name == ".":
            # The root may be an application's directory: only its keys count, not its program files.
            for path in dict.fromkeys((*layout.watched_in(root), *_databases_in(root, layout))):
                with opened_parent(root, path) as (folder, file):
                    self.add(place, name, folder, file)
            return
        with account.opened() as directory:
            self.add(place, name, directory)
            for folder_path in {os.path.dirname(path) for path in layout.watched_in(directory)} - {""}:
                with opened_below(directory, folder_path) as folder:
                    self.add(place, name, folder)

    def add(self, place: str, account: str, directory: DirFd, name: str | None = None) -> None:
        """Watch the files in an open directory of an account, or only its entry ``name``."""
        with self._told:
            kept = self._place(place)
            try:
                status = os.stat("." if name is None else name, dir_fd=directory, follow_symlinks=False)
                if self._marked.setdefault((status.st_dev, status.st_ino), place) != place:
                    return
                if len(self._marked) > _MARKS_AT_MOST:
                    raise OSError("more accounts than can be watched")
                self._mark(kept, account, directory, name)
                kept.by_last_name.setdefault(os.path.basename(account), account)
            except OSError:
                kept.complete = False

    def __enter__(self) -> UseWatch:
        """Start listening."""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        """Stop listening, and remove all marks."""
        os.write(self._wake[1], b".")
        if self._listener:
            self._listener.join()
        self.close()

    def close(self) -> None:
        """Remove all marks; to be called directly only for a watch that was never entered."""
        for place in self._places.values():
            for descriptor in (place.queue, place.names, place.root):
                if descriptor is not None:
                    os.close(descriptor)
        self._places = {}
        for descriptor in self._wake:
            os.close(descriptor)

    def seen(self, cgroups: t.Iterable[str] | None = None) -> dict[str, Use]:
        """Return what processes of ``cgroups`` (default: those given at creation) have opened at each place."""
        wanted = self.cgroups if cgroups is None else tuple(cgroups)
        with self._told:
            self._take_all()
            return {name: self._use(place, wanted) for name, place in self._places.items()}

    def wait_for(self, enough: t.Callable[[dict[str, Use]], bool], seconds: float) -> bool:
        """Wait until ``enough`` is true for what was seen, checked after each event. Return False on a timeout."""
        with self._told:
            return self._told.wait_for(lambda: enough(self.seen()), timeout=seconds)

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            self._places[name] = _Place(self._new_queue())
        return self._places[name]

    def _new_queue(self) -> int | None:
        if not self.named:
            return None
        if len(self._places) >= _PLACES_AT_MOST:
            raise SessionsError(
                f"more than {_PLACES_AT_MOST} directories may contain accounts, too many to watch; name the relevant ones in 'src'"
            )
        try:
            # One queue per place: files have other paths in a container, so only the queue reliably identifies the place.
            return fanotify_new()
        except OSError as error:
            raise SessionsError(
                f"cannot watch the accounts: {error.strerror}; stop programs that use fanotify (such as virus scanners) and run again"
            ) from error

    def _mark(self, kept: _Place, account: str, directory: DirFd, name: str | None) -> None:
        if kept.queue is not None:
            fanotify_add(kept.queue, directory, name)
            return
        number = _inotify_add_entry(kept.names, directory, name, _OPEN | _MODIFY | _ADD)
        kept.watches.setdefault(number, account)

    def _watch_root(self, kept: _Place, root: DirFd) -> None:
        if kept.root is not None:
            return
        kept.root = DirFd(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root))
        try:
            kept.root_watch = inotify_add(kept.names, root, _CREATE | _MOVED_IN | _ADD)
        except OSError:
            kept.complete = False

    def _listen(self) -> None:
        poll = select.poll()
        poll.register(self._wake[0], select.POLLIN)
        for place in self._places.values():
            for queue in (place.queue, place.names):
                if queue is not None:
                    poll.register(queue, select.POLLIN)
        try:
            while self._wake[0] not in dict(poll.poll()):
                with self._told:
                    if self._take_all():
                        self._told.notify_all()
        except (OSError, MemoryError):
            with self._told:
                for place in self._places.values():
                    place.complete = False

    def _take_all(self) -> bool:
        """Process all pending events; return whether there were any."""
        any_told = False
        for name, place in self._places.items():
            any_told = self._take_names(name, place) or any_told
            if place.queue is not None:
                any_told = self._take_opened(place, place.queue) or any_told
        return any_told

    def _take_opened(self, place: _Place, queue: int) -> bool:
        for number in range(_BLOCKS_AT_ONCE):
            opened, lost = read_opened(queue)
            if not opened and not lost:
                return number > 0
            place.complete = place.complete and not lost
            groups = {pid: self._group(pid) for pid in {event.pid for event in opened} - {os.getpid()}}
            for event in opened:
                if event.pid in groups:
                    place.opens[_account_of(event.path, place.by_last_name), groups[event.pid]] += 1
        return True

    def _group(self, pid: int) -> str:
        if not pid:
            return _OUTSIDE
        group = group_of(pid)
        if group in (_GONE, "/"):  # the kernel moves exiting processes to the root group
            return _GONE
        if is_of(group, self.cgroups) or group in self._groups:
            return group
        if len(self._groups) >= _GROUPS_AT_MOST:
            return _GONE
        self._groups.add(group)
        return group

    def _take_names(self, name: str, place: _Place) -> bool:
        for number in range(_BLOCKS_AT_ONCE):
            block = _read(place.names)
            if not block:
                return number > 0
            at = 0
            while at < len(block):
                watch, mask, _cookie, length = _HEAD.unpack_from(block, at)
                at += _HEAD.size + length
                if mask & _ON_DIRECTORY and watch == place.root_watch and mask & (_CREATE | _MOVED_IN):
                    self._add_new(name, os.fsdecode(block[at - length : at].rstrip(b"\0")))
                else:
                    self._note(place, watch, mask)
        return True

    def _note(self, place: _Place, watch: int, mask: int) -> None:
        if mask & _OVERFLOW:
            place.complete = False
        elif watch in place.watches and not mask & _ON_DIRECTORY and mask & (_OPEN | _MODIFY):
            place.opens[place.watches[watch], _ANYBODY] += 1

    def _add_new(self, place: str, name: str) -> None:
        """Watch a directory that was just created in a root, because it may become an account."""
        root = self._places[place].root
        if root is None or is_area(name):
            return
        try:
            with opened_below(root, name) as directory:
                self.add(place, name, directory)
        except OSError:
            pass  # it was removed again

    def _use(self, place: _Place, cgroups: t.Sequence[str]) -> Use:
        count, unknown = 0, 0
        accounts, others = set(), set()
        for (account, group), number in place.opens.items():
            if group == _ANYBODY or is_of(group, cgroups):
                count += number
                accounts.add(account)
            elif group == _GONE:
                unknown += number
            else:
                others.add(group)
        return Use(count, frozenset(accounts - {""}), unknown, frozenset(others), place.complete, self.named)


def _account_of(path: str, by_last_name: t.Mapping[str, str]) -> str:
    """Return the account of a file from the directories in its path, as the opening process sees it; '' if it cannot be determined."""
    for part in reversed(path.split("/")[:-1]):
        if part in by_last_name:
            return by_last_name[part]
    return next(iter(by_last_name.values())) if len(by_last_name) == 1 else ""


def _databases_in(root: DirFd, layout: Layout) -> list[str]:
    is_database = layout.database_matcher
    return [name for name in os.listdir(root) if is_database(name)] if layout.databases else []


def _inotify_add_entry(queue: int, directory: DirFd, name: str | None, mask: int) -> int:
    if name is None:
        return inotify_add(queue, directory, mask)
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        return inotify_add(queue, descriptor, mask)
    finally:
        os.close(descriptor)


def _read(queue: int) -> bytes:
    try:
        return os.read(queue, _BLOCK)
    except BlockingIOError:
        return b""
