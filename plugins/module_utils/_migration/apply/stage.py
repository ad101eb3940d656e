# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What is staged and how: the accounts of a run and the rules for their copies. Reads only."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import typing as t

from ..._fs.copy_file import Rules, UnfitTree
from ..._fs.fdopen import DirFd
from ..._fs.free_space import SpaceReserve, kept_free
from ..._fs.patterns import name_matcher, path_matcher
from ..._layouts.account import open_account
from ..._layouts.layout import OF_A_PROGRAM, Layout
from ..._layouts.sqlite import store_patterns
from ..switch_refusals import needed
from .rescue import open_real

if t.TYPE_CHECKING:
    from ..observe import State
    from ..survey import Survey

ENGINES = ("native", "rsync", "rename")


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

    @contextlib.contextmanager
    def opened(self) -> t.Iterator[tuple[DirFd, DirFd]]:
        """Open the root and the account in it. Raises UnfitTree if the account has another owner than when it was surveyed."""
        root = DirFd(open_real(self.root))
        try:
            source = open_account(root, self.name)
            try:
                self.require_same_owner(source)
                yield root, source
            finally:
                os.close(source)
        finally:
            os.close(root)

    def require_same_owner(self, directory: DirFd) -> None:
        """Raise UnfitTree if the open directory has another owner than the account when it was surveyed."""
        if self.owner is not None and os.fstat(directory).st_uid != self.owner:
            raise UnfitTree("its directory was replaced with one of another user during the run; check what it is")


@dataclasses.dataclass(frozen=True)
class Stage:
    """Where and how to stage: the open area, the layout, owner of the copies, engine and whether copies are read back.

    ``stopped``: the final pass runs while a unit is kept stopped; without a unit, other processes may write at any time.
    ``with_caches``: also copy caches, which the library can recreate; the engine 'rename' moves them anyway. ``kept_free``: the bytes and
    inodes to keep free on the disk. ``until``: the deadline (monotonic time). ``needed``: names of accounts that the run cannot continue
    without. ``closed``: a legacy path was given to root by this collection, so its content is not trusted as root's.
    """

    area: DirFd
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


def stage_in(area: DirFd, state: State) -> Stage:
    """Return how accounts are staged in the open directory ``area``."""
    identity, params = state.identity, state.effective
    return Stage(
        area,
        state.survey.layout,
        identity.uid,
        identity.gid,
        params.engine,
        params.checksum,
        stopped=state.unit is not None,
        with_caches=not params.exclude_caches,
        kept_free=kept_free(area),
        needed=needed(state),
        closed=any(source.closed for source in state.sources),
    )


def tasks_of(seen: Survey) -> list[Task]:
    """Return a task for each account to stage."""
    sidecars_of = seen.layout.sidecars_of
    return [
        Task(one.root, one.name, one.label, sidecars_of(one.name), one.owner, one.legacy.mark.folder.inode)
        for one in seen.to_publish
    ]
