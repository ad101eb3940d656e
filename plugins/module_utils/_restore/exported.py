# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Writes a snapshot as one archive (tar.gz) that only root can read. The same snapshot always gives the same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import typing as t

from .._backup.store import ROOT, opened_snapshot
from .._core.errors import SessionsError
from .._fs.fdopen import DirFd, open_directory, opened_below
from .._fs.free_space import SpaceReserve, kept_free
from .._fs.syscalls import rename_new
from .archive import pack

if t.TYPE_CHECKING:
    from .._backup.store import Snapshot


def digest_of_export(store: DirFd, snapshot: Snapshot) -> str:
    """Return the SHA-256 that the archive of a snapshot has."""
    digest = hashlib.sha256()
    _pack(store, snapshot, digest.update)
    return digest.hexdigest()


def export(store: DirFd, snapshot: Snapshot, place: str) -> None:
    """Write the archive of a snapshot to ``place``, complete and durable or not at all. Raises SessionsError if the file exists now."""
    folder, name = os.path.split(place)
    parent = open_directory(folder)
    unfinished = f".{name}.{os.urandom(6).hex()}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(unfinished, flags, 0o600, dir_fd=parent)
        try:
            with open(descriptor, "wb") as file:
                _pack(store, snapshot, _guarded(file, parent))
                file.flush()
                os.fsync(file.fileno())
            rename_new(parent, unfinished, parent, name)
            os.fsync(parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(unfinished, dir_fd=parent)
            raise
    except FileExistsError as error:
        raise SessionsError(f"{place} was created meanwhile; move it away and run again") from error
    finally:
        os.close(parent)


def _guarded(file: t.BinaryIO, parent: DirFd) -> t.Callable[[bytes], t.Any]:
    """Return how to write to a file without filling the disk."""
    room = SpaceReserve(kept_free(parent))

    def write(held: bytes) -> None:
        if not room.is_left(parent, len(held)):
            raise SessionsError(
                "the disk of the archive is almost full; nothing was exported: free space and run again"
            )
        file.write(held)

    return write


def _pack(store: DirFd, snapshot: Snapshot, write: t.Callable[[bytes], t.Any]) -> None:
    with opened_snapshot(store, snapshot.name) as directory, opened_below(directory, ROOT) as root:
        pack(root, write)
