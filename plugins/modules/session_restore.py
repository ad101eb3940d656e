#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores WhatsApp sessions from their snapshots, by name, or those that are certainly damaged or lost."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_restore
short_description: Restore WhatsApp sessions from snapshots, and never turn keys back by accident
version_added: 0.1.0
description:
  - Restores accounts from the snapshots of M(whatsapp_ops.sessions.session_backup). A snapshot is checked first. Then the backend is
    stopped, the accounts are published with a single rename each, and the backend is started and observed to use them.
  - The keys of an account change with every message. If an older copy replaces a linked account, messages that were sent or received
    since cannot be decrypted until the chats have renegotiated their keys, and some are lost. Therefore a linked account is replaced
    by an older copy only with O(force=true). An account that is equal to its snapshot is not touched.
  - What is replaced is set aside and never deleted; M(whatsapp_ops.sessions.session_info) lists it.
  - A restore is done like a migration by M(whatsapp_ops.sessions.session_migrate), with the same guarantees. A backend that ran before
    runs afterwards, also if the run is killed or the host loses power. A backend that was stopped stays stopped.
  - Locks are never restored. Snapshots are treated as data of strangers, because a store may have been copied from another host.
  - An account that was moved to another host is never restored, because both copies would be connected.
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.action_group
  - whatsapp_ops.sessions._attributes.progress
  - whatsapp_ops.sessions._layout
  - whatsapp_ops.sessions._options.backup_path
  - whatsapp_ops.sessions._options.show_accounts
  - whatsapp_ops.sessions._options.interruption
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
    details:
      - An account that was restored from a snapshot is not restored from it again, not even with O(force=true), while it is linked to the
        same device.
  safe_file_operations:
    support: full
options:
  path:
    description: The sessions path. Created if it does not exist.
    type: path
    required: true
  unit:
    description:
      - The systemd unit of the backend, with or without C(.service). It is stopped only if something has to be restored. If there is no
        such unit, the name of a Docker Compose service or container.
      - Without this option no running systemd is required, and you have to make sure that nothing writes to the accounts.
      - A unit that uses another directory than O(path) is refused.
    type: str
  accounts:
    description:
      - Names of the accounts to restore, as they are on disk. Required with O(state=restored), unless O(all_accounts) is set.
      - With O(state=recovered), the only accounts to consider. Defaults to all that have a snapshot.
      - The names are often phone numbers, so neither the host's journal nor the module's invocation shows them.
    type: list
    elements: str
    default: []
  all_accounts:
    description:
      - With O(state=restored), restore all accounts that have a sound snapshot and are not linked at O(path), for example on a host that
        replaces a lost one.
      - Accounts that the last backup did not find are skipped. They may have been moved to another host.
    type: bool
    default: false
  snapshot:
    description:
      - The moment of the snapshot, as M(whatsapp_ops.sessions.session_backup) returns it, or V(latest) for the newest one in which the
        account is linked.
    type: str
    default: latest
  state:
    description:
      - V(restored) restores the accounts that are named in O(accounts).
      - V(recovered) restores accounts that are certainly damaged or lost, from their newest intact snapshot, and nothing else.
      - An account is damaged if its credentials or databases are unreadable for the library, twice in a row. It is lost if it is missing
        or no longer linked, although its snapshot was, and the journal shows that its backend has logged no logout since. A logout on the
        phone makes programs remove the account, and old keys would not link it again.
      - Everything that leaves a doubt is returned as skipped, with the reason. For example, without O(unit), or with a journal that does
        not reach back to the snapshot, only damaged accounts are restored. An unmounted volume is never taken for a loss.
      - An account that you removed on purpose is not distinguished from a lost one. Remove its snapshots as well.
    type: str
    choices: [restored, recovered]
    default: restored
  force:
    description: Replace linked accounts by older copies. See the description of the module for what that means.
    type: bool
    default: false
  snapshot_path:
    description: The sessions path that the snapshots were taken of, if it was another one. Defaults to O(path).
    type: path
  owner:
    description: The owner of the restored accounts. Defaults to the user of O(unit), without a unit to the owner of O(path).
    type: str
  group:
    description: The group of the restored accounts. Defaults to the group of O(unit), or without a unit to the primary group of O(owner).
    type: str
  recover_interval:
    description: With O(state=recovered), the seconds until the same account may be restored again. An attempt that fails counts.
    type: int
    default: 3600
  recover_at_most:
    description: With O(state=recovered), how often the same account may be restored within a day.
    type: int
    default: 3
  logout_patterns:
    description:
      - With O(state=recovered), further regular expressions of lines that the backend logs when an account is logged out or removed.
        Common ones are known.
    type: list
    elements: str
    default: []
