# SPDX-License-Identifier: GPL-3.0-or-later
"""FIFOs and device nodes in the place of an account's files, put there right before they are read: root of a container can make both."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import sqlite3
import stat
import typing as t

import pytest

from accounts import put_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import mark_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.copy_file import digest_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import open_regular
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.sqlite_pages import store_digest
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.whatsmeow import _read
from striker import striking

ZERO = os.makedev(1, 5)  # gives as much as one reads
Make = t.Callable[[pathlib.Path], None]


def fifo(path: pathlib.Path) -> None:
    os.mkfifo(path)


def device(path: pathlib.Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, ZERO)


KINDS = [fifo, pytest.param(device, marks=pytest.mark.root)]


@pytest.fixture
def place(tmp_path: pathlib.Path) -> t.Iterator[int]:
    put_account(tmp_path / "wa1")
    with contextlib.closing(sqlite3.connect(tmp_path / "wa1/store.db", isolation_level=None)) as store:
        store.execute("PRAGMA journal_mode=WAL")
        store.execute("CREATE TABLE t (c)")
        for name in ("store.db", "store.db-wal"):
            shutil.copy(tmp_path / "wa1" / name, tmp_path / "wa1" / f"kept-{name}")
    for name in ("store.db", "store.db-wal"):
        (tmp_path / "wa1" / f"kept-{name}").rename(tmp_path / "wa1" / name)
    descriptor = os.open(tmp_path / "wa1", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def swapped(directory: int, name: str, make: Make) -> contextlib.AbstractContextManager[None]:
    """Put something else in the place of a file right before it is opened."""
    path = pathlib.Path(os.readlink(f"/proc/self/fd/{directory}")) / name

    def put() -> None:
        path.unlink()
        make(path)

    return striking("open", name, put)


@pytest.mark.parametrize("make", KINDS)
def test_no_digest_is_made_of_it(place: int, make: Make) -> None:
    with swapped(place, "creds.json", make), pytest.raises(OSError, match="not a regular file"):
        digest_of(place, "creds.json")
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(place, "creds.json")


@pytest.mark.parametrize("make", KINDS)
def test_a_mark_has_nothing_of_it(place: int, make: Make) -> None:
    layout = layout_named("baileys")
    with swapped(place, "creds.json", make):
        looks = mark_of(place, layout).files["creds.json"]
    assert looks[-1] == ""


@pytest.mark.parametrize("name", ["store.db", "store.db-wal"])
@pytest.mark.parametrize("make", KINDS)
def test_a_database_of_it_is_none(place: int, make: Make, name: str) -> None:
    assert store_digest(place, "store.db") is not None
    with swapped(place, name, make):
        assert store_digest(place, "store.db") is None
    assert _read(place, name, 100) == b""
