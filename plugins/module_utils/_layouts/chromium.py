# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Chromium profiles, the accounts of libraries that control a browser: IndexedDB and Local Storage show whether one is linked.

How the browser treats damaged profiles and locks was measured with Chromium 156: it silently wipes a LevelDB with an empty CURRENT or
MANIFEST, and it refuses a profile with a lock that names another host or is not a symbolic link.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import typing as t

from .._core.bounded_json import parsed_json
from .._core.errors import SessionsError
from .._fs.fdopen import DirFd, exists, is_folder, names_in, opened_below, real_path, status_of
from .._fs.files import read_file_at
from .._proc.procfs import process_file
from .layout import DAMAGED, FOREIGN, LIVE, STALE, Judgement, StopSettings, warning_problems

ORIGIN = "https_web.whatsapp.com_0"

LOCKS = ("SingletonLock", "SingletonCookie", "SingletonSocket")
# The browser recreates them at each start; `lockfile` is used on Windows. LevelDB's own LOCK is empty and harmless, so it is copied.
VOLATILE = (*LOCKS, "DevToolsActivePort", "RunningChromeVersion", "lockfile", "*-shm")
CACHES = (
    "**/Cache",
    "**/Code Cache",
    "**/GPUCache",
    "**/DawnGraphiteCache",
    "**/DawnWebGPUCache",
    "**/DawnCache",
    "**/GPUPersistentCache",
    "**/ShaderCache",
    "**/GrShaderCache",
    "**/GraphiteDawnCache",
    "**/component_crx_cache",
    "**/Crashpad",
    "**/BrowserMetrics*",
    "**/Safe Browsing",
    "**/Service Worker/CacheStorage",
    "**/Service Worker/ScriptCache",
    "**/optimization_guide*",
    "**/blob_storage",
)
# Files that LevelDB appends to or replaces when the page writes.
WATCHED = tuple(
    f"{place}/{name}"
    for place in ("Default/IndexedDB/*.indexeddb.leveldb", "Default/Local Storage/leveldb")
    for name in ("CURRENT", "MANIFEST-*", "*.log")
)
# Measured under real units (docs/stopping-browsers.md): a signal only to the main process lets it close its browsers. Without
# KillMode=mixed, SIGTERM ends the process that holds Local Storage before that is written; it ignores SIGINT.
STOP = StopSettings(signal="SIGINT", timeout=45, mode="mixed")

_LOCAL_STORAGE = "Default/Local Storage/leveldb"
_MANIFEST = re.compile(rb"(MANIFEST-\d+)\n?")
_LOCK = re.compile(r"(.+)-(\d{1,40})", re.DOTALL)  # the host name may contain dashes, so the last one counts
_PREFERENCES_AT_MOST = 16 << 20
_TABLES = (".ldb", ".sst")  # .sst is the former suffix in LevelDB
_TABLE_EMPTY = "table_empty"


def is_profile(directory: DirFd) -> bool:
    """Return whether an open directory is a browser's user data directory, new or used."""
    return is_folder(directory, "Default") or exists(directory, "Local State") or exists(directory, "SingletonLock")


def judge_profile(directory: DirFd, origin: str = ORIGIN) -> Judgement:
    """Judge whether the page of ``origin`` has stored what a linked device needs, from names, sizes and the two files CURRENT."""
    default = status_of(directory, "Default")
    if default is None or not stat.S_ISDIR(default.st_mode):
        return Judgement("fresh")
    weaknesses = warning_problems(default, os.fstat(directory), "profile")
    database = f"Default/IndexedDB/{origin}.indexeddb.leveldb"
    if not _has_folder(directory, database):
        return Judgement("pending", weaknesses)
    torn = (*_torn(directory, database, "indexeddb"), *_torn(directory, _LOCAL_STORAGE, "local_storage"))
    if torn:
        return Judgement("corrupt", (*torn, *weaknesses))
    return Judgement("paired", weaknesses, _fingerprints(directory), 1)


