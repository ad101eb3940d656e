# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The single definition of when a backend uses a path, shared by persist, verify, restart, rollback and retirement. Reads only.

If it was watched since before its start, a backend uses the directories in which its processes opened accounts (open_watch.py).
A running backend uses the directories that open files, mounts, environments and working directories of all its processes lead to, each
resolved as the process itself sees it, unless newer keys at a former directory show otherwise.

The service user controls these data: every read has a limit, and only names of known directories are returned.
"""

from __future__ import annotations

import collections
import contextlib
import os
import time
import typing as t

from .._accounts.receipts import mark_at
from .._containers.detect import container_of, has_mounted
from .._core.errors import SessionsError
from .._fs.fdopen import DirFd, opened_directory, real_path, status_below
from .._layouts.account import AccountRef, opened_account
from .._layouts.layout import Layout
from .._layouts.search import account_names
from .._proc.control_groups import processes_of
from .._proc.process_view import Inode, View, inode_of
from .._proc.procfs import NOT_OF_THE_BACKEND, environment_of, named_paths
from .._systemd.restart_needed import started_at
from .._systemd.unit import Unit

USED = "used"  # the sessions path and no other directory
ELSEWHERE = "elsewhere"  # another directory
NOWHERE = "nowhere"  # no known directory
UNKNOWN = "unknown"  # not everything was visible, and the rest is no evidence

_VALUES_AT_MOST = 1000
_OPEN_FILES_AT_MOST = 5000
_VALUE_AT_MOST = 1024  # characters
_DEEPEST = 40
_REMEMBERED_AT_MOST = 20000  # paths


class Use(t.NamedTuple):
    """What a watch observed at one directory, see open_watch.py.

    ``opens``: number of opens by the watched processes (with inotify: by any). ``accounts``: the opened accounts, as far as known.
    ``unknown``: opens by processes that had ended before they were identified. ``others``: control groups of all other processes that
    opened something. ``complete``: nothing was missed. ``named``: the opening processes were identified.
    """

    opens: int = 0
    accounts: frozenset[str] = frozenset()
    unknown: int = 0
    others: frozenset[str] = frozenset()
    complete: bool = True
    named: bool = True


class Verdict(t.NamedTuple):
    """One of the four states above, and the other directories in use, under the caller's names."""

    state: str
    where: tuple[str, ...] = ()


class Known(t.NamedTuple):
    """Known directories by inode. ``directories``: roots and accounts. ``held``: files and directories that a process using an account has
    open, or below which it has files open. ``names``: real path of each root.
    """

    directories: dict[Inode, str]
    held: dict[Inode, str]
    names: dict[str, str]


class Leads(t.NamedTuple):
    """The directories that the processes lead to, by kind of evidence. ``complete``: all evidence could be read."""

    open_files: frozenset[str] = frozenset()
    mounts: frozenset[str] = frozenset()
    environment: frozenset[str] = frozenset()
    working_directories: frozenset[str] = frozenset()
    processes: int = 0
    complete: bool = True


def verdict(seen: t.Mapping[str, Use], path: str) -> Verdict:
    """Decide from what was observed since before the start; ``path``: the sessions path. Pure."""
    others = {place: use for place, use in seen.items() if place != path}
    where = tuple(sorted(place for place, use in others.items() if use.opens))
    if where:
        return Verdict(ELSEWHERE, where)
    used = path in seen and seen[path].opens > 0
    if not all(use.complete for use in (others if used else seen).values()):
        return Verdict(UNKNOWN)
    if used:
        return Verdict(USED)
    return Verdict(UNKNOWN if any(use.unknown for use in seen.values()) else NOWHERE)


def verdict_of_leads(
    leads: Leads, path: str, newer: t.Collection[str] = (), written: t.Collection[str] = ()
) -> Verdict:
    """Decide about running processes. Pure.

    ``newer``: former directories with newer keys than the sessions path ``path``. ``written``: directories where keys were written since
    the processes were started.

    Open files count most, then keys. The environment shows what the program was given, not what it does. Working directories count least,
    because the directory of a program may itself be a former directory of accounts.
    """
    for found in (leads.open_files - {path}, frozenset(newer) - {path}):
        if found:
            return Verdict(ELSEWHERE, tuple(sorted(found)))
    strong = leads.mounts | leads.environment
    if path in leads.open_files | strong or path in written:
        return Verdict(USED)
    for found in (strong, frozenset(written), leads.working_directories - {path}):
        if found:
            return Verdict(ELSEWHERE, tuple(sorted(found)))
    if path in leads.working_directories:
        return Verdict(USED)
    return Verdict(NOWHERE if leads.complete and leads.processes else UNKNOWN)


