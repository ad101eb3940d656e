# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Find accounts that no setting of a backend refers to, where its legacy path is missing or incomplete.

A program may have the directory of its accounts hard-coded, so that no setting leads to it. Which directory its library then treats as the
root cannot be determined from outside, so such accounts are reported and not migrated: naming the root takes the operator one line, a wrong
guess unlinks every account. The same holds for an old copy in a directory that an earlier version of the program used.
"""

from __future__ import annotations

import collections
import os
import re
import typing as t

from .._accounts.receipts import mark_of
from .._core.errors import SessionsError
from .._core.masking import masked
from .._core.names import AREA_INSIDE, ASIDE
from .._fs.fdopen import DirFd, opened_directory, real_path
from .._fs.patterns import name_matcher
from .._layouts.account import AccountRef
from .._layouts.layout import Layout
from .._layouts.registry import LAYOUTS
from .._layouts.search import account_names
from .._systemd.restart_needed import started_at
from .._systemd.unit import Unit
from .._usage.in_use import changed_ns
from .._usage.process_paths import working_directories
from .sources import Source

# Patterns of names.
_NOT_LOOKED_INTO = (
    ".git",
    "node_modules",
    "site-packages",
    f"*{AREA_INSIDE}",
    f"*{AREA_INSIDE}{ASIDE}*",
)
# Losing an unlinked account costs nothing, and other programs have a creds.json, too. 'unknown' may be linked.
_LINKED = ("paired", "unknown")
_NUMBER = re.compile(r"\d{6}")
_DEEPEST = 4
_DIRECTORIES_AT_MOST = 5000


class Astray(t.NamedTuple):
    """A directory that contains accounts, their number, and the masked name of one of them."""

    directory: str
    number: int
    label: str


def find_unreferenced(
    unit: Unit, layout: Layout | None, known: t.Iterable[str], uid: int, *, only_used: bool
) -> Astray | None:
    """Search below a unit's working directory for accounts of ``layout`` (or of any layout) owned by ``uid``.

    Return the directory that holds most of them, or None. ``known``: paths that are not searched. ``only_used``: count only accounts that
    were written to since the unit was started, so none while it is down. Symbolic links are followed only where that is safe.
    """
    if only_used and not unit.main_pid:
        return None
    since = started_at(unit) * 1e9 if only_used else 0

    def is_account(directory: DirFd, name: str) -> bool:
        if os.fstat(directory).st_uid != uid:
            return False
        fitting = _layout_of(directory, name, layout)
        if fitting is None or mark_of(directory, fitting).changed_ns <= since:
            return False
        return fitting.judged(directory).state in _LINKED

    # Prefer the configured name: the directory it resolves to may belong to another release tomorrow.
    tops = [os.path.normpath(top) for top in dict.fromkeys((unit.working_directory, *working_directories(unit)))]
    anywhere = list(_found_below(tops, set(map(os.path.realpath, known)), uid, is_account))
    if not anywhere:
        return None
    top = next(top for top in tops if anywhere[0].startswith(f"{top}/"))
    found = [path for path in anywhere if path.startswith(f"{top}/")]
    directory, number = collections.Counter(map(os.path.dirname, found)).most_common(1)[0]
    if number == 1 < len(found):  # each one is in a directory of its own, which may be named after it
        directory, number = os.path.commonpath(found), len(found)
    first = next(path for path in found if path.startswith(f"{directory}/"))
    return Astray(top + _shown(directory[len(top) :]), number, masked(os.path.basename(first)))


def _shown(path: str) -> str:
    """Return a path that is safe to report: a directory above a single account may be named after its phone number."""
    return "/".join(masked(name) if _NUMBER.search(name) else name for name in path.split("/"))


def idle_sources(unit: Unit, sources: t.Sequence[Source], layout: Layout) -> tuple[Source, ...]:
    """Return the legacy roots that were not written to since the running unit was started; empty if that is true of all of them."""
    since = started_at(unit) * 1e9
    idle = tuple(source for source in sources if not _is_used(source, layout, since))
    return idle if len(idle) < len(sources) else ()


def _is_used(source: Source, layout: Layout, since: float) -> bool:
    with opened_directory(source.path) as root:
        return any(changed_ns(AccountRef(root, name, layout)) > since for name in account_names(root, layout))


def _layout_of(directory: DirFd, name: str, chosen: Layout | None) -> Layout | None:
    if chosen is not None:
        return chosen if chosen.is_account(directory) else None
    return next((layout for layout in LAYOUTS.values() if layout.detect(directory, name)), None)


def _found_below(
    tops: t.Iterable[str], seen: set[str], uid: int, is_account: t.Callable[[DirFd, str], bool]
) -> t.Iterator[str]:
    """Yield the paths of accounts below ``tops``, nearest first. ``seen``: real paths that are not searched."""
    left = _DIRECTORIES_AT_MOST
    queue = collections.deque((top, 0) for top in tops if top.strip("/") and top.startswith("/"))
    while queue and left:
        path, level = queue.popleft()
        try:
            with opened_directory(path, trusted_uids=(uid,)) as directory:
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
            continue  # only a guess: its failure is not an error of the operator


def _folders(directory: DirFd) -> list[str]:
    """Return the names of the directories in an open directory, and of symbolic links to directories."""
    skipped = name_matcher(_NOT_LOOKED_INTO)
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in entries if not skipped(entry.name) and entry.is_dir())
