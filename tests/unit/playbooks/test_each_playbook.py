# SPDX-License-Identifier: GPL-3.0-or-later
"""Each playbook begins on every ansible-core: `make cores` runs these on the oldest and the newest one."""

from __future__ import annotations

import pathlib

import pytest
from fleetkit import REPOSITORY, Fleet

PLAYBOOKS = sorted(path.stem for path in (REPOSITORY / "playbooks").glob("*.yml"))
HOSTS = {"wa_move_from": "a", "wa_move_to": "b"}
# A report lists hosts that fail, and goes on.
REPORTS = ("report",)
# The first module that a playbook calls, if it is not session_plan.
FIRST = {
    "audit": "session_audit",
    "backup": "session_backup",
    "recover": "session_restore",
    "restore": "session_restore",
}


@pytest.fixture
def fleet(tmp_path: pathlib.Path) -> Fleet:
    fleet = Fleet(tmp_path)
    for host in HOSTS.values():
        failed = {"failed": True, "msg": f"{host} has no such unit; check 'unit'"}
        fleet.add(host, **{f"{module}_1": failed for module in ("session_plan", *FIRST.values())})
    return fleet


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_every_file_that_a_playbook_names_can_be_read(fleet: Fleet, playbook: str) -> None:
    played = fleet.play(playbook, "--syntax-check", **HOSTS)
    assert played.rc == 0, played.output
    assert played.calls == {"a": [], "b": []}


@pytest.mark.parametrize("playbook", [name for name in PLAYBOOKS if name not in REPORTS])
def test_settings_are_checked_before_each_host_is_looked_at_by_one_call(fleet: Fleet, playbook: str) -> None:
    """What a host refuses is shown with the setting that it is about."""
    played = fleet.play(playbook, wa_servise="x", **HOSTS)
    assert played.rc != 0
    assert "there is no setting wa_servise, so it is ignored; did you mean wa_service?" in " ".join(
        played.output.split()
    )
    first = FIRST.get(playbook, "session_plan")
    assert played.calls == {"a": [first], "b": [first]}
    for host in HOSTS.values():
        assert f"{host} has no such unit; check 'unit' (settings: 'unit' is wa_service)" in played.output
