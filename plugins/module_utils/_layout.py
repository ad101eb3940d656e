# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What a session layout is: the fields of an entry in the table (see _layouts.py), and the looks into a directory that entries share.

Nothing here returns, raises or logs anything that was read from a file, nor a file name from inside an account.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import os
import re
import stat
import typing as t

from ._errors import SessionsError
from ._limits import NAMES

Item = t.TypeVar("Item")
# What is made of an account's name (``NAME-wal``, ``NAME_creds.json``) may be longer than a name can be.
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# What a lock of the library says; '' where there is none.
LIVE = "live"  # a process of this host uses the account
STALE = "stale"  # its process is gone, or is another program by now
FOREIGN = "foreign"  # another host made it: moved, renamed, or in use over there
DAMAGED = "damaged"  # it is no lock that the library could have made, and the library will not start

# Patterns of names: what belongs to a program and never to its accounts, wherever it lies. It holds secrets, or is installed anew.
OF_A_PROGRAM = (".env", ".env.*", "node_modules", ".git")

# Credentials of a linked device without a key of it.
KEYS_MISSING = "keys_missing"
# Problems of modes, which are none while a directory above is closed.
READABLE = "readable_by_everybody"
WRITABLE = "writable_by_everybody"


@dataclasses.dataclass(frozen=True)
class Judgement:
    """What the structure of an account says.

    ``state``: paired, pending, fresh, corrupt, or unknown where its credentials are not on this disk. ``problems``: fixed words.
    ``fingerprints``: one for each linked device, equal for two copies of it; they never leave the host. ``linked``: how many linked
    devices the account holds, which is one unless its library keeps several in one place.
    """

    state: str
    problems: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    linked: int = 0


class StopSettings(t.NamedTuple):
    """How a backend of this layout wants to be stopped. ``timeout`` in seconds, never lowered where the unit has more."""

    signal: str
    timeout: int
    mode: str | None = None


def no_lock(directory: int) -> str:
    """The library makes no lock: its mutexes live inside one process."""
    return ""


def no_sidecars(account: str) -> tuple[str, ...]:
    """All of an account is in its directory."""
    return ()


# Of the states below, those that a restart brings back without a QR code: the account is linked to a phone.
SOUND = ("paired",)


