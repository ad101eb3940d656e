# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Search the accounts of a layout and what is migrated with them, below an open directory; count marker files as find(1) does."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from .._core.errors import SessionsError
from .._core.limits import FOLDERS
from .._core.names import is_area
from .._fs.fdopen import (
    OPEN_DIRECTORY,
    DirFd,
    bounded,
    folders_and_links_in,
    is_folder,
    names_in,
    opened_below,
    status_of,
)
from .._fs.patterns import name_matcher, path_matcher
from .layout import OF_A_PROGRAM, Layout
from .links import NOWHERE, TWICE, UnsafeLink, follow, is_link, unfit_target

# Levels and directories of the search for accounts that are too deep, which are only reported.
_FURTHER, _FURTHER_FOLDERS = 2, 5000
_FOLDER_LINK = "it is a link to a directory that contains accounts, and only links to accounts themselves are followed"


class Found(t.NamedTuple):
    """An account below a root (its relative path), or a symbolic link that may be one but is not followed: ``left`` says why.

    ``linked``: it is a symbolic link.
    """

    name: str
    left: str = ""
    linked: bool = False


def account_names(root: DirFd, layout: Layout) -> t.Iterator[str]:
    """Yield the accounts below the open directory ``root`` as relative paths, sorted; ``.`` if the root itself is an account.

    Includes symbolic links that are safe to follow (links.py), and directories of the layout's ``ignored`` that are accounts.
    """
    return (found.name for found in found_in(root, layout) if not found.left)


def found_in(root: DirFd, layout: Layout) -> t.Iterator[Found]:
    """Yield the accounts below the open directory ``root``, and symbolic links that may be accounts but are not followed."""
    if layout.is_account(root):
        yield Found(".")
    walk = _Walk(root, layout)
    folders = _folders_of(root, layout)
    if not folders:
        yield from walk.below(root, "", layout.depth)
    for folder in layout.folders if folders else ():
        if is_link(root, folder):
            yield Found(folder, _FOLDER_LINK, linked=True)
    for folder in folders:
        with opened_below(root, folder) as below:
            yield from walk.below(below, f"{folder}/", layout.depth)
    if folders and layout.direct:
        yield from _Walk(root, dataclasses.replace(layout, names=layout.direct), walk.left).below(root, "", 1)


def too_deep(root: DirFd, layout: Layout) -> int:
    """Return the number of accounts that are nested too deep for a layout; 0 if the directory is that of a program."""
    if layout.companions is not None:
        return 0
    known, deeper = set(account_names(root, layout)), dataclasses.replace(layout, depth=layout.depth + _FURTHER)
    walk = _Walk(root, deeper, iter(range(_FURTHER_FOLDERS)))
    try:
        return sum(not one.left and one.name not in known for one in walk.below(root, "", deeper.depth))
    except SessionsError:
        return 0  # too many directories for a guess


def companions(root: DirFd, layout: Layout) -> t.Iterator[str]:
    """Yield the files outside accounts that are migrated with them: relative paths on every level, sorted."""
    if layout.is_account(root):
        return
    accounts = set(account_names(root, layout))
    parts = {part for account in accounts for part in layout.sidecars_of(account)}
    above = {"", *_folders_of(root, layout), *_above(accounts), *_above(parts)}
    own = accounts | above | parts
    for path in sorted(path for place in above for path in _entries(root, place)):
        if path not in own and _travels(path, layout):
            yield path


def folders_left() -> t.Iterator[int]:
    """Return an iterator with one item for each directory that one search may open."""
    return iter(range(FOLDERS))


def opened_folders(
    directory: DirFd, left: t.Iterator[int], note: t.Callable[[str, str], None]
) -> t.Iterator[tuple[str, DirFd, bool]]:
    """Yield the directories in an open directory, sorted, with whether each is a symbolic link; each is open until the next one.

    ``note`` is called with links that are not followed, and the reason. One item of ``left`` is consumed per directory; raises
    SessionsError when it is exhausted.
    """
    for name, linked in folders_and_links_in(directory):
        if is_area(name):
            continue
        if next(left, None) is None:
            raise SessionsError(
                f"there are more than {FOLDERS} directories to search for accounts, more than a host should have; "
                "nothing was changed, find out what creates them, remove them and run again"
            )
        try:
            below = follow(directory, name) if linked else DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=directory))
        except UnsafeLink as error:
            note(name, error.why)
            continue
        except (FileNotFoundError, NotADirectoryError):
            continue  # gone or replaced since it was listed; a missing permission is raised, because it does not mean that nothing exists
        try:
            yield name, below, linked
        finally:
            os.close(below)


def plain_count(root: DirFd, layout: Layout) -> int:
    """Count the marker files like ``find -maxdepth 3 -name``, of any type, anywhere. A number, not a proof."""
    return count_below(root, layout, 0)


def count_below(directory: DirFd, layout: Layout, levels: int) -> int:
    """Return the part of plain_count for an open directory ``levels`` below the root."""
    trusted = os.fstat(directory).st_dev if _counts_links(directory) else None
    return (
        _counted(directory, layout.counted, layout.count_depth - levels, trusted) if layout.count_depth > levels else 0
    )


