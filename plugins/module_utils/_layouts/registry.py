# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The table of session layouts: how each library stores accounts on disk, and how to recognise intact and damaged ones.

To add a library, add one entry to ``LAYOUTS``; each family of libraries has its own file (``_layout_*.py``). Everything else (discovery,
counting, judging, exclusions, locks, stop settings) reads the entry. Nothing here returns, raises or logs anything read from a file, nor a
file name from inside an account.
"""

from __future__ import annotations

import contextlib
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
    open_below,
    opened_below,
    status_of,
)
from .._fs.patterns import name_matcher, path_matcher
from .baileys import BAILEYS, BAILEYS_CSHARP, EVOLUTION
from .browsers import OPENWA, SESSION_MANAGER, VENOM, WPPCONNECT, WWEBJS
from .layout import OF_A_PROGRAM, Layout
from .links import NOWHERE, TWICE, UnsafeLink, follow, is_link, open_linked, unfit_target
from .waha import WAHA
from .whatsmeow import WHATSMEOW

CUSTOM = "custom"  # not in the table: described by the option of that name
LAYOUTS: t.Mapping[str, Layout] = {
    layout.name: layout
    for layout in (
        BAILEYS,
        WWEBJS,
        SESSION_MANAGER,
        BAILEYS_CSHARP,
        WHATSMEOW,
        WAHA,
        WPPCONNECT,
        EVOLUTION,
        OPENWA,
        VENOM,
    )
}


class Recognition(t.NamedTuple):
    """A layout, and in a few words why it was chosen."""

    layout: Layout
    reason: str


class Found(t.NamedTuple):
    """An account below a root (its relative path), or a symbolic link that may be one but is not followed: ``left`` says why.

    ``linked``: it is a symbolic link.
    """

    name: str
    left: str = ""
    linked: bool = False


# Levels and directories of the search for accounts that are too deep, which are only reported.
_FURTHER, _FURTHER_FOLDERS = 2, 5000
_FOLDER_LINK = "it is a link to a directory that contains accounts, and only links to accounts themselves are followed"


class _Claim(t.NamedTuple):
    """The reason of a layout's first claim, and all places that it claims."""

    reason: str
    places: list[str]


def chosen_layout(options: t.Mapping[str, t.Any]) -> Layout | None:
    """Return the layout that the options ``layout`` and ``custom`` select or describe; None for ``auto``.

    Raises SessionsError for an unknown or invalid layout.
    """
    name, custom = options.get("layout") or "auto", options.get("custom")
    if name == CUSTOM:
        if not custom:
            raise SessionsError(
                "layout is 'custom', but the option 'custom' does not describe how accounts are stored; set at least custom.markers"
            )
        from .custom import custom_layout

        return custom_layout(custom)
    if custom:
        raise SessionsError(
            f"the option 'custom' describes a layout, but layout is {name!r}; set layout=custom, or remove 'custom'"
        )
    return None if name == "auto" else layout_named(name)


def first_layout() -> Layout:
    """Return the layout that is assumed for a path without accounts."""
    return next(iter(LAYOUTS.values()))


def layout_named(name: str) -> Layout:
    """Return the table's entry ``name``; raise SessionsError with the known names if there is none."""
    try:
        return LAYOUTS[name]
    except KeyError as error:
        raise SessionsError(
            f"the layout {name!r} is unknown; choose one of {', '.join([*LAYOUTS, CUSTOM])}, or auto"
        ) from error


def recognised(root: DirFd, chosen: Layout | None) -> Layout:
    """Return the layout of the accounts below the open directory ``root``; see recognition."""
    return recognition(root, chosen).layout


def recognition(root: DirFd, chosen: Layout | None) -> Recognition:
    """Return ``chosen``, or if it is None, the only layout that claims something below the open directory ``root``.

    Without accounts it returns the first entry: an empty root fits every layout. Raises SessionsError with the candidates and their
    reasons if more than one is left.
    """
    if chosen is not None:
        return Recognition(chosen, "it was set explicitly")
    claims = _claims_in(root)
    left = [name for name in LAYOUTS if name in claims and not _is_refined(root, name, claims)]
    if len(left) > 1:
        candidates = "; ".join(f"{name}, because {claims[name].reason}" for name in left)
        raise SessionsError(f"the sessions fit more than one layout ({candidates}); set 'layout' to the right one")
    if not left:
        return Recognition(first_layout(), "no account was found, so every layout is possible")
    return Recognition(LAYOUTS[left[0]], claims[left[0]].reason)


