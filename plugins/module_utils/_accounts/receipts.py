# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The record that a finished migration leaves for the next run: the common ancestor of the legacy and the present copy of each account.

A receipt contains digests of account names, times and marks. A mark describes an account without reading its keys; comparing two marks
shows whether the account was used in between. Readable by root only, never returned.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
import time
import typing as t

from .._core.masking import account_key
from .._fs.fdopen import DirFd, open_regular, opened_below
from .._fs.patterns import name_matcher
from .._layouts.account import AccountRef
from .._layouts.layout import Layout
from .control_directory import damaged

RECEIPT = "receipt.json"
_SAMPLE = 1 << 15  # bytes at either end of a large file
_PASSING = ("wal", "shm", "journal")  # suffixes of temporary files next to a SQLite database


class FileMark(t.NamedTuple):
    """State of a watched file. ``digest``: a keyed digest of its content."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    digest: str


class FolderMark(t.NamedTuple):
    """State of an account's directory itself."""

    inode: int
    mtime_ns: int


@dataclasses.dataclass(frozen=True)
class Mark:
    """State of an account: of its directory, and of each watched file.

    ``names``: a digest of the relevant names in the directory, if temporary entries make its mtime meaningless; otherwise ''.
    """

    folder: FolderMark
    files: t.Mapping[str, FileMark]
    names: str = ""

    def differs_from(self, other: Mark) -> bool:
        """Whether the account was used between the two marks.

        A changed ctime does not count if the content is the same, because chown and chmod change it as well. Changed content counts even
        if the mtime is the same, because programs can set mtimes.
        """
        if self._place != other._place or set(self.files) != set(other.files):
            return True
        return any(_is_changed(mark, other.files[name]) for name, mark in self.files.items())

    @property
    def _place(self) -> tuple[t.Any, ...]:
        return (self.folder.inode, self.names) if self.names else self.folder

    @property
    def changed_ns(self) -> int:
        """The newest ctime of the watched files, in ns: it changes with content, name and owner, and programs cannot set it."""
        return max((mark.ctime_ns for mark in self.files.values()), default=0)


@dataclasses.dataclass(frozen=True)
class Entry:
    """The receipt of one account: its source, the marks of both copies, and the time (seconds since the epoch).

    ``damaged``: it was not migrated because its copy was damaged; ``legacy`` is the mark of the damaged state.
    ``mirrored``: it describes the reverse migration, which may have left no copy at its source.
    """

    source: str
    legacy: Mark
    present: Mark
    time: float
    damaged: bool = False
    mirrored: bool = False

    def mirror(self, source: str) -> Entry:
        """Return the entry for the reverse direction, with ``source`` as the legacy path."""
        return dataclasses.replace(self, source=source, legacy=self.present, present=self.legacy, mirrored=True)


def mark_of(directory: DirFd, layout: Layout) -> Mark:
    """Return the mark of an open account directory."""
    status = os.fstat(directory)
    seen = ((path, _look(directory, path)) for path in layout.watched_in(directory))
    # Names that match a pattern may contain the account's name.
    looks = {path if path in layout.watched else account_key(path): look for path, look in seen if look is not None}
    return Mark(FolderMark(status.st_ino, status.st_mtime_ns), looks, _names_digest(directory, status, layout))


def mark_at(account: AccountRef) -> Mark:
    """Return the mark of an account and of its parts elsewhere below its root. Raises OSError if it does not exist."""
    with account.opened() as directory:
        return mark_with_parts(account, directory)


def mark_with_parts(account: AccountRef, directory: DirFd) -> Mark:
    """Return the mark of an account whose ``directory`` is open, and of its parts elsewhere below its root."""
    mark = mark_of(directory, account.layout)
    seen = ((f"part {number}", _look(account.root, part)) for number, part in enumerate(account.sidecars))
    parts = {number: look for number, look in seen if look is not None}
    return dataclasses.replace(mark, files={**mark.files, **parts}) if parts else mark


def entries_in(document: t.Mapping[str, t.Any]) -> dict[str, Entry]:
    """Return the entries of a receipt by account key. Raises SessionsError if the document is damaged."""
    try:
        return {
            key: Entry(
                str(kept["source"]),
                mark_in(kept["legacy"]),
                mark_in(kept["present"]),
                float(kept["time"]),
                bool(kept.get("damaged")),
            )
            for key, kept in document.get("accounts", {}).items()
        }
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise damaged(RECEIPT) from error


def document_of(path: str, entries: t.Mapping[str, Entry]) -> dict[str, t.Any]:
    """Return the receipt's document for writing."""
    return {
        "version": 1,
        "path": path,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "accounts": {key: _written(entry) for key, entry in sorted(entries.items())},
    }


def _written(entry: Entry) -> dict[str, t.Any]:
    kept = dataclasses.asdict(entry)
    del kept["mirrored"]  # only entries of this path are written, never mirrored ones
    return kept


def _names_digest(directory: DirFd, status: os.stat_result, layout: Layout) -> str:
    """Return a digest of the permanent names in an account, without the locks and caches of browsers and the files of open databases."""
    if not (layout.locks or layout.caches or layout.databases):
        return ""
    passing = name_matcher((*layout.volatile, *(f"{name}-{kind}" for name in layout.databases for kind in _PASSING)))
    stay = sorted(name for name in os.listdir(directory) if not passing(name) and not layout.cache_matcher(name))
    held = "\0".join(stay).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(held, key=str(status.st_ino).encode(), digest_size=16).hexdigest()


def _is_changed(one: FileMark, other: FileMark) -> bool:
    same_place = (one.inode, one.size, one.mtime_ns) == (other.inode, other.size, other.mtime_ns)
    return not same_place or (one.ctime_ns != other.ctime_ns and one.digest != other.digest)


def _look(directory: DirFd, path: str) -> FileMark | None:
    folder, slash, name = path.rpartition("/")
    try:
        if slash:
            with opened_below(directory, folder) as below:
                return _look(below, name)
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if status.st_size == 0 and name.endswith("-wal"):
        return None  # a connection that only reads leaves it
    digest = _keyed_digest(directory, name, status)
    return FileMark(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, digest)


def _keyed_digest(directory: DirFd, name: str, status: os.stat_result) -> str:
    """Return a digest of a watched file, keyed with its inode so that equal files on two hosts have different digests.

    Of a large file (a database, a LevelDB log), only both ends are read: this happens in each run, and its times count as well.
    """
    if not stat.S_ISREG(status.st_mode):
        return ""
    try:
        held = _sample(directory, name, status.st_size)
    except OSError:
        return ""  # it was replaced or removed meanwhile, which the next run sees
    return hashlib.blake2b(held, key=str(status.st_ino).encode(), digest_size=16).hexdigest()


def _sample(directory: DirFd, name: str, size: int) -> bytes:
    descriptor = open_regular(directory, name)
    try:
        if size <= 2 * _SAMPLE:
            return os.pread(descriptor, 2 * _SAMPLE, 0)
        return os.pread(descriptor, _SAMPLE, 0) + os.pread(descriptor, _SAMPLE, size - _SAMPLE)
    finally:
        os.close(descriptor)


def mark_in(kept: t.Mapping[str, t.Any]) -> Mark:
    """Return the mark in a document. Raises AttributeError, KeyError, IndexError, TypeError or ValueError for anything else."""
    files = {
        name: FileMark(int(look[0]), int(look[1]), int(look[2]), int(look[3]), str(look[4]))
        for name, look in kept["files"].items()
    }
    return Mark(FolderMark(int(kept["folder"][0]), int(kept["folder"][1])), files, str(kept.get("names", "")))
