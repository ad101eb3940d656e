# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""whatsmeow, the Go library: SQLite stores, each with any number of linked devices. An account is the directory that holds them.

A store is never opened in place: SQLite takes path names, creates files next to a database, and its owner may have crafted the content.
It is copied by descriptor, with its ``-wal``, which may hold all data, into a directory that only root can enter, and the copy is queried
in a jail (see chroot_worker.py). Only states and digests leave the jail.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import stat
import time
import typing as t

from .._core.limits import STORE_BYTES
from .._fs.fdopen import NOT_THERE, READ_FLAGS, DirFd, exists, names_in, status_of
from .._fs.patterns import name_matcher
from .layout import READABLE, WRITABLE, Judgement, Layout, StopSettings, blocking_problems, warning_problems
from .lookalikes import Candidate, copies_among

DATABASES = ("*.db", "*.sqlite", "*.sqlite3")

# Names that programs use for the store; a database with another name is found if the layout is set explicitly.
_KNOWN_NAMES = ("whatsapp.db", "whatsmeow.db", "mautrix-whatsapp.db", "wacli.db", "mdtest.db", "examplestore.db")
# Databases that programs open in place: the first one may have its keys in a second one.
_OPENED = (*_KNOWN_NAMES, "whatsapp-keys.db", "gows.db")
# Other databases of these programs: chats, users, settings. They are copied too, but contain no devices.
_NO_STORES = ("chatstorage.db", "messages.db", "oauth.db", "users.db", "waha.sqlite3")
_SUFFIXES = ("", "-wal", "-journal")
_MAGIC = b"SQLite format 3\0"
_WAL_VERSION = b"\x02\x02"  # at offset 18: the database uses a write-ahead log
_TABLE = b"whatsmeow_device"
_SCHEMA_WITHIN = 4 << 20  # bytes; tables are created at the first start, so their names are at the beginning
_ONE_PAGE = 64 << 10  # bytes: the maximum in SQLite
_OTHER = "store_of_another_program"
_SECOND = "second_database"
_TRIES = 5

# Among several stores, the state with the highest rank decides.
_RANK = {"corrupt": 4, "unknown": 3, "paired": 2, "pending": 1, "fresh": 0}


def is_store(directory: DirFd) -> bool:
    """Return whether an open directory holds a SQLite database."""
    return next(_databases(directory, DATABASES), None) is not None


def judge_stores(directory: DirFd, patterns: tuple[str, ...] = DATABASES) -> Judgement:
    """Judge the stores in an open directory: the worst of those that the program opens decides, and their devices are added up.

    Problems of other databases are reported as problems of a second database.
    """
    names = [name for name in _databases(directory, patterns) if name not in _NO_STORES]
    found = {name: _judged(directory, name) for name in names}
    opened = [found[name] for name in opened_stores(directory, patterns) if name in found]
    if not any(judgement.state in ("paired", "corrupt") for judgement in opened):
        copies = _copies(names)  # a file with a known name may never have been used
        opened += [found[name] for name in names if found[name].state == "paired" and name not in copies]
    opened = [judgement for judgement in opened if _OTHER not in judgement.problems] or opened or [Judgement("fresh")]
    worst = max(opened, key=lambda judgement: _RANK[judgement.state])
    devices = tuple(dict.fromkeys(fingerprint for judgement in opened for fingerprint in judgement.fingerprints))
    problems = [problem for judgement in opened for problem in judgement.problems]
    problems += [
        problem for judgement in found.values() if judgement not in opened for problem in _of_second(judgement)
    ]
    return Judgement(worst.state, tuple(dict.fromkeys(problems)), devices, len(devices))


def opened_stores(directory: DirFd, patterns: tuple[str, ...] = DATABASES) -> tuple[str, ...]:
    """Return the databases in an open directory that its program opens for its devices, judged by names and tables.

    Without a known name, these are all that may have such a table and are not copies of others; if there is none, all except copies.
    """
    names = [name for name in _databases(directory, patterns) if name not in _NO_STORES]
    known = [name for name in names if name in _OPENED]
    if exists(directory, "users.db"):
        known += [name for name in names if name == "main.db"]
    if known:
        return tuple(known)
    copies = _copies(names)
    rest = [name for name in names if name not in copies]
    return tuple(name for name in rest if not _is_of_another_program(directory, name)) or tuple(rest)


def _copies(names: t.Sequence[str]) -> set[str]:
    """Return the names that look like copies of others."""
    stems = {name: name.rpartition(".")[0] for name in names}
    told = copies_among([Candidate(stem, (), 0) for stem in stems.values()])
    return {name for name, stem in stems.items() if stem in told}


def _of_second(judgement: Judgement) -> t.Iterator[str]:
    for problem in judgement.problems:
        if problem in (READABLE, WRITABLE):
            yield problem
        elif problem != _OTHER:
            yield f"{_SECOND}_{problem[len('store_') :] if problem.startswith('store_') else problem}"


def _databases(directory: DirFd, patterns: tuple[str, ...]) -> t.Iterator[str]:
    fits = name_matcher(patterns)
    for name in sorted(name for name in names_in(directory) if fits(name)):
        status = status_of(directory, name)
        if status is not None and not stat.S_ISDIR(status.st_mode) and _is_database(directory, name):
            yield name


