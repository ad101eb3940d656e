#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin with this name, plugins/action/check_settings.py. Nothing is sent to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: check_settings
short_description: Check the fleet-wide settings of a playbook of this collection
version_added: 0.1.0
description:
  - The first task of each playbook. It runs on the controller and does not connect to any host.
  - Fails in one sentence if a setting (C(wa_*)) of any host of the play has an invalid value.
  - Warns about unknown settings and suggests the closest name, and warns if C(--tags) selects none of the playbook's
    tasks.
  - Fails in a slice of an AWX job if the playbook changes hosts in batches or moves accounts between hosts, because
    slices do not wait for each other. In check mode, slices are accepted.
  - Fails in an AWX job if a question of its survey has no answer and the inventory has a value for it, because AWX passes
    an empty string, which overrides that value.
  - Null and an empty string count as unset. Booleans, numbers, lists and dictionaries can be text, in the formats of
    P(whatsapp_ops.sessions.setting#filter).
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.info
attributes:
  safe_file_operations:
    support: N/A
    details: Does not work with files on hosts.
options:
  playbook:
    description: Name of the playbook, without C(.yml).
    type: str
    required: true
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Check the settings
  whatsapp_ops.sessions.check_settings:
    playbook: persist
  run_once: true
  tags: [always]
"""

RETURN = ""
