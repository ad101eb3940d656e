# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Chromium profiles, which an account of a library that drives a browser is: what proves it linked is in IndexedDB and Local Storage.

What the browser does with torn profiles and with locks was measured with Chromium 156: it wipes a LevelDB whose CURRENT or MANIFEST is
empty and says nothing, and it refuses a profile whose lock names another host, or is no link at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import typing as t

from ._bounded_json import parsed_json
from ._errors import SessionsError
from ._layout import (
    DAMAGED,
    FOREIGN,
    LIVE,
    STALE,
    Judgement,
    StopSettings,
    exists,
    is_folder,
    names_in,
    opened_below,
    status_of,
    weak,
)
from ._paths import read_file_at, real_path
from ._proc import process_file

ORIGIN = "https_web.whatsapp.com_0"

LOCKS = ("SingletonLock", "SingletonCookie", "SingletonSocket")
# The browser makes them at each start; `lockfile` is what it has on Windows. LevelDB's own LOCK is empty and harmless, and stays.
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
# What LevelDB appends to and replaces whenever the page writes.
WATCHED = tuple(
    f"{place}/{name}"
    for place in ("Default/IndexedDB/*.indexeddb.leveldb", "Default/Local Storage/leveldb")
    for name in ("CURRENT", "MANIFEST-*", "*.log")
)
# Measured under real units (docs/stopping-browsers.md): a signal to the main process alone lets it close its browsers.
# Where 'mixed' is not in force, SIGTERM ends the process that holds Local Storage before that is written; SIGINT it ignores.
STOP = StopSettings(signal="SIGINT", timeout=45, mode="mixed")

_LOCAL_STORAGE = "Default/Local Storage/leveldb"
_MANIFEST = re.compile(rb"(MANIFEST-\d+)\n?")
_LOCK = re.compile(r"(.+)-(\d{1,40})", re.DOTALL)  # the host may hold dashes itself, so the last one counts
_PREFERENCES_AT_MOST = 16 << 20
_TABLES = (".ldb", ".sst")  # .sst is what LevelDB called them before
_TABLE_EMPTY = "table_empty"


def is_profile(directory: int) -> bool:
    """Whether an open directory is what a browser takes for its user data, new or used."""
    return is_folder(directory, "Default") or exists(directory, "Local State") or exists(directory, "SingletonLock")


def judge_profile(directory: int, origin: str = ORIGIN) -> Judgement:
    """Say whether the page of ``origin`` left what a linked device needs, from names and sizes and the two files CURRENT."""
    default = status_of(directory, "Default")
    if default is None or not stat.S_ISDIR(default.st_mode):
        return Judgement("fresh")
    weaknesses = weak(default, os.fstat(directory), "profile")
    database = f"Default/IndexedDB/{origin}.indexeddb.leveldb"
    if not _has_folder(directory, database):
        return Judgement("pending", weaknesses)
    torn = (*_torn(directory, database, "indexeddb"), *_torn(directory, _LOCAL_STORAGE, "local_storage"))
    if torn:
        return Judgement("corrupt", (*torn, *weaknesses))
    return Judgement("paired", weaknesses, _fingerprints(directory), 1)


def lock_of_profile(directory: int) -> str:
    """Read a browser's lock, a link to ``<host>-<pid>`` that leads nowhere."""
    status = status_of(directory, "SingletonLock")
    if status is None:
        return ""
    if not stat.S_ISLNK(status.st_mode):
        return DAMAGED
    try:
        found = _LOCK.fullmatch(os.readlink("SingletonLock", dir_fd=directory))
    except FileNotFoundError:
        return ""  # the browser ended since
    except OSError:
        return DAMAGED  # something else took its place since
    if found is None:
        return DAMAGED
    if found[1] != os.uname().nodename:
        return FOREIGN
    return LIVE if _uses(int(found[2]), directory) else STALE


def _uses(pid: int, directory: int) -> bool:
    """Whether the process lives and was told to use this directory. Where we may not look, it is taken for one that does."""
    try:
        words = process_file(pid, "cmdline").split(b"\0")
    except FileNotFoundError:
        return lives(pid)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    # A browser that has rewritten its command line has it in one piece.
    told = [word.partition(b"--user-data-dir=")[2] for word in words if b"--user-data-dir=" in word]
    return any(_is_same(pid, os.fsdecode(path), directory) for path in told)


def lives(pid: int) -> bool:
    """Ask where /proc hides the processes of others (hidepid)."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _is_same(pid: int, path: str, directory: int) -> bool:
    """Whether a path means this directory to that process, whatever it sees as its root."""
    own = os.fstat(directory)
    candidates = (f"/proc/{pid}/root{path}", path) if path.startswith("/") else (f"/proc/{pid}/cwd/{path}",)
    for candidate in candidates:
        with contextlib.suppress(OSError, ValueError):
            seen = os.stat(candidate)
            if (seen.st_dev, seen.st_ino) == (own.st_dev, own.st_ino):
                return True
    # Where we may not look, and where more follows in the same piece.
    return path == real_path(directory) or path.startswith(f"{real_path(directory)} ")


def _has_folder(directory: int, path: str) -> bool:
    try:
        with opened_below(directory, path):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False


def _torn(directory: int, path: str, word: str) -> tuple[str, ...]:
    """Name what makes a LevelDB unusable, so that the browser would wipe it."""
    try:
        with opened_below(directory, path) as database:
            found = tuple(_torn_database(database))
    except (FileNotFoundError, NotADirectoryError):
        return (f"{word}_missing",)
    if found == (_TABLE_EMPTY,) and lock_of_profile(directory) == LIVE:
        return ()  # a browser at work makes each table empty and fills it then
    return tuple(f"{word}_{problem}" for problem in found)


def _torn_database(database: int) -> t.Iterator[str]:
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


def _has_content(directory: int, name: str) -> bool:
    status = status_of(directory, name)
    return status is not None and stat.S_ISREG(status.st_mode) and status.st_size > 0


def _fingerprints(directory: int) -> tuple[str, ...]:
    """The moment at which the profile was made, in microseconds: a copy has the same one, and no other profile has."""
    try:
        with opened_below(directory, "Default") as default:
            content = read_file_at(default, "Preferences", at_most=_PREFERENCES_AT_MOST, called="the preferences")
        made = parsed_json(content or b"")["profile"]["creation_time"]
    except (OSError, SessionsError, ValueError, RecursionError, KeyError, TypeError):
        return ()
    return (hashlib.sha256(f"profile {made}".encode("utf-8", "surrogatepass")).hexdigest(),)
