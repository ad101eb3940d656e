# SPDX-License-Identifier: GPL-3.0-or-later
"""What roles make of fleet-wide settings that were left empty: a survey gives an empty text, or null, for what nobody filled in."""

from __future__ import annotations

import pathlib
import re
import typing as t

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import filter_loader
from ansible.template import Templar

try:
    from ansible.template import trust_as_template
except ImportError:  # before 2.19 every text is a template

    def trust_as_template(value: str) -> str:
        return value


ROLES = pathlib.Path(__file__).resolve().parents[3] / "roles"
FILTER = "whatsapp_ops.sessions.setting"
# By its short name: what finds filters of collections changes how the whole process imports, for all tests.
filter_loader.add_directory(str(ROLES.parent / "plugins" / "filter"))
FLEET_WIDE = re.compile(r"\bwa_\w+")
DEFAULTS = [
    pytest.param(role, name, FLEET_WIDE.findall(value)[0], id=name)
    for role in sorted(path.parents[1].name for path in ROLES.glob("*/defaults/main.yml"))
    for name, value in DataLoader().load_from_file(str(ROLES / role / "defaults/main.yml")).items()
    if FLEET_WIDE.search(str(value))
]


def templated(role: str, name: str, **settings: t.Any) -> t.Any:
    """What a role's variable is on a host with these settings."""
    loader = DataLoader()
    known: dict[str, t.Any] = {"hostvars": {"": {}}, "inventory_hostname": "wa1"}
    for part in ("vars", "defaults"):
        for variable, value in loader.load_from_file(str(ROLES / role / part / "main.yml")).items():
            known[variable] = trust_as_template(value.replace(FILTER, "setting")) if isinstance(value, str) else value
    return Templar(loader=loader, variables={**known, **settings}).template(known[name])


def as_option(value: t.Any) -> t.Any:
    """What a module reads: before 2.19 the template of a number is its text."""
    return float(value) if isinstance(value, str) else value


@pytest.mark.parametrize(("role", "name", "setting"), DEFAULTS)
def test_what_is_left_empty_is_as_if_it_was_not_named(role: str, name: str, setting: str) -> None:
    default = templated(role, name)
    assert templated(role, name, **{setting: ""}) == default
    assert templated(role, name, **{setting: None}) == default


@pytest.mark.parametrize(
    ("role", "name", "setting", "value"),
    [
        ("persist", "persist_use_timeout", "wa_use_timeout", 0),
        ("persist", "persist_rollback", "wa_rollback", False),
        ("rollback", "rollback_use_timeout", "wa_use_timeout", 0),
        ("restart", "restart_journal", "wa_journal", False),
    ],
)
def test_nothing_and_no_are_answers(role: str, name: str, setting: str, value: t.Any) -> None:
    assert as_option(templated(role, name, **{setting: value})) == value
    assert isinstance(templated(role, name, **{setting: value}), bool) == isinstance(value, bool)


@pytest.mark.parametrize("role", ["persist", "rollback"])
def test_a_backend_has_the_time_for_its_health_to_open_accounts(role: str) -> None:
    name = f"{role}_use_timeout"
    assert as_option(templated(role, name, wa_health_timeout=7)) == 7
    assert as_option(templated(role, name, wa_health_timeout=7, wa_use_timeout="")) == 7
    assert as_option(templated(role, name, wa_health_timeout=7, wa_use_timeout=9)) == 9
