# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Turns path names into directory descriptors, so that no user can replace what root is working on.

A path is walked one component at a time. A symbolic link is followed only if its owner gains nothing by it: it belongs to root, or it
leads to a directory of its own owner. Everything after that is done relative to the descriptor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import typing as t

from .._core.errors import SessionsError
from .._core.limits import NAMES
from .._core.printable import is_plain

Item = t.TypeVar("Item")
# The descriptor of an open directory. Functions that take one take sizes, uids and other descriptors as well, which are plain ints.
DirFd = t.NewType("DirFd", int)
# A name derived from an account's name (``NAME-wal``, ``NAME_creds.json``) may exceed the maximum length.
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# The entry may be a link, a FIFO or a terminal, created by the owner of the directory.
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LINKS_AT_MOST = 40  # as many as the kernel follows, path_resolution(7)
_link_free: set[str] = set()
_none_followed: list[bool] = []


class LinkOfContainer(NotADirectoryError):
    """A symbolic link that root of a container may have created. It is never followed."""


def normal_path(path: str, option: str) -> str:
    """Return ``path`` without doubled or trailing slashes.

    Raises SessionsError if it is relative or contains ``..`` or unprintable characters; ``option`` names it in the error.
    """
    if not path.startswith("/"):
        raise SessionsError(
            f"{option} is {path!r}: a relative path leads to another directory after each redeploy; give an absolute path"
        )
    if not is_plain(path):
        raise SessionsError(f"{option} contains a control character (such as a newline); give a plain path")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise SessionsError(
            f"{option} is {path!r}: '..' leads to another directory if a symbolic link before it changes; write out the path"
        )
    return "/" + "/".join(parts)


def follow_no_link_below(path: str) -> None:
    """From now on, follow no link in ``path`` or below it, regardless of its owner: root of a container is root on this host as well.

    This also applies to links that are reached from an open directory or by another path. ``path`` must be a real path.
    """
    _link_free.add(path)


def is_link_free(path: str) -> bool:
    """Whether ``path`` is, or is in, a directory whose links are not followed."""
    return bool(_none_followed) or any(path == root or path.startswith(f"{root.rstrip('/')}/") for root in _link_free)


@contextlib.contextmanager
def following_no_link() -> t.Iterator[None]:
    """Follow no link at all until the block ends: an open directory of a container has no path on this host to recognise it by."""
    _none_followed.append(True)
    try:
        yield
    finally:
        _none_followed.pop()


@contextlib.contextmanager
def opened_directory(path: str, *, trusted_uids: t.Collection[int] = ()) -> t.Iterator[DirFd]:
    """Open the directory at ``path`` and close it at the end; see open_directory."""
    descriptor = open_directory(path, trusted_uids=trusted_uids)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_directory(path: str, *, trusted_uids: t.Collection[int] = (), start: int | None = None) -> DirFd:
    """Return a descriptor of the directory at ``path``: an absolute path, or one relative to the open directory ``start``.

    A link of a user other than root must lead to a directory that belongs to this user or to one of ``trusted_uids`` (uids).
    Raises FileNotFoundError, NotADirectoryError (also for a dangling link), or SessionsError for an unsafe link.
    """
    makers: set[int] = set()
    descriptor = _walk(path, makers, start)
    owner = os.fstat(descriptor).st_uid
    if any(maker not in (0, owner) for maker in makers) and owner not in trusted_uids:
        os.close(descriptor)
        raise SessionsError(
            f"{path} leads through a symbolic link of an unprivileged user to a directory of another user; name the real directory"
        )
    return descriptor


def make_directory(path: str, mode: int, *, uid: int, gid: int) -> None:
    """Create the directory at ``path`` for ``uid`` and ``gid`` if it is missing; missing parents belong to root, mode 0755.

    Raises SessionsError if a directory was replaced right after it was created; no owner is changed in that case.
    """
    place, missing = path, t.cast("list[str]", [])
    while True:
        try:
            here = open_directory(place)
            break
        except FileNotFoundError:
            place, name = os.path.split(place)
            missing.append(name)
    try:
        while missing:
            name = missing.pop()
            below = _make(here, name, path)
            os.close(here)
            here = below
            if missing:
                _give(here, 0o755, os.geteuid(), os.getegid())
            else:
                _give(here, mode, uid, gid)
    finally:
        os.close(here)


def _make(parent: DirFd, name: str, path: str) -> DirFd:
    """Create and open a directory of ``path``. Raises SessionsError if a user with write access to ``parent`` has replaced it."""
    os.mkdir(name, 0o700, dir_fd=parent)
    try:
        descriptor = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=parent))
    except OSError as error:
        raise _exchanged(parent, name, path) from error
    status = os.fstat(descriptor)
    # A set-group-ID parent passes that bit on.
    private = not stat.S_IMODE(status.st_mode) & ~(stat.S_IRWXU | stat.S_ISGID)
    if status.st_uid != os.geteuid() or not private or os.listdir(descriptor):
        os.close(descriptor)
        raise _exchanged(parent, name, path)
    os.fsync(parent)
    return descriptor


def _exchanged(parent: DirFd, name: str, path: str) -> SessionsError:
    place = os.path.join(real_path(parent), name)
    return SessionsError(
        f"{place} was replaced while it was being created for {path}, and its owner was left unchanged; "
        f"find out which users can write to {os.path.dirname(place)}, and run again"
    )


def _give(descriptor: DirFd, mode: int, uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, uid, gid)
    os.fchmod(descriptor, mode)


