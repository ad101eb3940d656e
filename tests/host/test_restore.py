# SPDX-License-Identifier: GPL-3.0-or-later
"""A real backend gets lost accounts back and reconnects with them, is interrupted only for that, and gets none back that was logged out."""

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


def test_an_old_copy_of_a_linked_account_is_refused_then_forced(host: Host, saved: State) -> None:
    name = min(saved["path"])
    snapshot = f"/var/lib/whatsapp-ops/*/backups/backup-{name}-*/snapshot.json"
    host.sh(f"until find {PATH}/{name} -newer {snapshot} | grep -q .; do sleep 0.1; done")
    refused = restore(host, name)
    assert refused["failed"] and "cannot be decrypted" in refused["msg"], refused
    assert host.look()["pid"] == saved["pid"]

    assert actions(restore(host, name, force=True)) == ["restored"]

    now = host.well()
    assert (now["well"], now["path"]) == (True, saved["path"]), now
    assert len(host.sh(f"ls -d {PATH}/../.sessions.whatsapp-ops/displaced/*").split()) == 1


def test_a_stopped_backend_stays_stopped(host: Host, saved: State) -> None:
    name = min(saved["path"])
    host.sh(f"systemctl stop {UNIT}; rm -r {PATH}/{name}")
    assert actions(restore(host, name)) == ["restored"]
    assert host.look()["ActiveState"] == "inactive"
    host.sh(f"systemctl start {UNIT}")
    assert host.well()["path"] == saved["path"]


def test_the_whole_directory_is_recovered_by_the_playbook(host: Host, saved: State) -> None:
    host.sh(f"until rm -rf {PATH}; do :; done")
    foreseen = play(host, "recover", "--check")
    assert (foreseen.rc, foreseen.changed) == (0, 1), foreseen.output

    played = play(host, "recover", "-vvv", "--diff")

    assert played.rc == 0, played.output
    now = host.well()
    assert (now["well"], now["path"], now["needs_qr"]) == (True, saved["path"], 0), now
    again = play(host, "recover")
    assert (again.rc, again.changed, host.look()["pid"]) == (0, 0, now["pid"]), again.output


def test_what_a_logout_took_away_is_not_brought_back_by_itself(host: Host, saved: State) -> None:
    name = min(saved["path"])
    host.put(
        f"/run/systemd/system/{UNIT}.d/90-line.conf",
        "[Service]\nExecStartPre=/bin/echo Connection Failure: 401 Logged Out\n",
    )
    host.sh(f"systemctl daemon-reload; systemctl stop {UNIT}; rm -r {PATH}/{name}; systemctl start {UNIT}")
    pid = host.look()["pid"]
    made = restore(host, state="recovered")
    assert (made["changed"], actions(made), host.look()["pid"]) == (False, ["skipped"], pid)
    assert "about a logout" in made["accounts"][0]["reason"]
    host.sh(f"rm -r /run/systemd/system/{UNIT}.d; systemctl daemon-reload")
    assert actions(restore(host, name)) == ["restored"]
    assert host.well()["path"] == saved["path"]


def test_a_damaged_account_is_recovered_while_others_are_in_use(host: Host, saved: State) -> None:
    name, *others = sorted(saved["path"])
    host.sh(f"systemctl stop {UNIT}; truncate -s 0 {PATH}/{name}/creds.json; systemctl start {UNIT}")
    made = restore(host, state="recovered")
    assert (actions(made), made["sound"]) == (["restored"], len(others) + 1)
    now = host.well()
    assert (now["well"], now["path"]) == (True, saved["path"]), now
