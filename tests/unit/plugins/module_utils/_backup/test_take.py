# SPDX-License-Identifier: GPL-3.0-or-later
"""When a copy counts as one state of an account: not while a file is open for writing, whether its backend runs or is held."""

from __future__ import annotations

import os
import pathlib
import time
import typing as t

import pytest

from accounts import put_account
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup import take
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.known import choice_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.take import Order
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named

CHOICE = choice_of(layout_named("baileys"), exclude_caches=True)


@pytest.fixture
def account(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(take, "QUIET_SECONDS", 0.2)
    return put_account(tmp_path / "sessions/a")


@pytest.fixture
def store(tmp_path: pathlib.Path) -> t.Iterator[int]:
    (tmp_path / "store").mkdir(mode=0o700)
    descriptor = os.open(tmp_path / "store", os.O_RDONLY | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


def order_of(account: pathlib.Path) -> Order:
    return Order(str(account.parent), account.name, CHOICE)


def resumed(store: int, account: pathlib.Path) -> bool:
    return take.resume(store, order_of(account), time.monotonic() + 60)


def test_an_open_file_may_be_half_written(store: int, account: pathlib.Path) -> None:
    with (account / "creds.json").open("r+b"):
        assert not take.begin(store, order_of(account))
        assert not resumed(store, account)
    assert resumed(store, account)


def test_what_changed_before_the_backend_was_held_is_copied(store: int, account: pathlib.Path) -> None:
    assert take.begin(store, order_of(account))
    for path in account.iterdir():
        path.write_bytes(path.read_bytes())
    assert resumed(store, account)
    snapshot = take.complete(store, order_of(account))
    take.publish(store, order_of(account), snapshot.name)
    found = pathlib.Path(os.readlink(f"/proc/self/fd/{store}"), snapshot.name, "root/a")
    held = {path.name: path.read_bytes() for path in account.iterdir()}
    assert {path.name: path.read_bytes() for path in found.iterdir()} == held
    assert (snapshot.files, snapshot.bytes) == (len(held), sum(map(len, held.values())))