def _is_database(directory: DirFd, name: str) -> bool:
    """Return whether a file with such a name is or was a database: other programs use these names for other files."""
    if name in _OPENED or exists(directory, f"{name}-wal"):
        return True
    try:
        header = _read(directory, name, len(_MAGIC))
    except OSError:
        return True  # a symbolic link, or a file without read permission
    return header == _MAGIC or not header.strip(b"\0")


def _judged(directory: DirFd, name: str) -> Judgement:
    status, above = status_of(directory, name), os.fstat(directory)
    if status is None:
        return Judgement("fresh")  # removed since it was listed
    broken = blocking_problems(status, above, "store")
    if broken == ("store_empty",) and not _size(directory, f"{name}-wal"):
        return Judgement("fresh")  # a program creates the file before filling it
    if broken and broken != ("store_empty",):
        return Judgement("corrupt", broken)
    weaknesses = warning_problems(status, above, "store")
    for attempt in range(_TRIES):
        judgement, settled = _asked(directory, name)
        # Files that change while they are copied have no valid state; only a copy of unchanged files can count as damaged.
        if judgement.state != "corrupt" or settled:
            return dataclasses.replace(judgement, problems=(*judgement.problems, *weaknesses))
        time.sleep(0.05 * 2**attempt)  # its program is writing and may pause at any time
    return Judgement("unknown", ("store_in_motion", *weaknesses))


def _asked(directory: DirFd, name: str) -> tuple[Judgement, bool]:
    """Judge a copy of one store; return also whether the store did not change while it was copied."""
    before = _looks(directory, name)
    header = _read(directory, name, 20)
    if _is_of_another_program(directory, name):
        return Judgement("unknown", (_OTHER,)), True
    if sum(size for dummy, size, *times in before.values()) > STORE_BYTES:
        return Judgement("unknown", ("store_too_large",)), True
    try:
        library = importlib.import_module("sqlite3")  # some systems package it separately
        from .sqlite_query import answer_of_copy

        answer = answer_of_copy(directory, name, library)
    except ImportError:
        return Judgement("unknown", ("sqlite_missing",)), True
    except PermissionError:
        raise  # a missing permission is reported to the caller
    except OSError:
        return Judgement("unknown", ("store_not_copied",)), True
    return _understood(answer, header), before == _looks(directory, name)


def _is_of_another_program(directory: DirFd, name: str) -> bool:
    """Return whether a database has other tables. If its log is missing, that is unknown and False."""
    held = _read(directory, name, _SCHEMA_WITHIN)
    if not held.startswith(_MAGIC) or _TABLE in held:
        return False
    if held[18:20] != _WAL_VERSION:
        return True
    log = _read(directory, f"{name}-wal", _SCHEMA_WITHIN)
    return _TABLE not in log if log else len(held) > _ONE_PAGE


def _read(directory: DirFd, name: str, at_most: int) -> bytes:
    try:
        descriptor = os.open(name, READ_FLAGS, dir_fd=directory)
    except OSError as error:
        if error.errno in NOT_THERE:
            return b""
        raise
    with os.fdopen(descriptor, "rb") as file:
        return file.read(at_most) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""


def _looks(directory: DirFd, name: str) -> dict[str, tuple[int, int, int, int]]:
    statuses = {suffix: status_of(directory, name + suffix) for suffix in _SUFFIXES}
    return {
        suffix: (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        for suffix, status in statuses.items()
        if status is not None
    }


def _understood(answer: str | None, header: bytes) -> Judgement:
    word, *devices = (answer or "late").split(" ")
    if word == "store":
        return Judgement("paired", (), tuple(devices), len(devices)) if devices else Judgement("pending")
    if word == "empty" and header[18:20] == _WAL_VERSION:
        return Judgement("corrupt", ("wal_missing",))  # a copy of the database without its log, which held the data
    if word == "damaged":
        return Judgement("corrupt", ("store_damaged",))
    if word == "late":
        return Judgement("unknown", ("store_not_judged",))
    return Judgement("unknown", (_OTHER,)) if word == "other" else Judgement("fresh")


def _size(directory: DirFd, name: str) -> int:
    status = status_of(directory, name)
    return status.st_size if status is not None else 0


def _detect_whatsmeow(directory: DirFd, path: str) -> str:
    found = [name for name in _KNOWN_NAMES if exists(directory, name)]
    if exists(directory, "main.db") and exists(directory, "users.db"):
        found.append("main.db and users.db")
    return f"a directory holds {found[0]}" if found else ""


WHATSMEOW = Layout(
    name="whatsmeow",
    title="whatsmeow (Go programs: go-whatsapp-web-multidevice, wuzapi, mautrix-whatsapp, ...)",
    is_account=is_store,
    judge=judge_stores,
    detect=_detect_whatsmeow,
    states=("paired", "pending", "fresh", "corrupt", "unknown"),
    watched=tuple(f"{name}{suffix}" for name in DATABASES for suffix in ("", "-wal")),
    counted=DATABASES,
    legacy_names=("storages", "store", "dbdata"),
    volatile=("*-shm",),
    caches=("ui", "statics"),
    databases=DATABASES,
    opens=opened_stores,
    ignored=("lost+found", "_orphaned", "media", "statics"),
    # Programs in Go usually close their stores in one handler for both SIGINT and SIGTERM.
    stop=StopSettings(signal="SIGTERM", timeout=45),
)
