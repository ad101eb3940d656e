# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates trees of each library, for tests: accounts of every layout in every state, with canaries in contents and names.

put_account_of("wwebjs", root, "session-one", "paired")    creates an account
put_root_of("wwebjs", root)                                creates a root with a paired, a pending, a corrupt and a locked account

layouts.py LAYOUT DIRECTORY      creates such a root from a shell, and prints its accounts as JSON
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sqlite3
import sys
import typing as t

from accounts import CANARY, KEY_FILES, OLD, credentials, put_account, put_file

ORIGIN = "https_web.whatsapp.com_0"
STATES = ("paired", "pending", "corrupt")
# A lock of another host, and one of this host without a process: PIDs end at 2^22.
FOREIGN_LOCK = "another-host-with-dashes-4711"
GONE = 1 << 22

Put = t.Callable[[pathlib.Path, str, int], None]


@dataclasses.dataclass(frozen=True)
class Made:
    """An account of a root: its name, and the state and lock with which it was created (empty for none)."""

    name: str
    state: str
    lock: str = ""


@dataclasses.dataclass(frozen=True)
class Kind:
    """How trees of a layout are created: ``put`` fills the directory of an account, ``names`` has the names of ``one``, ``two``, ...

    ``around`` creates other files next to the accounts of a root; ``browser``: the account is a profile and can be locked. ``also``: an
    account of another kind that identifies the library.
    """

    put: Put
    name: t.Callable[[str], str]
    around: t.Callable[[pathlib.Path], None] = lambda root: None
    browser: bool = False
    also: tuple[Made, ...] = ()


def put_account_of(
    layout: str, root: pathlib.Path, name: str, state: str = "paired", *, number: int = 1, at: float = OLD
) -> pathlib.Path:
    """Create the account ``name`` below ``root``; ``number`` identifies the linked device. Files are 0600, last written ``at``."""
    account = root / name
    account.mkdir(parents=True, exist_ok=True)
    account.chmod(0o700)
    KINDS[layout].put(account, state, number)
    age(account, at)
    return account


def put_root_of(layout: str, root: pathlib.Path) -> tuple[Made, ...]:
    """Create a root with an account in each state, a locked one if the library uses locks, and other files next to them."""
    kind = KINDS[layout]
    root.mkdir(parents=True, exist_ok=True)
    made = [Made(kind.name(f"{state}{CANARY}"), state) for state in STATES]
    if kind.browser:
        made += [Made(kind.name(f"{lock}{CANARY}"), "paired", lock) for lock in ("stale", "foreign", "damaged")]
    made += kind.also
    for number, account in enumerate(made, 1):
        put_account_of(layout, root, account.name, account.state, number=number)
        if account.lock:
            put_lock(root / account.name, account.lock)
    kind.around(root)
    return tuple(made)


def age(path: pathlib.Path, at: float) -> None:
    """Set all times below a directory, and its own."""
    for directory, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.utime(os.path.join(directory, name), (at, at), follow_symlinks=False)
    os.utime(path, (at, at))


# --- browsers ---------------------------------------------------------------------------------------------


def put_profile(account: pathlib.Path, state: str, number: int = 1, *, origin: str = ORIGIN) -> None:
    """A Chromium profile with caches. ``pending``: the page was never opened; ``fresh``: the browser was never started in it."""
    account.mkdir(parents=True, exist_ok=True)
    put_file(account / "Local State", json.dumps({"secret": CANARY}))
    if state == "fresh":
        return
    default = account / "Default"
    default.mkdir(mode=0o700, exist_ok=True)
    made = str(13_350_000_000_000_000 + number)
    put_file(default / "Preferences", json.dumps({"profile": {"creation_time": made, "name": CANARY}}))
    put_file(default / "Cookies", f"SQLite format 3\0{CANARY}")
    put_leveldb(default / "Local Storage/leveldb", number)
    if state != "pending":
        put_leveldb(default / f"IndexedDB/{origin}.indexeddb.leveldb", number)
    if state == "corrupt":
        put_file(default / f"IndexedDB/{origin}.indexeddb.leveldb/CURRENT", b"")
    for cache in (
        "Default/Cache/Cache_Data",
        "Default/Code Cache/js",
        "Default/Service Worker/CacheStorage",
        "ShaderCache",
    ):
        (account / cache).mkdir(parents=True)
        put_file(account / cache / f"f_{CANARY}", CANARY * 100)


def put_leveldb(database: pathlib.Path, number: int = 1) -> None:
    """Create the names, sizes and CURRENT of a LevelDB."""
    database.mkdir(parents=True)
    put_file(database / "CURRENT", b"MANIFEST-000001\n")
    put_file(database / "MANIFEST-000001", f"manifest {CANARY} {number}")
    put_file(database / "000003.log", f"log {CANARY} {number}")
    put_file(database / "000005.ldb", f"table {CANARY} {number}")
    put_file(database / "LOCK", b"")


