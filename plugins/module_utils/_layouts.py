# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The one table of session layouts: how each library keeps accounts on disk, and how to tell a sound one from a broken one.

Adding a library is adding one entry to ``LAYOUTS``; entries stand in one file per family (``_layout_*.py``). Everything else (discovery,
counting, judging, exclusions, locks, stop settings) reads the entry. Nothing here returns, raises or logs anything that was read from a
file, nor a file name from inside an account.
"""

from __future__ import annotations

import os
import typing as t

from ._errors import SessionsError
from ._layout import (
    OPEN_DIRECTORY,
    Layout,
    folders_in,
    is_folder,
    name_matcher,
    open_below,
    opened_below,
    path_matcher,
    status_of,
)
from ._layout_baileys import BAILEYS, BAILEYS_CSHARP, EVOLUTION
from ._layout_browsers import OPENWA, SESSION_MANAGER, VENOM, WPPCONNECT, WWEBJS
from ._layout_waha import WAHA
from ._layout_whatsmeow import WHATSMEOW

# Our own directory inside a sessions path that is a mount of its own (see _area.py): never an account.
AREA_INSIDE = ".whatsapp-ops"

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
    """Yield the accounts below the open directory ``root`` as relative paths, sorted; ``.`` when the root itself is one."""
    if layout.is_account(root):
        yield "."
    folders = _folders_of(root, layout)
    if not folders:
        yield from _names_below(root, layout, "", layout.depth)
    for folder in folders:
        with opened_below(root, folder) as below:
            yield from _names_below(below, layout, f"{folder}/", layout.depth)


def companions(root: int, layout: Layout) -> t.Iterator[str]:
    """Yield what a backend keeps beside its accounts and what travels with them as it is: relative paths on every level, sorted."""
    if layout.is_account(root):
        return
    accounts = set(account_names(root, layout))
    parts = {part for account in accounts for part in layout.parts_of(account)}
    above = {"", *_folders_of(root, layout), *_above(accounts), *_above(parts)}
    own = accounts | above | parts
    for path in sorted(path for place in above for path in _entries(root, place)):
        if path not in own and _travels(path, layout):
            yield path


def open_account(root: int, account: str) -> int:
    """Return a descriptor of an account's directory; no component may be a link. Raises OSError when it is not there."""
    return open_below(root, account)


def plain_count(root: int, layout: Layout) -> int:
    """Count the marker files as ``find -maxdepth 3 -name`` does: whatever they are, wherever they lie. A number, not a proof."""
    trusted = os.fstat(root).st_dev if _counts_links(root) else None
    return _counted(root, layout.counted, layout.count_depth, trusted)


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
        for entry in entries:
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
    yield from _claims_deeper(root, "", 1, ordered)


def _claims_deeper(
    directory: int, prefix: str, level: int, layouts: t.Sequence[Layout]
) -> t.Iterator[tuple[str, str, str]]:
    for name, below in _opened_folders(directory):
        path = prefix + name
        asked = ((layout.name, _reason(below, path, level, layout)) for layout in layouts)
        claim = next(((claimant, reason, path) for claimant, reason in asked if reason), None)
        if claim:
            yield claim  # what belongs to somebody has no accounts of anybody else below it
        elif level < max(map(_deepest, layouts)):
            yield from _claims_deeper(below, f"{path}/", level + 1, layouts)


def _reason(directory: int, path: str, level: int, layout: Layout) -> str:
    if level > _deepest(layout) or path_matcher(layout.beside)(path):
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


def _names_below(directory: int, layout: Layout, prefix: str, depth: int) -> t.Iterator[str]:
    if depth == 0:
        return
    fits, is_beside = name_matcher(layout.names), path_matcher(layout.beside)
    for name, below in _opened_folders(directory):
        if is_beside(prefix + name):
            continue
        if fits(name) and layout.is_account(below):
            yield prefix + name
        else:
            yield from _names_below(below, layout, f"{prefix}{name}/", depth - 1)


def _opened_folders(directory: int) -> t.Iterator[tuple[str, int]]:
    """Yield the directories in an open directory, sorted, each open until the next one is asked for."""
    for name in folders_in(directory):
        if name == AREA_INSIDE:
            continue
        try:
            below = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError):
            continue  # gone or swapped since it was listed; whoever cannot look must not be told that there is nothing
        try:
            yield name, below
        finally:
            os.close(below)


def _entries(root: int, place: str) -> t.Iterator[str]:
    """Yield the paths of what is in a directory below the root; none where it is missing."""
    try:
        with opened_below(root, place or ".") as directory:
            names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (f"{place}/{name}" if place else name for name in names if name != AREA_INSIDE)


def _above(paths: t.Iterable[str]) -> t.Iterator[str]:
    for path in paths:
        while "/" in path:
            path = path.rpartition("/")[0]
            yield path


def _travels(path: str, layout: Layout) -> bool:
    if layout.is_volatile(path.rpartition("/")[2]) or path_matcher(layout.beside)(path):
        return False
    return layout.travels is None or path_matcher(layout.travels)(path) is not None
