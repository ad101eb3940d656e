#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Returns one record of a host for reports: accounts, backend, backups, history and findings."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_report
short_description: Return one record about the WhatsApp sessions of a host
version_added: 0.1.0
description:
  - Returns in one call what a report of a fleet shows about a host, accounts by state and size, the backend and the path that it uses,
    ages of backups, and what happened lately. Changes nothing.
  - The role P(whatsapp_ops.sessions.report#role) makes a page of the records of all hosts. C(docs/report.md) describes each field.
  - A part that cannot be examined, such as a unit that does not exist, is a sentence in C(record.problems). The module fails only if
    the accounts cannot be examined at all.
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.info
  - whatsapp_ops.sessions._attributes.action_group
  - whatsapp_ops.sessions._layout
  - whatsapp_ops.sessions._options.record
  - whatsapp_ops.sessions._options.findings
  - whatsapp_ops.sessions._options.backup_path
  - whatsapp_ops.sessions._options.show_accounts
attributes:
  action_group:
    membership:
      - whatsapp_ops.sessions.sessions
      - whatsapp_ops.sessions.layouts
      - whatsapp_ops.sessions.units
  safe_file_operations:
    support: full
options:
  history_days:
    description: Number of days of which migrations, restarts and replaced accounts are returned.
    type: float
    default: 30
seealso:
  - module: whatsapp_ops.sessions.session_audit
  - module: whatsapp_ops.sessions.session_info
  - module: whatsapp_ops.sessions.session_plan
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Examine a host
  whatsapp_ops.sessions.session_report:
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend
  register: report

- name: Show how old the oldest backup is
  ansible.builtin.debug:
    msg: "{{ report.record.backups.oldest_age_seconds }}"
"""

RETURN = r"""
summary:
  description: The result in a few words.
  returned: success
  type: str
  sample: 3 accounts linked of 3
record:
  description: The record of the host, see C(docs/report.md).
  returned: success
  type: dict
  sample:
    version: 1
    taken: "2026-11-20T12:00:00Z"
    unit: whatsapp-backend.service
    path: /var/lib/whatsapp-backend/sessions
    layout: baileys
    total: 1
    linked: 1
    states: {paired: 1, pending: 0, fresh: 0, corrupt: 0}
    backend: {state: running, since: "2026-11-19T08:30:00Z", use: used, where: [], problem: ""}
    backups: {exists: true, snapshots: 7, oldest_age_seconds: 3600, without_snapshot: 0}
    problems: []
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import zip_imports
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import SESSION_REPORT
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.module import run_module
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._report import job as report_job

del zip_imports  # imported before all others, for its side effect


def main() -> None:
    """Run the module."""
    run_module(report_job, SESSION_REPORT)


if __name__ == "__main__":
    main()
