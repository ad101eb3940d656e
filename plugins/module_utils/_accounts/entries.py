# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Look at what belongs to an account outside its directory: entries at relative paths below its root. Changes nothing."""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from .._fs.copy_file import digest_of
from .._fs.fdopen import DirFd, is_folder, opened_below, opened_parent
from .._fs.walk_tree import Tally, same_content


def measure_entries(root: DirFd, paths: t.Sequence[str]) -> Tally:
    """Return the number, bytes and newest time of the files ``paths``, relative to the open ``root``."""
    tally = Tally()
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened_parent(root, path) as (parent, name):
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            tally.add(Tally(files=1, bytes=status.st_size, newest_ns=status.st_mtime_ns))
    return tally


def is_kept(root: DirFd, path: str) -> bool:
    """Return whether the relative ``path`` is a regular file or a directory: links, sockets and the like are not staged."""
    try:
        with opened_parent(root, path) as (parent, name):
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            return stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def same_entries(one: DirFd, other: DirFd, paths: t.Sequence[str], is_volatile: t.Callable[[str], t.Any]) -> bool:
    """Return whether two open roots have the same content at each of the relative ``paths``."""
    return all(_same_entry(one, other, path, is_volatile) for path in paths)


def _same_entry(one: DirFd, other: DirFd, path: str, is_volatile: t.Callable[[str], t.Any]) -> bool:
    kept = is_kept(one, path), is_kept(other, path)
    if not all(kept):
        return not any(kept)
    with opened_parent(one, path) as (left, name), opened_parent(other, path) as (right, _name):
        folders = is_folder(left, name), is_folder(right, name)
        if not any(folders):
            return digest_of(left, name) == digest_of(right, name)
        with opened_below(left, name) as below, opened_below(right, name) as other_below:
            return all(folders) and same_content(below, other_below, is_volatile)
