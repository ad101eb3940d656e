# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Fills a staged account with rsync, which runs as the owner of the source and gets both directories as open descriptors."""

from __future__ import annotations

import os
import typing as t

from .._core.errors import SessionsError
from .._core.limits import RSYNC_SECONDS
from .command import run

_OPTIONS = ("--recursive", "--times", "--perms", "--delete", "--sparse", "--no-specials", "--no-devices")
# 23, 24: files that vanished or could not be read; the following pass copies them or reports the error.
_GOOD_ENOUGH = (0, 23, 24)


def fill_by_rsync(source: int, target: int, label: str, names: t.Iterable[str], paths: t.Iterable[str]) -> None:
    """Copy the open directory ``source`` to ``target``, except for a layout's patterns of names and of relative paths.

    rsync runs as the owner of the source, so it cannot be led to a file of root. The owner cannot enter the staging area, and open
    directories cannot be replaced. The target is passed as the working directory, because rsync 3.5.0 resolves any other path from the
    root directory, which the owner cannot access.
    """
    owner = os.fstat(source)
    if owner.st_uid != 0 and os.geteuid() == 0:
        os.fchown(target, owner.st_uid, owner.st_gid)
    left_out = [f"--exclude={pattern}" for pattern in (*map(_escaped, names), *map(_path_pattern, paths))]
    done = run(
        ["rsync", *_OPTIONS, *left_out, "--", f"/proc/self/fd/{source}/", "."],
        timeout=RSYNC_SECONDS,
        identity=(owner.st_uid, owner.st_gid) if owner.st_uid != 0 else None,
        pass_fds=(source,),
        directory=f"/proc/self/fd/{target}",
    )
    if os.geteuid() == 0:
        os.fchown(target, 0, 0)
    if done.rc not in _GOOD_ENOUGH:
        raise SessionsError(
            f"rsync failed with exit code {done.rc} for account {label!r}; nothing was published: use the engine 'native'"
        )


def _path_pattern(path: str) -> str:
    """Return a path pattern in rsync's notation: without a leading slash it matches the end of a path at any depth."""
    return _escaped(path[3:]) if path.startswith("**/") else f"/{_escaped(path)}"


def _escaped(pattern: str) -> str:
    """Escape all but ``*`` and ``?``, which rsync treats alike. A backslash is special to rsync only in a pattern with a wildcard."""
    if not any(character in pattern for character in "*?["):
        return pattern
    return pattern.replace("\\", "\\\\").replace("[", "\\[")