@dataclasses.dataclass(frozen=True)
class Layout:
    """One library's way to keep accounts. An entry states only what is special about it.

    Looking:
    ``is_account``: does this open directory hold an account? Asked only of directories whose name fits ``names``.
    ``judge``: what is its state, one of ``states``?
    ``lock_of``: what does a lock of the library say about this open account: '', live, stale, foreign or damaged?
    ``claims``: a few words why an open directory shows that this library is at work (markers only, no name of an account), '' when it
    does not. It is asked of the root and of directories below it, with the relative path (``.`` for the root), and opens no file.
    ``refines``: the layouts whose accounts look the same; where both claim a root and this one sees all that the other sees, it is meant.
    ``watched``: the paths in an account (patterns) whose change, with the directory's own times, shows that the account was used.
    ``counted``: the names (patterns) that the plain count looks for, down to ``count_depth`` levels.

    Finding:
    ``legacy_names``: where backends put the root by default, relative to their working directory (patterns).
    ``prefix``: what the library puts before an account's name, so that others call the account without it.
    ``depth``: how many directories below the root (or below a folder of ``folders``) an account may lie.
    ``folders``: where a root holds any of these, accounts are looked for only below them: the root may be an application's directory.
    ``direct``: names (patterns) of accounts that lie in the root itself all the same.
    ``ignored``: entries of the root (path patterns) that do not travel with accounts, and are none unless they hold one themselves.
    ``excluded``: those that are no accounts whatever they hold, because the operator says so.
    ``companions``: the only entries (path patterns) beside accounts that travel with them; None for all but ``ignored``.
    ``sidecars_of``: relative paths of the root that belong to an account beside its directory. They may be missing.

    Copying:
    ``volatile``: names never copied (locks, sockets, half-written files). ``locks``: those of them that may be removed when nothing uses
    the account. ``caches``: paths in an account (patterns) that the library makes anew. ``databases``: names of SQLite files.
    ``opens``: those of an open account that its program cannot do without; all where nothing is said. Others are copied as they are
    where SQLite finds them damaged, or no database at all.

    In patterns ``*`` and ``?`` stand for anything but a slash; ``**/`` at the beginning of a path pattern means at any depth.
    """

    name: str
    title: str
    is_account: t.Callable[[int], bool]
    judge: t.Callable[[int], Judgement]
    claims: t.Callable[[int, str], str]
    watched: tuple[str, ...]
    counted: tuple[str, ...]
    stop: StopSettings
    lock_of: t.Callable[[int], str] = dataclasses.field(default=no_lock)
    sidecars_of: t.Callable[[str], tuple[str, ...]] = dataclasses.field(default=no_sidecars)
    opens: t.Callable[[int], t.Collection[str]] | None = None
    refines: tuple[str, ...] = ()
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

    def judged(self, directory: int) -> Judgement:
        """Judge an open account. One that root cannot read is damaged, which is no reason to say nothing of the others."""
        try:
            return self.judge(directory)
        except (OSError, SessionsError) as error:
            if isinstance(error, PermissionError) and os.geteuid() != 0:
                raise
            return Judgement("corrupt", ("account_unreadable",))

    @property
    def volatile_matcher(self) -> t.Callable[[str], t.Any]:
        """The test whether an entry of some name must never be copied, for loops."""
        return name_matcher(self.volatile)

    def is_volatile(self, name: str) -> bool:
        """Whether an entry called ``name`` must never be copied."""
        return self.volatile_matcher(name) is not None

    @property
    def cache_matcher(self) -> t.Callable[[str], t.Any]:
        """The test whether a relative path in an account is a cache or lies in one, for loops."""
        return path_matcher(self.caches)

    @property
    def database_matcher(self) -> t.Callable[[str], t.Any]:
        """The test whether a file of some name is a SQLite database, for loops."""
        return name_matcher(self.databases)

    def called(self, account: str) -> frozenset[str]:
        """What others, a database say, may call an account: its path, the last part of it, or that without what the library puts before."""
        last = account.rpartition("/")[2]
        return frozenset((account, last, last[len(self.prefix) :] if last.startswith(self.prefix) else last))

    def watched_in(self, directory: int) -> t.Iterator[str]:
        """Yield the relative paths in an open account that match ``watched``."""
        return paths_matching(directory, self.watched)


@functools.cache
def name_matcher(patterns: tuple[str, ...]) -> t.Callable[[str], t.Any]:
    """Compile name patterns into one: asked for every file of an account while its backend is down."""
    return re.compile("|".join(rf"{_part_expression(pattern)}\Z" for pattern in patterns) or r"(?!)", re.DOTALL).match


@functools.cache
def path_matcher(patterns: tuple[str, ...]) -> t.Callable[[str], t.Any]:
    """Compile path patterns into one, which also fits everything below a path that fits."""
    return re.compile("|".join(map(_path_expression, patterns)) or r"(?!)", re.DOTALL).match


def _path_expression(pattern: str) -> str:
    anywhere = pattern.startswith("**/")
    parts = pattern[3:].split("/") if anywhere else pattern.split("/")
    return rf"(?:{'(?:.*/)?' if anywhere else ''}{'/'.join(map(_part_expression, parts))}(?:/.*)?)\Z"


def _part_expression(part: str) -> str:
    wild = {"*": "[^/]*", "?": "[^/]"}
    return "".join(wild.get(character, re.escape(character)) for character in part)


def exists(directory: int, name: str) -> bool:
    """Whether the open directory has an entry ``name``, whatever it is."""
    return status_of(directory, name) is not None


def is_folder(directory: int, name: str) -> bool:
    """Whether the open directory has a directory ``name``, which is no link."""
    status = status_of(directory, name)
    return status is not None and stat.S_ISDIR(status.st_mode)


