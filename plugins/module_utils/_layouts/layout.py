# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The fields of a session layout, an entry of the table in registry.py, and functions to examine directories that layouts share.

Nothing here returns, raises or logs anything read from a file, nor a file name from inside an account.
"""

from __future__ import annotations

import dataclasses
import os
import stat
import typing as t

from .._core.errors import SessionsError
from .._fs.patterns import name_matcher, path_matcher, paths_matching

if t.TYPE_CHECKING:
    from .._fs.fdopen import DirFd

# The state of a library's lock; '' if there is none.
LIVE = "live"  # a process of this host uses the account
STALE = "stale"  # its process is gone, or its PID belongs to another program
FOREIGN = "foreign"  # created on another host: moved, renamed, or in use on that host
DAMAGED = "damaged"  # not a lock of the library, which keeps the library from starting

# Patterns of names that belong to a program and never to its accounts: they hold secrets or are installed again.
OF_A_PROGRAM = (".env", ".env.*", "node_modules", ".git")

# Credentials of a linked device without any of its keys.
KEYS_MISSING = "keys_missing"
# Problems of modes, which do not count if a directory above is closed.
READABLE = "readable_by_everybody"
WRITABLE = "writable_by_everybody"


@dataclasses.dataclass(frozen=True)
class Judgement:
    """The result of examining the structure of an account.

    ``state``: paired, pending, fresh, corrupt, or unknown if its credentials are not on this disk. ``problems``: from a fixed vocabulary.
    ``fingerprints``: one per linked device, equal for two copies of it; they never leave the host. ``linked``: number of linked devices,
    which is one unless the library keeps several together.
    """

    state: str
    problems: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    linked: int = 0


class StopSettings(t.NamedTuple):
    """How to stop a backend of this layout. ``timeout`` in seconds; a longer timeout of the unit is never lowered."""

    signal: str
    timeout: int
    mode: str | None = None


def no_lock(directory: DirFd) -> str:
    """For a library without locks: its mutexes exist only inside one process."""
    return ""


def no_sidecars(account: str) -> tuple[str, ...]:
    """For a library that keeps an account entirely in its directory."""
    return ()


# The states from which a restart reconnects without a QR code, because the account is linked to a phone.
LINKED = ("paired",)


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one library stores accounts. An entry sets only the fields that differ from the defaults.

    Examining:
    ``is_account``: returns whether an open directory holds an account. Only called for directories that match ``names``.
    ``judge``: returns its state, one of ``states``, and its problems.
    ``lock_of``: returns the state of the library's lock in an open account: '', live, stale, foreign or damaged.
    ``detect``: returns in a few words why an open directory belongs to this library (markers only, no name of an account), or ''. Called
    for the root and the directories below it, with the relative path (``.`` for the root); opens no file.
    ``specialises``: layouts with similar accounts; if both claim a root and this one finds all accounts of the other, this one is chosen.
    ``watched``: paths in an account (patterns) that change when the account is used, in addition to the directory itself.
    ``counted``: names (patterns) that the plain count searches for, down to ``count_depth`` levels.

    Finding:
    ``legacy_names``: default roots of backends, relative to their working directory (patterns).
    ``prefix``: what the library puts before an account's name; applications use the name without it.
    ``depth``: how many directories below the root (or below a folder of ``folders``) an account may be.
    ``folders``: if a root has any of these, accounts are searched only below them: the root may be the directory of an application.
    ``direct``: names (patterns) of accounts that are in the root nevertheless.
    ``ignored``: entries of the root (path patterns) that are not migrated; one may be an account itself, but nothing below it is.
    ``excluded``: entries that are never accounts, by a decision of the operator.
    ``companions``: the only other entries (path patterns) that are migrated with accounts; None for all except ``ignored``.
    ``sidecars_of``: relative paths in the root that belong to an account outside its directory. They may be missing.

    Copying:
    ``volatile``: names that are never copied (locks, sockets, half-written files). ``locks``: those of them that may be removed if the
    account is not in use. ``caches``: paths in an account (patterns) that the library recreates. ``databases``: names of SQLite files.
    ``opens``: the databases of an open account that its program needs; None for all. Others are copied unchanged if SQLite finds them
    damaged or not to be databases.

    In patterns ``*`` and ``?`` match anything but a slash; ``**/`` at the beginning of a path pattern matches any depth.
    """

    name: str
    title: str
    is_account: t.Callable[[DirFd], bool]
    judge: t.Callable[[DirFd], Judgement]
    detect: t.Callable[[DirFd, str], str]
    watched: tuple[str, ...]
    counted: tuple[str, ...]
    stop: StopSettings
    lock_of: t.Callable[[DirFd], str] = dataclasses.field(default=no_lock)
    sidecars_of: t.Callable[[str], tuple[str, ...]] = dataclasses.field(default=no_sidecars)
    opens: t.Callable[[DirFd], t.Collection[str]] | None = None
    specialises: tuple[str, ...] = ()
    states: tuple[str, ...] = ("paired", "pending", "fresh", "corrupt")
    names: tuple[str, ...] = ("*",)
    prefix: str = ""
    count_depth: int = 3
    legacy_names: tuple[str, ...] = ()
    depth: int = 1
    folders: tuple[str, ...] = ()
    direct: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    companions: tuple[str, ...] | None = None
    volatile: tuple[str, ...] = ()
    locks: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()

    def judged(self, directory: DirFd) -> Judgement:
        """Judge an open account. An account that root cannot read counts as damaged, so that the others are still reported."""
        try:
            return self.judge(directory)
        except (OSError, SessionsError) as error:
            if isinstance(error, PermissionError) and os.geteuid() != 0:
                raise
            return Judgement("corrupt", ("account_unreadable",))

    @property
    def volatile_matcher(self) -> t.Callable[[str], t.Any]:
        """A function that tests whether a name must never be copied, for use in loops."""
        return name_matcher(self.volatile)

    def is_volatile(self, name: str) -> bool:
        """Return whether an entry named ``name`` must never be copied."""
        return self.volatile_matcher(name) is not None

    @property
    def cache_matcher(self) -> t.Callable[[str], t.Any]:
        """A function that tests whether a relative path in an account is, or is in, a cache, for use in loops."""
        return path_matcher(self.caches)

    @property
    def database_matcher(self) -> t.Callable[[str], t.Any]:
        """A function that tests whether a file name is that of a SQLite database, for use in loops."""
        return name_matcher(self.databases)

    def called(self, account: str) -> frozenset[str]:
        """Return the names that others, for example a database, may use for an account: its path, its last part, or that without prefix."""
        last = account.rpartition("/")[2]
        return frozenset((account, last, last[len(self.prefix) :] if last.startswith(self.prefix) else last))

    def watched_in(self, directory: DirFd) -> t.Iterator[str]:
        """Yield the relative paths in an open account that match ``watched``."""
        return paths_matching(directory, self.watched)


