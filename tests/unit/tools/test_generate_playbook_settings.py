# SPDX-License-Identifier: GPL-3.0-or-later
"""A new option of a role becomes a setting of its playbook, and nothing else there changes."""

from __future__ import annotations

import pathlib

import pytest

import generate_playbook_settings as tool

ROLE = """\
argument_specs:
  main:
    short_description: Look
    options:
      look_unit:
        description: The unit.
        type: str
        default: whatsapp-backend
      look_days:
        description: >-
          How many
          days.
        type: int
        default: 7
      look_path:
        description: A path.
        type: path
"""
DEFAULTS = """\
look_unit: "{{ wa_service | default('whatsapp-backend', true) }}"
look_days: "{{ wa_look_days | default(7, true) }}"
look_path: /fixed
"""
SPEC = """\
argument_specs:
  look:
    options:
      wa_hosts:
        type: raw
      wa_service:
        description: The unit, in other words.
        type: str
    examples: |
      ansible-playbook look
"""
ADDED = """\
      wa_look_days:
        description: >-
          How many
          days.
        type: int
"""


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    for name, text in (
        ("roles/look/meta/argument_specs.yml", ROLE),
        ("roles/look/defaults/main.yml", DEFAULTS),
        ("playbooks/argument_specs/look.yml", SPEC),
        ("playbooks/argument_specs/without_role.yml", SPEC),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_missing_setting_is_added_behind_the_one_before_it(root: pathlib.Path) -> None:
    assert tool.main(["--check"], root) == 1
    assert tool.main([], root) == 0
    spec = root / "playbooks/argument_specs/look.yml"
    assert spec.read_text() == SPEC.replace("    examples", f"{ADDED}    examples")
    assert tool.main(["--check"], root) == 0


def test_the_playbooks_of_this_collection_know_the_settings_of_their_roles() -> None:
    assert tool.main(["--check"]) == 0
