#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes metrics of a host for the textfile collector of node_exporter."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_metrics
short_description: Write metrics about the WhatsApp sessions of a host for Prometheus
version_added: 0.1.0
description:
  - Writes the figures that M(whatsapp_ops.sessions.session_report) returns to a file for the textfile collector of node_exporter.
  - With M(whatsapp_ops.sessions.session_timer) and its job V(metrics), systemd does that on the host without Ansible.
  - The file contains masked account names. C(docs/report.md) lists the metrics; C(docs/monitoring) has alert rules and a dashboard.
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.action_group
  - whatsapp_ops.sessions._layout
  - whatsapp_ops.sessions._options.record
  - whatsapp_ops.sessions._options.findings
  - whatsapp_ops.sessions._options.backup_path
attributes:
  action_group:
    membership:
      - whatsapp_ops.sessions.sessions
      - whatsapp_ops.sessions.layouts
      - whatsapp_ops.sessions.units
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
    details: A run that finds the same figures writes the file again, because its age shows whether it is current. That is not a change.
  safe_file_operations:
    support: full
options:
  directory:
    description:
      - The directory of node_exporter's textfile collector. It has to exist.
      - The name of the file is made from O(path), so several sessions paths of a host have separate files.
    type: path
    default: /var/lib/prometheus/node-exporter
seealso:
  - module: whatsapp_ops.sessions.session_report
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Write the metrics now
  whatsapp_ops.sessions.session_metrics:
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend

- name: Write the metrics every five minutes, without Ansible
  whatsapp_ops.sessions.session_timer:
    job: metrics
    options:
      path: /var/lib/whatsapp-backend/sessions
      unit: whatsapp-backend
    on_calendar: "*:0/5"
    randomized_delay: 1min
"""

RETURN = r"""
file:
  description: The file.
  returned: success
  type: str
  sample: /var/lib/prometheus/node-exporter/whatsapp-sessions-var-lib-whatsapp-backend-sessions-0f3c5c7a9e11.prom
samples:
  description: Number of samples in it.
  returned: success
  type: int
  sample: 42
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import zip_imports
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import SESSION_METRICS
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.module import run_module
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._report import metrics_job

del zip_imports  # imported before all others, for its side effect


def main() -> None:
    """Run the module."""
    run_module(metrics_job, SESSION_METRICS)


if __name__ == "__main__":
    main()
