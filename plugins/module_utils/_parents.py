# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The directories above a path: which exist, which are to be made, and who but root could put something else in their place."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import typing as t

from ._errors import SessionsError
from ._identity import group_name, owner_name
from ._paths import open_directory, real_path


class Directory(t.NamedTuple):
    """One directory on the way. ``writers`` are users other than its owner and root in its group (looked up only where the
    group may write); ``holds`` is the owner of the next directory on the way, None when that one is still to be made."""

    path: str
    uid: int
    gid: int
    mode: int
    writers: tuple[int, ...] = ()
    holds: int | None = None


class Way(t.NamedTuple):
    """The way to a path: ``above`` are all directories that it leads through (also to links on it), the last one being the
    deepest that exists, all written without links; ``missing`` are the names between that one and the path's own ``name``."""

    above: tuple[Directory, ...]
    missing: tuple[str, ...]
    name: str

    @property
    def base(self) -> str:
        """The deepest directory that exists."""
        return self.above[-1].path

    @property
    def path(self) -> str:
        """The path itself, free of links above it."""
        return "/".join([self.base.rstrip("/"), *self.missing, self.name])


def way_to(path: str) -> Way:
    """Look at the directories above ``path`` (absolute, normal, not ``/``).

    Raises SessionsError when something that is no directory is on the way, or a link that leads to somebody else's directory.
    """
    *parents, name = path.strip("/").split("/")
    descriptor, existing = _deepest(parents)
    try:
        base = real_path(descriptor)
        missing = tuple(parents[existing:])
        if missing:
            _require_nothing(descriptor, missing[0], "/" + "/".join(parents[: existing + 1]))
        holds = _owner_at(descriptor, missing[0] if missing else name)
    finally:
        os.close(descriptor)
    return Way((*_to_links(parents[:existing]), *_chain(base, holds)), missing, name)


def who_else_can_swap(way: Way, trusted: t.Collection[int]) -> str | None:
    """Say who, of those not ``trusted`` (uids), could put another directory in the place of the path; None when nobody. Pure.

    In a sticky directory nobody can rename what belongs to somebody else, so it is safe above a directory of someone trusted;
    right above the path it is not, for there anybody can make the path first.
    """
    for directory in way.above:
        if directory.uid not in trusted:
            return f"{directory.path} belongs to {owner_name(directory.uid)}"
        nearest = directory is way.above[-1]
        if directory.mode & stat.S_ISVTX and not nearest and directory.holds in trusted:
            continue
        if directory.mode & 0o002:
            return f"everybody can write in {directory.path} (mode {directory.mode:04o})"
        if any(uid not in trusted for uid in directory.writers):
            return f"the group {group_name(directory.gid)} can write in {directory.path} (mode {directory.mode:04o})"
    return None


def _deepest(parents: t.Sequence[str]) -> tuple[int, int]:
    """Open the deepest directory of ``parents`` that exists; return its descriptor and how many of them led there."""
    for existing in range(len(parents), -1, -1):
        path = "/" + "/".join(parents[:existing])
        try:
            return open_directory(path), existing
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise SessionsError(f"cannot look at {path}: {error.strerror}; run as root") from error
    raise SessionsError("cannot open the root directory of this host")


def _to_links(parents: t.Sequence[str]) -> t.Iterator[Directory]:
    """Describe the directories that lead to each link among ``parents``: who can write there can turn the link elsewhere."""
    for length in range(1, len(parents) + 1):
        link = "/" + "/".join(parents[:length])
        status = os.stat(link, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            yield from _chain(os.path.realpath(os.path.dirname(link)), status.st_uid)


def _require_nothing(parent: int, name: str, path: str) -> None:
    """Raise SessionsError when ``name`` is there after all: a file, or a link that leads nowhere."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    kind = "a symbolic link that leads to no directory" if stat.S_ISLNK(status.st_mode) else "not a directory"
    raise SessionsError(f"{path} is {kind}, so nothing can be below it; move it away or give another path")


def _owner_at(parent: int, name: str) -> int | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_uid
    except FileNotFoundError:
        return None


def _chain(base: str, holds: int | None) -> tuple[Directory, ...]:
    """Describe ``base`` and every directory above it, from the root directory downwards."""
    paths = ["/"]
    for part in base.strip("/").split("/") if base != "/" else []:
        paths.append(f"{paths[-1].rstrip('/')}/{part}")
    found = [os.stat(path, follow_symlinks=False) for path in paths]
    owners = [*(status.st_uid for status in found[1:]), holds]
    return tuple(_described(path, status, owner) for path, status, owner in zip(paths, found, owners))


def _described(path: str, status: os.stat_result, holds: int | None) -> Directory:
    mode = stat.S_IMODE(status.st_mode)
    writers = _members(status.st_gid) if mode & 0o020 and status.st_gid != 0 else ()
    return Directory(path, status.st_uid, status.st_gid, mode, writers, holds)


def _members(gid: int) -> tuple[int, ...]:
    """Return the uids of all who are in the group, by membership or as their primary group; -1 for a member unknown here."""
    primary = {account.pw_uid for account in pwd.getpwall() if account.pw_gid == gid}
    try:
        named = grp.getgrgid(gid).gr_mem
    except KeyError:
        named = []
    return tuple(sorted(primary | {_uid(name) for name in named}))


def _uid(name: str) -> int:
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return -1
