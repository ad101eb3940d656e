# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""From path names to directory descriptors, so that nobody can swap what root is working on.

A path is walked one component at a time. A symbolic link on the way is followed only where its maker gains nothing: root made
it, or it leads to a directory that belongs to its own maker. Everything after that is done relative to the descriptor.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import typing as t

from ._errors import SessionsError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINKS_AT_MOST = 40  # as many as the kernel follows, path_resolution(7)


def normal_path(path: str, option: str) -> str:
    """Return ``path`` without doubled or trailing slashes.

    Raises SessionsError when it is relative or holds ``..`` or a control character; ``option`` is what to call it.
    """
    if not path.startswith("/"):
        raise SessionsError(
            f"{option} is {path!r}: a relative path means another place after each redeploy; give an absolute path"
        )
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise SessionsError(f"{option} holds a control character (a newline, say); give a plain path")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise SessionsError(
            f"{option} is {path!r}: '..' means another place once a link on the way changes; write the path out"
        )
    return "/" + "/".join(parts)


@contextlib.contextmanager
def opened_directory(path: str, *, friends: t.Collection[int] = ()) -> t.Iterator[int]:
    """Open the directory at ``path`` and close it afterwards; see open_directory."""
    descriptor = open_directory(path, friends=friends)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_directory(path: str, *, friends: t.Collection[int] = ()) -> int:
    """Return a descriptor of the directory at ``path``, an absolute path.

    A link made by a user other than root must lead to a directory that this user, or one of ``friends`` (uids), owns.
    Raises FileNotFoundError, NotADirectoryError (also for a dangling chain), or SessionsError for a link that is not safe.
    """
    makers: set[int] = set()
    descriptor = _walk(path, makers)
    owner = os.fstat(descriptor).st_uid
    if any(maker not in (0, owner) for maker in makers) and owner not in friends:
        os.close(descriptor)
        raise SessionsError(
            f"{path} leads through a symbolic link that an unprivileged user made to a directory of another user; name the real directory"
        )
    return descriptor


def make_directory(path: str, mode: int, *, uid: int, gid: int) -> None:
    """Make the directory at ``path`` for ``uid`` and ``gid`` where it is missing; parents that are missing become root's, mode 0755."""
    with contextlib.suppress(FileNotFoundError), opened_directory(path):
        return
    directory, name = os.path.split(path)
    if directory != "/":
        make_directory(directory, 0o755, uid=os.geteuid(), gid=os.getegid())
    with opened_directory(directory) as parent:
        os.mkdir(name, 0o700, dir_fd=parent)
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            if os.geteuid() == 0:
                os.fchown(descriptor, uid, gid)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
        os.fsync(parent)


def real_path(descriptor: int) -> str:
    """Return the path, free of links, by which the kernel knows an open directory."""
    return os.readlink(f"/proc/self/fd/{descriptor}")


def write_atomic(path: str, content: bytes, mode: int, *, uid: int = 0, gid: int = 0) -> None:
    """Put ``content`` at ``path`` in one step: temporary name, fsync, rename, fsync of the directory. Never follows a link."""
    directory, name = os.path.split(path)
    with opened_directory(directory) as parent:
        write_atomic_at(parent, name, content, mode, uid=uid, gid=gid)


def write_atomic_at(parent: int, name: str, content: bytes, mode: int, *, uid: int = 0, gid: int = 0) -> None:
    """Do as write_atomic, in the open directory ``parent``."""
    temporary = f".{name}.{secrets.token_hex(6)}"
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if os.geteuid() == 0:
                os.fchown(file.fileno(), uid, gid)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)
        raise
    os.fsync(parent)


def read_file(path: str, *, at_most: int = 1 << 20) -> bytes | None:
    """Return the content of the regular file at ``path``, or None when nothing is there; raise SessionsError for anything else."""
    try:
        with opened_directory(os.path.dirname(path)) as parent:
            return read_file_at(parent, os.path.basename(path), at_most=at_most, called=path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_file_at(parent: int, name: str, *, at_most: int = 1 << 20, called: str | None = None) -> bytes | None:
    """Do as read_file, in the open directory ``parent``; ``called`` is what to call the file in an error."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SessionsError(f"cannot read {called or name}: {error.strerror}; it has to be a regular file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SessionsError(f"cannot read {called or name}: it is not a regular file; remove it or name another one")
    with os.fdopen(descriptor, "rb") as file:
        content = file.read(at_most + 1)
    if len(content) > at_most:
        raise SessionsError(f"{called or name} is larger than {at_most} bytes, which no such file is; see what it is")
    return content


def _walk(path: str, makers: set[int]) -> int:
    """Open ``path`` component by component, adding to ``makers`` the owner of each link that was followed."""
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    here = os.open("/", _DIRECTORY)
    links = 0
    try:
        while todo:
            name = todo.pop()
            status = os.stat(name, dir_fd=here, follow_symlinks=False)
            if not stat.S_ISLNK(status.st_mode):
                here = _step(here, name)
                continue
            links += 1
            if links > _LINKS_AT_MOST:
                raise NotADirectoryError(f"too many links: {path}")
            makers.add(status.st_uid)
            target = os.readlink(name, dir_fd=here)
            if target.startswith("/"):
                here = _step(here, "/")
            todo.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
        return here
    except BaseException:
        os.close(here)
        raise


def _step(here: int, name: str) -> int:
    below = os.open(name, _DIRECTORY, dir_fd=here)
    os.close(here)
    return below
