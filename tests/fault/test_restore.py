# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills a restore at its n-th system call: what is at the sessions path is whole, snapshots stay, and the next run finishes."""

from __future__ import annotations

import pathlib
import shutil
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import control_path
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import rescue
from faultkit import BACKEND, Outcome, Scene, count_calls, run_job
from snapshots import put_snapshot
from test_kill import DECISIVE, spread_over

LOST, DAMAGED, LINKED = "5511999990001", "5511999990002", "5511999990003"
# Renames, syncs and what else decides are taken each time, of the others the one in the middle: about sixty points.
ELSE = 1


class Restore(Scene):
    """Snapshots of three accounts (generation 2), of which one is missing, one is damaged, and one is linked and newer (generation 3)."""

    def build(self) -> Scene:
        super().build()
        store = self.root / "ops" / pathlib.Path(control_path(str(self.path))).name / "backups"
        for account in self.legacy:
            put_snapshot(self.source, account, place=store, of=self.path)
        shutil.rmtree(self.source)
        self.damaged = self.path / DAMAGED
        (self.damaged / "creds.json").write_bytes(b"")
        self.harmed = self.read(self.damaged)
        return self

    def options(self, **changed: t.Any) -> dict[str, t.Any]:
        wanted = {"accounts": [LOST, DAMAGED, LINKED], "force": True, "owner": str(BACKEND), "group": str(BACKEND)}
        return {"path": str(self.path), **wanted, **changed}

    def run(
        self, faults: t.Sequence[str] = (), log: pathlib.Path | None = None, clock: float = 0, **changed: t.Any
    ) -> Outcome:
        return run_job("restore", self.options(**changed), faults, log, clock)

    def is_whole(self, directory: pathlib.Path, account: str) -> int | None:
        if account == DAMAGED and self.read(directory) == self.harmed:
            return 1
        return super().is_whole(directory, account)

    def places(self, account: str) -> dict[int, list[str]]:
        found = super().places(account)
        for snapshot in (self.control / "backups").glob(f"backup-{account}-*/root/{account}"):
            generation = self.is_whole(snapshot, account)
            assert generation == 2, f"the snapshot of {account} has changed"
            found[generation].append(str(snapshot.relative_to(self.root)))
        return found

    def check_rescued(self) -> None:
        """What the rescuer does before it starts a backend: all that was there is there again, or has been restored."""
        rescue._take_back_all(str(self.control / "intent.json"))
        self.check_after_fault()
        for account in self.present:
            assert (self.path / account).is_dir(), f"{account} is not where its backend would look for it"

    def check_converged(self) -> None:
        self.check_published()
        assert not list((self.area / "staging").iterdir())
        kept = {entry.name for entry in self.control.iterdir()}
        assert kept == {"displaced", "restores.json", "lock", "area.json", "backups"}

    @property
    def _new_text(self) -> str:
        return self._old_text


@pytest.fixture
def restore(place: pathlib.Path) -> t.Callable[[], Restore]:
    numbers = iter(range(10_000))

    def make() -> Restore:
        root = place / f"restore-{next(numbers)}"
        root.mkdir()
        made = Restore(
            root=root,
            path=root / "lib" / "sessions",
            legacy=dict.fromkeys((LOST, DAMAGED, LINKED), 2),
            present={DAMAGED: 1, LINKED: 3},
            companions=False,
        )
        made.build()
        return made

    return make


def test_a_restore_that_is_killed_anywhere(
    restore: t.Callable[[], Restore], tmp_path: pathlib.Path, record_property: t.Any
) -> None:
    clean, log = restore(), tmp_path / "calls"
    outcome = clean.run(log=log)
    assert outcome.get("counts", {}).get("restored") == 3, outcome
    clean.check_converged()
    points = [
        (call, number)
        for call, total in sorted(count_calls(log).items())
        for number in spread_over(total, total if call in DECISIVE else ELSE)
    ]
    killed, failures = 0, []
    for call, number in points:
        struck = restore()
        killed += "killed" in struck.run([f"{call}:signal=KILL:when={number}"])
        try:
            struck.check_after_fault()
            if (number + len(call)) % 2:  # else the next run comes before the rescuer
                struck.check_rescued()
            struck.check_finishes()
        except AssertionError as error:
            failures.append(f"killed at {call} number {number}: {error}")
    record_property("kill points", len(points))
    record_property("kill points in the run itself", killed)
    assert not failures, "\n".join([f"{len(failures)} of {len(points)} points:", *failures])
    assert killed >= 30
    assert struck.run()["changed"] is False


@pytest.mark.parametrize("call", ["syncfs", "renameat2", "fsync"])
def test_a_disk_that_fails_leaves_everything_as_it_was(restore: t.Callable[[], Restore], call: str) -> None:
    struck = restore()
    outcome = struck.run([f"{call}:error=EIO:when=1"])
    assert "failed" in outcome and outcome["foreseen"], outcome
    struck.check_rescued()
    assert not (struck.path / LOST).exists()
    struck.check_finishes()
