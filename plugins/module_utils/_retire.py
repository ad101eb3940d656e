# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Puts a legacy path out of use once its accounts have moved: renamed aside, with a tombstone in its place.

An old release that falls back to its relative path then fails loudly, instead of starting a second client on old keys.
"""

from __future__ import annotations

import os
import stat
import time
import typing as t

from ._beside import is_kept
from ._errors import SessionsError
from ._layout import Layout, is_folder
from ._layouts import account_names, companions
from ._paths import opened_directory
from ._rescue import open_real
from ._sources import TOMBSTONE, Source, is_tombstone_at


def retirable(sources: t.Sequence[Source], layout: Layout) -> tuple[str, ...]:
    """Return what is to be put out of use: each legacy root, or, where that is an application's, what holds accounts and what travels."""
    return tuple(path for source in sources for path in _paths_in(source.path, layout))


def retire(paths: t.Sequence[str], path: str) -> None:
    """Rename each of ``paths`` to ``<name>.migrated-<time>``, root only; a directory leaves a file that says where the accounts went.

    Raises SessionsError for one that cannot be renamed (a mount, say).
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for legacy in paths:
        try:
            _retire_one(legacy, f"{TOMBSTONE}The accounts that were here are in {path} since {moment}.\n", moment)
        except OSError as error:
            raise SessionsError(
                f"the accounts are in {path}, but the legacy path {legacy} cannot be put out of use: {error.strerror}; "
                "mend that and run again, or leave it with state=migrated"
            ) from error


def _paths_in(root: str, layout: Layout) -> list[str]:
    if not layout.folders:
        return [root]
    with opened_directory(root) as opened:
        folders = [folder for folder in layout.folders if is_folder(opened, folder)]
        if folders:
            beside = (name for name in companions(opened, layout) if name.partition("/")[0] not in folders)
            return [f"{root}/{name}" for name in (*folders, *(name for name in beside if is_kept(opened, name)))]
        if any(is_tombstone_at(opened, folder) for folder in layout.folders):
            return []  # the application's directory, retired before
        return [root] if next(account_names(opened, layout), None) is not None else []


def _retire_one(path: str, text: str, moment: str) -> None:
    directory, name = os.path.split(path)
    parent = open_real(directory)
    try:
        aside = f"{name}.migrated-{moment}"
        os.rename(name, aside, src_dir_fd=parent, dst_dir_fd=parent)
        if _close_to_others(parent, aside):
            _leave_tombstone(parent, name, text)
        os.fsync(parent)
    finally:
        os.close(parent)


def _leave_tombstone(parent: int, name: str, text: str) -> None:
    descriptor = os.open(
        name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444, dir_fd=parent
    )
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fchmod(descriptor, 0o444)
        os.fsync(descriptor)


def _close_to_others(parent: int, name: str) -> bool:
    """Give what was renamed to root alone; return whether it is a directory."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
            return False  # it has another name, under which it must not change hands
        if os.geteuid() == 0:
            os.fchown(descriptor, 0, 0)
        os.fchmod(descriptor, stat.S_IRWXU if stat.S_ISDIR(status.st_mode) else stat.S_IRUSR | stat.S_IWUSR)
        return stat.S_ISDIR(status.st_mode)
    finally:
        os.close(descriptor)
