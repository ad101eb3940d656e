# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Decide what of a legacy path is put out of use. Changes nothing; the renames are in retire.py."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from .._accounts.entries import is_kept
from .._accounts.tombstone import is_tombstone_at
from .._fs.fdopen import DirFd, is_folder, opened_directory, status_below
from .._fs.patterns import path_matcher
from .._layouts.account import is_linked
from .._layouts.layout import Layout
from .._layouts.search import account_names, companions
from .owners import has_foreign
from .sources import Source


@dataclasses.dataclass(frozen=True)
class Retirement:
    """An entry to retire: a legacy root (``name`` empty), or the relative path ``name`` of one.

    ``apart``: it is moved out of the root, because the library would find it under any name in it. ``owners``: it must belong to one of
    them. ``emptied``: the root is a mount point, so its content is moved out, and it remains, closed.
    """

    root: str
    name: str = ""
    apart: bool = False
    owners: frozenset[int] = frozenset()
    emptied: bool = False

    @property
    def path(self) -> str:
        """The full path."""
        return f"{self.root}/{self.name}" if self.name else self.root


class Retirable(t.NamedTuple):
    """The entries to retire, and the number of entries that stay because they are, or contain, files of other users."""

    retirements: tuple[Retirement, ...]
    staying: int


def retirable(sources: t.Sequence[Source], layout: Layout) -> Retirable:
    """Return what to retire: each legacy root; of one with other content, only the entries that belong to the sessions and the backend."""
    found = [_found_in(source, layout) for source in sources]
    return Retirable(tuple(one for each in found for one in each.retirements), sum(each.staying for each in found))


def emptied(points: t.Iterable[str], users: frozenset[int] | None) -> Retirable:
    """Return which mount points that are not empty to retire. ``users``: uids of the backend, None if that is root: any owner counts."""
    owners = None if users is None else users | {0}
    kept = [point for point in points if owners is not None and _has_others(point, owners)]
    found = (Retirement(point, owners=owners or frozenset(), emptied=True) for point in points if point not in kept)
    return Retirable(tuple(found), len(kept))


def _found_in(source: Source, layout: Layout) -> Retirable:
    with opened_directory(source.path) as root:
        folders = [folder for folder in layout.folders if is_folder(root, folder)]
        accounts = list(account_names(root, layout))
        owners = source.owners or _owners_in(root, accounts, source.receiver)
        owners |= {0} if source.closed else set()
        own = [*accounts, *(part for name in accounts for part in layout.sidecars_of(name)), *companions(root, layout)]
        is_application = bool(layout.folders) or layout.companions is not None
        if is_application and not accounts and not folders:
            return Retirable((), 0)
        whole = not folders and not (is_application and _other_entries(root, own, layout))
        if whole and not has_foreign(root, ".", owners):
            return Retirable((Retirement(source.path, owners=owners),), 0)
        beside = (name for name in own if name.partition("/")[0] not in folders)
        own_names = (*folders, *beside)
        links = [name for name in own_names if is_linked(root, name)]  # their targets are outside the root
        names = [name for name in own_names if is_kept(root, name) and not is_tombstone_at(root, name)]
        kept = [name for name in names if name == "." or has_foreign(root, name, owners)]
        return Retirable(
            tuple(Retirement(source.path, name, not folders, owners) for name in names if name not in kept),
            len(kept) + len(links),
        )


def _owners_in(root: DirFd, accounts: t.Iterable[str], receiver: int | None) -> frozenset[int]:
    """Return the uids of an open root, its accounts and their receiver; used if any owner is allowed."""
    statuses = (status_below(root, name) for name in (".", *accounts))
    uids = (*(status.st_uid for status in statuses if status is not None), receiver)
    return frozenset(uid for uid in uids if uid is not None)


def _other_entries(root: DirFd, own: t.Collection[str], layout: Layout) -> set[str]:
    """Return the entries of an open root that do not belong to the sessions; none if the root is an account itself."""
    known, is_beside = {name.partition("/")[0] for name in own}, path_matcher(layout.ignored)
    names = {name for name in os.listdir(root) if not layout.is_volatile(name) and not is_beside(name)}
    return set() if "." in known else names - known


def _has_others(point: str, owners: frozenset[int]) -> bool:
    with opened_directory(point) as root:
        return has_foreign(root, ".", owners)