def put_lock(account: pathlib.Path, kind: str) -> None:
    """Create the locks of a browser that was killed (``stale``) or ran elsewhere (``foreign``), or an empty file (``damaged``)."""
    lock = account / "SingletonLock"
    if kind == "damaged":
        put_file(lock, b"")
        return
    lock.symlink_to(f"{os.uname().nodename}-{GONE}" if kind == "stale" else FOREIGN_LOCK)
    (account / "SingletonCookie").symlink_to("1234567890")
    (account / "SingletonSocket").symlink_to("/nowhere/org.chromium.Chromium/SingletonSocket")
    os.utime(account, (OLD, OLD))


# --- libraries that store keys in files ---------------------------------------------------------------------


def put_baileys(account: pathlib.Path, state: str, number: int) -> None:
    put_account(account, "paired" if state == "corrupt" else state, number=number)
    if state == "corrupt":
        put_file(account / "creds.json", b"")


def put_csharp(
    account: pathlib.Path, state: str, number: int, *, plural: bool = False, backslash: bool = False
) -> None:
    """``plural``: plural directory names. ``backslash``: names that a path joined with a backslash produces on Linux."""
    held = json.dumps(credentials("paired" if state == "corrupt" else state, number)).encode()
    put_file(account / f"{account.name}_creds.json", b"" if state == "corrupt" else held)
    for folder in ("pre-key", "session", "sender-key", "app-state-sync-version"):
        folder = f"{folder}s" if plural and folder != "app-state-sync-version" else folder
        (account / folder).mkdir()
        key = account / f"{folder}\\{CANARY}.json" if backslash else account / folder / f"{CANARY}.json"
        put_file(key, f"{folder} {CANARY} {number}")
    put_file(account / "store.db", f"chats {CANARY}")


def put_evolution_2(account: pathlib.Path, state: str = "unknown", number: int = 1) -> None:
    """Create an instance with credentials in SQL: only keys, below a UUID."""
    account.mkdir(parents=True, exist_ok=True)
    for name in KEY_FILES:
        put_file(account / f"{name}.json", b"" if state == "corrupt" else json.dumps(f"{CANARY} {number}"))


def put_evolution(account: pathlib.Path, state: str, number: int) -> None:
    """``unknown``: an instance of version 2; the other states are those of an instance of version 1."""
    if state == "unknown":
        put_evolution_2(account, state, number)
    else:
        put_baileys(account, state, number)


# --- SQLite ----------------------------------------------------------------------------------------------


def put_whatsmeow(account: pathlib.Path, state: str, number: int = 1) -> None:
    put_store(account / "whatsapp.db", {"paired": (number,), "corrupt": (number,)}.get(state, ()))
    if state == "corrupt":
        damage_store(account / "whatsapp.db")