def blocking_problems(status: os.stat_result, directory: os.stat_result, word: str) -> tuple[str, ...]:
    """Return the problems that make a file useless, without opening it; ``word``: the name of such files in problems."""
    if not stat.S_ISREG(status.st_mode):
        return (f"{word}_not_a_file",)
    if status.st_size == 0:
        return (f"{word}_empty",)
    if not _owner_may_read(status, directory):
        return (f"{word}_unreadable_by_owner",)
    return ()


def warning_problems(status: os.stat_result, directory: os.stat_result, word: str) -> tuple[str, ...]:
    """Return the problems that a file or directory of an account will cause later.

    A foreign owner makes each save fail, a wide mode exposes the keys, and a hard link is not a backup: libraries write in place.
    """
    found = []
    if status.st_nlink > 1 and stat.S_ISREG(status.st_mode):
        found.append(f"{word}_hard_linked")
    if status.st_uid != directory.st_uid:
        found.append(f"{word}_foreign_owner")
    entered = stat.S_IXOTH if stat.S_ISDIR(status.st_mode) else stat.S_IROTH
    if status.st_mode & entered and directory.st_mode & stat.S_IXOTH:
        found.append(READABLE)
    if directory.st_mode & stat.S_IWOTH:
        found.append(WRITABLE)
    return tuple(found)


def _owner_may_read(status: os.stat_result, directory: os.stat_result) -> bool:
    """Return whether the owner of the account's directory, presumably the backend's user, may read the file."""
    if directory.st_uid == 0:
        return True
    if status.st_uid == directory.st_uid:
        return bool(status.st_mode & stat.S_IRUSR)
    if status.st_gid == directory.st_gid and status.st_mode & stat.S_IRGRP:
        return True
    return bool(status.st_mode & stat.S_IROTH)