seealso:
  - module: whatsapp_ops.sessions.session_backup
  - module: whatsapp_ops.sessions.session_info
  - module: whatsapp_ops.sessions.session_migrate
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Restore an account that was lost
  whatsapp_ops.sessions.session_restore:
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend
    accounts: [session-1]

- name: Return to an older snapshot, although the account is linked and messages will be lost
  whatsapp_ops.sessions.session_restore:
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend
    accounts: [session-1]
    snapshot: 20261130T101500.000000Z
    force: true

- name: Restore whatever is certainly damaged or lost
  whatsapp_ops.sessions.session_restore:
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend
    state: recovered

- name: Restore all accounts of a lost host whose snapshots were fetched
  whatsapp_ops.sessions.session_restore:
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend
    all_accounts: true

- name: Restore an account on a new host, from an off-host copy of the snapshots
  whatsapp_ops.sessions.session_restore:
    path: /srv/sessions
    unit: whatsapp-backend
    accounts: [session-1]
    backup_path: /srv/copied-snapshots
    snapshot_path: /var/lib/whatsapp-backend/sessions
"""

RETURN = r"""
path:
  description: The sessions path.
  returned: success
  type: str
  sample: /var/lib/whatsapp-backend/sessions
store:
  description: The directory of the snapshots.
  returned: success
  type: str
  sample: /var/lib/whatsapp-ops/var-lib-whatsapp-backend-sessions-1f4c0ab2d93e/backups
summary:
  description: Short summary of what was done, or would be done in check mode.
  returned: success
  type: str
  sample: 1 account restored, away for 0.6 s
accounts:
  description: The accounts that were named, or that are damaged or lost, each with its action or, in check mode, the predicted one.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The account's name, masked.
      type: str
      sample: 4…7-9c1f2e
    action:
      description:
        - V(restored); V(unchanged), equal to the snapshot or restored from it before; V(kept), it was linked again when the backend had
          stopped; V(skipped), see the reason.
      type: str
      sample: restored
    reason:
      description: Reason for the action.
      type: str
      sample: the sessions path does not have it
    snapshot:
      description: The moment of the snapshot, null for an account that is skipped.
      type: str
      sample: 20261130T101500.000000Z
    age_seconds:
      description: How long ago the account was last found to be as in the snapshot.
      type: int
      sample: 1260
counts:
  description: Number of accounts for each action.
  returned: success
  type: dict
  sample: {restored: 1, unchanged: 0, kept: 0, skipped: 0}
sound:
  description: With O(state=recovered) or O(all_accounts), the number of accounts that have a snapshot and are linked.
  returned: success
  type: int
  sample: 3
steps:
  description: Steps that were carried out, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [stage, publish]
downtime_seconds:
  description: Seconds from the stop of the backend to the end of its start. 0 if it was not interrupted.
  returned: success
  type: float
  sample: 0.6
phases:
  description: Duration of each phase in seconds.
  returned: success
  type: dict
  sample: {stage: 0.1, guard: 0.2, stop: 0.3, decide: 0.0, difference: 0.0, verify: 0.0, durable: 0.1, publish: 0.0, record: 0.0,
    switch: 0.0, start: 0.1, prove: 0.4}
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import zip_imports
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import SESSION_RESTORE
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.module import run_module
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._restore import job as restore_job

del zip_imports  # imported before all others, for its side effect


def main() -> None:
    """Run the module."""
    run_module(restore_job, SESSION_RESTORE)


if __name__ == "__main__":
    main()
