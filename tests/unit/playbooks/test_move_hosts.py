# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts a move needs, and what is said where one of them is not in the run."""

from __future__ import annotations

import pathlib

import pytest
from fleetkit import Fleet

MOVE = {"wa_move_from": "a", "wa_move_to": "b"}


@pytest.mark.parametrize(
    ("hosts", "limit", "absent"),
    [("abc", "a", "b is"), ("abc", "c", "a and b are"), ("ac", "all", "b is")],  # the last one as a slice of a job
)
def test_a_move_without_one_of_its_hosts_fails_in_one_sentence(
    tmp_path: pathlib.Path, hosts: str, limit: str, absent: str
) -> None:
    fleet = Fleet(tmp_path)
    for name in hosts:
        fleet.add(name)
    played = fleet.play("move", "--limit", limit, **MOVE)
    assert played.rc != 0
    assert f"{absent} not among the hosts of this run, so nothing was moved" in played.output
    assert "undefined" not in played.output
    assert not any(played.calls.values())