def use_of(unit: Unit, path: str, former: t.Iterable[str], layout: Layout, newer: t.Collection[str] = ()) -> Verdict:
    """Decide whether the running processes of ``unit`` use ``path`` or one of the directories ``former``; UNKNOWN if none is running.

    A container uses what it has mounted where its program keeps accounts.
    """
    container = container_of(unit)
    if container is not None:
        if newer:
            return Verdict(ELSEWHERE, tuple(sorted(newer)))
        return Verdict(USED if has_mounted(container, path, layout) else NOWHERE)
    with _opened((path, *former), layout) as places:
        leads = leads_of((unit.properties["ControlGroup"],), known_places(places))
        if leads.open_files or leads.mounts or leads.environment:
            return verdict_of_leads(leads, path, newer)
        return verdict_of_leads(leads, path, newer, written_since(places, started_at(unit)))


def leads_to(unit: Unit, path: str, former: t.Iterable[str], layout: Layout) -> Leads:
    """Return the known directories that the running processes of ``unit`` lead to."""
    with _opened((path, *former), layout) as places:
        return leads_of((unit.properties["ControlGroup"],), known_places(places))


@contextlib.contextmanager
def _opened(paths: t.Iterable[str], layout: Layout) -> t.Iterator[dict[str, tuple[DirFd, Layout]]]:
    with contextlib.ExitStack() as stack:
        places: dict[str, tuple[DirFd, Layout]] = {}
        for path in dict.fromkeys(paths):
            with contextlib.suppress(OSError, SessionsError):  # it is gone or was retired
                places[path] = (stack.enter_context(opened_directory(path)), layout)
        yield places


def written_since(places: t.Mapping[str, tuple[DirFd, Layout]], since: float) -> frozenset[str]:
    """Return the places (open roots) where an account's keys were written after ``since``, in seconds since the epoch."""
    return frozenset(
        place
        for place, (root, layout) in places.items()
        if any(changed_ns(AccountRef(root, name, layout)) > since * 1e9 for name in account_names(root, layout))
    )


def changed_ns(account: AccountRef) -> int:
    """Return when an account's keys were last written, in nanoseconds since the epoch; 0 if the account is gone."""
    try:
        return mark_at(account).changed_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0  # removed since it was listed


def known_places(places: t.Mapping[str, tuple[DirFd, Layout]]) -> Known:
    """Index open roots by inode. What is part of two roots belongs to the first, so the sessions path must come first."""
    known = Known({}, {}, {})
    for place, (root, layout) in places.items():
        known.names[place] = real_path(root)
        known.directories.setdefault(inode_of(root), place)
        accounts = list(account_names(root, layout))
        for account in accounts:
            if account != ".":
                with contextlib.suppress(OSError), opened_account(root, account) as directory:
                    known.directories.setdefault(inode_of(directory), place)
                    known.held.setdefault(inode_of(directory), place)
                continue
            # The root may be the directory of an application, which has other files open there, too.
            for path in layout.watched_in(root):
                status = status_below(root, path)
                if status is not None:
                    known.held.setdefault((status.st_dev, status.st_ino), place)
        if "." not in accounts:
            known.held.setdefault(inode_of(root), place)
    return known


def leads_of(cgroups: t.Iterable[str], known: Known, seconds: float = 5.0) -> Leads:
    """Follow the evidence of all processes in the control groups, for at most ``seconds``."""
    deadline = time.monotonic() + seconds
    processes = processes_of(cgroups)
    complete = processes.complete
    found: dict[str, set[str]] = collections.defaultdict(set)
    memories: dict[t.Any, _Memory] = {}
    looked_at = 0
    for pid in processes.pids:
        if time.monotonic() > deadline:
            complete = False
            break
        try:
            with View(pid) as view:
                memory = memories.setdefault((view.root, _mount_namespace(pid)), _Memory())
                complete = _Look(view, known, memory, deadline).into(found) and complete
                looked_at += 1
        except (FileNotFoundError, ProcessLookupError):
            continue  # the process ended
        except OSError:
            complete = False
    return Leads(
        frozenset(found["open"]),
        frozenset(found["mounts"]),
        frozenset(found["environment"]),
        frozenset(found["working"]),
        looked_at,
        complete,
    )


class _Path(t.NamedTuple):
    """A path to look up including the directories above it, up to but excluding ``above``."""

    path: str
    above: str = "/"


