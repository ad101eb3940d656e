# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of modules name options, and an operator of a playbook is shown the settings of those."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest
import yaml

from ansible_collections.whatsapp_ops.sessions.plugins.filter.with_settings import with_settings
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import argument_specs
from tree import ROOT

SETTINGS = {"src": "wa_legacy_paths", "allow_empty": "wa_allow_empty", "switch.environment_file": "wa_environment_file"}
# The report shows the messages of hosts on its page.
ROLES = sorted({path.name for path in (ROOT / "roles").iterdir()} - {"report"})


def _suboptions(option: object) -> Iterable[str]:
    return option.get("options") or () if isinstance(option, dict) else ()


SPECS = [spec for name, spec in vars(argument_specs).items() if name.isupper() and isinstance(spec, dict)]
OPTIONS = {
    *(option for spec in SPECS for option in spec),
    *(f"{option}.{name}" for spec in SPECS for option in spec for name in _suboptions(spec[option])),
    *argument_specs.SESSION_MIGRATE["switch"]["options"],
}


@pytest.mark.parametrize(
    ("message", "added"),
    [
        ("set 'src' to it, or set allow_empty=true", "'src' is wa_legacy_paths, 'allow_empty' is wa_allow_empty"),
        ("'src' is a file; leave 'src' out", "'src' is wa_legacy_paths"),
        ("set it in 'switch.environment_file'", "'switch.environment_file' is wa_environment_file"),
    ],
)
def test_each_option_that_is_named_has_its_setting_added_once(message: str, added: str) -> None:
    assert with_settings(message, SETTINGS) == f"{message} (settings: {added})"


@pytest.mark.parametrize(
    "message", ["the disk is full", "give 'owner' another value", "the src of it", "Environment=src", "'allow_empty"]
)
def test_another_message_stays_as_it_is(message: str) -> None:
    assert with_settings(message, SETTINGS) == message


@pytest.mark.parametrize("role", ROLES)
def test_a_role_names_options_and_settings_that_exist(role: str) -> None:
    table = yaml.safe_load((ROOT / "roles" / role / "vars/main.yml").read_text())[f"__{role}_settings"]
    spec = yaml.safe_load((ROOT / "playbooks/argument_specs" / f"{role}.yml").read_text())
    assert set(table) <= OPTIONS
    assert set(table.values()) <= set(spec["argument_specs"][role]["options"])


def test_persist_knows_the_setting_of_every_option_that_a_migration_names() -> None:
    """Those that it has a setting for: others can only be named to who calls the modules."""
    table = yaml.safe_load((ROOT / "roles/persist/vars/main.yml").read_text())["__persist_settings"]
    spec = yaml.safe_load((ROOT / "playbooks/argument_specs/persist.yml").read_text())
    settings = {name[len("wa_") :] for name in spec["argument_specs"]["persist"]["options"]}
    code = "".join(path.read_text() for path in (ROOT / "plugins/module_utils").rglob("*.py"))
    named = {option for option in re.findall(r"(?:set|in|to|of|out|or) '([a-z_]+)'", code) if option in OPTIONS}
    assert len(named) > 3
    assert {option for option in named if option in settings} <= set(table)
