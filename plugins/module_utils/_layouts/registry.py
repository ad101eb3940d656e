# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The table of session layouts: how each library stores accounts on disk, and how to recognise intact and damaged ones.

To add a library, add one entry to ``LAYOUTS``; each family of libraries has its own file in this package. Everything else (discovery,
counting, judging, exclusions, locks, stop settings) reads the entry. Nothing here returns, raises or logs anything read from a file, nor a
file name from inside an account.
"""

from __future__ import annotations

import typing as t

from .._core.errors import SessionsError
from .._fs.fdopen import DirFd
from .._fs.patterns import path_matcher
from .baileys import BAILEYS, BAILEYS_CSHARP, EVOLUTION
from .browsers import OPENWA, SESSION_MANAGER, VENOM, WPPCONNECT, WWEBJS
from .layout import Layout
from .links import unfit_target
from .search import account_names, folders_left, opened_folders
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
    yield from _detect_deeper(root, root, "", 1, ordered, folders_left())


def _detect_deeper(
    root: DirFd, directory: DirFd, prefix: str, level: int, layouts: t.Sequence[Layout], left: t.Iterator[int]
) -> t.Iterator[tuple[str, str, str]]:
    for name, below, linked in opened_folders(directory, left, lambda name, why: None):
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
    # A directory in ``ignored`` may itself be an account with that name, but not the directories in it.
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
