# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Retires a legacy path after its accounts were moved: renames it and leaves a tombstone in its place.

An old release that falls back to its relative path then fails loudly, instead of starting a second client with old keys.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import typing as t

from ._area import moment
from ._beside import is_kept
from ._control import open_private
from ._errors import SessionsError
from ._kernel import rename_new
from ._layout import Layout, is_folder, path_matcher, status_below
from ._layouts import account_names, companions, is_linked
from ._owners import has_foreign, has_foreign_below
from ._paths import READ_FLAGS, opened_directory
from ._rescue import open_real
from ._sources import Source
from ._tombstone import is_tombstone_at, leave_tombstone, take_tombstone


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


def retire(retirements: t.Sequence[Retirement], path: str) -> None:
    """Rename each entry to ``<name>.migrated-<time>``, accessible to root only; a file that names the new path replaces a directory.

    Raises SessionsError if an entry cannot be renamed (such as a mount point) or now belongs to another user.
    """
    now = moment()
    for retirement in retirements:
        try:
            if retirement.emptied:
                _empty(retirement, now)
            else:
                _retire_one(retirement, f"The accounts of this directory were moved to {path} at {now}.", now)
        except OSError as error:
            raise SessionsError(
                f"the accounts are in {path}, but the legacy path {retirement.root} cannot be retired: {error.strerror}; "
                "fix that and run again, or keep it with state=migrated"
            ) from error


@contextlib.contextmanager
def reopened(path: str) -> t.Iterator[None]:
    """Remove a tombstone at ``path``, because accounts return to it; if the body fails, create it again."""
    directory, name = os.path.split(os.path.realpath(path))
    try:
        parent = open_real(directory)
    except (FileNotFoundError, NotADirectoryError):  # it does not exist yet
        yield
        return
    try:
        text = take_tombstone(parent, name, path)
        try:
            yield
        except BaseException:
            if text is not None:
                with contextlib.suppress(FileExistsError):  # the path exists, so no backend starts on an empty path
                    leave_tombstone(parent, name, text)
            raise
    finally:
        os.close(parent)


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


def _owners_in(root: int, accounts: t.Iterable[str], receiver: int | None) -> frozenset[int]:
    """Return the uids of an open root, its accounts and their receiver; used if any owner is allowed."""
    statuses = (status_below(root, name) for name in (".", *accounts))
    uids = (*(status.st_uid for status in statuses if status is not None), receiver)
    return frozenset(uid for uid in uids if uid is not None)


def _other_entries(root: int, own: t.Collection[str], layout: Layout) -> set[str]:
    """Return the entries of an open root that do not belong to the sessions; none if the root is an account itself."""
    known, is_beside = {name.partition("/")[0] for name in own}, path_matcher(layout.ignored)
    names = {name for name in os.listdir(root) if not layout.is_volatile(name) and not is_beside(name)}
    return set() if "." in known else names - known


def _retire_one(retirement: Retirement, text: str, now: str) -> None:
    directory, name = os.path.split(retirement.path)
    with contextlib.ExitStack() as stack:
        parent = open_real(directory)
        stack.callback(os.close, parent)
        entry = os.open(name, READ_FLAGS, dir_fd=parent)
        stack.callback(os.close, entry)
        status = os.fstat(entry)
        _require_owned(status, retirement)
        holder = _holder(retirement.root, now) if retirement.apart else os.dup(parent)
        stack.callback(os.close, holder)
        aside = retirement.name.replace("/", "!") if retirement.apart else f"{name}.migrated-{now}"
        rename_new(parent, name, holder, aside)
        moved = os.stat(aside, dir_fd=holder, follow_symlinks=False)
        if (moved.st_dev, moved.st_ino) != (status.st_dev, status.st_ino):
            rename_new(holder, aside, parent, name)
            raise _exchanged(retirement)
        _close_to_others(entry)
        if stat.S_ISDIR(status.st_mode):
            if has_foreign_below(entry, retirement.owners):  # checked when no other user can change its content
                _open_to_owner(entry, status)
                rename_new(holder, aside, parent, name)
                raise _exchanged(retirement)
            leave_tombstone(parent, name, text)
        os.fsync(holder)
        os.fsync(parent)


def _has_others(point: str, owners: frozenset[int]) -> bool:
    with opened_directory(point) as root:
        return has_foreign(root, ".", owners)


def _empty(retirement: Retirement, now: str) -> None:
    """Move the content of a mount point to a directory beside it: the running backend has its accounts mounted over it.

    Its owner is not changed: closing it does that and records it for the rollback, in this run or the next.
    """
    with contextlib.ExitStack() as stack:
        point = open_real(retirement.root)
        stack.callback(os.close, point)
        if retirement.owners and has_foreign_below(point, retirement.owners):
            raise _exchanged(retirement)
        holder = _holder(retirement.root, now)
        stack.callback(os.close, holder)
        for name in sorted(os.listdir(point)):
            rename_new(point, name, holder, name)
        os.fsync(holder)
        os.fsync(point)


def _require_owned(status: os.stat_result, retirement: Retirement) -> None:
    is_folder_or_single = stat.S_ISDIR(status.st_mode) or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1)
    if status.st_uid not in retirement.owners or not is_folder_or_single:
        raise _exchanged(retirement)


def _exchanged(retirement: Retirement) -> SessionsError:
    return SessionsError(
        f"an entry of the legacy path {retirement.root} was replaced with one of another user while it was being retired, and was left in "
        "place; the accounts are at the sessions path: check what it is, and run again"
    )


def _holder(root: str, now: str) -> int:
    """Create and open the directory beside a legacy root that its content is moved to."""
    directory, name = os.path.split(root)
    parent = open_real(directory)
    try:
        return open_private(parent, f"{name}.migrated-{now}", called=f"{root}.migrated-{now}")
    finally:
        os.close(parent)


def _open_to_owner(entry: int, status: os.stat_result) -> None:
    if os.geteuid() == 0:
        os.fchown(entry, status.st_uid, status.st_gid)
    os.fchmod(entry, stat.S_IMODE(status.st_mode))


def _close_to_others(entry: int) -> None:
    """Give the open renamed entry to root only."""
    if os.geteuid() == 0:
        os.fchown(entry, 0, 0)
    os.fchmod(entry, stat.S_IRWXU if stat.S_ISDIR(os.fstat(entry).st_mode) else stat.S_IRUSR | stat.S_IWUSR)
