# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenes whose accounts are more than one directory of files: SQLite stores with a log, parts elsewhere, and what lies beside them.

Of a store all rows are compared, wherever they stand: a generation is whole when nothing of another one is in it and nothing lacks.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import pathlib
import shutil
import sqlite3
import tempfile
import typing as t

from faultkit import BACKEND, Files, Scene, WayBack, content, put, stamped

CACHE = "Default/Cache/f_1"


class StoreScene(Scene):
    """WAHA: one account in a store whose newest rows are in its log, one in files, and a store beside each of them."""

    layout = "waha"

    def content_of(self, account: str, generation: int) -> Files:
        return {"gows.db": rows_of(account, generation)} if self._is_store(account) else content(account, generation)

    def written(self, account: str, generation: int) -> Files:
        if not self._is_store(account):
            return content(account, generation)
        made = store(account, generation)
        return {f"gows.db{suffix}": held for suffix, held in made.items()}

    def read(self, directory: pathlib.Path) -> Files:
        found = super().read(directory)
        if "gows.db" in found:
            found = {"gows.db": rows_in(directory / "gows.db")}
        return found

    @property
    def beside(self) -> Files:
        return {"gows/waha.sqlite3": rows_of("beside", 1), "noweb/notes/deep.json": b'{"beside": "the accounts"}'}

    def put_beside(self) -> None:
        for suffix, held in store("beside", 1).items():
            put(self.source / f"gows/waha.sqlite3{suffix}", held)
        put(self.source / "noweb/notes/deep.json", self.beside["noweb/notes/deep.json"])

    def read_beside(self, name: str) -> bytes:
        return rows_in(self.path / name) if name.endswith(".sqlite3") else super().read_beside(name)

    @staticmethod
    def _is_store(account: str) -> bool:
        return account.startswith("gows/")


class PartScene(Scene):
    """wppconnect: profiles, each with a token file elsewhere, and a token file of nobody; the legacy path is an application's directory."""

    layout = "wppconnect"

    def content_of(self, account: str, generation: int) -> Files:
        database = {
            "CURRENT": b"MANIFEST-000001\n",
            "MANIFEST-000001": stamped(account, generation, "manifest", 50),
            "000003.log": stamped(account, generation, "log", 3000),
        }
        places = ("Default/Local Storage/leveldb", "Default/IndexedDB/https_web.whatsapp.com_0.indexeddb.leveldb")
        files = {f"{place}/{name}": held for place in places for name, held in database.items()}
        return {**files, "Local State": stamped(account, generation, "state", 40)}

    def written(self, account: str, generation: int) -> Files:
        return {**self.content_of(account, generation), CACHE: stamped(account, generation, "cache", 500)}

    def put_account(self, directory: pathlib.Path, account: str, generation: int, when: float | None = None) -> None:
        super().put_account(directory, account, generation, when)
        (directory / "SingletonLock").symlink_to("another-host-4711")
        root = directory.parents[1]
        put(root / self.part_of(account), self.part_content(account, generation), when)

    def read(self, directory: pathlib.Path) -> Files:
        found = super().read(directory)
        return {name: held for name, held in found.items() if name not in (CACHE, "SingletonLock")}

    @property
    def beside(self) -> Files:
        return {"tokens/nobody.data.json": b'{"beside": "the accounts"}'}

    def put_beside(self) -> None:
        super().put_beside()
        put(self.source / "package.json", b"of the program")

    def check_after_fault(self) -> None:
        super().check_after_fault()
        assert (self.source / "package.json").read_bytes() == b"of the program"
        for account in {*self.legacy, *self.present}:
            generation = self.is_whole(self.path / account, account)
            if generation is not None:
                held = (self.path / self.part_of(account)).read_bytes()
                assert held == self.part_content(account, generation), (
                    f"{account} is there with the part of another one"
                )
            lost = self.generations(account) - set(self._parts(account))
            assert not lost, f"{account}: the part of generation {lost} is nowhere"

    def check_published(self) -> None:
        super().check_published()
        for account, generation in self.legacy.items():
            part = self.path / self.part_of(account)
            assert part.read_bytes() == self.part_content(account, generation)
            assert (part.stat().st_uid, part.stat().st_mode & 0o777) == (BACKEND, 0o600)
            assert not (self.path / account / "SingletonLock").is_symlink()
            former = self.present.get(account, generation)
            assert former == generation or any("/displaced/" in where for where in self._parts(account)[former])

    def _parts(self, account: str) -> dict[int, list[str]]:
        """Return where the part of each generation is."""
        found: dict[int, list[str]] = collections.defaultdict(list)
        places = [self.path, self.source, *self.area.glob("staging/*/*"), *self.area.glob("displaced/*.part-*")]
        for place in places:
            part = place if place.is_file() else place / self.part_of(account)
            part = part if part.exists() else place / part.name
            for generation in self.generations(account) if part.is_file() else ():
                if part.read_bytes() == self.part_content(account, generation):
                    found[generation].append(str(part.relative_to(self.root)))
        return found

    @staticmethod
    def part_of(account: str) -> str:
        return f"tokens/{account.rpartition('/')[2]}.data.json"

    @staticmethod
    def part_content(account: str, generation: int) -> bytes:
        return stamped(account, generation, "token", 100)


