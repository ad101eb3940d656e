#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin with this name, plugins/action/publish_counts.py. Nothing is sent to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: publish_counts
short_description: Publish the counts of a playbook of this collection for the next step of a workflow
version_added: 0.1.0
description:
  - Runs once for all hosts, on the controller, and does not connect to any host.
  - Adds one entry for the playbook to the statistic C(whatsapp_ops), as M(ansible.builtin.set_stats) does. AWX and
    ansible-runner keep it as an artifact, and AWX passes it to the next jobs of a workflow. Entries of earlier jobs
    are kept.
  - In a slice of an AWX job, the name is C(whatsapp_ops_JOB), because AWX keeps only one artifact of each name.
  - Contains numbers only, and C(text), the same numbers in one sentence for a person who approves the next step.
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
  stage:
    description:
      - V(checked) publishes C(hosts) and C(linked), their linked accounts before any change.
      - V(worked) publishes C(migrated), which includes accounts that were moved or restored, C(linked_before) and
        C(linked_after) of hosts whose result was verified, and C(downtime_seconds), the longest interruption of one
        backend.
    type: str
    choices: [checked, worked]
    required: true
  results_of:
    description: Hosts whose results are counted. Defaults to all hosts of the play.
    type: list
    elements: str
  counts:
    description: Numbers that the playbook knows, for example how many hosts failed.
    type: dict
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Publish the counts
  whatsapp_ops.sessions.publish_counts:
    playbook: verify
    stage: checked
  run_once: true
"""

RETURN = r"""
counts:
  description: The numbers, without those of earlier jobs.
  returned: always
  type: dict
  sample: {hosts: 40, linked: 118, todo: 12, not_checked: 0}
text:
  description: The same in one sentence.
  returned: always
  type: str
  sample: 12 of 40 hosts need changes, 118 accounts are linked
"""