class _Memory:
    """Results shared by all processes with the same root and mounts: inodes of paths, and whether the mounts were checked."""

    def __init__(self) -> None:
        self.inodes: dict[str, Inode | None] = {}
        self.mounts_seen = False


class _Look:
    """The examination of one process."""

    def __init__(self, view: View, known: Known, memory: _Memory, deadline: float) -> None:
        self.view, self.known, self.memory, self.deadline = view, known, memory, deadline
        self.complete = True

    def into(self, found: dict[str, set[str]]) -> bool:
        """Add what was found; return whether everything could be examined."""
        working = self._link("cwd")
        found["working"].update(self._places([_Path(working)]))
        found["environment"].update(self._places(self._values(working)))
        found["open"].update(self._held())
        if not self.memory.mounts_seen:
            self.memory.mounts_seen = True
            found["mounts"].update(self._mounted())
        return self.complete

    def _places(self, paths: t.Iterable[_Path]) -> set[str]:
        return {place for place in (self._place_of(path, self.known.directories) for path in paths) if place}

    def _place_of(self, looked_for: _Path, inodes: t.Mapping[Inode, str]) -> str | None:
        """Return the place that contains a path: the innermost of its directories that is known."""
        path = looked_for.path
        for _level in range(_DEEPEST):
            if path in ("", "/", looked_for.above) or not path.startswith("/"):
                return None
            inode = self._inode(path)
            if inode is not None and inode in inodes:
                return inodes[inode]
            path = os.path.dirname(path)
        return None

    def _inode(self, path: str) -> Inode | None:
        inodes = self.memory.inodes
        if path not in inodes:
            if time.monotonic() > self.deadline:
                self.complete = False
                return None
            if len(inodes) > _REMEMBERED_AT_MOST:
                inodes.clear()
            inodes[path] = self.view.inode(path)
        return inodes[path]

    def _values(self, working: str) -> t.Iterator[_Path]:
        """Yield the paths that environment variables may name."""
        try:
            items = environment_of(self.view.pid)
        except (OSError, SessionsError):  # the process ended or is not accessible
            self.complete = False
            return
        self.complete = self.complete and len(items) <= _VALUES_AT_MOST
        for name, value in items[:_VALUES_AT_MOST]:
            if name not in NOT_OF_THE_BACKEND:
                yield from paths_in(value, working)

    def _held(self) -> t.Iterator[str]:
        try:
            numbers = os.listdir(f"/proc/{self.view.pid}/fd")
        except OSError:
            self.complete = False
            return
        self.complete = self.complete and len(numbers) <= _OPEN_FILES_AT_MOST
        for number in numbers[:_OPEN_FILES_AT_MOST]:
            path = self._link(f"fd/{number}")
            if not path.startswith("/") or path.startswith(("/dev/", "/proc/", "/sys/")):
                continue
            with contextlib.suppress(OSError):
                status = os.stat(f"/proc/{self.view.pid}/fd/{number}")
                place = self.known.held.get((status.st_dev, status.st_ino))
                place = place or self._place_of(_Path(os.path.dirname(path)), self.known.held)
                if place:
                    yield place

    def _mounted(self) -> t.Iterator[str]:
        """Yield places mounted under another name or root; a directory visible under its own path is no evidence."""
        try:
            mounts = self.view.mounts()
        except OSError:
            self.complete = False
            return
        same_root = self.view.root == _own_root()
        for mount in mounts.values():
            place = self._exactly(mount.mount_point)
            if place and not (same_root and mount.mount_point == self.known.names[place]):
                yield place

    def _exactly(self, path: str) -> str | None:
        inode = self.view.inode(path) if path != "/" else None
        return self.known.directories.get(inode) if inode else None

    def _link(self, name: str) -> str:
        try:
            return os.readlink(f"/proc/{self.view.pid}/{name}")
        except OSError:
            return ""


def paths_in(value: str, working: str) -> t.Iterator[_Path]:
    """Yield the paths that a variable's value may mean: itself, below the working directory, or the directory of a database. Pure."""
    if len(value) > _VALUE_AT_MOST:
        return
    for path in named_paths(value):
        if path.startswith("/"):
            yield _Path(os.path.normpath(path))
        elif path and working.startswith("/"):
            joined = os.path.normpath(f"{working}/{path}")
            # Directories above the working directory are no evidence: any word would lead to them.
            above = os.path.commonpath((joined, working))
            yield _Path(joined, os.path.dirname(above) if joined == above else above)


def _mount_namespace(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/mnt")


def _own_root() -> Inode:
    status = os.stat("/")
    return status.st_dev, status.st_ino
