# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Finds the accounts in an unpacked archive or a copied folder of backups, and the names that they have at the sessions path.

Works in a directory that only root can enter; renames inside it, and touches nothing else.
"""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

from .._core.errors import SessionsError
from .._fs.fdopen import DirFd, folders_in, opened_below, opened_directory, real_path
from .._layouts.registry import LAYOUTS, recognised
from .._layouts.search import account_names

if t.TYPE_CHECKING:
    from .._layouts.layout import Layout

# How SessionManager names its emergency copies: backup-NAME-MILLISECONDS, in .session-cache.
_BACKUP = re.compile(r"backup-(?P<name>.+)-(?P<moment>\d{10}|\d{13})")
_LEVELS, _FOLDERS = 5, 1000  # how deep, and in how many directories, accounts are searched for


class Unpacked(t.NamedTuple):
    """An account: its root, relative to the work directory, and its name below that root.

    ``taken``: the time of its copy, in ns since the epoch, 0 if unknown.
    """

    root: str
    name: str
    layout: Layout
    taken: int = 0


class Known(t.NamedTuple):
    """What is known of the sessions path: the layout of its accounts (or the one that was chosen), None if unknown, and their names."""

    layout: Layout | None
    names: tuple[str, ...] = ()

    def named(self, name: str) -> str:
        """Return the name at the sessions path of an account that is called ``name`` in an archive."""
        last = name.rpartition("/")[2]
        same = [known for known in self.names if known.rpartition("/")[2] == last]
        if same:
            return same[0]
        folders = self.layout.folders if self.layout else ()
        return name if "/" in name or not folders else f"{folders[0]}/{name}"


def known_at(path: str, layout: Layout | None) -> Known:
    """Return what is known of the sessions path ``path``."""
    try:
        with opened_directory(path) as root:
            found = recognised(root, layout)
            names = tuple(account_names(root, found))
            return Known(found if names else layout, names)
    except (FileNotFoundError, NotADirectoryError):
        return Known(layout)


def accounts_in(work: DirFd, known: Known, account: str | None) -> list[Unpacked]:
    """Return the accounts below an open work directory, each below a root with the name that it has at the sessions path.

    ``account``: the name of the only one. Raises SessionsError if there are none, or several although one name was given.
    """
    found = list(_found(work, known))
    if not found:
        raise SessionsError("no account was found in the source; nothing was imported: check the source and 'layout'")
    if account is not None and len(found) > 1:
        raise SessionsError(
            f"'accounts' names one account, but the source has {len(found)}; nothing was imported: leave it out"
        )
    if account is None and found[0].name == ".":
        raise SessionsError(
            "the source is one account itself, and nothing says how it is called; nothing was imported: name it in 'accounts'"
        )
    return [_placed(work, one, account or known.named(one.name), number) for number, one in enumerate(found)]


def _found(work: DirFd, known: Known) -> t.Iterator[Unpacked]:
    """Yield the accounts of the first directory that has any, level by level."""
    level, left = [""], _FOLDERS
    for _number in range(_LEVELS):
        below = []
        for place in level[:left]:
            with opened_below(work, place or ".") as root:
                folders = folders_in(root)
                copies = [name for name in folders if _BACKUP.fullmatch(name)]
                own = [_backup(root, place, name, known) for name in copies]
                if not any(own):
                    layout = _layout_of(root, known)
                    own = list(_without_folders_above(place, list(account_names(root, layout)), layout))
            if any(own):
                yield from filter(None, own)
                return
            below += [os.path.join(place, name) for name in folders]
        left -= len(level)
        level = below


def _without_folders_above(place: str, names: list[str], layout: Layout) -> t.Iterator[Unpacked]:
    """Yield accounts below the lowest directory that has all of them: an archive may begin at any directory above the accounts."""
    while names and all("/" in name for name in names):
        first = {name.partition("/")[0] for name in names}
        if len(first) > 1 or first & set(layout.folders):
            break
        place = os.path.join(place, *first)
        names = [name.partition("/")[2] for name in names]
    yield from (Unpacked(place, name, layout) for name in names)


def _layout_of(root: DirFd, known: Known) -> Layout:
    if known.layout is not None and next(account_names(root, known.layout), None) is not None:
        return known.layout
    return recognised(root, None)


def _backup(root: DirFd, place: str, folder: str, known: Known) -> Unpacked | None:
    """Return the account that a folder of SessionManager's is a copy of; None if it is none."""
    match = _BACKUP.fullmatch(folder)
    layouts = (known.layout,) if known.layout else tuple(LAYOUTS.values())
    with contextlib.suppress(OSError), opened_below(root, folder) as directory:
        layout = next((one for one in layouts if one.is_account(directory)), None)
        if layout is not None and match is not None:
            moment = int(match["moment"]) * (10**6 if len(match["moment"]) == 13 else 10**9)
            return Unpacked(os.path.join(place, folder), _with_prefix(match["name"], layout), layout, moment)
    return None


def _with_prefix(name: str, layout: Layout) -> str:
    return name if name.startswith(layout.prefix) else f"{layout.prefix}{name}"


def _placed(work: DirFd, one: Unpacked, name: str, number: int) -> Unpacked:
    """Move an account below a root of its own, unless it has its name already, with the files next to it."""
    is_root = bool(_BACKUP.fullmatch(one.root.rpartition("/")[2])) or one.name == "."
    if name == one.name and not is_root:
        return one
    source = one.root if is_root else os.path.join(one.root, one.name)
    root, entries = f"import-{number}", os.listdir(work)
    target = os.path.join(root, name)
    os.makedirs(os.path.dirname(f"{real_path(work)}/{target}"), mode=0o700)
    if source:
        os.rename(source, target, src_dir_fd=work, dst_dir_fd=work)
    else:  # the work directory cannot be moved itself
        os.mkdir(target, 0o700, dir_fd=work)
        for entry in entries:
            os.rename(entry, os.path.join(target, entry), src_dir_fd=work, dst_dir_fd=work)
    return one._replace(root=root, name=name)
