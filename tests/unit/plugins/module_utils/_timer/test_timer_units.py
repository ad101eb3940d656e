# SPDX-License-Identifier: GPL-3.0-or-later
"""The units of a job: what starts it, what it may do, and that systemd accepts all of it."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.unit_file import parse, words
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd.verify import verify_units
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._timer.jobs import Needs
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._timer.units import (
    Schedule,
    listed,
    names_of,
    unit_texts,
)

NEEDS = Needs("x", ("/var/lib/wa/sessions",))
ALL = Schedule("daily", "5min", ("/var/lib/wa/sessions", "/srv/100%"), "30s", "done.service", "alarm.service")
NAMES = names_of("whatsapp-ops-backup-x")


def texts(needs: Needs = NEEDS, when: Schedule = ALL) -> dict[str, str]:
    return unit_texts("whatsapp-ops-backup-x", "backup of x", ("/bin/true", "a"), needs, when)


def options(unit: str, needs: Needs = NEEDS, when: Schedule = ALL) -> dict[str, str]:
    return {setting.option: setting.value for setting in parse(texts(needs, when)[unit])}


def test_systemd_accepts_all_units() -> None:
    verify_units(texts())
    verify_units(
        texts(NEEDS._replace(network=True, holds=True, writes=("/var/backups",), changes=("/srv/a b",)), Schedule())
    )


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (ALL._replace(on_calendar="dayly"), r"OnCalendar in section \[Timer\].*whatsapp-ops-backup-x\.timer"),
        (ALL._replace(randomized_delay="soon"), r"RandomizedDelaySec in section \[Timer\]"),
        (ALL._replace(settle="a while"), r"OnActiveSec in section \[Timer\].*settled\.timer"),
    ],
)
def test_systemd_refuses_what_it_cannot_read(when: Schedule, words: str) -> None:
    with pytest.raises(SessionsError, match=words):
        verify_units(texts(when=when))


@pytest.mark.parametrize(
    ("when", "units"),
    [
        (ALL, set(NAMES)),
        (Schedule("daily"), {NAMES.service, NAMES.timer}),
        (Schedule(watch=("/a",), settle="1s"), {NAMES.service, NAMES.path, NAMES.settled}),
        (Schedule(), {NAMES.service}),
    ],
)
def test_there_are_only_units_that_are_wanted(when: Schedule, units: set[str]) -> None:
    assert set(texts(when=when)) == units


def test_a_change_starts_the_service_once_it_has_settled() -> None:
    assert options(NAMES.path)["Unit"] == NAMES.settled
    assert options(NAMES.settled)["Unit"] == NAMES.service
    assert options(NAMES.settled)["OnActiveSec"] == "30s"
    watched = [setting.value for setting in parse(texts()[NAMES.path]) if setting.option == "PathChanged"]
    assert watched == ["/var/lib/wa/sessions", "/srv/100%%"]


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        (NEEDS, {"PrivateNetwork": "yes", "RestrictAddressFamilies": "AF_UNIX", "ProtectControlGroups": "yes"}),
        (NEEDS._replace(network=True), {"RestrictAddressFamilies": "AF_UNIX AF_INET AF_INET6"}),
        (NEEDS._replace(holds=True), {"ProtectControlGroups": "no", "ProtectSystem": "full"}),
        (NEEDS._replace(writes=("/var/my backups",)), {"ReadWritePaths": '"/var/my backups"'}),
        (NEEDS._replace(writes=("/var/b",), changes=("/srv",)), {"ReadWritePaths": "/var/b -/srv"}),
        (NEEDS._replace(mounts=("/var/tmp/sessions",)), {"PrivateTmp": "no"}),
        (NEEDS._replace(mounts=("/var/tmpsessions",)), {"PrivateTmp": "yes"}),
    ],
)
def test_a_service_may_do_what_its_job_needs(needs: Needs, expected: dict[str, str]) -> None:
    found = options(NAMES.service, needs)
    assert {name: found.get(name) for name in expected} == expected
    assert ("PrivateNetwork" in found) != needs.network
    assert needs.holds or found["ProtectSystem"] == "strict"
    assert found["NoNewPrivileges"] == "yes"


@pytest.mark.parametrize("paths", [("/a", "/b"), ("/a b", "/c"), ('/a"b', "/a\\b"), ("/it's",)])
def test_systemd_reads_a_list_of_paths_as_it_was_given(paths: t.Sequence[str]) -> None:
    assert words(listed(paths)) == tuple(paths)


def test_a_service_may_find_out_whether_a_file_of_another_user_is_being_written() -> None:
    assert "CAP_LEASE" in options(NAMES.service)["CapabilityBoundingSet"].split()


def test_a_specifier_in_a_path_is_not_expanded() -> None:
    assert listed(["/srv/%H"]) == "/srv/%%H"
