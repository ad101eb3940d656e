# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The one table of session layouts: how each library keeps accounts on disk, and how to tell a sound one from a broken one.

Adding a library is adding one entry to ``LAYOUTS``; entries stand in one file per family (``_layout_*.py``). Everything else (discovery,
counting, judging, exclusions, locks, stop settings) reads the entry. Nothing here returns, raises or logs anything that was read from a
file, nor a file name from inside an account.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ._errors import SessionsError
from ._layout import (
    OF_A_PROGRAM,
    OPEN_DIRECTORY,
    Layout,
    bounded,
    folders_and_links_in,
    is_folder,
    name_matcher,
    names_in,
    open_below,
    opened_below,
    path_matcher,
    status_of,
)
from ._layout_baileys import BAILEYS, BAILEYS_CSHARP, EVOLUTION
from ._layout_browsers import OPENWA, SESSION_MANAGER, VENOM, WPPCONNECT, WWEBJS
from ._layout_waha import WAHA
from ._layout_whatsmeow import WHATSMEOW
from ._limits import FOLDERS
from ._links import AREA_INSIDE, NOWHERE, TWICE, UnsafeLink, follow, is_link, open_linked, unfit_target

# AREA_INSIDE, our own directory inside a sessions path that is a mount of its own (see _area.py), is never an account.
ASIDE = ".aside-"  # and a moment: how one is called that somebody may have put there


def is_area(name: str) -> bool:
    """Whether an entry of a sessions path is our own directory, or one that was set aside."""
    return name == AREA_INSIDE or name.startswith(AREA_INSIDE + ASIDE)


CUSTOM = "custom"  # no entry of the table: the option of that name describes it
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
    """A layout, and in a few words why it is the one."""

    layout: Layout
    reason: str


class Found(t.NamedTuple):
    """An account below a root (its relative path), or, where ``left`` says why, a link that may be one and is not followed.

    ``linked``: it is a link.
    """

    name: str
    left: str = ""
    linked: bool = False


_FURTHER, _FURTHER_FOLDERS = (
    2,
    5000,
)  # how many levels and directories further accounts are looked for that are only told
_FOLDER_LINK = "it is a link to a directory that accounts lie in, and only links to accounts themselves are followed"


class _Claim(t.NamedTuple):
    """What told a layout first that it is meant, and all the places where something did."""

    reason: str
    places: list[str]


def chosen_layout(options: t.Mapping[str, t.Any]) -> Layout | None:
    """Return the layout that the options ``layout`` and ``custom`` name or describe; None for ``auto``.

    Raises SessionsError for one that is not known, or is described wrongly.
    """
    name, custom = options.get("layout") or "auto", options.get("custom")
    if name == CUSTOM:
        if not custom:
            raise SessionsError(
                "layout is 'custom', and the option 'custom' does not say how accounts are kept; give at least custom.markers"
            )
        from ._layout_custom import custom_layout

        return custom_layout(custom)
    if custom:
        raise SessionsError(
            f"the option 'custom' describes a layout, and layout is {name!r}; set layout=custom, or leave 'custom' out"
        )
    return None if name == "auto" else layout_named(name)


def first_layout() -> Layout:
    """Return the layout that stands for a place without accounts."""
    return next(iter(LAYOUTS.values()))


def layout_named(name: str) -> Layout:
    """Return the table's entry ``name``; raise SessionsError naming what there is."""
    try:
        return LAYOUTS[name]
    except KeyError as error:
        raise SessionsError(
            f"the layout {name!r} is not known; choose one of {', '.join([*LAYOUTS, CUSTOM])}, or auto"
        ) from error


def recognised(root: int, chosen: Layout | None) -> Layout:
    """Return the layout of the accounts below the open directory ``root``; see recognition."""
    return recognition(root, chosen).layout


def recognition(root: int, chosen: Layout | None) -> Recognition:
    """Return ``chosen``, or, where it is None, the only layout that claims what is below the open directory ``root``.

    Where nothing is found the first entry is returned: an empty root fits every layout. Raises SessionsError naming the candidates,
    and what told each, where more than one is left.
    """
    if chosen is not None:
        return Recognition(chosen, "it was named")
    claims = _claims_in(root)
    left = [name for name in LAYOUTS if name in claims and not _is_refined(root, name, claims)]
    if len(left) > 1:
        candidates = "; ".join(f"{name}, because {claims[name].reason}" for name in left)
        raise SessionsError(f"the sessions fit more than one layout ({candidates}): name one in 'layout'")
    if not left:
        return Recognition(first_layout(), "no account was found, which fits every layout")
    return Recognition(LAYOUTS[left[0]], claims[left[0]].reason)