def _counts_links(directory: DirFd) -> bool:
    """Return whether st_nlink counts subdirectories, as on ext4, XFS and tmpfs; it is always 1 on btrfs and 2 on CIFS."""
    with os.scandir(directory) as entries:
        folders = sum(entry.is_dir(follow_symlinks=False) for entry in entries)
    return folders > 0 and os.fstat(directory).st_nlink == 2 + folders


def _counted(directory: DirFd, patterns: tuple[str, ...], depth: int, trusted: int | None) -> int:
    # A directory with two links has no subdirectories (the leaf optimisation of find): looking up one name is faster than a listing.
    status = os.fstat(directory)
    if (
        status.st_dev == trusted
        and status.st_nlink == 2
        and not any(character in "".join(patterns) for character in "*?")
    ):
        return sum(status_of(directory, name) is not None for name in patterns)
    fits = name_matcher(patterns)
    total = 0
    with os.scandir(directory) as entries:
        for entry in bounded(entries):
            total += fits(entry.name) is not None
            if depth > 1 and entry.is_dir(follow_symlinks=False):
                total += _counted_below(directory, entry.name, patterns, depth - 1, trusted)
    return total


def _counted_below(directory: DirFd, name: str, patterns: tuple[str, ...], depth: int, trusted: int | None) -> int:
    try:
        below = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=directory))
    except OSError:
        return 0  # gone or replaced since it was listed: find ignores it, too
    try:
        return _counted(below, patterns, depth, trusted)
    finally:
        os.close(below)


def _folders_of(root: DirFd, layout: Layout) -> list[str]:
    return sorted(folder for folder in layout.folders if is_folder(root, folder))


class _Walk:
    """Searches the accounts of a layout below one root: a limited number of directories, and none twice through symbolic links."""

    def __init__(self, root: DirFd, layout: Layout, left: t.Iterator[int] | None = None) -> None:
        self.root, self.layout = root, layout
        self.left = left if left is not None else folders_left()
        self.linked: set[tuple[int, int]] = set()
        self.fits, self.is_ignored = name_matcher(layout.names), path_matcher(layout.ignored)
        self.is_excluded, self.is_volatile = path_matcher(layout.excluded), layout.volatile_matcher

    def below(self, directory: DirFd, prefix: str, depth: int) -> t.Iterator[Found]:
        """Yield the accounts and unsafe links in an open directory."""
        if depth == 0:
            return
        unsafe: list[Found] = []

        def note(name: str, why: str) -> None:
            if self._may_be_account(prefix, name, why):
                unsafe.append(Found(prefix + name, why, linked=True))

        for name, below, linked in opened_folders(directory, self.left, note):
            path = prefix + name
            if unsafe:
                yield from unsafe
                unsafe.clear()
            if self.layout.excluded and self.is_excluded(path):
                continue
            if self.fits(name) and self.layout.is_account(below):
                yield Found(path, self._why_left(below) if linked else "", linked)
            elif self.is_ignored(path):
                continue
            elif not linked:
                yield from self.below(below, f"{path}/", depth - 1)
            elif not unfit_target(self.root, below) and self._holds_accounts(below, depth):
                yield Found(path, _FOLDER_LINK, linked=True)
        yield from unsafe

    def _holds_accounts(self, directory: DirFd, depth: int) -> bool:
        found = _Walk(directory, self.layout, self.left).below(directory, "", max(depth - 1, 1))
        return next(found, None) is not None

    def _why_left(self, directory: DirFd) -> str:
        """Return why the target of a symbolic link is not an account of this root; '' if it is."""
        return unfit_target(self.root, directory) or (TWICE if self._is_known(directory) else "")

    def _is_known(self, directory: DirFd) -> bool:
        status = os.fstat(directory)
        inode = status.st_dev, status.st_ino
        known = inode in self.linked
        self.linked.add(inode)
        return known

    def _may_be_account(self, prefix: str, name: str, why: str) -> bool:
        """Return whether a symbolic link that is not followed may be an account."""
        path = prefix + name
        if not self.fits(name) or self.is_volatile(name) or self.is_ignored(path) or self.is_excluded(path):
            return False
        # Directories of programs often contain symbolic links to nowhere.
        return why != NOWHERE or self.layout.companions is None


def _entries(root: DirFd, place: str) -> t.Iterator[str]:
    """Yield the paths of the entries of a directory below the root; none if it is missing."""
    try:
        with opened_below(root, place or ".") as directory:
            names = names_in(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (f"{place}/{name}" if place else name for name in names if not is_area(name))


def _above(paths: t.Iterable[str]) -> t.Iterator[str]:
    for path in paths:
        while "/" in path:
            path = path.rpartition("/")[0]
            yield path


def _travels(path: str, layout: Layout) -> bool:
    name = path.rpartition("/")[2]
    if layout.is_volatile(name) or name_matcher(OF_A_PROGRAM)(name) or path_matcher(layout.ignored)(path):
        return False
    return layout.companions is None or path_matcher(layout.companions)(path) is not None