def real_path(descriptor: DirFd) -> str:
    """Return the kernel's path of an open directory, without symbolic links."""
    return os.readlink(f"/proc/self/fd/{descriptor}")


def open_regular(parent: DirFd, name: str) -> int:
    """Open a regular file of an open directory for reading, without blocking. Raises OSError for anything else.

    An earlier check does not help: the owner of the directory can replace the file with a device at any moment.
    """
    descriptor = os.open(name, READ_FLAGS, dir_fd=parent)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return descriptor


def _walk(path: str, makers: set[int], start: int | None = None) -> DirFd:
    """Open ``path`` component by component, and add the owner of each followed link to ``makers``."""
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    here = DirFd(os.open("/" if start is None else ".", OPEN_DIRECTORY, dir_fd=start))
    links = 0
    guarded = is_link_free(path)
    try:
        while todo:
            name = todo.pop()
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                here = _step(here, name)
                continue
            if guarded or is_link_free(real_path(here)):
                raise LinkOfContainer(f"a symbolic link in a directory of a container, which is not followed: {path}")
            links += 1
            if links > _LINKS_AT_MOST:
                raise NotADirectoryError(f"too many symbolic links: {path}")
            makers.add(status.st_uid)
            target = os.readlink(name, dir_fd=here)
            if target.startswith("/"):
                here = _step(here, "/")
            todo.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
        return here
    except BaseException:
        os.close(here)
        raise


def _step(here: DirFd, name: str) -> DirFd:
    below = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=here))
    os.close(here)
    return below


def exists(directory: DirFd, name: str) -> bool:
    """Return whether the open directory has an entry ``name`` of any type."""
    return status_of(directory, name) is not None


def is_folder(directory: DirFd, name: str) -> bool:
    """Return whether the open directory has a directory ``name`` that is not a symbolic link."""
    status = status_of(directory, name)
    return status is not None and stat.S_ISDIR(status.st_mode)


def status_of(directory: DirFd, name: str) -> os.stat_result | None:
    """Return the status of the entry ``name`` itself; None if it does not exist."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno in NOT_THERE:
            return None
        raise


def status_below(directory: DirFd, path: str) -> os.stat_result | None:
    """Return the status of the entry at the relative ``path`` itself; None if it does not exist or is below a symbolic link."""
    folder, slash, name = path.rpartition("/")
    if not slash:
        return status_of(directory, name)
    try:
        with opened_below(directory, folder) as below:
            return status_of(below, name)
    except OSError as error:
        if error.errno in NOT_THERE:
            return None
        raise


def open_below(directory: DirFd, path: str) -> DirFd:
    """Return a descriptor of the directory at the relative ``path``, following no symbolic link. Raises OSError if there is none."""
    here = DirFd(os.open(".", OPEN_DIRECTORY, dir_fd=directory))
    for part in path.split("/"):
        try:
            below = DirFd(os.open(part, OPEN_DIRECTORY, dir_fd=here))
        finally:
            os.close(here)
        here = below
    return here


@contextlib.contextmanager
def opened_below(directory: DirFd, path: str) -> t.Iterator[DirFd]:
    """Open the directory at the relative ``path`` and close it afterwards; see open_below."""
    descriptor = open_below(directory, path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def folders_in(directory: DirFd) -> list[str]:
    """Return the names of the directories in an open directory, sorted, without symbolic links."""
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in bounded(entries) if entry.is_dir(follow_symlinks=False))


def folders_and_links_in(directory: DirFd) -> list[tuple[str, bool]]:
    """Return the names of directories and symbolic links in an open directory, sorted, each with whether it is a link."""
    found = []
    with os.scandir(directory) as entries:
        for entry in bounded(entries):
            if entry.is_dir(follow_symlinks=False):
                found.append((entry.name, False))
            elif entry.is_symlink():
                found.append((entry.name, True))
    return sorted(found)


def names_in(directory: DirFd) -> list[str]:
    """Return the names in an open directory, in any order."""
    with os.scandir(directory) as entries:
        return [entry.name for entry in bounded(entries)]


def bounded(entries: t.Iterable[Item], at_most: int = NAMES) -> t.Iterator[Item]:
    """Yield the entries of one directory up to a limit: names may be created faster than they are read. Raises SessionsError beyond it."""
    for number, entry in enumerate(entries):
        if number >= at_most:
            raise SessionsError(
                f"a directory of the sessions has more than {at_most} names, which no library creates; "
                "nothing was changed, find out what creates them, remove them and run again"
            )
        yield entry


@contextlib.contextmanager
def opened_parent(root: DirFd, path: str) -> t.Iterator[tuple[DirFd, str]]:
    """Open the directory of the entry at a relative ``path`` below an open root; return it with the name of the entry."""
    folder, _slash, name = path.rpartition("/")
    with opened_below(root, folder or ".") as parent:
        yield parent, name


def open_private(parent: DirFd, name: str, *, called: str) -> DirFd:
    """Open a directory that only root can enter, creating it if necessary; ``called``: its path for error messages."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    try:
        descriptor = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=parent))
    except OSError as error:
        raise SessionsError(
            f"{called} cannot be used: it must be a directory that root owns; move it away and run again"
        ) from error
    if not is_private(os.fstat(descriptor)):
        os.close(descriptor)
        raise SessionsError(
            f"{called} is not private to root, so another user may have created it; check it, move it away and run again"
        )
    return descriptor


def is_private(status: os.stat_result) -> bool:
    """Return whether a directory belongs to the effective user (usually root) and no other user can enter it."""
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
