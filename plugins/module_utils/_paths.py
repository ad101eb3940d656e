# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""From path names to directory descriptors, so that nobody can swap what root is working on.

A path is walked one component at a time. A symbolic link on the way is followed only where its maker gains nothing: root made
it, or it leads to a directory that belongs to its own maker. Everything after that is done relative to the descriptor.
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
# What lies there may be a link, a FIFO or a terminal, put there by who rules the directory.
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_BLOCK = 1 << 18
_LINKS_AT_MOST = 40  # as many as the kernel follows, path_resolution(7)
_link_free: set[str] = set()
_none_followed: list[bool] = []


class LinkOfContainer(NotADirectoryError):
    """A link that root of a container may have made. It is never followed."""


def normal_path(path: str, option: str) -> str:
    """Return ``path`` without doubled or trailing slashes.

    Raises SessionsError when it is relative or holds ``..`` or what no terminal shows as it is; ``option`` is what to call it.
    """
    if not path.startswith("/"):
        raise SessionsError(
            f"{option} is {path!r}: a relative path means another place after each redeploy; give an absolute path"
        )
    if not is_plain(path):
        raise SessionsError(f"{option} holds a control character (a newline, say); give a plain path")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise SessionsError(
            f"{option} is {path!r}: '..' means another place once a link on the way changes; write the path out"
        )
    return "/" + "/".join(parts)


def follow_no_link_below(path: str) -> None:
    """From now on follow no link on the way to ``path`` or to anything below it, whoever made it: root of a container is root here, too.

    That holds for links that are reached from an open directory or by another path, too. ``path`` has to be a real one.
    """
    _link_free.add(path)


def is_link_free(path: str) -> bool:
    """Whether ``path`` is, or lies in, a directory where no link is followed."""
    return bool(_none_followed) or any(path == root or path.startswith(f"{root.rstrip('/')}/") for root in _link_free)


@contextlib.contextmanager
def following_no_link() -> t.Iterator[None]:
    """Follow no link at all meanwhile: an open directory of a container has no path here that tells what it is."""
    _none_followed.append(True)
    try:
        yield
    finally:
        _none_followed.pop()


@contextlib.contextmanager
def opened_directory(path: str, *, friends: t.Collection[int] = ()) -> t.Iterator[int]:
    """Open the directory at ``path`` and close it afterwards; see open_directory."""
    descriptor = open_directory(path, friends=friends)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_directory(path: str, *, friends: t.Collection[int] = (), start: int | None = None) -> int:
    """Return a descriptor of the directory at ``path``, an absolute path, or one relative to the open directory ``start``.

    A link made by a user other than root must lead to a directory that this user, or one of ``friends`` (uids), owns.
    Raises FileNotFoundError, NotADirectoryError (also for a dangling chain), or SessionsError for a link that is not safe.
    """
    makers: set[int] = set()
    descriptor = _walk(path, makers, start)
    owner = os.fstat(descriptor).st_uid
    if any(maker not in (0, owner) for maker in makers) and owner not in friends:
        os.close(descriptor)
        raise SessionsError(
            f"{path} leads through a symbolic link that an unprivileged user made to a directory of another user; name the real directory"
        )
    return descriptor


def make_directory(path: str, mode: int, *, uid: int, gid: int) -> None:
    """Make the directory at ``path`` for ``uid`` and ``gid`` where it is missing; parents that are missing become root's, mode 0755.

    Raises SessionsError where something else is in the place of one that was just made: nothing changes hands then.
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
    """Make and open a directory on the way to ``path``. Whoever may write in ``parent`` could put another one in its place at once."""
    os.mkdir(name, 0o700, dir_fd=parent)
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        raise _exchanged(parent, name, path) from error
    status = os.fstat(descriptor)
    private = not stat.S_IMODE(status.st_mode) & ~(
        stat.S_IRWXU | stat.S_ISGID
    )  # a set-group-ID parent passes that bit on
    if status.st_uid != os.geteuid() or not private or os.listdir(descriptor):
        os.close(descriptor)
        raise _exchanged(parent, name, path)
    os.fsync(parent)
    return descriptor


def _exchanged(parent: int, name: str, path: str) -> SessionsError:
    place = os.path.join(real_path(parent), name)
    return SessionsError(
        f"something else was put in the place of {place} while it was made for {path}, and its owner was left as it is; "
        f"see who can write in {os.path.dirname(place)}, and run again"
    )


def _give(descriptor: int, mode: int, uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, uid, gid)
    os.fchmod(descriptor, mode)


def real_path(descriptor: int) -> str:
    """Return the path, free of links, by which the kernel knows an open directory."""
    return os.readlink(f"/proc/self/fd/{descriptor}")


def write_atomic(path: str, content: bytes, mode: int, *, uid: int = 0, gid: int = 0) -> None:
    """Put ``content`` at ``path`` in one step: temporary name, fsync, rename, fsync of the directory. Never follows a link."""
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
    """Do as write_atomic, in the open directory ``parent``; ``ready`` is called right before the rename and may raise."""
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
    """What a regular file held, and how it and the directory that it was read in looked: all of one moment, from descriptors."""

    content: bytes
    status: os.stat_result
    parent: os.stat_result


def read_file(path: str, *, at_most: int = FILE_BYTES) -> bytes | None:
    """Return the content of the regular file at ``path``, or None when nothing is there; raise SessionsError for anything else."""
    held = read_held(path, at_most=at_most)
    return None if held is None else held.content


def read_held(path: str, *, at_most: int = FILE_BYTES) -> Held | None:
    """Do as read_file, and say whose file that is: asking by name afterwards may be about another one."""
    try:
        with opened_directory(os.path.dirname(path)) as parent:
            return read_held_at(parent, os.path.basename(path), at_most=at_most, called=path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_file_at(parent: int, name: str, *, at_most: int = FILE_BYTES, called: str | None = None) -> bytes | None:
    """Do as read_file, in the open directory ``parent``; ``called`` is what to call the file in an error."""
    held = read_held_at(parent, name, at_most=at_most, called=called)
    return None if held is None else held.content


def read_held_at(parent: int, name: str, *, at_most: int = FILE_BYTES, called: str | None = None) -> Held | None:
    """Do as read_held, in the open directory ``parent``.

    Never waits: for the other end of a FIFO, for a terminal, or for whoever has a lease on the file (then it cannot be read, fcntl(2)).
    """
    try:
        descriptor = os.open(name, READ_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SessionsError(f"cannot read {called or name}: {error.strerror}; it has to be a regular file") from error
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
        raise SessionsError(f"{called or name} is larger than {at_most} bytes, which no such file is; see what it is")
    return Held(content, status, os.fstat(parent))


def open_regular(parent: int, name: str) -> int:
    """Open a regular file of an open directory for reading, and wait for nobody. Raises OSError for anything else.

    What was seen there before does not count: who rules the directory can put a device in its place at any moment.
    """
    descriptor = os.open(name, READ_FLAGS, dir_fd=parent)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return descriptor


def is_as_read(parent: int, name: str, held: Held | None) -> bool:
    """Whether the open directory still has under ``name`` what was read there (None: nothing), unchanged."""
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
    """Open ``path`` component by component, adding to ``makers`` the owner of each link that was followed."""
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
                raise LinkOfContainer(f"a link, and none is followed there: {path}")
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
