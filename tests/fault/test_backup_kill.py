# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills a backup that saves and prunes at its n-th system call: no sound snapshot is lost, and none is listed that is not whole."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import control_path
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup.store import Snapshot, snapshots
from faultkit import CHANGING, Files, content, count_calls, put, read_account, run_job, write_account
from snapshots import OPTIONS
from test_kill import spread_over

ACCOUNTS = ("5511999990001", "5511999990002")
# Fatal each time they come; of others that change something, some are taken, and of those that only look, one.
DECISIVE = ("rename", "renameat", "renameat2", "fsync", "syncfs", "mkdir", "mkdirat", "unlinkat", "flock")


def whole(account: str, generation: int) -> Files:
    """Return an account of which each generation writes two files anew."""
    written = content(account, generation)
    return {**content(account, 2), **{name: written[name] for name in ("creds.json", "session-0.0.json")}}


class Backups:
    """A sessions path whose accounts get a new generation before each run."""

    def __init__(self, place: pathlib.Path) -> None:
        self.path = place / "sessions"
        (place / "ops").mkdir()
        self.store = place / "ops" / pathlib.Path(control_path(str(self.path))).name / "backups"
        self.generation = 2
        for account in ACCOUNTS:
            write_account(self.path / account, whole(account, 2))

    def run(self, faults: t.Sequence[str] = (), log: pathlib.Path | None = None) -> dict[str, t.Any]:
        return run_job(
            "backup", {**OPTIONS, "keep_days": 0, "show_accounts": False, "path": str(self.path)}, faults, log
        )

    def use(self) -> None:
        self.generation += 1
        for account in ACCOUNTS:
            for name in ("creds.json", "session-0.0.json"):
                put(self.path / account / name, content(account, self.generation)[name])

    def listed(self) -> dict[str, list[int]]:
        """Return the generations of the listed snapshots by account, newest first; each has to be whole."""
        descriptor = os.open(self.store, os.O_RDONLY)
        try:
            found = snapshots(descriptor)
        finally:
            os.close(descriptor)
        assert all(one.is_sound for one in found)
        return {name: [self._generation(one) for one in found if one.account == name] for name in ACCOUNTS}

    def _generation(self, one: Snapshot) -> int:
        held = read_account(self.store / one.name / "root" / one.account)
        generation = int(json.loads(held["creds.json"])["generation"])
        assert held == whole(one.account, generation), f"a snapshot with credentials of {generation} is not whole"
        return generation


def test_killed_anywhere(place: pathlib.Path, tmp_path: pathlib.Path, record_property: t.Any) -> None:
    backups = Backups(place)
    assert backups.run().get("changed")
    backups.use()
    assert backups.run(log=tmp_path / "calls").get("changed")
    points = _points(tmp_path / "calls")
    killed, failures = 0, []
    for call, number in points:
        backups.use()
        outcome = backups.run([f"{call}:signal=KILL:when={number}"])
        killed += "killed" in outcome
        try:
            for account, generations in backups.listed().items():
                assert set(generations[:1]) <= {backups.generation, backups.generation - 1}, "the newest one is lost"
                assert generations, f"{account} has no snapshot"
            again = backups.run()
            assert "failed" not in again, again
            assert backups.listed() == {account: [backups.generation] for account in ACCOUNTS}
            assert not [name for name in os.listdir(backups.store) if name.startswith(".partial")]
        except AssertionError as error:
            failures.append(f"killed at {call} number {number}: {error}")
    record_property("kill points of backups", len(points))
    assert not failures, "\n".join([f"{len(failures)} of {len(points)} points:", *failures])
    assert backups.run().get("changed") is False
    assert killed >= 20
    assert len(points) >= 80, points


def _points(log: pathlib.Path) -> list[tuple[str, int]]:
    """Return where to strike: (call, how manieth)."""
    points = []
    for call, total in sorted(count_calls(log).items()):
        most = 20 if call in DECISIVE else 8 if call in CHANGING else 3
        points += [(call, number) for number in spread_over(total, most)]
    assert {"renameat2", "syncfs", "fsync", "linkat", "unlinkat"} <= {call for call, _number in points} | {
        "linkat",
        "link",
    }
    return points