def names_of_any(root: DirFd, chosen: Layout | None) -> t.Iterator[str]:
    """Yield the accounts of the layout ``chosen``, or of any layout if it is None, below the open directory ``root``."""
    layouts = (LAYOUTS[name] for name, *dummy in _detect_below(root)) if chosen is None else (chosen,)
    return (name for layout in layouts for name in account_names(root, layout))


def account_names(root: DirFd, layout: Layout) -> t.Iterator[str]:
    """Yield the accounts below the open directory ``root`` as relative paths, sorted; ``.`` if the root itself is an account.

    Includes symbolic links that are safe to follow (links.py), and directories of the layout's ``beside`` that are accounts.
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


def open_account(root: DirFd, account: str) -> DirFd:
    """Return a descriptor of an account's directory; it may be a symbolic link that is safe to follow (links.py), but not below one.

    Raises OSError if it does not exist.
    """
    folder, _slash, name = account.rpartition("/")
    try:
        return open_below(root, account)
    except NotADirectoryError:
        with opened_below(root, folder or ".") as parent:
            if not is_link(parent, name):
                raise
            return open_linked(root, parent, name)


@contextlib.contextmanager
def opened_account(root: DirFd, account: str) -> t.Iterator[DirFd]:
    """Open an account's directory and close it afterwards; see open_account."""
    descriptor = open_account(root, account)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_linked(root: DirFd, account: str) -> bool:
    """Return whether the account's entry below an open root is a symbolic link."""
    folder, _slash, name = account.rpartition("/")
    try:
        with opened_below(root, folder or ".") as parent:
            return is_link(parent, name)
    except (FileNotFoundError, NotADirectoryError):
        return False


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


def _claims_in(root: DirFd) -> dict[str, _Claim]:
    claims: dict[str, _Claim] = {}
    for name, reason, path in _detect_below(root):
        claims.setdefault(name, _Claim(reason, [])).places.append(path)
    return claims


def _detect_below(root: DirFd) -> t.Iterator[tuple[str, str, str]]:
    """Yield name, reason and path of each claim by a layout on the root or a directory below it, as deep as an account may be."""
    for layout in LAYOUTS.values():
        reason = _reason(root, ".", 0, layout)
        if reason:
            yield layout.name, reason, "."
    # Special layouts first: a directory belongs to one library, and there may be thousands to examine.
    ordered = sorted(LAYOUTS.values(), key=lambda layout: not layout.specialises)
    yield from _detect_deeper(root, root, "", 1, ordered, iter(range(FOLDERS)))


def _detect_deeper(
    root: DirFd, directory: DirFd, prefix: str, level: int, layouts: t.Sequence[Layout], left: t.Iterator[int]
) -> t.Iterator[tuple[str, str, str]]:
    for name, below, linked in _opened_folders(directory, left, lambda name, why: None):
        if linked and unfit_target(root, below):
            continue
        path = prefix + name
        asked = ((layout.name, _reason(below, path, level, layout)) for layout in layouts)
        claim = next(((claimant, reason, path) for claimant, reason in asked if reason), None)
        if claim:
            yield claim  # a claimed directory has no accounts of other layouts below it
        elif level < max(map(_deepest, layouts)):
            yield from _detect_deeper(root, below, f"{path}/", level + 1, layouts, left)


def _reason(directory: DirFd, path: str, level: int, layout: Layout) -> str:
    if level > _deepest(layout) or (layout.excluded and path_matcher(layout.excluded)(path)):
        return ""
    # A directory in ``beside`` may itself be an account with that name, but not the directories in it.
    above = path.rpartition("/")[0]
    if above and path_matcher(layout.ignored)(above):
        return ""
    return layout.detect(directory, path)


def _deepest(layout: Layout) -> int:
    return layout.depth + bool(layout.folders)


def _is_refined(root: DirFd, name: str, claims: t.Mapping[str, _Claim]) -> bool:
    """Return whether another layout that also claims the root is more specific and finds every account that this one finds."""
    specials = (LAYOUTS[other] for other in claims if name in LAYOUTS[other].specialises)
    return any(set(claims[name].places) <= set(account_names(root, special)) for special in specials)


def _folders_of(root: DirFd, layout: Layout) -> list[str]:
    return sorted(folder for folder in layout.folders if is_folder(root, folder))


class _Walk:
    """Searches the accounts of a layout below one root: a limited number of directories, and none twice through symbolic links."""

    def __init__(self, root: DirFd, layout: Layout, left: t.Iterator[int] | None = None) -> None:
        self.root, self.layout = root, layout
        self.left = left if left is not None else iter(range(FOLDERS))
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

        for name, below, linked in _opened_folders(directory, self.left, note):
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


def _opened_folders(
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
