# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What a finished migration wrote down, so that the next run knows: the common ancestor of the legacy and the present account.

A receipt holds digests of account names, times and marks. A mark is what an account looks like without reading its keys; comparing
two marks tells whether the account was used in between. Root only, never returned.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import stat
import time
import typing as t

from ._area import damaged
from ._layout import Layout, opened_below
from ._paths import read_file_at

RECEIPT = "receipt.json"
_WATCHED_AT_MOST = 16 << 20


@dataclasses.dataclass(frozen=True)
class Mark:
    """How an account looked: directory (inode, mtime_ns) and, per watched file, inode, size, mtime_ns, ctime_ns and a keyed digest."""

    folder: tuple[int, int]
    files: t.Mapping[str, tuple[int, int, int, int, str]]

    def differs_from(self, other: Mark) -> bool:
        """Whether the account was used between the two marks.

        A changed ctime alone is no use of it when the content is the same: chown and chmod change it, too. A changed content under
        an unchanged mtime is one: programs set mtimes as they like.
        """
        if self.folder != other.folder or set(self.files) != set(other.files):
            return True
        return any(
            self.files[name][:3] != other.files[name][:3]
            or (self.files[name][3] != other.files[name][3] and self.files[name][4] != other.files[name][4])
            for name in self.files
        )

    @property
    def changed_ns(self) -> int:
        """When one of the watched files was last written, put in place or given away: a time that no program can choose."""
        return max((look[3] for look in self.files.values()), default=0)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One account's receipt: where it came from, how both sides looked then, and when (seconds since the epoch)."""

    source: str
    legacy: Mark
    present: Mark
    time: float


def account_key(account: str) -> str:
    """Return the name under which an account is kept in receipts and staging: fixed length, and it does not say whose it is."""
    return hashlib.sha256(account.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def mark_of(directory: int, layout: Layout) -> Mark:
    """Look at an open account directory."""
    status = os.fstat(directory)
    seen = ((name, _look(directory, name)) for name in layout.watched_in(directory))
    return Mark((status.st_ino, status.st_mtime_ns), {name: look for name, look in seen if look is not None})


def entries_in(document: t.Mapping[str, t.Any]) -> dict[str, Entry]:
    """Parse the receipt's document: entries by account key. Raises SessionsError when it is none."""
    try:
        return {
            key: Entry(str(kept["source"]), _mark_in(kept["legacy"]), _mark_in(kept["present"]), float(kept["time"]))
            for key, kept in document.get("accounts", {}).items()
        }
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise damaged(RECEIPT) from error


def document_of(path: str, entries: t.Mapping[str, Entry]) -> dict[str, t.Any]:
    """Give the receipt's document for writing."""
    return {
        "version": 1,
        "path": path,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "accounts": {key: dataclasses.asdict(entry) for key, entry in sorted(entries.items())},
    }


def _look(directory: int, path: str) -> tuple[int, int, int, int, str] | None:
    folder, slash, name = path.rpartition("/")
    try:
        if slash:
            with opened_below(directory, folder) as below:
                return _look(below, name)
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        _keyed_digest(directory, name, status),
    )


def _keyed_digest(directory: int, name: str, status: os.stat_result) -> str:
    """Digest a watched file, keyed with its inode so that equal keys of two hosts do not show as equal."""
    if not stat.S_ISREG(status.st_mode) or status.st_size > _WATCHED_AT_MOST:
        return ""
    content = read_file_at(directory, name, at_most=_WATCHED_AT_MOST, called="a watched file") or b""
    return hashlib.blake2b(content, key=str(status.st_ino).encode(), digest_size=16).hexdigest()


def _mark_in(kept: t.Mapping[str, t.Any]) -> Mark:
    files = {
        name: (int(look[0]), int(look[1]), int(look[2]), int(look[3]), str(look[4]))
        for name, look in kept["files"].items()
    }
    return Mark((int(kept["folder"][0]), int(kept["folder"][1])), files)
