#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Saves snapshots of WhatsApp sessions outside their directory, each of one account at one moment."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_backup
short_description: Save snapshots of WhatsApp sessions, and remove expired ones
version_added: 0.1.0
description:
  - Saves each account at O(path) that has changed since its newest snapshot. A snapshot is one state of the account at one moment. An
    account that keeps changing is skipped, or its backend is held for a moment, see O(quiesce).
  - Unchanged files share their disk space with the previous snapshot, and large files with the account itself if the filesystem is able
    to (XFS, Btrfs). SQLite databases are copied with SQLite's own backup. Locks and sockets are never copied.
  - A snapshot is checked and durable before it appears in the directory of backups, which only root can access. A run that is killed
    leaves nothing that counts as a snapshot.
  - Only linked accounts are saved. An account that is damaged or waits for its QR code is skipped, and its snapshots stay as they are.
  - The last sound snapshot of an account is never removed, even if the account no longer exists.
  - An old snapshot is the last resort. Restoring one sets the encryption keys back, so messages of both sides may be lost until the
    contacts' devices have exchanged new keys. C(docs/backup.md) has the details.
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.action_group
  - whatsapp_ops.sessions._attributes.progress
  - whatsapp_ops.sessions._layout
  - whatsapp_ops.sessions._options.show_accounts
attributes:
  action_group:
    membership:
      - whatsapp_ops.sessions.sessions
      - whatsapp_ops.sessions.layouts
      - whatsapp_ops.sessions.units
  check_mode:
    support: full
    details: Whether an account that is being written to would be skipped is not predicted.
  diff_mode:
    support: full
  idempotent:
    support: full
  safe_file_operations:
    support: full
options:
  path:
    description: The sessions path, which contains the accounts.
    type: path
    required: true
  unit:
    description:
      - The backend that uses O(path), a unit of systemd or a service of Docker Compose. C(.service) may be omitted.
      - It is only needed for O(quiesce=freeze) and O(quiesce=stop).
    type: str
  accounts:
    description: Save and prune only these accounts, named as on disk or without the prefix of their library. All by default.
    type: list
    elements: str
    default: []
  state:
    description:
      - With V(present), changed accounts are saved and expired snapshots are removed.
      - With V(pruned), expired snapshots are removed and nothing is saved.
    type: str
    choices: [present, pruned]
    default: present
  backup_path:
    description:
      - The directory of backups, for one sessions path only. No user but root may be able to change it or a directory above it, and it
        must not be at, in or above O(path).
      - By default C(backups) in the control directory of O(path), below C(/var/lib/whatsapp-ops).
    type: path
  quiesce:
    description:
      - What to do with an account that keeps changing while it is copied. All others are copied while the backend runs undisturbed.
      - With V(none), it is skipped.
      - With V(freeze), its backend is frozen while the difference is copied, at most 5 seconds and usually less than 0.1. systemd does that
        if it can (control groups version 2). Otherwise, and in a container, all processes of the backend are suspended by signals.
      - With V(stop), its backend is stopped while the difference is copied, and started again.
      - A backend that was held runs again afterwards, even if the run is killed.
    type: str
    choices: [none, freeze, stop]
    default: none
  keep_days:
    description: Keep snapshots that were the state of their account within this number of days.
    type: int
    default: 7
  keep_last:
    description: Keep at least this number of sound snapshots of each account, whatever their age.
    type: int
    default: 3
  min_free_bytes:
    description: Fail before anything is changed if new snapshots would leave less free space than this on the disk of the backups.
    type: int
    default: 0
  exclude_caches:
    description: Leave out what a browser can recreate, which is most of a real profile. Everything else is saved.
    type: bool
    default: true
  unit_timeout:
    description: Seconds to wait for the unit to stop, and again for it to start, with O(quiesce=stop).
    type: int
    default: 120
seealso:
  - module: whatsapp_ops.sessions.session_info
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Save what has changed, without touching the backend
  whatsapp_ops.sessions.session_backup:
    path: /var/lib/whatsapp-backend/sessions

- name: Save every account, also the busy ones, and keep a month of snapshots
  whatsapp_ops.sessions.session_backup:
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend
    quiesce: freeze
    keep_days: 30
  register: backup

- name: Require that no linked account is without a recent snapshot
  ansible.builtin.assert:
    that:
      - backup.without_snapshot | length == 0
      - backup.oldest_age_seconds | default(0, true) < 86400
"""

RETURN = r"""
path:
  description: The sessions path.
  returned: success
  type: str
  sample: /var/lib/whatsapp-backend/sessions
store:
  description: The directory of backups.
  returned: success
  type: str
  sample: /var/lib/whatsapp-ops/var-lib-whatsapp-backend-sessions-1f4c0ab2d93e/backups
accounts:
  description: The accounts at the sessions path. In check mode, what would be done with each.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The name of the account, masked unless O(show_accounts=true).
      type: str
      sample: 4…7-9c1f2e
    action:
      description: V(saved), V(unchanged) (its newest snapshot is still its state), or V(skipped).
      type: str
      sample: saved
    reason:
      description: Why it was skipped, otherwise empty.
      type: str
      sample: it is not linked
saved:
  description: Number of accounts that were saved.
  returned: success
  type: int
  sample: 2
unchanged:
  description: Number of accounts that have not changed since their newest snapshot.
  returned: success
  type: int
  sample: 7
skipped:
  description: Number of accounts that were not saved. A warning gives the reasons for the linked ones.
  returned: success
  type: int
  sample: 0
pruned:
  description: Number of expired snapshots that were removed.
  returned: success
  type: int
  sample: 1
snapshots:
  description: All snapshots in the directory of backups, those of each account newest first. In check mode, as they are now.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The name of the account, masked unless O(show_accounts=true).
      type: str
      sample: 4…7-9c1f2e
    snapshot:
      description: When it was saved, which identifies it among the snapshots of its account.
      type: str
      sample: 20260102T030405.000006Z
    age_seconds:
      description: Seconds since a run last found the account in this state.
      type: int
      sample: 310
    state:
      description: The state of the account in it, as M(whatsapp_ops.sessions.session_info) returns it.
      type: str
      sample: paired
    files:
      description: Number of files.
      type: int
      sample: 966
    bytes:
      description: Their total size. Most of it is shared with other snapshots of the account.
      type: int
      sample: 225000
oldest_age_seconds:
  description: The age of the newest sound snapshot of the linked account for which it is oldest. Null if no linked account has one.
  returned: success
  type: int
  sample: 310
without_snapshot:
  description: The linked accounts that have no sound snapshot.
  returned: success
  type: list
  elements: str
  sample: []
new_bytes:
  description: Total size of the files that had changed in the accounts that were saved.
  returned: success
  type: int
  sample: 18400
interruption_seconds:
  description: For how many seconds the backend was frozen or stopped.
  returned: success
  type: float
  sample: 0.0
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup import job as backup_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import zip_imports
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import SESSION_BACKUP
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.module import run_module

del zip_imports  # imported before all others, for its side effect


def main() -> None:
    """Run the module."""
    run_module(backup_job, SESSION_BACKUP)


if __name__ == "__main__":
    main()
