# SPDX-License-Identifier: GPL-3.0-or-later
"""The job of session_timer: what it writes, removes and starts, in which order, and what it refuses."""

from __future__ import annotations

import types
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.file_steps import Reload, Remove
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._timer import job, jobs
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._timer.job import (
    JOB_OPTIONS,
    UNITS,
    Disable,
    Found,
    Params,
    Start,
    State,
    Step,
    Write,
)

STEM = "whatsapp-ops-backup-x"
PROGRAM = "/usr/local/lib/whatsapp-ops/backup.pyz"
UNIT = dict.fromkeys(job._PROPERTIES, "")


def _read_params(options: t.Mapping[str, t.Any]) -> None:
    if options["path"] == "relative":
        raise SessionsError("path is relative; give an absolute one")


@pytest.fixture(autouse=True)
def _no_real_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job without code of its own."""
    module = types.ModuleType("code._count.job")
    monkeypatch.setattr(module, "read_params", _read_params, raising=False)
    entry = jobs.Entry(lambda: t.cast("t.Any", module), {}, {}, lambda options: jobs.Needs(".x", (options["path"],)))
    monkeypatch.setitem(jobs.JOBS, "backup", entry)
    monkeypatch.setattr(job, "program_for", lambda module: f"code of {module}".encode())


def params(**options: t.Any) -> Params:
    given = {"path": "/srv/x", "accounts": ["CANARY"]}
    return job.read_params({"job": "backup", "options": given, "name": "x", "on_calendar": "daily", **options})


def installed(wanted: Params, **units: t.Mapping[str, str]) -> State:
    """The state after a run: the files are there, and what should be started runs."""
    files = {file.path: Found(file.content, file.mode, (0, 0)) for file in wanted.files}
    known = {name: dict(UNIT, FragmentPath=f"{UNITS}/{name}", NeedDaemonReload="no") for name in wanted.names}
    for name in wanted.started:
        known[name] |= {"ActiveState": "active", "UnitFileState": "enabled", "NextElapseUSecRealtime": "tomorrow"}
    for kind, properties in units.items():
        known[getattr(wanted.names, kind)] |= properties
    return State(files, known, shared=False)


def nothing(wanted: Params) -> State:
    return State({}, {name: dict(UNIT) for name in wanted.names}, shared=False)


def kinds(steps: t.Iterable[Step]) -> list[str]:
    return [type(step).__name__ for step in steps]


def written(steps: t.Iterable[Step]) -> list[str]:
    return [step.file.path for step in steps if isinstance(step, Write)]


def test_a_new_job_is_written_then_loaded_then_started() -> None:
    wanted = params()
    steps = job.plan(nothing(wanted), wanted)
    assert kinds(steps) == ["Write", "Write", "Write", "Write", "Reload", "Start"]
    assert written(steps)[:2] == [PROGRAM, f"{JOB_OPTIONS}/backup-x.json"]
    assert steps[-1] == Start((f"{STEM}.timer",))


def test_a_second_run_changes_nothing() -> None:
    wanted = params(watch=["/srv/x"], settle="5s")
    assert job.plan(installed(wanted), wanted) == ()
    job.verify(installed(wanted), wanted)


def test_new_code_is_written_without_touching_units() -> None:
    wanted = params()
    state = installed(wanted)
    old = {**state.files, PROGRAM: Found(b"old", 0o755, (0, 0))}
    assert job.plan(state._replace(files=old), wanted) == (Write(wanted.files[0]),)


@pytest.mark.parametrize("change", [{"mode": 0o644}, {"owner": (1000, 0)}, {"content": b"{}"}])
def test_options_that_others_changed_or_can_read_are_written_again(change: dict[str, t.Any]) -> None:
    wanted = params()
    state = installed(wanted)
    path = wanted.options_file
    changed = {**state.files, path: state.files[path]._replace(**change)}
    assert written(job.plan(state._replace(files=changed), wanted)) == [path]


def test_another_calendar_takes_effect_at_once() -> None:
    before, wanted = params(), params(on_calendar="weekly")
    steps = job.plan(installed(before), wanted)
    assert kinds(steps) == ["Write", "Reload", "Start"]


def test_units_that_are_no_longer_wanted_are_stopped_and_removed() -> None:
    before, wanted = params(watch=["/srv/x"], settle="5s"), params()
    steps = job.plan(installed(before), wanted)
    names = before.names
    assert steps == (
        Disable((names.path, names.settled)),
        Remove(f"{UNITS}/{names.path}"),
        Remove(f"{UNITS}/{names.settled}"),
        Reload(),
    )


@pytest.mark.parametrize("properties", [{"ActiveState": "inactive"}, {"UnitFileState": "disabled"}])
def test_a_timer_that_was_stopped_is_started_again(properties: dict[str, str]) -> None:
    wanted = params()
    assert job.plan(installed(wanted, timer=properties), wanted) == (Start((f"{STEM}.timer",)),)


def test_what_systemd_has_not_loaded_yet_is_loaded() -> None:
    wanted = params()
    assert job.plan(installed(wanted, service={"NeedDaemonReload": "yes"}), wanted) == (Reload(),)


def test_removal_takes_everything_once() -> None:
    before, wanted = params(), params(state="absent")
    steps = job.plan(installed(before), wanted)
    assert kinds(steps) == ["Disable", "Remove", "Remove", "Remove", "Remove", "Reload"]
    assert job.plan(nothing(wanted), wanted) == ()


def test_a_program_that_another_path_uses_stays() -> None:
    before, wanted = params(), params(state="absent")
    steps = job.plan(installed(before)._replace(shared=True), wanted)
    assert Remove(PROGRAM) not in steps
    only = State({PROGRAM: Found(b"", 0o755, (0, 0))}, nothing(wanted).units, shared=True)
    assert job.plan(only, wanted) == ()


def test_a_diff_shows_units_but_neither_options_nor_code() -> None:
    wanted = params()
    state = nothing(wanted)
    shown = {part["after_header"]: part["after"] for part in job.diff(state, job.plan(state, wanted), wanted)}
    assert "OnCalendar=daily" in shown[f"{UNITS}/{STEM}.timer"]
    assert "SHA-256" in shown[wanted.options_file]
    assert "CANARY" not in str(shown)


def test_the_options_are_checked_before_anything_is_written() -> None:
    with pytest.raises(SessionsError, match="path is relative"):
        params(options={"path": "relative"})


@pytest.mark.parametrize("name", ["../x", "a b", "-x", "x\n", "x%H"])
def test_a_name_has_to_fit_into_that_of_a_unit(name: str) -> None:
    with pytest.raises(SessionsError, match="cannot be part of the name of a unit"):
        params(name=name)


def test_the_name_is_that_of_the_sessions_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "name_of", lambda path: {"/srv/x": "x"}[path])
    assert params(name=None).stem == STEM
    assert params(name=None, state="absent", options={"path": "/srv//x/"}).stem == STEM


def test_what_is_removed_has_to_be_known() -> None:
    with pytest.raises(SessionsError, match="it is unknown which job is meant"):
        params(name=None, state="absent", options={})


@pytest.mark.parametrize(
    ("unit", "properties", "words"),
    [
        ("service", {"FragmentPath": "/run/systemd/transient/x"}, "systemd does not use /etc.*but /run"),
        ("timer", {"ActiveState": "failed"}, "does not run although it was started"),
        ("timer", {"NextElapseUSecRealtime": ""}, "will never elapse"),
    ],
)
def test_what_does_not_take_effect_is_an_error(unit: str, properties: dict[str, str], words: str) -> None:
    wanted = params()
    with pytest.raises(SessionsError, match=words):
        job.verify(installed(wanted, **{unit: properties}), wanted)


def test_a_failed_run_is_a_warning() -> None:
    wanted = params()
    state = installed(wanted, service={"ActiveState": "failed", "Result": "exit-code", "ExecMainExitTimestamp": "Sat"})
    told = job.report(wanted, state, (), None)
    assert told.values["failed"]
    assert told.values["last_result"] == "exit-code"
    assert [warning for warning in told.warnings if "failed (exit-code)" in warning]
    assert not job.report(wanted, installed(wanted), (), None).warnings
