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
import secrets
import stat
import typing as t

from ._errors import SessionsError
from ._limits import FILE_BYTES
from ._printable import is_plain

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# The entry may be a link, a FIFO or a terminal, created by the owner of the directory.
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_BLOCK = 1 << 18
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
    """From now on, follow no link in ``path`` or below it, whoever owns it: root of a container is root on this host as well.

    This also applies to links that are reached from an open directory or by another path. ``path`` must be a real path.
    """
    _link_free.add(path)


def is_link_free(path: str) -> bool:
    """Whether ``path`` is, or lies in, a directory whose links are not followed."""
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
def opened_directory(path: str, *, friends: t.Collection[int] = ()) -> t.Iterator[int]:
    """Open the directory at ``path`` and close it at the end; see open_directory."""
    descriptor = open_directory(path, friends=friends)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_directory(path: str, *, friends: t.Collection[int] = (), start: int | None = None) -> int:
    """Return a descriptor of the directory at ``path``: an absolute path, or one relative to the open directory ``start``.

    A link of a user other than root must lead to a directory that belongs to this user or to one of ``friends`` (uids).
    Raises FileNotFoundError, NotADirectoryError (also for a dangling link), or SessionsError for an unsafe link.
    """
    makers: set[int] = set()
    descriptor = _walk(path, makers, start)
    owner = os.fstat(descriptor).st_uid
    if any(maker not in (0, owner) for maker in makers) and owner not in friends:
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


def _make(parent: int, name: str, path: str) -> int:
    """Create and open a directory of ``path``. Raises SessionsError if a user with write access to ``parent`` has replaced it."""
    os.mkdir(name, 0o700, dir_fd=parent)
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
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


def _exchanged(parent: int, name: str, path: str) -> SessionsError:
    place = os.path.join(real_path(parent), name)
    return SessionsError(
        f"{place} was replaced while it was being created for {path}, and its owner was left unchanged; "
        f"find out which users can write to {os.path.dirname(place)}, and run again"
    )


def _give(descriptor: int, mode: int, uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, uid, gid)
    os.fchmod(descriptor, mode)


def real_path(descriptor: int) -> str:
    """Return the kernel's path of an open directory, without symbolic links."""
    return os.readlink(f"/proc/self/fd/{descriptor}")


def write_atomic(path: str, content: bytes, mode: int, *, uid: int = 0, gid: int = 0) -> None:
    """Write ``content`` to ``path`` atomically: temporary name, fsync, rename, fsync of the directory. Never follows a link."""
    directory, name = os.path.split(path)
    with opened_directory(directory) as parent:
        write_atomic_at(parent, name, content, mode, uid=uid, gid=gid)


def write_atomic_at(
    parent: int,
    name: str,
    content: bytes,
    mode: int,
    *,
    uid: int = 0,
    gid: int = 0,
    ready: t.Callable[[], None] = lambda: None,
) -> None:
    """Like write_atomic, in the open directory ``parent``; ``ready`` is called right before the rename and may raise."""
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
        ready()
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=parent)
        raise
    os.fsync(parent)


class Held(t.NamedTuple):
    """The content of a regular file, its status and that of its directory, all taken from descriptors at the same time."""

    content: bytes
    status: os.stat_result
    parent: os.stat_result


def read_file(path: str, *, at_most: int = FILE_BYTES) -> bytes | None:
    """Return the content of the regular file at ``path``, None if it does not exist. Raises SessionsError for anything else."""
    held = read_held(path, at_most=at_most)
    return None if held is None else held.content


def read_held(path: str, *, at_most: int = FILE_BYTES) -> Held | None:
    """Like read_file, but with the status of the file: a later stat by name could return that of another file."""
    try:
        with opened_directory(os.path.dirname(path)) as parent:
            return read_held_at(parent, os.path.basename(path), at_most=at_most, called=path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_file_at(parent: int, name: str, *, at_most: int = FILE_BYTES, called: str | None = None) -> bytes | None:
    """Like read_file, in the open directory ``parent``; ``called`` names the file in an error."""
    held = read_held_at(parent, name, at_most=at_most, called=called)
    return None if held is None else held.content


def read_held_at(parent: int, name: str, *, at_most: int = FILE_BYTES, called: str | None = None) -> Held | None:
    """Like read_held, in the open directory ``parent``.

    Never blocks on the other end of a FIFO, on a terminal, or on a lease; a file with a lease cannot be read, fcntl(2).
    """
    try:
        descriptor = os.open(name, READ_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SessionsError(f"cannot read {called or name}: {error.strerror}; it must be a regular file") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SessionsError(
                f"cannot read {called or name}: it is not a regular file; remove it or name another one"
            )
        content = _read_at_most(descriptor, at_most + 1)
    finally:
        os.close(descriptor)
    if len(content) > at_most:
        raise SessionsError(
            f"{called or name} is larger than {at_most} bytes, too large for such a file; check what it is"
        )
    return Held(content, status, os.fstat(parent))


def open_regular(parent: int, name: str) -> int:
    """Open a regular file of an open directory for reading, without blocking. Raises OSError for anything else.

    An earlier check does not help: the owner of the directory can replace the file with a device at any moment.
    """
    descriptor = os.open(name, READ_FLAGS, dir_fd=parent)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return descriptor


def is_as_read(parent: int, name: str, held: Held | None) -> bool:
    """Whether the file ``name`` of the open directory is unchanged since it was read as ``held`` (None: it did not exist)."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return held is None
    return held is not None and _look(found) == _look(held.status)


def _look(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _read_at_most(descriptor: int, size: int) -> bytes:
    blocks = []
    while size > 0 and (block := os.read(descriptor, min(size, _BLOCK))):
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


def _walk(path: str, makers: set[int], start: int | None = None) -> int:
    """Open ``path`` component by component, and add the owner of each followed link to ``makers``."""
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    here = os.open("/" if start is None else ".", _DIRECTORY, dir_fd=start)
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


def _step(here: int, name: str) -> int:
    below = os.open(name, _DIRECTORY, dir_fd=here)
    os.close(here)
    return below
