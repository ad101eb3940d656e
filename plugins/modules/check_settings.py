#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of this name. The work is in plugins/action: nothing is sent to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: check_settings
short_description: Check the fleet-wide settings of a playbook of this collection
version_added: 0.1.0
description:
  - The first task of each playbook. It runs on the controller and asks no host.
  - Fails in one sentence where a setting (C(wa_*)) has a value that it cannot have, on any host of the play.
  - Warns of settings that no playbook of this collection has, with the name that is nearest, and where C(--tags)
    leaves nothing of the playbook.
  - Null and an empty text count as left out. Booleans, numbers, lists and dictionaries may be text, as
    P(whatsapp_ops.sessions.setting#filter) reads it.
options:
  playbook:
    description: The playbook, by its name without C(.yml).
    type: str
    required: true
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.info
attributes:
  safe_file_operations:
    support: N/A
    details: Works with no file of a host.
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
