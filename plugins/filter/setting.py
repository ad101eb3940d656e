# SPDX-License-Identifier: GPL-3.0-or-later
"""Converts a setting to its type."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._settings import is_given, read_setting

DOCUMENTATION = r"""
name: setting
short_description: Convert a setting from any supported notation
version_added: 0.1.0
description:
  - Surveys and C(-e name=value) provide text only. This filter converts it to a value of the requested type.
  - Text can be a boolean in any notation of Ansible, a number, a list as lines or as JSON or YAML, or a dictionary as JSON or YAML.
positional: kind, default
options:
  _input:
    description: The setting.
    type: raw
    required: true
  kind:
    description: Type of the result.
    type: str
    choices: [bool, int, float, list, dict]
    required: true
  default:
    description: Result if the setting is omitted, null or an empty text.
    type: raw
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Show the legacy paths, which a survey provides as lines
  ansible.builtin.debug:
    msg: "{{ wa_legacy_paths | default(none) | whatsapp_ops.sessions.setting('list', []) }}"
"""

RETURN = r"""
_value:
  description: The converted setting.
  type: raw
"""


def setting(value: t.Any, kind: str, default: t.Any = None) -> t.Any:
    """Return the converted value, or the default if none is given."""
    if not is_given(value):
        return default
    try:
        return read_setting(value, kind)
    except ValueError as error:
        raise AnsibleFilterError(f"a setting is not {error}; correct it and run again") from error


class FilterModule:
    """The filters of this file, for Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by name."""
        return {"setting": setting}
