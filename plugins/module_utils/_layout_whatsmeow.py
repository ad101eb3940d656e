# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""whatsmeow, the Go library: SQLite stores, each with any number of linked devices. An account is the directory that holds them.

A store is never opened where it lies: SQLite takes path names, makes files beside a database, and reads what its owner may have crafted.
It is copied by descriptor into a directory that only root can enter, with its ``-wal``, which may hold all there is, and the copy is
asked in a jail (see _jail.py). What leaves the jail are states and digests.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import shutil
import stat
import tempfile
import time
import types
import typing as t

from ._layout import Judgement, Layout, StopSettings, exists, name_matcher, status_of, unfit, weak
from ._layout_baileys import device_fingerprint

DATABASES = ("*.db", "*.sqlite", "*.sqlite3")

# What programs call the store; a database of another name is found where the layout is named.
_KNOWN_NAMES = ("whatsapp.db", "whatsmeow.db", "mautrix-whatsapp.db", "wacli.db", "mdtest.db", "examplestore.db")
# What they keep beside it: chats, users, settings. They are copied with it and say nothing of devices.
_NO_STORES = ("chatstorage.db", "messages.db", "oauth.db", "users.db", "waha.sqlite3")
_SUFFIXES = ("", "-wal", "-journal")
_MAGIC = b"SQLite format 3\0"
_WAL_VERSION = b"\x02\x02"  # at offset 18: the database is read and written through a write-ahead log
_TABLE = b"whatsmeow_device"
_SCHEMA_WITHIN = 4 << 20  # bytes; tables are made at the first start, so what names them is at the beginning
_AT_MOST = 1 << 30  # bytes of one store
_SECONDS = 30.0  # for the questions about one store, whatever was crafted
_TRIES = 5
_NOBODY = 65534
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

# What SQLite says when the copy could not be asked, which says nothing of the store.
_PASSING = ("interrupted", "full", "I/O", "unable to open", "locked")

# What a store turned out to be: an empty one, one whose log is missing, one without devices, ...
_RANK = {"corrupt": 4, "unknown": 3, "paired": 2, "pending": 1, "fresh": 0}


def is_store(directory: int) -> bool:
    """Whether an open directory holds a SQLite database, by name."""
    return next(_databases(directory, DATABASES), None) is not None


def judge_stores(directory: int, patterns: tuple[str, ...] = DATABASES) -> Judgement:
    """Say what the stores in an open directory amount to: the worst of them decides, their devices are added up."""
    found = [_judged(directory, name) for name in _databases(directory, patterns) if name not in _NO_STORES]
    found = found or [Judgement("fresh")]
    worst = max(found, key=lambda judgement: _RANK[judgement.state])
    devices = tuple(dict.fromkeys(fingerprint for judgement in found for fingerprint in judgement.fingerprints))
    problems = tuple(dict.fromkeys(problem for judgement in found for problem in judgement.problems))
    return Judgement(worst.state, problems, devices, len(devices))


def _databases(directory: int, patterns: tuple[str, ...]) -> t.Iterator[str]:
    fits = name_matcher(patterns)
    for name in sorted(name for name in os.listdir(directory) if fits(name)):
        status = status_of(directory, name)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            yield name


def _judged(directory: int, name: str) -> Judgement:
    status, above = status_of(directory, name), os.fstat(directory)
    if status is None:
        return Judgement("fresh")  # it was removed since it was listed
    broken = unfit(status, above, "store")
    if broken == ("store_empty",) and not _size(directory, f"{name}-wal"):
        return Judgement("fresh")  # a program makes it before it fills it
    if broken and broken != ("store_empty",):
        return Judgement("corrupt", broken)
    weaknesses = weak(status, above, "store")
    for attempt in range(_TRIES):
        judgement, settled = _asked(directory, name)
        # Files that change while they are copied are no state at all; only what is seen in a settled copy counts as broken.
        if judgement.state != "corrupt" or settled:
            return dataclasses.replace(judgement, problems=(*judgement.problems, *weaknesses))
        time.sleep(0.05 * 2**attempt)  # its program is writing; nothing says when it pauses
    return Judgement("unknown", ("store_in_motion", *weaknesses))


def _asked(directory: int, name: str) -> tuple[Judgement, bool]:
    """Judge a copy of one store, and say whether the store stayed as it was while it was copied."""
    before = _looks(directory, name)
    header = _read(directory, name, 20)
    if _is_of_another_program(directory, name, header):
        return Judgement("fresh"), True
    if sum(size for dummy, size, *times in before.values()) > _AT_MOST:
        return Judgement("unknown", ("store_too_large",)), True
    try:
        library = importlib.import_module("sqlite3")  # some systems package it apart
        answer = _answer_of_copy(directory, name, library)
    except ImportError:
        return Judgement("unknown", ("sqlite_missing",)), True
    except PermissionError:
        raise  # whoever may not look has to be told so
    except OSError:
        return Judgement("unknown", ("store_not_copied",)), True
    return _understood(answer, header), before == _looks(directory, name)


