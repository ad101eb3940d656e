# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Options that mean the same in several modules, each described once."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
"""

    SHOW_ACCOUNTS = r"""
options:
  show_accounts:
    description: Return account names unmasked. They are often phone numbers.
    type: bool
    default: false
"""

    BACKUP_PATH = r"""
options:
  backup_path:
    description: The directory of the snapshots. Defaults to the directory C(backups) in the control directory of O(path).
    type: path
"""

    # What M(whatsapp_ops.sessions.session_audit) and the modules that return its findings have in common.
    FINDINGS = r"""
options:
  exceptions:
    description:
      - Findings that are accepted until a date. They are no longer returned as findings.
      - After its last day, an exception has no effect and is a finding itself, V(exception_expired).
    type: list
    elements: dict
    default: []
    suboptions:
      id:
        description: ID of the finding.
        type: str
        required: true
      reason:
        description: Why the risk is accepted.
        type: str
        required: true
      until:
        description: Last day of the exception, as C(YYYY-MM-DD).
        type: str
        required: true
  backup_max_age:
    description: Seconds after which the backup of an account that was not confirmed since is a finding.
    type: int
    default: 93600
"""

    # The record of a host, as M(whatsapp_ops.sessions.session_report) returns it and M(whatsapp_ops.sessions.session_metrics) writes it.
    RECORD = r"""
options:
  path:
    description: The directory that contains the accounts.
    type: path
    required: true
  unit:
    description:
      - The systemd unit of the backend. Without a unit, the name of a Docker Compose service or container.
      - If omitted, nothing is recorded about the backend and its restarts.
    type: str
  audit:
    description: Include the findings of M(whatsapp_ops.sessions.session_audit).
    type: bool
    default: true
  sizes:
    description: Count the files of each account and their bytes. This reads every directory of every account, but no file.
    type: bool
    default: true
"""

    # The interruption of a backend, and what follows it.
    INTERRUPTION = r"""
options:
  unit_timeout:
    description: Seconds to wait for the unit to stop, and again for it to start.
    type: int
    default: 120
  use_timeout:
    description:
      - Seconds within which a backend with linked accounts has to open one of them at O(path) after its start. Otherwise, what was done is
        rolled back and the module fails.
      - With V(0), the module only warns, after 3 seconds. It always rolls back if the backend opens accounts at another path.
    type: float
    default: 0
"""
