#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports what on a host will lose accounts, before it does."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_audit
short_description: Report what on a host will lose WhatsApp accounts
version_added: 0.1.0
description:
  - Examines where the backend keeps its accounts, how its unit or container is stopped, restarted and configured, every account,
    and the backups, and returns what will lose accounts as findings, each with its evidence and remedy.
  - Changes nothing, opens no file of an account except the credentials and databases that M(whatsapp_ops.sessions.session_info)
    opens, and does not try to write. It is safe on production hosts, with the backend running.
  - A finding is not an error, so the module succeeds whatever it finds. Only what cannot be examined at all fails, for example a unit
    that does not exist. A part that cannot be examined is the finding V(not_examined).
  - C(docs/findings.md) lists all findings with their severity, meaning and remedy.
  - The cost depends on the number of accounts, and on O(scan_files) of each.
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.info
  - whatsapp_ops.sessions._attributes.action_group
  - whatsapp_ops.sessions._layout
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
  path:
    description:
      - The directory that should contain the accounts.
      - If it contains none, or the backend uses other directories, those are examined instead, and that is a finding.
    type: path
    required: true
  unit:
    description:
      - The systemd unit of the backend. Without a unit, the name of a Docker Compose service or container.
      - If omitted, only directories, accounts and backups are examined.
    type: str
  src:
    description: Former directories of the accounts, in addition to those that the backend leads to.
    type: list
    elements: path
    default: []
  min_free_bytes:
    description: Fewer free bytes on the filesystem of the accounts are a finding.
    type: int
    default: 268435456
  min_free_inodes:
    description: Fewer free inodes on the filesystem of the accounts are a finding.
    type: int
    default: 5000
  max_files:
    description: As many files in one account are a finding. Further ones are not counted.
    type: int
    default: 20000
  max_restarts:
    description: As many automatic restarts of the unit since it was started are a finding.
    type: int
    default: 5
  scan_files:
    description:
      - Number of files of each account of which owner, mode and size are examined. They are spread evenly over each directory, and
        evidence states how many were examined.
      - All files are counted and listed in any case. Examining all of them costs several times as much.
    type: int
    default: 200
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Report what will lose accounts
  whatsapp_ops.sessions.session_audit:
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend
  register: audit

- name: Require that no account is about to be lost
  ansible.builtin.assert:
    that: audit.counts.critical == 0
    fail_msg: "{{ audit.findings | map(attribute='id') | join(', ') }}"

- name: Accept a risk for some time
  whatsapp_ops.sessions.session_audit:
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend
    exceptions:
      - id: unit_root
        reason: the vendor's image is replaced in spring
        until: "2027-04-30"
"""

RETURN = r"""
path:
  description: The directory that should contain the accounts.
  returned: success
  type: str
  sample: /var/lib/whatsapp-backend/sessions
layout:
  description: The layout of the accounts. Without accounts, the first layout of the table.
  returned: success
  type: str
  sample: baileys
places:
  description: The examined directories, which contain the accounts that the backend uses.
  returned: success
  type: list
  elements: str
  sample: [/opt/whatsapp/current/.baileys_auth]
accounts:
  description: Number of accounts in them.
  returned: success
  type: int
  sample: 3
linked_accounts:
  description: Number of linked accounts.
  returned: success
  type: int
  sample: 3
findings:
  description: The findings that apply, the worst first.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its stable ID.
      type: str
      sample: path_in_release
    severity:
      description:
        - V(critical), the next ordinary event loses accounts, or one is lost already; V(high), the next failure does; V(medium) and
          V(low), it makes a loss more likely or worse.
      type: str
      sample: critical
    title:
      description: What was found.
      type: str
      sample: The directory is inside a deployed program
    count:
      description: Number of places or accounts to which it applies.
      type: int
      sample: 1
    evidence:
      description: Where it applies and what shows it, for at most 20 of them. Account names are masked unless O(show_accounts=true).
      type: list
      elements: dict
      contains:
        where:
          description: A path, a unit, or an account.
          type: str
          sample: /opt/whatsapp/current/.baileys_auth
        what:
          description: What shows it.
          type: str
          sample: it is inside /opt/whatsapp/releases/2, a program (package.json)
    remedy:
      description: The setting or playbook that fixes it.
      type: str
      sample: run the playbook persist
accepted:
  description: The findings that apply and have a valid exception.
  returned: success
  type: list
  elements: dict
  sample: []
  contains:
    id:
      description: Its ID.
      type: str
    reason:
      description: Why it is accepted.
      type: str
    until:
      description: The last day of the exception.
      type: str
    count:
      description: Number of places or accounts to which it applies.
      type: int
counts:
  description: Number of findings of each severity, without accepted ones.
  returned: success
  type: dict
  sample: {critical: 1, high: 2, medium: 0, low: 0}
worst:
  description: The worst severity among RV(findings); empty if there are none.
  returned: success
  type: str
  sample: critical
summary:
  description: Numbers of accounts and findings, as one line.
  returned: success
  type: str
  sample: "3 accounts, findings: 1 critical, 2 high"
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._audit import job as audit_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import zip_imports
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import SESSION_AUDIT
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.module import run_module

del zip_imports  # imported before all others, for its side effect


def main() -> None:
    """Run the module."""
    run_module(audit_job, SESSION_AUDIT)


if __name__ == "__main__":
    main()