def _is_of_another_program(directory: int, name: str, header: bytes) -> bool:
    """Whether a database has other tables. One whose log is missing may have had any."""
    if not header.startswith(_MAGIC) or header[18:20] == _WAL_VERSION:
        return False
    return _TABLE not in _read(directory, name, _SCHEMA_WITHIN)


def _read(directory: int, name: str, at_most: int) -> bytes:
    try:
        descriptor = os.open(name, _OPEN_FILE, dir_fd=directory)
    except FileNotFoundError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(at_most)


def _answer_of_copy(directory: int, name: str, library: types.ModuleType) -> str | None:
    with tempfile.TemporaryDirectory(prefix="whatsapp-ops-") as private:
        inside = os.path.join(private, "jail")
        os.mkdir(inside, 0o700)
        for suffix in _SUFFIXES:
            _copy(directory, name + suffix, os.path.join(inside, f"store{suffix}"))
        return _ask_jailed(inside, os.fstat(directory), library)


def _copy(directory: int, name: str, target: str) -> None:
    try:
        source = os.open(name, _OPEN_FILE, dir_fd=directory)
    except FileNotFoundError:
        return
    with os.fdopen(source, "rb") as file, open(target, "xb") as copy:
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise OSError("it is no regular file")
        shutil.copyfileobj(file, copy, 1 << 20)


def _looks(directory: int, name: str) -> dict[str, tuple[int, int, int, int]]:
    statuses = {suffix: status_of(directory, name + suffix) for suffix in _SUFFIXES}
    return {
        suffix: (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        for suffix, status in statuses.items()
        if status is not None
    }


def _ask_jailed(inside: str, owner: os.stat_result, library: types.ModuleType) -> str | None:
    """Ask as the owner of the store, in a directory that holds nothing else."""
    from ._jail import in_jail

    uid, gid = (owner.st_uid, owner.st_gid) if owner.st_uid else (_NOBODY, _NOBODY)
    if os.geteuid() == 0:
        for entry in (*os.scandir(inside), inside):
            os.chown(entry, uid, gid)
    jail = os.open(inside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return in_jail(jail, uid, gid, lambda: _answer(library))
    finally:
        os.close(jail)


def _answer(library: types.ModuleType) -> str:
    """Runs in the jail: the number of tables, whether the store is sound, and the devices as digests, in words."""
    try:
        with contextlib.closing(library.connect("store", isolation_level=None)) as store:
            return _answer_of(store)
    except library.OperationalError as error:
        return "late" if any(word in str(error) for word in _PASSING) else "damaged"
    except library.DatabaseError:
        return "damaged"


def _answer_of(store: t.Any) -> str:
    deadline = time.monotonic() + _SECONDS
    store.set_progress_handler(lambda: time.monotonic() > deadline, 100_000)
    for pragma in ("trusted_schema=OFF", "temp_store=MEMORY", "locking_mode=EXCLUSIVE"):
        store.execute(f"PRAGMA {pragma}")
    tables = [name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    if store.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        return "damaged"
    if _TABLE.decode() not in tables:
        return "other" if tables else "empty"
    devices = store.execute(f"SELECT jid FROM {_TABLE.decode()} LIMIT 100000")
    return " ".join(["store", *(device_fingerprint(str(jid)) for (jid,) in devices)])


def _understood(answer: str | None, header: bytes) -> Judgement:
    word, *devices = (answer or "late").split(" ")
    if word == "store":
        return Judgement("paired", (), tuple(devices), len(devices)) if devices else Judgement("pending")
    if word == "empty" and header[18:20] == _WAL_VERSION:
        return Judgement("corrupt", ("wal_missing",))  # a copy of the database alone: what it held was in its log
    if word == "damaged":
        return Judgement("corrupt", ("store_damaged",))
    return Judgement("unknown", ("store_not_judged",)) if word == "late" else Judgement("fresh")


def _size(directory: int, name: str) -> int:
    status = status_of(directory, name)
    return status.st_size if status is not None else 0


def _claims_whatsmeow(directory: int, path: str) -> str:
    found = [name for name in _KNOWN_NAMES if exists(directory, name)]
    if exists(directory, "main.db") and exists(directory, "users.db"):
        found.append("main.db and users.db")
    return f"a directory holds {found[0]}" if found else ""


WHATSMEOW = Layout(
    name="whatsmeow",
    title="whatsmeow (Go programs: go-whatsapp-web-multidevice, wuzapi, mautrix-whatsapp, ...)",
    is_account=is_store,
    judge=judge_stores,
    claims=_claims_whatsmeow,
    states=("paired", "pending", "fresh", "corrupt", "unknown"),
    watched=tuple(f"{name}{suffix}" for name in DATABASES for suffix in ("", "-wal")),
    counted=DATABASES,
    legacy_names=("storages", "store", "dbdata"),
    volatile=("*-shm",),
    caches=("ui", "statics"),
    databases=DATABASES,
    beside=("lost+found", "_orphaned", "media", "statics"),
    # Programs in Go close their stores in handlers of both SIGINT and SIGTERM, which they mostly share.
    stop=StopSettings(signal="SIGTERM", timeout=45),
)