def lock_of_profile(directory: DirFd) -> str:
    """Return the state of a browser's lock, a symbolic link to the nonexistent ``<host>-<pid>``."""
    status = status_of(directory, "SingletonLock")
    if status is None:
        return ""
    if not stat.S_ISLNK(status.st_mode):
        return DAMAGED
    try:
        found = _LOCK.fullmatch(os.readlink("SingletonLock", dir_fd=directory))
    except FileNotFoundError:
        return ""  # the browser has ended
    except OSError:
        return DAMAGED  # it was replaced by something else
    if found is None:
        return DAMAGED
    if found[1] != os.uname().nodename:
        return FOREIGN
    return LIVE if _uses(int(found[2]), directory) else STALE


def _uses(pid: int, directory: DirFd) -> bool:
    """Return whether the process is running with this user data directory; True if that cannot be examined."""
    try:
        words = process_file(pid, "cmdline").split(b"\0")
    except FileNotFoundError:
        return lives(pid)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    # A browser that rewrites its command line stores it as one string.
    told = [word.partition(b"--user-data-dir=")[2] for word in words if b"--user-data-dir=" in word]
    return any(_is_same(pid, os.fsdecode(path), directory) for path in told)


def lives(pid: int) -> bool:
    """Return whether a process exists, for hosts where /proc hides processes of other users (hidepid)."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _is_same(pid: int, path: str, directory: DirFd) -> bool:
    """Return whether a path means this directory to that process, whatever its root is."""
    own = os.fstat(directory)
    candidates = (f"/proc/{pid}/root{path}", path) if path.startswith("/") else (f"/proc/{pid}/cwd/{path}",)
    for candidate in candidates:
        with contextlib.suppress(OSError, ValueError):
            seen = os.stat(candidate)
            if (seen.st_dev, seen.st_ino) == (own.st_dev, own.st_ino):
                return True
    # If the process cannot be examined, or if more arguments follow in the same string.
    return path == real_path(directory) or path.startswith(f"{real_path(directory)} ")


def _has_folder(directory: DirFd, path: str) -> bool:
    try:
        with opened_below(directory, path):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False


def _torn(directory: DirFd, path: str, word: str) -> tuple[str, ...]:
    """Return the problems that make a LevelDB unusable, so that the browser would wipe it."""
    try:
        with opened_below(directory, path) as database:
            found = tuple(_torn_database(database))
    except (FileNotFoundError, NotADirectoryError):
        return (f"{word}_missing",)
    if found == (_TABLE_EMPTY,) and lock_of_profile(directory) == LIVE:
        return ()  # a running browser creates each table empty before filling it
    return tuple(f"{word}_{problem}" for problem in found)


def _torn_database(database: DirFd) -> t.Iterator[str]:
    try:
        current = read_file_at(database, "CURRENT", at_most=1024, called="the database's CURRENT") or b""
    except SessionsError:
        current = b""
    named = _MANIFEST.fullmatch(current)
    if named is None:
        yield "current_invalid"
    elif not _has_content(database, os.fsdecode(named[1])):
        yield "manifest_missing"
    names = names_in(database)
    if not any(name.endswith((".log", *_TABLES)) for name in names):
        yield "data_missing"
    tables = (status_of(database, name) for name in names if name.endswith(_TABLES))
    if any(status is not None and status.st_size == 0 for status in tables):
        yield _TABLE_EMPTY


def _has_content(directory: DirFd, name: str) -> bool:
    status = status_of(directory, name)
    return status is not None and stat.S_ISREG(status.st_mode) and status.st_size > 0


def _fingerprints(directory: DirFd) -> tuple[str, ...]:
    """Return a digest of the profile's creation time in microseconds, which only copies of the profile share."""
    try:
        with opened_below(directory, "Default") as default:
            content = read_file_at(default, "Preferences", at_most=_PREFERENCES_AT_MOST, called="the preferences")
        made = parsed_json(content or b"")["profile"]["creation_time"]
    except (OSError, SessionsError, ValueError, RecursionError, KeyError, TypeError):
        return ()
    return (hashlib.sha256(f"profile {made}".encode("utf-8", "surrogatepass")).hexdigest(),)
