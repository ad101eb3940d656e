# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Lets rsync fill a staged account: as the owner of the source where that is not root, between directories that are handed over open."""

from __future__ import annotations

import os
import typing as t

from ._command import run
from ._errors import SessionsError
from ._limits import RSYNC_SECONDS

_OPTIONS = ("--recursive", "--times", "--perms", "--delete", "--sparse", "--no-specials", "--no-devices")
# 23, 24: files that vanished or could not be read; the pass that follows settles them, or says why not.
_GOOD_ENOUGH = (0, 23, 24)


def fill_by_rsync(source: int, target: int, label: str, names: t.Iterable[str], paths: t.Iterable[str]) -> None:
    """Copy the open directory ``source`` to ``target`` but for patterns of names and of relative paths (as a layout has them).

    Whatever rsync follows can then not lead to a file of root. The owner could not enter the staging area, and nobody can swap what is
    open. The target is the working directory, because rsync 3.5.0 walks any other name of it from the root directory, which the owner
    may not.
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
            f"rsync ended with {done.rc} for account {label!r}; nothing was published, use the engine 'native'"
        )


def _path_pattern(path: str) -> str:
    """Say a path pattern as rsync does: one without a slash in front fits the end of a path, at any depth."""
    return _escaped(path[3:]) if path.startswith("**/") else f"/{_escaped(path)}"


def _escaped(pattern: str) -> str:
    """Keep ``*`` and ``?``, which mean the same, and take the rest for what it is. A backslash is one only where there is a wildcard."""
    if not any(character in pattern for character in "*?["):
        return pattern
    return pattern.replace("\\", "\\\\").replace("[", "\\[")