def names_of_any(root: int, chosen: Layout | None) -> t.Iterator[str]:
    """Yield the accounts below the open directory ``root`` that are of ``chosen``, or of any layout where it is None."""
    layouts = (LAYOUTS[name] for name, *dummy in _claims_below(root)) if chosen is None else (chosen,)
    return (name for layout in layouts for name in account_names(root, layout))


def account_names(root: int, layout: Layout) -> t.Iterator[str]:
    """Yield the accounts below the open directory ``root`` as relative paths, sorted; ``.`` when the root itself is one.

    Links to accounts count where they are safe to follow (_links.py), and so do the names of a layout's own folders that hold one.
    """
    return (found.name for found in found_in(root, layout) if not found.left)


def found_in(root: int, layout: Layout) -> t.Iterator[Found]:
    """Yield the accounts below the open directory ``root``, and the links that may be accounts and are not followed."""
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


def too_deep(root: int, layout: Layout) -> int:
    """Count what would be accounts of a layout if one looked for them further down; a directory of a program is not searched."""
    if layout.companions is not None:
        return 0
    known, deeper = set(account_names(root, layout)), dataclasses.replace(layout, depth=layout.depth + _FURTHER)
    walk = _Walk(root, deeper, iter(range(_FURTHER_FOLDERS)))
    try:
        return sum(not one.left and one.name not in known for one in walk.below(root, "", deeper.depth))
    except SessionsError:
        return 0  # too many directories for a guess


def companions(root: int, layout: Layout) -> t.Iterator[str]:
    """Yield what a backend keeps beside its accounts and what travels with them as it is: relative paths on every level, sorted."""
    if layout.is_account(root):
        return
    accounts = set(account_names(root, layout))
    parts = {part for account in accounts for part in layout.sidecars_of(account)}
    above = {"", *_folders_of(root, layout), *_above(accounts), *_above(parts)}
    own = accounts | above | parts
    for path in sorted(path for place in above for path in _entries(root, place)):
        if path not in own and _travels(path, layout):
            yield path


def open_account(root: int, account: str) -> int:
    """Return a descriptor of an account's directory, which may be a link that is safe to follow (_links.py); no folder above it may.

    Raises OSError when it is not there.
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
def opened_account(root: int, account: str) -> t.Iterator[int]:
    """Open an account's directory and close it afterwards; see open_account."""
    descriptor = open_account(root, account)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_linked(root: int, account: str) -> bool:
    """Whether the account's entry below an open root is a link."""
    folder, _slash, name = account.rpartition("/")
    try:
        with opened_below(root, folder or ".") as parent:
            return is_link(parent, name)
    except (FileNotFoundError, NotADirectoryError):
        return False


def plain_count(root: int, layout: Layout) -> int:
    """Count the marker files as ``find -maxdepth 3 -name`` does: whatever they are, wherever they lie. A number, not a proof."""
    return count_below(root, layout, 0)


def count_below(directory: int, layout: Layout, levels: int) -> int:
    """Do as plain_count for what of it lies in an open directory that is ``levels`` below the root."""
    trusted = os.fstat(directory).st_dev if _counts_links(directory) else None
    return (
        _counted(directory, layout.counted, layout.count_depth - levels, trusted) if layout.count_depth > levels else 0
    )


def _counts_links(directory: int) -> bool:
    """Whether the filesystem counts each directory below as a link, as ext4, XFS and tmpfs do; btrfs says 1, CIFS 2 whatever there is."""
    with os.scandir(directory) as entries:
        folders = sum(entry.is_dir(follow_symlinks=False) for entry in entries)
    return folders > 0 and os.fstat(directory).st_nlink == 2 + folders


def _counted(directory: int, patterns: tuple[str, ...], depth: int, trusted: int | None) -> int:
    # A directory with two links has no directory below it, find's own leaf rule: asking for one name then beats listing thousands.
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


def _counted_below(directory: int, name: str, patterns: tuple[str, ...], depth: int, trusted: int | None) -> int:
    try:
        below = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
    except OSError:
        return 0  # gone or swapped since it was listed: find says nothing of it either
    try:
        return _counted(below, patterns, depth, trusted)
    finally:
        os.close(below)


def _claims_in(root: int) -> dict[str, _Claim]:
    claims: dict[str, _Claim] = {}
    for name, reason, path in _claims_below(root):
        claims.setdefault(name, _Claim(reason, [])).places.append(path)
    return claims


def _claims_below(root: int) -> t.Iterator[tuple[str, str, str]]:
    """Ask about the root and the directories below it, as deep as an account may lie: name, reason and path of each claim."""
    for layout in LAYOUTS.values():
        reason = _reason(root, ".", 0, layout)
        if reason:
            yield layout.name, reason, "."
    # Special ones first: a directory belongs to one library, and there may be thousands to ask about.
    ordered = sorted(LAYOUTS.values(), key=lambda layout: not layout.refines)
    yield from _claims_deeper(root, root, "", 1, ordered, iter(range(FOLDERS)))


