# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts that are written to all the time while they are saved: each snapshot is what was there at one moment, with no torn file."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import time
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup import take
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.known import choice_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.save import prune
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.take import Order
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from faultkit import ENVIRONMENT, content, read_account, stamped, write_account

ACCOUNT = "5511999990001"
NAMES = ("creds.json", "pre-key-1.json", "session-0.0.json", "session-1.0.json")
SECONDS = 6.0
# It rewrites file after file in place, and waits in the middle of each for as long as argv[2] says, and argv[3] between them.
WRITER = """
import json, pathlib, sys, time
from test_backup_writer import NAMES, of
directory, within, between = pathlib.Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
for generation in range(3, 1 << 30):
    for name in NAMES:
        data = of(name, generation)
        with (directory / name).open("wb", buffering=0) as file:
            file.write(data[: len(data) // 2])
            time.sleep(within)
            file.write(data[len(data) // 2 :])
        time.sleep(between)
        print(generation, flush=True)
"""


def of(name: str, generation: int) -> bytes:
    """Return the content of a file in one generation, which it names."""
    if name == "creds.json":
        return content(ACCOUNT, generation)[name]
    return stamped(ACCOUNT, generation, name, 300)


def generation_of(name: str, held: bytes) -> int:
    """Return the generation of a whole file. Fails for a torn one."""
    found = json.loads(held)
    generation = int(found["generation"] if name == "creds.json" else found["stamp"].split("/")[1])
    assert held == of(name, generation)
    return generation


@contextlib.contextmanager
def written(account: pathlib.Path, within: float, between: float) -> t.Iterator[None]:
    path = os.pathsep.join([str(pathlib.Path(__file__).parent), ENVIRONMENT["PYTHONPATH"]])
    argv = [sys.executable, "-c", WRITER, str(account), str(within), str(between)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env={**ENVIRONMENT, "PYTHONPATH": path}) as writer:
        try:
            assert writer.stdout
            assert writer.stdout.readline()
            yield
        finally:
            writer.kill()


@pytest.mark.parametrize(("within", "between"), [(0.08, 0.25), (0.0, 0.12)])
def test_no_snapshot_is_torn(
    place: pathlib.Path, monkeypatch: pytest.MonkeyPatch, within: float, between: float, record_property: t.Any
) -> None:
    """The first writer leaves half a file for longer than a file has to be unchanged to count as settled."""
    monkeypatch.setattr(take, "QUIET_SECONDS", 0.3)
    account = place / "sessions" / ACCOUNT
    write_account(account, {name: of(name, 2) for name in NAMES})
    (place / "store").mkdir(mode=0o700)
    store = os.open(place / "store", os.O_RDONLY | os.O_DIRECTORY)
    order = Order(str(place / "sessions"), ACCOUNT, choice_of(layout_named("baileys"), exclude_caches=True))
    taken, previous = 0, ""
    with written(account, within, between):
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if not take.begin(store, order):
                continue
            snapshot = take.complete(store, order)
            take.publish(store, order, snapshot.name)
            require_one_moment(place / "store" / snapshot.name / "root" / ACCOUNT)
            prune(store, filter(None, [previous]))
            order, previous = order_after(order, snapshot.name), snapshot.name
            taken += 1
    os.close(store)
    record_property("snapshots of accounts that were written to", taken)
    assert taken >= 5


def order_after(order: Order, name: str) -> Order:
    return Order(order.path, order.name, order.choice, name, order.sequence + 1)


def require_one_moment(directory: pathlib.Path) -> None:
    """The files of a later generation are the first ones that the writer writes."""
    held = read_account(directory)
    assert sorted(held) == sorted(NAMES)
    found = [generation_of(name, held[name]) for name in NAMES]
    assert found == sorted(found, reverse=True)
    assert found[0] - found[-1] <= 1
