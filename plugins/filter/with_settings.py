# SPDX-License-Identifier: GPL-3.0-or-later
"""Adds to a message of a module which settings of the playbooks set the options that it names."""

from __future__ import annotations

import re
import typing as t

DOCUMENTATION = r"""
name: with_settings
short_description: Name the settings that set the options in the message of a module
version_added: 0.1.0
description:
  - The modules of this collection name their options in messages, as C('src') or as C(allow_empty=true). An operator of a playbook
    needs the setting that sets the option.
positional: settings
options:
  _input:
    description: The message.
    type: str
    required: true
  settings:
    description: For each option, the setting that sets it.
    type: dict
    required: true
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Report the failure
  ansible.builtin.fail:
    msg: "{{ plan.msg | whatsapp_ops.sessions.with_settings({'src': 'wa_legacy_paths'}) }}"
"""

RETURN = r"""
_value:
  description: The message, followed by the settings if it names such options.
  type: str
"""

_OPTION = re.compile(r"'([a-z_]+(?:\.[a-z_]+)?)'|\b([a-z_]+)=")


def with_settings(message: str, settings: t.Mapping[str, str]) -> str:
    """Return ``message`` with the settings of the options that it names, each once, in their order."""
    named = dict.fromkeys(quoted or assigned for quoted, assigned in _OPTION.findall(message))
    hints = [f"'{option}' is {settings[option]}" for option in named if option in settings]
    return f"{message} (settings: {', '.join(hints)})" if hints else message


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by name."""
        return {"with_settings": with_settings}
