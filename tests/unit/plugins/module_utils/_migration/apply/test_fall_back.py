# SPDX-License-Identifier: GPL-3.0-or-later
"""A backend that wrote keys at its new path and cannot stay there goes back with them, and runs in the end. systemd is not there."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import (
    SessionsError,
    StartFailed,
    WroteAlready,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import job as migration_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import guard as apply_guard
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import run as apply_run
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.guard import Cutover, Stopwatch
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.publish import Folders
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply.run import (
    _fall_back,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import start as systemd_start
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit import PROPERTIES, Unit

PARAMS = migration_job.read_params({"src": ["/opt/wa"], "path": "/var/lib/wa/sessions"})
WROTE = WroteAlready("it did not start well", PARAMS.path)


def unit(state: str) -> Unit:
    return Unit("wa.service", {**dict.fromkeys(PROPERTIES, ""), "ActiveState": state})


@dataclasses.dataclass
class Systemd:
    """What is asked of systemd. ``starts``: whether the unit starts; ``goes_back``: whether its accounts can just be renamed back."""

    starts: bool = True
    goes_back: bool = False
    state: str = "failed"
    started: int = 0
    rescuers: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def start(self, _name: str, _timeout: float) -> None:
        self.started += 1
        if not self.starts:
            raise StartFailed("wa.service did not start")


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch) -> Systemd:
    made = Systemd()
    for name in ("_leave_rescuer_at_boot", "_mark_busy", "_raise_guard", "_remove", "_remove_guard"):
        monkeypatch.setattr(apply_guard, name, lambda *_: None)
    monkeypatch.setattr(apply_guard, "_alive", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(
        apply_guard, "_leave_rescuer", lambda cutover, name: made.rescuers.append((cutover.start, name))
    )
    for module in (apply_guard, systemd_start):
        monkeypatch.setattr(module, "start", made.start)
    monkeypatch.setattr(apply_run, "stop_again", lambda *_: None)
    monkeypatch.setattr(apply_run, "daemon_reload", lambda: None)
    monkeypatch.setattr(apply_run, "undo_committed", lambda *_: made.goes_back)
    monkeypatch.setattr(migration_job, "read_service", lambda _: unit(made.state))
    return made


@pytest.mark.parametrize("starts", [True, False])
def test_keys_that_were_written_count_whether_or_not_it_starts_again(systemd: Systemd, starts: bool) -> None:
    systemd.starts = starts
    cutover = Cutover(unit("active"), "/intent", 1, Stopwatch())
    with pytest.raises(WroteAlready, match="it failed; it has already written to its accounts at /var/lib/wa/sessions"):
        _fall_back(cutover, PARAMS, "it failed", Folders())
    assert systemd.started == 1


@pytest.mark.parametrize("state", ["active", "inactive"])
@pytest.mark.parametrize("error", [SessionsError, OSError, KeyboardInterrupt])
def test_whatever_ends_a_hold_what_ran_before_is_started(
    systemd: Systemd, error: type[BaseException], state: str
) -> None:
    with pytest.raises(error, match="it failed"), apply_guard.guarded(Cutover(unit(state), "/intent", 1, Stopwatch())):
        raise error("it failed")
    assert systemd.started == (state == "active")


def test_one_that_does_not_start_on_its_former_path_wrote_nothing(systemd: Systemd) -> None:
    systemd.goes_back, systemd.starts = True, False
    with pytest.raises(StartFailed, match="did not start"):
        _fall_back(Cutover(unit("active"), "/intent", 1, Stopwatch()), PARAMS, "it failed", Folders())
    systemd.starts = True
    with pytest.raises(SessionsError, match="runs on the legacy path again and nothing was lost"):
        _fall_back(Cutover(unit("active"), "/intent", 1, Stopwatch()), PARAMS, "it failed", Folders())


@pytest.mark.parametrize(
    ("before", "after", "started"), [("active", "failed", 1), ("active", "active", 0), ("inactive", "inactive", 0)]
)
@pytest.mark.parametrize("starts", [True, False])
def test_a_backend_that_ran_at_first_runs_in_the_end(
    systemd: Systemd, monkeypatch: pytest.MonkeyPatch, before: str, after: str, started: int, starts: bool
) -> None:
    """It may have ended by itself on its new path: then the way back found it down and left it so."""
    systemd.state, systemd.starts = after, starts
    runs: list[object] = []

    def carry_out(*_given: object) -> None:
        runs.append(None)
        if len(runs) == 1:
            raise WROTE

    monkeypatch.setattr(apply_run, "apply_steps", carry_out)
    monkeypatch.setattr(migration_job, "way_back_of", lambda *_: PARAMS)
    monkeypatch.setattr(migration_job, "observe", lambda _: t.cast("t.Any", Before(None)))
    monkeypatch.setattr(migration_job, "plan", lambda *_: ())
    words = "but then wa.service did not start" if started and not starts else "was rolled back to its former path"
    with pytest.raises(SessionsError, match=words):
        migration_job.apply((), t.cast("t.Any", Before(unit(before))), PARAMS)
    assert (len(runs), systemd.started) == (2, started)
    # Should the run be killed meanwhile, systemd starts it: it does not know that it is to run.
    assert systemd.rescuers == [("only", "wa.service.back")] * (before == "active")


@pytest.mark.parametrize(
    ("state", "restored", "start"), [("active", False, "yes"), ("failed", True, "only"), ("failed", False, "no")]
)
def test_who_is_killed_while_keys_go_back_leaves_a_backend_that_starts(state: str, restored: bool, start: str) -> None:
    assert Cutover(unit(state), "/intent", 1, Stopwatch(), restored=restored).start == start


class Before(t.NamedTuple):
    """As much of what was seen as counts."""

    unit: Unit | None
    params: t.Any = PARAMS
    control: str = "/control"
