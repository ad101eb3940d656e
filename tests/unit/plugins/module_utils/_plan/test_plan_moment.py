# SPDX-License-Identifier: GPL-3.0-or-later
"""When a backend may be interrupted: the time of day in the zone of the window, and how long no account was written to."""

from __future__ import annotations

import datetime
import pathlib
import threading
import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.job import execute
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._plan import job, moment

DESCRIBED = {"layout": "custom", "custom": {"markers": ["creds.json"], "caches": ["cache"]}}


def at(clock: str) -> datetime.datetime:
    return datetime.datetime.combine(datetime.date(2026, 3, 1), datetime.time.fromisoformat(clock), datetime.UTC)


def params(**options: t.Any) -> moment.Params:
    return moment.read_params({"quiet_timeout": 300, **options})


@pytest.mark.parametrize(
    ("window", "clock", "inside"),
    [
        ("22:00-05:00", "22:00", True),
        ("22:00-05:00", "04:59", True),
        ("22:00-05:00", "05:00", False),
        ("22:00-05:00", "21:59", False),
        ("01:30-02:00", "01:30", True),
        ("01:30-02:00", "02:00", False),
        ("20:00-24:00", "23:59", True),
        ("20:00-24:00", "00:00", False),
        (" 00:00-24:00 ", "12:00", True),
    ],
)
def test_a_window_contains_its_beginning_and_not_its_end(window: str, clock: str, inside: bool) -> None:
    asked, seen = params(window=window), moment.Seen(at(clock))
    assert (moment.problem(asked, seen) == "") is inside
    assert bool(moment.plan(asked, seen)) is not inside
    if not inside:
        assert f"it is {clock} UTC on this host, outside of the maintenance window {window}" == moment.problem(
            asked, seen
        )


def test_a_window_has_the_time_zone_that_it_names() -> None:
    east, west = (params(window=f"12:00-13:00 {zone}") for zone in ("Etc/GMT-14", "Etc/GMT+12"))
    looked = moment.observe(east).now, moment.observe(west).now
    assert [now.utcoffset() for now in looked] == [datetime.timedelta(hours=14), datetime.timedelta(hours=-12)]


@pytest.mark.parametrize("window", ["22:00", "22-5", "24:00-05:00", "22:00-05:60", "05:00-05:00", "22:00-05:00 A B"])
def test_another_text_is_no_window(window: str) -> None:
    with pytest.raises(SessionsError, match="window is not a time of day"):
        params(window=window)


@pytest.mark.parametrize("zone", ["Mars/Base", "../../etc/passwd", "/etc/localtime"])
def test_an_unknown_time_zone_is_reported(zone: str) -> None:
    with pytest.raises(SessionsError, match=r"time zone|not a time of day"):
        params(window=f"22:00-05:00 {zone}")


@pytest.mark.parametrize("numbers", [(-1, 300), (301, 300), (1, 86401), (float("nan"), 300)])
def test_a_wait_has_an_end(numbers: tuple[float, float]) -> None:
    with pytest.raises(SessionsError, match="quiet_seconds is"):
        params(quiet_seconds=numbers[0], quiet_timeout=numbers[1])


@pytest.fixture
def account(tmp_path: pathlib.Path) -> pathlib.Path:
    account = tmp_path / "sessions" / "one"
    account.mkdir(parents=True)
    (account / "creds.json").write_text("{}")
    return account


def look(account: pathlib.Path, **options: t.Any) -> dict[str, t.Any]:
    paths = [str(account.parent), str(account.parent / "none")]
    return {"moment": {"paths": paths, **DESCRIBED, "quiet_timeout": 300, **options}}


def run(options: dict[str, t.Any], check_mode: bool = False) -> job.Report:
    outcome = execute(t.cast("t.Any", job), options, check_mode=check_mode)
    assert not outcome.changed
    return outcome.report


def test_it_waits_until_nothing_was_written_for_a_while(account: pathlib.Path) -> None:
    moment = run(look(account, quiet_seconds=0.5)).values["moment"]
    assert moment["quiet_for_seconds"] >= 0.5
    assert run(look(account)).values["moment"]["quiet_for_seconds"] is None


def test_a_backend_that_writes_all_the_time_is_not_interrupted_unless_that_is_accepted(account: pathlib.Path) -> None:
    done = threading.Event()

    def write() -> None:
        while not done.wait(0.01):
            (account / "creds.json").write_text("{}")

    writer = threading.Thread(target=write)
    writer.start()
    busy = look(account, quiet_seconds=0.4, quiet_timeout=0.6)
    try:
        with pytest.raises(SessionsError, match=r"never 0\.4 s apart within 0\.6 s, so nothing was changed"):
            run(busy)
        busy["moment"]["quiet_required"] = False
        assert run(busy).values["moment"]["quiet_for_seconds"] < 0.4
        assert run(busy, check_mode=True).values["moment"]["problem"] == ""
    finally:
        done.set()
        writer.join()


def test_caches_and_other_directories_do_not_count(account: pathlib.Path) -> None:
    (account / "cache").mkdir()
    run(look(account, quiet_seconds=0.3))
    (account / "cache" / "entry").write_text("")
    (account.parent / "notes").write_text("")
    moment = run(look(account, quiet_seconds=0.3), check_mode=True).values["moment"]
    assert moment["quiet_for_seconds"] >= 0.3


def test_without_accounts_there_is_nothing_to_wait_for(tmp_path: pathlib.Path) -> None:
    moment = run(look(tmp_path / "sessions" / "one", quiet_seconds=200)).values["moment"]
    assert moment["quiet_for_seconds"] is None


def test_outside_of_the_window_a_run_refuses_and_check_mode_warns(
    account: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moment.Window, "contains", lambda window, now: False)
    closed = look(account, window="22:00-05:00")
    with pytest.raises(SessionsError, match="outside of the maintenance window 22:00-05:00, so nothing was changed"):
        run(closed)
    report = run(closed, check_mode=True)
    assert "outside of the maintenance window" in report.values["moment"]["problem"]
    assert [warning for warning in report.warnings if "so a run would stop before it changes anything" in warning]


def test_a_window_that_closes_during_the_wait_is_closed(account: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([True, True, False])
    monkeypatch.setattr(moment.Window, "contains", lambda window, now: next(looks, False))
    with pytest.raises(SessionsError, match="outside of the maintenance window"):
        run(look(account, window="22:00-05:00", quiet_seconds=0.2))


def test_a_host_where_nothing_is_left_to_do_has_no_window(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(moment.Window, "contains", lambda window, now: False)
    file = tmp_path / "env"
    file.write_text("A=1\n")
    asked = {"moment": {"window": "22:00-05:00"}, "environment_file": {"path": str(file), "values": {"A": "1"}}}
    assert run(asked).values["todo"] == []
    asked["environment_file"]["values"] = {"A": "2"}
    with pytest.raises(SessionsError, match="outside of the maintenance window"):
        run(asked)
    assert file.read_text() == "A=1\n"
