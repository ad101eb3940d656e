# SPDX-License-Identifier: GPL-3.0-or-later
"""A real backend gets a lost account back by name and reconnects with it, and is interrupted only for that. More in molecule/backup."""

from __future__ import annotations

import shlex
import typing as t

import pytest
from hostkit import PATH, PYTHON, UNIT, Host, Result, State
from playkit import play

SAVE = """
import pathlib, sys
sys.path[:0] = ["/repository/tests/tools"]
from snapshots import put_snapshot
for name in sorted(entry.name for entry in pathlib.Path(sys.argv[1]).iterdir() if entry.is_dir()):
    put_snapshot(pathlib.Path(sys.argv[1]), name)
"""


@pytest.fixture
def saved(host: Host) -> State:
    """The host after persist, with a snapshot of each account while the backend was stopped."""
    assert play(host, "persist").rc == 0
    host.sh(f"systemctl stop {UNIT} && {PYTHON} -c {shlex.quote(SAVE)} {PATH} && systemctl start {UNIT}")
    now = host.well()
    assert now["well"], now
    return now


def restore(host: Host, *names: str, **options: t.Any) -> Result:
    given = {"path": PATH, "unit": UNIT, "unit_timeout": 30, "accounts": list(names)}
    result = host.module("session_restore", **given, **options)
    assert "CANARY" not in str(result)
    return result


def actions(result: Result) -> list[str]:
    assert "accounts" in result, result
    return [account["action"] for account in result["accounts"]]


def test_a_lost_account_reconnects_and_nothing_is_interrupted_twice(host: Host, saved: State) -> None:
    name = min(saved["path"])
    host.sh(f"until rm -rf {PATH}/{name}; do :; done")  # the backend is writing to it
    foreseen = restore(host, name, check=True)
    assert (actions(foreseen), host.look()["pid"]) == (["restored"], saved["pid"])

    made = restore(host, name)

    assert actions(made) == ["restored"]
    assert 0 < made["downtime_seconds"] < 10
    now = host.well()
    assert (now["well"], now["path"], now["needs_qr"]) == (True, saved["path"], 0), now
    assert not now["guarded"] and not now["boot_units"] and not now["staged"]
    again = restore(host, name)
    assert (again["changed"], actions(again), host.look()["pid"]) == (False, ["unchanged"], now["pid"])


def test_a_stopped_backend_stays_stopped(host: Host, saved: State) -> None:
    name = min(saved["path"])
    host.sh(f"systemctl stop {UNIT}; rm -r {PATH}/{name}")
    assert actions(restore(host, name)) == ["restored"]
    assert host.look()["ActiveState"] == "inactive"
    host.sh(f"systemctl start {UNIT}")
    assert host.well()["path"] == saved["path"]