LAYOUTS: dict[str, type[Scene]] = {"baileys": Scene, "way back": WayBack, "waha": StoreScene, "wppconnect": PartScene}


@functools.cache
def store(account: str, generation: int) -> dict[str, bytes]:
    """Return the files of a store, per suffix: half of its rows are in its log."""
    with tempfile.TemporaryDirectory() as place:
        path = pathlib.Path(place, "store")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
            for pragma in ("journal_mode=WAL", "wal_autocheckpoint=0", "synchronous=OFF"):
                database.execute(f"PRAGMA {pragma}")
            database.execute("CREATE TABLE whatsmeow_device (jid TEXT)")
            database.execute("CREATE TABLE held (what TEXT)")
            database.execute("INSERT INTO whatsmeow_device VALUES (?)", (f"{account}:1@s.whatsapp.net",))
            _insert(database, account, generation, range(20))
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            _insert(database, account, generation, range(20, 40))
            return {suffix: path.with_name(f"store{suffix}").read_bytes() for suffix in ("", "-wal")}


def _insert(database: sqlite3.Connection, account: str, generation: int, rows: t.Iterable[int]) -> None:
    held = [(stamped(account, generation, f"row {row}", 300).decode(),) for row in rows]
    database.execute("BEGIN")
    database.executemany("INSERT INTO held VALUES (?)", held)
    database.execute("COMMIT")


@functools.cache
def rows_of(account: str, generation: int) -> bytes:
    """Return all that a store holds, as rows_in does."""
    with tempfile.TemporaryDirectory() as place:
        for suffix, held in store(account, generation).items():
            pathlib.Path(place, f"store{suffix}").write_bytes(held)
        return rows_in(pathlib.Path(place, "store"))


def rows_in(path: pathlib.Path) -> bytes:
    """Return all that SQLite finds in a database; nothing when it finds none, or a broken one."""
    with tempfile.TemporaryDirectory() as place:
        for suffix in ("", "-wal", "-journal"):
            if path.with_name(path.name + suffix).exists():
                shutil.copy(path.with_name(path.name + suffix), f"{place}/store{suffix}")
        try:
            with contextlib.closing(sqlite3.connect(f"{place}/store")) as database:
                return "\n".join(database.iterdump()).encode()
        except sqlite3.DatabaseError:
            return b""


def scene_of(**fields: t.Any) -> Scene:
    """Lay out a scene of the named layout (Baileys, unless one is named)."""
    return LAYOUTS[fields.pop("layout", "baileys")](**fields).build()
