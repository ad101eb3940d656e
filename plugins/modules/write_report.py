#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin with this name, plugins/action/write_report.py. Nothing is sent to a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: write_report
short_description: Write the report of a fleet on the controller
version_added: 0.1.0
description:
  - Writes C(report.json) and the page C(report.html), from what M(whatsapp_ops.sessions.session_report) returned for each host of the
    play. It runs on the controller and does not connect to any host, so C(run_once=true) is enough for a whole play.
  - Hosts that were unreachable, failed or were not asked are listed as such.
  - Sizes are compared with those in the C(report.json) that it replaces.
  - The page is one file without references to the network. It shows texts of hosts as text only.
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
    details: The report contains the time at which it was made.
  safe_file_operations:
    support: N/A
    details: Does not work with files on hosts.
options:
  directory:
    description: The directory on the controller. It is created if necessary.
    type: path
    required: true
  variable:
    description: The variable in which the result of M(whatsapp_ops.sessions.session_report) was registered.
    type: str
    required: true
  title:
    description: Title of the page.
    type: str
    default: WhatsApp sessions
  backup_max_age:
    description: Warn of backups that are older, in seconds. With V(0), nothing is said about backups that are old or missing.
    type: float
    default: 93600
  history_days:
    description: Number of days of the history on the page.
    type: float
    default: 30
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Examine the host
  whatsapp_ops.sessions.session_report:
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend
  register: outcome
  ignore_unreachable: true
  failed_when: false

- name: Write the report
  whatsapp_ops.sessions.write_report:
    directory: whatsapp-report
    variable: outcome
  run_once: true
"""

RETURN = r"""
msg:
  description: The result in one sentence, and the path of the page.
  returned: success
  type: str
  sample: All 12 hosts healthy. /srv/reports/report.html
totals:
  description: The figures of the whole fleet, see C(docs/report.md).
  returned: success
  type: dict
  sample: {hosts: 12, accounts: 40, linked: 40, bytes: 81920000, oldest_backup: 3600, without_backup: 0}
"""