def put_store(path: pathlib.Path, numbers: t.Iterable[int] = (1,), *, wal: bool = False) -> None:
    """Create a store of the Go library with a device for each number; ``wal``: all data is still in the write-ahead log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f"building-{path.name}")
    with sqlite3.connect(building, isolation_level=None) as database:
        database.execute("PRAGMA synchronous=OFF")
        if wal:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("PRAGMA wal_autocheckpoint=0")
        database.execute("BEGIN")
        for table in ("version", "identity_keys", "pre_keys", "sessions", "sender_keys", "contacts"):
            database.execute(f"CREATE TABLE whatsmeow_{table} (our_jid TEXT, held TEXT)")
        database.execute(
            "CREATE TABLE whatsmeow_device (jid TEXT PRIMARY KEY, registration_id BIGINT, noise_key bytea)"
        )
        for number in numbers:
            jid = f"{CANARY}{number}:7@s.whatsapp.net"
            database.execute("INSERT INTO whatsmeow_device VALUES (?, ?, ?)", (jid, number, CANARY))
            database.executemany(
                "INSERT INTO whatsmeow_sessions VALUES (?, ?)", [(jid, f"{CANARY} {row}") for row in range(200)]
            )
        database.execute("COMMIT")
        for ending in ("", "-wal"):  # copied while it is open, because a closing connection would clean up
            if building.with_name(building.name + ending).exists():
                put_file(path.with_name(path.name + ending), building.with_name(building.name + ending).read_bytes())
    database.close()
    for left in path.parent.glob(f"{building.name}*"):
        left.unlink()


def put_endless_store(path: pathlib.Path, numbers: t.Iterable[int] = (1,)) -> None:
    """Create a store that SQLite reads and copies, but checks for days, because computing one column takes that long."""
    put_store(path, numbers)
    with sqlite3.connect(path, isolation_level=None) as database:
        database.execute("CREATE TABLE crafted (a TEXT)")
        database.execute("INSERT INTO crafted VALUES ('x')")
        database.execute("PRAGMA writable_schema=1")
        text, searched = "zeroblob(100000000)", "zeroblob(50000000) || x'01'"
        crafted = f"CREATE TABLE crafted (a TEXT, b INTEGER NOT NULL AS (instr({text}, {searched})))"
        database.execute("UPDATE sqlite_master SET sql = ? WHERE name = 'crafted'", (crafted,))
    database.close()


def damage_store(path: pathlib.Path) -> None:
    """Overwrite all pages but the first two, like an incomplete copy."""
    held = bytearray(path.read_bytes())
    size = int.from_bytes(held[16:18], "big")
    held[2 * size :] = b"\xa5" * (len(held) - 2 * size)
    put_file(path, bytes(held))


# --- kinds by layout ----------------------------------------------------------------------------------------


def put_waha(account: pathlib.Path, state: str, number: int) -> None:
    """The parent directory of a session is its engine."""
    put_file(account / ".waha.session.config.json", json.dumps({"secret": CANARY}))
    engine = account.parent.name
    if engine == "gows":
        put_store(account / "gows.db", {"paired": (number,), "corrupt": (number,)}.get(state, ()))
        if state == "corrupt":
            damage_store(account / "gows.db")
    elif engine == "noweb":
        put_baileys(account, state, number)
    else:
        put_profile(account, state, number)


def around_wwebjs(root: pathlib.Path) -> None:
    (root / ".wwebjs_cache").mkdir()
    put_file(root / f".wwebjs_cache/{CANARY}.html", CANARY)
    put_file(root / "message_log.txt", CANARY)
    (root / f"RemoteAuth-{CANARY}").mkdir()


def around_session_manager(root: pathlib.Path) -> None:
    put_file(root / "session-state.json", json.dumps({CANARY: {"isLinked": True}}))
    put_file(root / "session-index.json", json.dumps([CANARY]))
    put_profile(root / f".session-cache/backup-{CANARY}-1707340001234", "paired")
    put_file(root / "package.json", CANARY)
    (root / "code").mkdir()


def around_waha(root: pathlib.Path) -> None:
    put_store(root / "noweb/waha.sqlite3", ())
    (root / "noweb/configured").mkdir()
    put_file(root / "noweb/configured/.waha.session.config.json", json.dumps({"secret": CANARY}))


def around_wppconnect(root: pathlib.Path) -> None:
    for profile in sorted((root / "userDataDir").iterdir()):
        (root / "tokens").mkdir(exist_ok=True)
        put_file(root / f"tokens/{profile.name}.data.json", json.dumps({"WABrowserId": CANARY}))
    put_file(root / "package.json", CANARY)


def around_venom(root: pathlib.Path) -> None:
    """The library gives all users access to its directories."""
    for directory in (root / "tokens", *(root / "tokens").iterdir()):
        directory.chmod(0o777)


def around_openwa(root: pathlib.Path) -> None:
    for profile in sorted(root.glob("_IGNORE_*")):
        put_file(root / f"{profile.name.removeprefix('_IGNORE_')}.data.json", CANARY)


KINDS: dict[str, Kind] = {
    "baileys": Kind(put_baileys, lambda name: name),
    "wwebjs": Kind(put_profile, lambda name: f"session-{name}", around_wwebjs, browser=True),
    "session_manager": Kind(put_profile, lambda name: f"sessions/session-{name}", around_session_manager, browser=True),
    "baileys_csharp": Kind(put_csharp, lambda name: name),
    "whatsmeow": Kind(put_whatsmeow, lambda name: name),
    "waha": Kind(put_waha, lambda name: f"{'gows' if 'corrupt' in name else 'noweb'}/{name}", around_waha),
    "wppconnect": Kind(put_profile, lambda name: f"userDataDir/{name}", around_wppconnect, browser=True),
    "evolution": Kind(
        put_evolution, lambda name: name, also=(Made("7afd5398-97c3-11eb-a990-f23c917564d6", "unknown"),)
    ),
    "openwa": Kind(put_profile, lambda name: f"_IGNORE_{name}", around_openwa, browser=True),
    "venom": Kind(put_profile, lambda name: f"tokens/{name}", around_venom, browser=True),
}


if __name__ == "__main__":
    layout, directory = sys.argv[1:]
    print(json.dumps([dataclasses.asdict(made) for made in put_root_of(layout, pathlib.Path(directory))]))
