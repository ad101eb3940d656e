# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The directories above a path: which exist, which are missing, and which users other than root could replace them."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import typing as t

from .._core.errors import SessionsError
from .fdopen import DirFd, open_directory, real_path
from .users import group_name, owner_name


class Directory(t.NamedTuple):
    """One directory above a path. ``writers``: uids in its group other than its owner and root (looked up only if the group may
    write). ``holds``: the owner of the next directory towards the path, None if that does not exist."""

    path: str
    uid: int
    gid: int
    mode: int
    writers: tuple[int, ...] = ()
    holds: int | None = None


class PathChain(t.NamedTuple):
    """The directories above a path. ``above``: all that it leads through, also to links on it, as real paths; the last one is the
    deepest that exists. ``missing``: the names between that one and the path's own ``name``."""

    above: tuple[Directory, ...]
    missing: tuple[str, ...]
    name: str

    @property
    def base(self) -> str:
        """The deepest directory that exists."""
        return self.above[-1].path

    @property
    def path(self) -> str:
        """The path itself, without symbolic links above it."""
        return "/".join([self.base.rstrip("/"), *self.missing, self.name])


def way_to(path: str) -> PathChain:
    """Read the directories above ``path`` (absolute, normalised, not ``/``).

    Raises SessionsError if a component is not a directory, or is a link that leads to a directory of another user.
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
    return PathChain((*_to_links(parents[:existing]), *_chain(base, holds)), missing, name)


def untrusted_writer(way: PathChain, trusted: t.Collection[int]) -> str | None:
    """Return how a user who is not ``trusted`` (uids) could replace the path, as a clause; None if no such user can. Pure.

    In a sticky directory, users cannot rename entries of other users, so it is safe above a directory of a trusted user. Directly above
    the path it is not, because another user can create the path first.
    """
    for directory in way.above:
        if directory.uid not in trusted:
            return f"{directory.path} belongs to {owner_name(directory.uid)}"
        nearest = directory is way.above[-1]
        if directory.mode & stat.S_ISVTX and not nearest and directory.holds in trusted:
            continue
        if directory.mode & 0o002:
            return f"all users can write to {directory.path} (mode {directory.mode:04o})"
        if any(uid not in trusted for uid in directory.writers):
            return f"the group {group_name(directory.gid)} can write to {directory.path} (mode {directory.mode:04o})"
    return None


def _deepest(parents: t.Sequence[str]) -> tuple[DirFd, int]:
    """Open the deepest existing directory of ``parents``; return its descriptor and the number of its components."""
    for existing in range(len(parents), -1, -1):
        path = "/" + "/".join(parents[:existing])
        try:
            return open_directory(path), existing
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise SessionsError(f"cannot open {path}: {error.strerror}; run as root") from error
    raise SessionsError("cannot open the root directory of this host; run as root (become)")


def _to_links(parents: t.Sequence[str]) -> t.Iterator[Directory]:
    """Yield the directories that lead to each link among ``parents``: a user who can write to them can redirect the link."""
    for length in range(1, len(parents) + 1):
        link = "/" + "/".join(parents[:length])
        status = os.stat(link, follow_symlinks=False)
        if stat.S_ISLNK(status.st_mode):
            yield from _chain(os.path.realpath(os.path.dirname(link)), status.st_uid)


def _require_nothing(parent: DirFd, name: str, path: str) -> None:
    """Raise SessionsError if ``name`` exists but is a file or a dangling link."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    kind = "a symbolic link that leads to no directory" if stat.S_ISLNK(status.st_mode) else "not a directory"
    raise SessionsError(f"{path} is {kind}, so nothing can be created below it; move it away or give another path")


def _owner_at(parent: DirFd, name: str) -> int | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False).st_uid
    except FileNotFoundError:
        return None


def _chain(base: str, holds: int | None) -> tuple[Directory, ...]:
    """Return ``base`` and every directory above it, from the root directory downwards."""
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
    """Return the uids of all members of the group, also by primary group; -1 for a member that is unknown on this host."""
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
