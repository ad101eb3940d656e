# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Compares SQLite databases page by page, without SQLite, which opens paths, creates files and would parse possibly crafted input.

The formats are described in https://www.sqlite.org/fileformat.html.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import time
import typing as t

from .._core.limits import JAIL_BYTES_PER_SECOND, JAIL_SECONDS
from .._fs.fdopen import DirFd, open_regular, opened_parent, status_of

_MAGIC = b"SQLite format 3\0"
_WAL_HEADER, _FRAME_HEADER = 32, 24
_LOG_PAGES_AT_MOST = 1 << 22  # frames of a -wal that are read; programs usually checkpoint after 1,000
# Counters and the journal mode: bytes 18-19, 24-27, 40-43 and 92-99 of the header. A backup changes them.
_COUNTERS = ((18, 20), (24, 28), (40, 44), (92, 100))


class TooLong(Exception):
    """Reading the database takes longer than allowed."""


def store_digest(directory: DirFd, name: str) -> bytes | None:
    """Return a digest of the committed content of a database of an open account; None if reading alone cannot determine it.

    Two copies of one state have the same digest, however much of it is in the ``-wal``: of the header, only the fields count that define
    how the pages are read. SQLite is not needed, so nothing is written.
    """
    try:
        with opened_parent(directory, name) as (parent, last):
            if _size(parent, f"{last}-journal"):
                return None  # a hot journal may have to be rolled back
            return _digest_pages(parent, last)
    except (OSError, struct.error, TooLong):
        return None


def _size(parent: DirFd, name: str) -> int:
    status = status_of(parent, name)
    return status.st_size if status else 0


def _digest_pages(parent: DirFd, name: str) -> bytes | None:
    database = open_regular(parent, name)
    try:
        header = os.pread(database, 100, 0)
        if not header and not _size(parent, f"{name}-wal"):
            return b""
        if len(header) < 100 or not header.startswith(_MAGIC):
            return None
        size = struct.unpack(">H", header[16:18])[0]
        size = 1 << 16 if size == 1 else size
        if size < 512 or size & (size - 1):
            return None
        held = os.fstat(database).st_size
        newer: dict[int, int] = {}
        pages = held // size
        with _opened_wal(parent, name) as wal:
            if wal is not None:
                newer, pages = _committed(wal, size, pages)
                held += os.fstat(wal).st_size
            return _digest(database, wal, newer, size, pages) if pages * size <= held else None
    finally:
        os.close(database)


@contextlib.contextmanager
def _opened_wal(parent: DirFd, name: str) -> t.Iterator[int | None]:
    try:
        wal = open_regular(parent, f"{name}-wal")
    except FileNotFoundError:
        yield None
        return
    try:
        yield wal
    finally:
        os.close(wal)


def _committed(wal: int, size: int, pages: int) -> tuple[dict[int, int], int]:
    """Return the offsets in the -wal of the newest committed version of each page, and the number of pages of the database."""
    newer: dict[int, int] = {}
    pending: dict[int, int] = {}
    header = os.pread(wal, _WAL_HEADER, 0)
    if len(header) < _WAL_HEADER or struct.unpack(">I", header[8:12])[0] != size:
        return newer, pages
    offset = _WAL_HEADER
    for _frame in range(_LOG_PAGES_AT_MOST):
        frame = os.pread(wal, _FRAME_HEADER, offset)
        # Frames with other salts are older than the last checkpoint.
        if len(frame) < _FRAME_HEADER or frame[8:16] != header[16:24]:
            return newer, pages
        page, commit = struct.unpack(">II", frame[:8])
        pending[page] = offset + _FRAME_HEADER
        if commit:
            newer.update(pending)
            pending.clear()
            pages = commit
        offset += _FRAME_HEADER + size
    raise TooLong


def _digest(database: int, wal: int | None, newer: t.Mapping[int, int], size: int, pages: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    until = time.monotonic() + JAIL_SECONDS + os.fstat(database).st_blocks * 512 / JAIL_BYTES_PER_SECOND
    for page in range(1, pages + 1):
        # A crafted sparse file can have a practically endless number of pages.
        if not page % 1024 and time.monotonic() > until:
            raise TooLong
        held = _page(database, wal, newer.get(page), size, page)
        digest.update(_without_counters(held) if page == 1 else held)
    return digest.digest()


def _page(database: int, wal: int | None, newer: int | None, size: int, page: int) -> bytes:
    if wal is not None and newer is not None:
        return os.pread(wal, size, newer)
    return os.pread(database, size, (page - 1) * size)


def _without_counters(page: bytes) -> bytes:
    held = bytearray(page)
    for begin, end in _COUNTERS:
        held[begin:end] = bytes(end - begin)
    return bytes(held)
