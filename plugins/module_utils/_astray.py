# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Tells where a legacy path that was found is not the one that a backend uses, or not the only one.

A program may have the name of the directory of its accounts written into it, so that nothing leads there. Which directory its library then
takes for the root cannot be known from outside, so such accounts are told and not migrated: naming the root takes the operator a line, a
wrong guess costs every account its link. So does an old copy in a directory that an earlier version of the program used.
"""

from __future__ import annotations

import collections
import os
import re
import typing as t

from ._errors import SessionsError
from ._in_use import changed_ns
from ._layout import Layout, name_matcher
from ._layouts import AREA_INSIDE, ASIDE, LAYOUTS, account_names
from ._masking import masked
from ._paths import opened_directory, real_path
from ._receipts import mark_of
from ._restart import started_at
from ._sources import Source, working_directories
from ._unit import Unit

_NOT_LOOKED_INTO = (
    ".git",
    "node_modules",
    "site-packages",
    f"*{AREA_INSIDE}",
    f"*{AREA_INSIDE}{ASIDE}*",
)  # patterns of names
# What nobody has linked is no loss, and other programs have a file called creds.json, too. Of 'unknown' ones nothing tells.
_LINKED = ("paired", "unknown")
_NUMBER = re.compile(r"\d{6}")
_DEEPEST = 4
_DIRECTORIES_AT_MOST = 5000


class Astray(t.NamedTuple):
    """A directory that has accounts in it, how many, and how one of them is called where others may read it."""

    directory: str
    number: int
    label: str


def accounts_astray(
    unit: Unit, layout: Layout | None, known: t.Iterable[str], uid: int, *, only_used: bool
) -> Astray | None:
    """Look below a unit's working directory for accounts of ``layout``, or of any, that ``uid`` owns; return where most of them are.

    ``known``: paths that are not looked into. ``only_used``: only those count that were written to since the unit was started, which
    none was while it is down. Links are followed as far as they are safe.
    """
    if only_used and not unit.main_pid:
        return None
    since = started_at(unit) * 1e9 if only_used else 0

    def is_account(directory: int, name: str) -> bool:
        if os.fstat(directory).st_uid != uid:
            return False
        fitting = _layout_of(directory, name, layout)
        if fitting is None or mark_of(directory, fitting).changed_ns <= since:
            return False
        return fitting.judged(directory).state in _LINKED

    # First by the name that it is known by: what it really is today may be another release tomorrow.
    tops = [os.path.normpath(top) for top in dict.fromkeys((unit.working_directory, *working_directories(unit)))]
    anywhere = list(_found_below(tops, set(map(os.path.realpath, known)), uid, is_account))
    if not anywhere:
        return None
    top = next(top for top in tops if anywhere[0].startswith(f"{top}/"))
    found = [path for path in anywhere if path.startswith(f"{top}/")]
    directory, number = collections.Counter(map(os.path.dirname, found)).most_common(1)[0]
    if number == 1 < len(found):  # each lies in a directory of its own, which may be called after it
        directory, number = os.path.commonpath(found), len(found)
    first = next(path for path in found if path.startswith(f"{directory}/"))
    return Astray(top + _shown(directory[len(top) :]), number, masked(os.path.basename(first)))


def _shown(path: str) -> str:
    """Give a path as others may read it: what lies above a single account may be called after its number, too."""
    return "/".join(masked(name) if _NUMBER.search(name) else name for name in path.split("/"))


def idle_sources(unit: Unit, sources: t.Sequence[Source], layout: Layout) -> tuple[Source, ...]:
    """Return those of several legacy roots that nothing was written to since the running unit was started, if there are others."""
    since = started_at(unit) * 1e9
    idle = tuple(source for source in sources if not _is_used(source, layout, since))
    return idle if len(idle) < len(sources) else ()


def _is_used(source: Source, layout: Layout, since: float) -> bool:
    with opened_directory(source.path) as root:
        return any(changed_ns(root, name, layout) > since for name in account_names(root, layout))


def _layout_of(directory: int, name: str, chosen: Layout | None) -> Layout | None:
    if chosen is not None:
        return chosen if chosen.is_account(directory) else None
    return next((layout for layout in LAYOUTS.values() if layout.claims(directory, name)), None)


def _found_below(
    tops: t.Iterable[str], seen: set[str], uid: int, is_account: t.Callable[[int, str], bool]
) -> t.Iterator[str]:
    """Yield the paths of accounts below ``tops``, near ones first. ``seen``: real paths that are not looked into."""
    left = _DIRECTORIES_AT_MOST
    queue = collections.deque((top, 0) for top in tops if top.strip("/") and top.startswith("/"))
    while queue and left:
        path, level = queue.popleft()
        try:
            with opened_directory(path, friends=(uid,)) as directory:
                real = real_path(directory)
                if real in seen:
                    continue
                seen.add(real)
                left -= 1
                if level and is_account(directory, os.path.basename(path)):
                    yield path
                elif level < _DEEPEST:
                    queue.extend((f"{path}/{name}", level + 1) for name in _folders(directory))
        except (OSError, SessionsError):
            continue  # a guess of ours that leads nowhere sensible is no error of the operator


def _folders(directory: int) -> list[str]:
    """Return the names of the directories in an open one, and of links to directories."""
    skipped = name_matcher(_NOT_LOOKED_INTO)
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if not skipped(entry.name) and entry.is_dir())
