# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Read and write whole files in directories that others may change: bounded, never through a link, durable once written."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import typing as t

from .._core.errors import SessionsError
from .._core.limits import FILE_BYTES
from .fdopen import READ_FLAGS, DirFd, opened_directory

_BLOCK = 1 << 18


def write_atomic(path: str, content: bytes, mode: int, *, uid: int = 0, gid: int = 0) -> None:
    """Write ``content`` to ``path`` atomically: temporary name, fsync, rename, fsync of the directory. Never follows a link."""
    directory, name = os.path.split(path)
    with opened_directory(directory) as parent:
        write_atomic_at(parent, name, content, mode, uid=uid, gid=gid)


def write_atomic_at(
    parent: DirFd,
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


def remove_durably(path: str, how: t.Callable[..., None] = os.unlink) -> None:
    """Remove a file, or with ``how=os.rmdir`` an empty directory, so that a power cut does not bring it back."""
    with opened_directory(os.path.dirname(path)) as parent:
        how(os.path.basename(path), dir_fd=parent)
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


def read_file_at(parent: DirFd, name: str, *, at_most: int = FILE_BYTES, called: str | None = None) -> bytes | None:
    """Like read_file, in the open directory ``parent``; ``called`` names the file in an error."""
    held = read_held_at(parent, name, at_most=at_most, called=called)
    return None if held is None else held.content


def read_held_at(parent: DirFd, name: str, *, at_most: int = FILE_BYTES, called: str | None = None) -> Held | None:
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


def is_as_read(parent: DirFd, name: str, held: Held | None) -> bool:
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