def status_of(directory: int, name: str) -> os.stat_result | None:
    """Look at the entry ``name`` itself; None when it is not there."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno in NOT_THERE:
            return None
        raise


def status_below(directory: int, path: str) -> os.stat_result | None:
    """Look at the entry at the relative ``path`` itself; None when it is not there, or when a link is on the way."""
    folder, slash, name = path.rpartition("/")
    if not slash:
        return status_of(directory, name)
    try:
        with opened_below(directory, folder) as below:
            return status_of(below, name)
    except OSError as error:
        if error.errno in NOT_THERE:
            return None
        raise


def open_below(directory: int, path: str) -> int:
    """Return a descriptor of the directory at the relative ``path``; no component may be a link. Raises OSError when it is not there."""
    here = os.open(".", OPEN_DIRECTORY, dir_fd=directory)
    for part in path.split("/"):
        try:
            below = os.open(part, OPEN_DIRECTORY, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here


def paths_matching(directory: int, patterns: t.Iterable[str]) -> t.Iterator[str]:
    """Yield the relative paths below an open directory that match a pattern, sorted per pattern; no link is followed."""
    for pattern in patterns:
        yield from _expanded(directory, pattern.split("/"), "")


@contextlib.contextmanager
def opened_below(directory: int, path: str) -> t.Iterator[int]:
    """Open the directory at the relative ``path`` and close it afterwards; see open_below."""
    descriptor = open_below(directory, path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def folders_in(directory: int) -> list[str]:
    """Give the names of the directories in an open directory, sorted; links are none."""
    with os.scandir(directory) as entries:
        return sorted(entry.name for entry in bounded(entries) if entry.is_dir(follow_symlinks=False))


def folders_and_links_in(directory: int) -> list[tuple[str, bool]]:
    """Give the names of the directories and of the links in an open directory, sorted, and whether each is a link."""
    found = []
    with os.scandir(directory) as entries:
        for entry in bounded(entries):
            if entry.is_dir(follow_symlinks=False):
                found.append((entry.name, False))
            elif entry.is_symlink():
                found.append((entry.name, True))
    return sorted(found)


def names_in(directory: int) -> list[str]:
    """Give the names in an open directory, in any order."""
    with os.scandir(directory) as entries:
        return [entry.name for entry in bounded(entries)]


def bounded(entries: t.Iterable[Item], at_most: int = NAMES) -> t.Iterator[Item]:
    """Yield the entries of one directory: names can be made faster than they are read. Raises SessionsError once there are too many."""
    for number, entry in enumerate(entries):
        if number >= at_most:
            raise SessionsError(
                f"a directory of the sessions holds more than {at_most} names, which no library makes; "
                "nothing was changed, see what makes them, remove them and run again"
            )
        yield entry


def unfit(status: os.stat_result, directory: os.stat_result, word: str) -> tuple[str, ...]:
    """Name what makes a file useless before it is opened; ``word`` is what such files are called in problems."""
    if not stat.S_ISREG(status.st_mode):
        return (f"{word}_not_a_file",)
    if status.st_size == 0:
        return (f"{word}_empty",)
    if not _owner_may_read(status, directory):
        return (f"{word}_unreadable_by_owner",)
    return ()


def weak(status: os.stat_result, directory: os.stat_result, word: str) -> tuple[str, ...]:
    """Name what will go wrong later with a file or directory of an account.

    A foreign owner makes each save fail, a wide mode shows the keys to everybody, and a second name is no backup: libraries write in place.
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
    """Whether the owner of the account's directory, who is taken for the backend's user, may read the file."""
    if directory.st_uid == 0:
        return True
    if status.st_uid == directory.st_uid:
        return bool(status.st_mode & stat.S_IRUSR)
    if status.st_gid == directory.st_gid and status.st_mode & stat.S_IRGRP:
        return True
    return bool(status.st_mode & stat.S_IROTH)


def _expanded(directory: int, parts: t.Sequence[str], above: str) -> t.Iterator[str]:
    first, rest = parts[0], parts[1:]
    if not any(character in first for character in "*?"):
        found = [first] if exists(directory, first) else []
    else:
        fits = name_matcher((first,))
        found = sorted(filter(fits, folders_in(directory) if rest else names_in(directory)))
    for name in found:
        if not rest:
            yield above + name
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened_below(directory, name) as below:
            yield from _expanded(below, rest, f"{above}{name}/")
