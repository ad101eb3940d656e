# SPDX-License-Identifier: GPL-3.0-or-later
"""System calls that fail: the run says so in one sentence, has published all or nothing, and the next one gets through."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from faultkit import ENGINES, Outcome, Scene, count_calls, in_turn
from test_kill import SCENES, spread_over

MakeScene = t.Callable[..., Scene]

ERRORS = {
    "write": "ENOSPC EDQUOT EIO",
    "fsync": "EIO",
    "syncfs": "EIO ENOSPC",
    "renameat2": "EIO EROFS",
    "renameat": "ENOSPC EROFS",
    "mkdirat": "ENOSPC",
    "openat": "EMFILE EIO ENOSPC",
    "read": "EIO",
    "pread64": "EIO",
    "getdents64": "EIO",
    "newfstatat": "EIO",
    "fchown": "EPERM",
    "fchmod": "EROFS",
    "utimensat": "EROFS",
    "unlinkat": "EIO",
    "clone": "EAGAIN",
    "pipe2": "EMFILE",
    "flock": "ENOLCK",
}
# For the log to have them although nothing happens to them.
NO_FAULTS = ("renameat,fsync,unlinkat:delay_enter=0:when=1",)
OF_EACH_CALL = {"conflict": 3, "stores": 2, "parts": 2}


@pytest.mark.parametrize(("kind", "engine"), in_turn(OF_EACH_CALL))
def test_one_error(scene: MakeScene, engine: str, kind: str, tmp_path: pathlib.Path, record_property: t.Any) -> None:
    fields = {"engine": engine, **SCENES[kind]}
    log = tmp_path / "calls"
    assert scene(**fields).run(log=log)["changed"]
    counts = count_calls(log)
    strikes = [
        (call, error, number)
        for call, errors in ERRORS.items()
        for error in errors.split()
        for number in spread_over(counts.get(call, 0), OF_EACH_CALL[kind])
    ]
    failed, failures = 0, []
    for call, error, number in strikes:
        struck = scene(**fields)
        outcome = struck.run([f"{call}:error={error}:when={number}"])
        failed += "failed" in outcome
        try:
            require_sentence(outcome)
            struck.check_after_fault()
            if "failed" in outcome:
                require_all_or_nothing(struck)
            struck.check_finishes()
        except AssertionError as found:
            failures.append(f"{error} of {call} number {number} ({outcome.get('failed')}): {found}")
    record_property("injected errors", len(strikes))
    record_property("injected errors that the run failed of", failed)
    assert not failures, "\n".join([f"{len(failures)} of {len(strikes)}:", *failures])
    assert failed >= 10


@pytest.mark.parametrize("engine", ["native", "rename"])
def test_killed_while_it_takes_back(
    scene: MakeScene, engine: str, tmp_path: pathlib.Path, record_property: t.Any
) -> None:
    """All is published, and the disk refuses to make it durable; the run is killed at each call by which it undoes that."""
    fields = {"engine": engine, **SCENES["conflict"]}
    refused = f"syncfs:error=EIO:when={2 if engine == 'rename' else 3}"
    log = tmp_path / "calls"
    failed = scene(**fields).run([refused, *NO_FAULTS], log=log)
    assert "rolled back" in failed["failed"], failed
    calls = log.read_text()
    done, undone = calls.partition(" EIO ")[0], count_calls(log)
    failures, killed = [], 0
    for call, most in {"renameat": 12, "fsync": 5, "unlinkat": 5}.items():
        before = sum(f" {call}(" in line for line in done.splitlines())
        for number in (before + turn for turn in spread_over(undone.get(call, 0) - before, most)):
            struck = scene(**fields)
            killed += "killed" in struck.run([refused, f"{call}:signal=KILL:when={number}"])
            try:
                struck.check_after_fault()
                if number % 2:
                    struck.check_rescued()
                    assert struck.environment_file.read_text() == "# by hand\nOTHER=1\n"
                struck.check_finishes()
            except AssertionError as error:
                failures.append(f"killed at {call} number {number}: {error}")
    record_property("kill points in the run itself", killed)
    assert not failures, "\n".join(failures)
    assert killed >= 8


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "fault",
    [
        *("renameat2:error=EROFS:when=2+", "renameat2,renameat,openat,mkdirat,unlinkat:error=EROFS:when=300+"),
        *("write:error=ENOSPC:when=2+", "fsync,syncfs:error=EIO:when=2+", "openat:error=EMFILE:when=200+"),
    ],
)
def test_an_error_that_stays(scene: MakeScene, engine: str, fault: str, record_property: t.Any) -> None:
    """Nothing can be taken back on a disk that is read-only by now: no account may be harmed, and the next run gets through."""
    struck = scene(engine=engine, **SCENES["conflict"])
    outcome = struck.run([fault])
    record_property("injected errors", 1)
    require_sentence(outcome)
    struck.check_after_fault()
    struck.check_converges()


@pytest.mark.parametrize("error", ["ENOSYS", "EINVAL"])
@pytest.mark.parametrize(("kind", "engine"), in_turn(SCENES))
def test_a_kernel_without_renameat2(scene: MakeScene, engine: str, error: str, kind: str) -> None:
    struck = scene(engine=engine, **SCENES[kind])
    outcome = struck.run([f"renameat2:error={error}:when=1+"])
    assert outcome.get("changed"), outcome
    struck.check_converged()


@pytest.mark.parametrize("number", [8, 10])
@pytest.mark.parametrize("retval", [0, 10])
def test_a_disk_that_loses_what_it_takes(scene: MakeScene, number: int, retval: int) -> None:
    """A write that claims to have been short while nothing arrived: found when the copy is read back."""
    struck = scene()
    outcome = struck.run([f"write:retval={retval}:when={number}"])
    require_sentence(outcome)
    struck.check_after_fault()
    struck.check_converges()


def require_sentence(outcome: Outcome) -> None:
    """An error is told in one sentence that the code has for it."""
    if "failed" in outcome:
        assert outcome["foreseen"], "not foreseen"
        assert "\n" not in outcome["failed"]
        assert len(outcome["failed"]) > 30


def require_all_or_nothing(struck: Scene) -> None:
    """A failed run published every account that it was to publish, or none."""
    published = {
        account
        for account, generation in struck.legacy.items()
        if struck.is_whole(struck.path / account, account) == generation
    }
    assert published in (set(), set(struck.legacy)), f"{len(published)} of {len(struck.legacy)} accounts are published"
