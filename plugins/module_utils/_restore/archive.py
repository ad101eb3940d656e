# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Reads and writes tar archives of accounts. An archive is data of strangers: only files and directories leave it, below one directory.

Never returns or reports a name from inside an archive.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
import tarfile
import typing as t
import zlib

from .._core.errors import SessionsError
from .._core.limits import ARCHIVE_BYTES, ARCHIVE_ENTRIES, ARCHIVE_NAME_BYTES, DEPTH
from .._fs.fdopen import OPEN_DIRECTORY, DirFd, open_regular, opened_below
from .._fs.free_space import SpaceReserve
from .._fs.walk_tree import files_below

_CHUNK = 1 << 20
_LATEST = 1 << 33  # seconds since the epoch
_DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError, ValueError, OverflowError)


class Unfit(SessionsError):
    """An archive that must not be unpacked."""


def unpack(archive: t.BinaryIO, target: DirFd, room: SpaceReserve) -> int:
    """Unpack a tar archive (gzip or not) into an open, empty, private directory; return the number of files.

    Raises Unfit for an archive that is damaged, too large, or has other entries than files and directories below its own top.
    """
    files = entries = size = 0
    try:
        with tarfile.open(fileobj=archive, mode="r|*", errorlevel=0) as tar:
            for member in tar:
                entries += 1
                size += max(member.size, 0)
                if entries > ARCHIVE_ENTRIES or size > ARCHIVE_BYTES or member.size < 0:
                    raise Unfit(
                        f"the archive has more than {ARCHIVE_ENTRIES} entries or {ARCHIVE_BYTES >> 30} GiB; nothing was imported"
                    )
                parts = _parts(member)
                if member.isdir():
                    os.close(_made(target, parts))
                else:
                    if not room.is_left(target, member.size):
                        raise Unfit(
                            "the disk of the store is almost full; nothing was imported: free space and run again"
                        )
                    _write(tar, member, target, parts)
                    files += 1
    except _DAMAGED as error:
        raise Unfit(
            "the archive is damaged, or not a tar archive (with or without gzip); nothing was imported"
        ) from error
    return files


def pack(root: DirFd, write: t.Callable[[bytes], t.Any]) -> None:
    """Write the files below an open directory of root as tar.gz, each time with the same bytes.

    ``write``: is called with the next bytes.
    """
    with (
        contextlib.closing(gzip.GzipFile("", "wb", 6, t.cast("t.IO[bytes]", _Writer(write)), mtime=0)) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path, status in sorted(files_below(root, lambda _name: None, None)):
            folder, _slash, name = path.rpartition("/")
            with opened_below(root, folder or ".") as parent:
                descriptor = open_regular(parent, name)
            with open(descriptor, "rb") as file:
                member = tarfile.TarInfo(path)
                member.size, member.mtime, member.mode = status.st_size, int(status.st_mtime), 0o600
                tar.addfile(member, file)


class _Writer:
    """What gzip needs of a file."""

    def __init__(self, write: t.Callable[[bytes], t.Any]) -> None:
        self._write = write

    def write(self, held: bytes) -> int:
        self._write(bytes(held))
        return len(held)

    def flush(self) -> None:
        """Nothing is kept back."""


def _parts(member: tarfile.TarInfo) -> list[str]:
    """Return the names that lead to an entry. Raises Unfit for anything but a file or directory below the top."""
    name = member.name
    parts = [part for part in name.split("/") if part not in ("", ".")]
    is_kind = member.isdir() or (member.isreg() and not member.issparse() and bool(parts))
    if (
        not is_kind
        or name.startswith("/")
        or ".." in parts
        or "\0" in name
        or len(parts) > DEPTH
        or len(os.fsencode(name)) > ARCHIVE_NAME_BYTES
    ):
        raise Unfit(
            "the archive has an entry that is no regular file or directory below its top (a link, a device, an absolute path, ..), so it "
            "was not made of accounts alone; nothing was imported: make it again without such entries"
        )
    return parts


def _made(target: DirFd, parts: t.Iterable[str]) -> DirFd:
    """Open a directory below ``target``, creating what is missing. Nobody else can change anything there."""
    here = DirFd(os.open(".", OPEN_DIRECTORY, dir_fd=target))
    for part in parts:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=here)
            below = DirFd(os.open(part, OPEN_DIRECTORY, dir_fd=here))
        finally:
            os.close(here)
        here = below
    return here


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: DirFd, parts: t.Sequence[str]) -> None:
    source = tar.extractfile(member)
    folder = _made(target, parts[:-1])
    try:
        # Of two entries with one name the later one counts, as tar has it.
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISDIR(os.stat(parts[-1], dir_fd=folder, follow_symlinks=False).st_mode):
                os.unlink(parts[-1], dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(parts[-1], flags, 0o600, dir_fd=folder)
        with open(descriptor, "wb") as file:
            left = member.size
            while left > 0 and source is not None:
                held = source.read(min(_CHUNK, left))
                if not held:
                    raise EOFError
                file.write(held)
                left -= len(held)
            file.flush()
            moment = min(max(int(member.mtime), 0), _LATEST)
            os.utime(file.fileno(), (moment, moment))
    finally:
        os.close(folder)