def _claims_deeper(
    root: int, directory: int, prefix: str, level: int, layouts: t.Sequence[Layout], left: t.Iterator[int]
) -> t.Iterator[tuple[str, str, str]]:
    for name, below, linked in _opened_folders(directory, left, lambda name, why: None):
        if linked and unfit_target(root, below):
            continue
        path = prefix + name
        asked = ((layout.name, _reason(below, path, level, layout)) for layout in layouts)
        claim = next(((claimant, reason, path) for claimant, reason in asked if reason), None)
        if claim:
            yield claim  # what belongs to somebody has no accounts of anybody else below it
        elif level < max(map(_deepest, layouts)):
            yield from _claims_deeper(root, below, f"{path}/", level + 1, layouts, left)


def _reason(directory: int, path: str, level: int, layout: Layout) -> str:
    if level > _deepest(layout) or (layout.excluded and path_matcher(layout.excluded)(path)):
        return ""
    # A folder of the library's own may be an account that is called so; what is in such a folder is none.
    above = path.rpartition("/")[0]
    if above and path_matcher(layout.ignored)(above):
        return ""
    return layout.claims(directory, path)


def _deepest(layout: Layout) -> int:
    return layout.depth + bool(layout.folders)


def _is_refined(root: int, name: str, claims: t.Mapping[str, _Claim]) -> bool:
    """Whether another layout that claims the root, too, is the more special one and sees every account that this one sees."""
    specials = (LAYOUTS[other] for other in claims if name in LAYOUTS[other].refines)
    return any(set(claims[name].places) <= set(account_names(root, special)) for special in specials)


def _folders_of(root: int, layout: Layout) -> list[str]:
    return sorted(folder for folder in layout.folders if is_folder(root, folder))


class _Walk:
    """Looks for the accounts of a layout below one root: at most so many directories, and no directory twice through links."""

    def __init__(self, root: int, layout: Layout, left: t.Iterator[int] | None = None) -> None:
        self.root, self.layout = root, layout
        self.left = left if left is not None else iter(range(FOLDERS))
        self.linked: set[tuple[int, int]] = set()
        self.fits, self.is_ignored = name_matcher(layout.names), path_matcher(layout.ignored)
        self.is_excluded, self.is_volatile = path_matcher(layout.excluded), layout.volatile_matcher

    def below(self, directory: int, prefix: str, depth: int) -> t.Iterator[Found]:
        """Yield what is found in an open directory."""
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

    def _holds_accounts(self, directory: int, depth: int) -> bool:
        found = _Walk(directory, self.layout, self.left).below(directory, "", max(depth - 1, 1))
        return next(found, None) is not None

    def _why_left(self, directory: int) -> str:
        """Say why the account that a link leads to is none of the root's own."""
        return unfit_target(self.root, directory) or (TWICE if self._is_known(directory) else "")

    def _is_known(self, directory: int) -> bool:
        status = os.fstat(directory)
        inode = status.st_dev, status.st_ino
        known = inode in self.linked
        self.linked.add(inode)
        return known

    def _may_be_account(self, prefix: str, name: str, why: str) -> bool:
        """Whether a link that is not followed may be an account."""
        path = prefix + name
        if not self.fits(name) or self.is_volatile(name) or self.is_ignored(path) or self.is_excluded(path):
            return False
        # Among the files of a program many a link may lead to nothing.
        return why != NOWHERE or self.layout.companions is None


def _opened_folders(
    directory: int, left: t.Iterator[int], note: t.Callable[[str, str], None]
) -> t.Iterator[tuple[str, int, bool]]:
    """Yield the directories in an open directory, sorted, each open until the next one is asked for, and whether it is a link.

    ``note`` is told of links that are not followed, and why. Raises SessionsError once there is nothing ``left``, from which one is
    taken for each.
    """
    for name, linked in folders_and_links_in(directory):
        if is_area(name):
            continue
        if next(left, None) is None:
            raise SessionsError(
                f"there are more than {FOLDERS} directories to look for accounts in, which no host has; "
                "nothing was changed, see what makes them, remove them and run again"
            )
        try:
            below = follow(directory, name) if linked else os.open(name, OPEN_DIRECTORY, dir_fd=directory)
        except UnsafeLink as error:
            note(name, error.why)
            continue
        except (FileNotFoundError, NotADirectoryError):
            continue  # gone or swapped since it was listed; whoever cannot look must not be told that there is nothing
        try:
            yield name, below, linked
        finally:
            os.close(below)


def _entries(root: int, place: str) -> t.Iterator[str]:
    """Yield the paths of what is in a directory below the root; none where it is missing."""
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
