#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports archives and folders of backups as snapshots, and exports a snapshot as one file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_archive
short_description: Import backups of WhatsApp sessions as snapshots, or export a snapshot as one file
version_added: 0.1.0
description:
  - Imports accounts from a tar archive (with or without gzip), or from a directory of backups, such as C(.session-cache) with
    C(backup-NAME-MILLISECONDS), into the store of snapshots. M(whatsapp_ops.sessions.session_restore) then restores them.
  - Each account is judged like a snapshot. Accounts that are damaged or not linked are skipped with the reason.
  - An archive is treated as data of strangers. Only regular files and directories below its top are read. One with links, devices,
    absolute paths or C(..) is refused as a whole. Caches and locks are left out.
  - An imported snapshot is as old as its newest file, or as the name of its folder says, and never counts as newer than one that
    M(whatsapp_ops.sessions.session_backup) took. It expires like other snapshots.
  - Exports the snapshot of an account as a tar.gz file that only root can read. It contains the keys of the account, so every program and
    person with access to it can use the account.
  - The sessions path and the backend are not touched.
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.action_group
  - whatsapp_ops.sessions._layout
  - whatsapp_ops.sessions._options.backup_path
  - whatsapp_ops.sessions._options.show_accounts
attributes:
  action_group:
    membership:
      - whatsapp_ops.sessions.sessions
      - whatsapp_ops.sessions.layouts
  check_mode:
    support: partial
    details: Does not unpack an archive, so it does not predict which accounts of it are skipped.
  diff_mode:
    support: full
  idempotent:
    support: full
    details: The same archive, or an unchanged directory, is not imported again. The same snapshot always gives the same file.
  safe_file_operations:
    support: full
options:
  path:
    description: The sessions path that the snapshots belong to. It need not exist.
    type: path
    required: true
  state:
    description: V(imported) imports from O(src), V(exported) writes the snapshot of O(accounts) to O(dest).
    type: str
    choices: [imported, exported]
    required: true
  src:
    description: The archive, or the directory of backups. Required with O(state=imported).
    type: path
  dest:
    description:
      - The file to write. Required with O(state=exported). If it exists and is not the archive of the snapshot, the module fails.
      - A file in the sessions path is refused.
    type: path
  accounts:
    description:
      - Name of one account at the sessions path. Required with O(state=exported).
      - With O(state=imported), the name of the only account in O(src). Otherwise accounts keep their names, except that those in
        C(backup-NAME-MILLISECONDS) get the name that the library gives them.
      - The names are often phone numbers, so neither the host's journal nor the module's invocation shows them.
    type: list
    elements: str
    default: []
  snapshot:
    description: The moment of the snapshot to export, or V(latest) for the newest one in which the account is linked.
    type: str
    default: latest
seealso:
  - module: whatsapp_ops.sessions.session_backup
  - module: whatsapp_ops.sessions.session_restore
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Import an old archive
  whatsapp_ops.sessions.session_archive:
    path: /var/lib/whatsapp-backend/sessions
    state: imported
    src: /root/whatsapp-auth-backup-20251005.tar.gz

- name: Import the emergency copies of SessionManager
  whatsapp_ops.sessions.session_archive:
    path: /var/lib/whatsapp-backend/sessions
    state: imported
    src: /opt/whatsapp/current/.session-cache

- name: Write the newest snapshot of an account to a file
  whatsapp_ops.sessions.session_archive:
    path: /var/lib/whatsapp-backend/sessions
    state: exported
    accounts: [session-1]
    dest: /root/session-1.tar.gz
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
  sample: 3 accounts imported
accounts:
  description: The accounts of O(src). Empty in check mode, and if nothing was imported because that was done before.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The account's name, masked.
      type: str
      sample: 4…7-9c1f2e
    action:
      description: V(imported) or V(skipped).
      type: str
      sample: imported
    reason:
      description: Why it was skipped, otherwise empty.
      type: str
      sample: its copy is corrupt
    snapshot:
      description: The moment of its snapshot, null if it was skipped.
      type: str
      sample: 20261130T101500.000000Z
dest:
  description: The exported file, null with O(state=imported).
  returned: success
  type: str
  sample: /root/session-1.tar.gz
snapshot:
  description: The moment of the exported snapshot, null with O(state=imported).
  returned: success
  type: str
  sample: 20261130T101500.000000Z
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import zip_imports
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import (
    SESSION_ARCHIVE,
    SESSION_ARCHIVE_RULES,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.module import run_module
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._restore import archive_job

del zip_imports  # imported before all others, for its side effect


def main() -> None:
    """Run the module."""
    run_module(archive_job, SESSION_ARCHIVE, **SESSION_ARCHIVE_RULES)


if __name__ == "__main__":
    main()
