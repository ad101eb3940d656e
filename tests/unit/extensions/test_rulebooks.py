# SPDX-License-Identifier: GPL-3.0-or-later
"""Rulebooks: every report of a host leads to a playbook that exists, for that host alone, and not again and again."""

from __future__ import annotations

import re
import typing as t

import pytest
import yaml

import awx_definitions as awx
import eda_rules as eda
import generate_awx as tool

PLAYBOOKS = awx.playbooks()
RULEBOOKS = sorted((tool.EXTENSIONS / "eda" / "rulebooks").glob("*.yml"))


def rules() -> list[t.Any]:
    held = [yaml.safe_load(path.read_text()) for path in RULEBOOKS]
    return [pytest.param(rule, id=rule["name"]) for (ruleset,) in held for rule in ruleset["rules"]]


@pytest.mark.parametrize("rule", rules())
def test_a_report_is_handled_by_a_playbook_that_exists(rule: dict[str, t.Any]) -> None:
    ((kind, action),) = rule["action"].items()
    names = {
        "run_playbook": {f"whatsapp_ops.sessions.{name}" for name in PLAYBOOKS},
        "run_job_template": {playbook.template for playbook in PLAYBOOKS.values()},
    }
    assert action["name"] in names[kind]
    assert "{{ event.payload.host }}" in str(action)
    # The pattern of ansible-rulebook.
    assert re.fullmatch(r"\d+\s(seconds?|minutes?|hours?|days?)", rule["throttle"]["once_within"])
    assert rule["throttle"]["group_by_attributes"] == ["event.payload.host", "event.payload.event"]


@pytest.mark.parametrize("host", ["all:wa1", "wa*", "wa1,wa2", "~wa.*", "!wa1", "", "wa1\n"])
def test_a_pattern_is_not_the_name_of_a_host(host: str) -> None:
    pattern = re.search(r'match\("([^"]*)"\)', eda.FROM_ONE_HOST)
    assert pattern
    assert re.fullmatch(pattern[1], "wa-1.example.org")
    assert not re.fullmatch(pattern[1], host)


def test_rules_of_playbooks_that_are_added_appear() -> None:
    few = {name: playbook for name, playbook in PLAYBOOKS.items() if name not in ("backup", "recover")}
    names = ["Handle unhealthy", "Handle disconnected"]
    for added in ("recover", "backup"):
        few |= {added: awx.Playbook(added, "", {})}
        names += {"recover": ["Handle accounts missing"], "backup": ["Handle backup failed"]}[added]
        (ruleset,) = eda.rulebook(few, eda.by_playbook)
        assert [rule["name"] for rule in ruleset["rules"]] == names
    for rulebook in RULEBOOKS:
        assert '"hosts": all' in rulebook.read_text(), "AWX would offer it as a playbook"
