#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies the snapshots of accounts to a repository of restic."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_restic
short_description: Copy the snapshots of accounts to a restic repository, and prove that they can be restored
version_added: 0.1.0
description:
  - Copies the directory of snapshots that M(whatsapp_ops.sessions.session_backup) writes to a repository of restic, usually on another
    machine. The copies are encrypted.
  - Creates the repository if it does not exist, removes old copies, and verifies the repository.
  - With O(state=fetched), brings the newest copy of a lost host to the directory of snapshots of this host, from which
    M(whatsapp_ops.sessions.session_restore) restores accounts.
  - With O(state=drilled), restores the newest copy to a private directory, judges every account in it, and removes it again.
  - A drill judges each account by O(layout), with V(auto) by the layout that it was saved with.
requirements:
  - restic 0.14 or newer, on the host
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.action_group
  - whatsapp_ops.sessions._layout
  - whatsapp_ops.sessions._options.backup_path
attributes:
  action_group:
    membership:
      - whatsapp_ops.sessions.sessions
      - whatsapp_ops.sessions.layouts
  check_mode:
    support: full
    details: Reads the repository. A drill is not run.
  diff_mode:
    support: full
    details: Shows how many snapshots are copied.
  idempotent:
    support: full
  safe_file_operations:
    support: full
    details: restic reads the directory of snapshots by its name. Only root can write to it.
options:
  path:
    description:
      - The directory that contains the accounts. It is not read; only its snapshots are.
    type: path
    required: true
  repository:
    description:
      - The repository, as restic names it, for example V(sftp:backup@vault:/srv/whatsapp) or V(s3:https://s3.example.com/bucket).
      - Never shown, because it can contain a password.
    type: str
    required: true
  password_file:
    description:
      - A file on the host with the password of the repository. It has to belong to root with mode V(0600). Without it, no copy can ever
        be read again, so keep it in another place, too.
    type: path
    required: true
  environment_file:
    description:
      - A file on the host with variables for restic, for example C(AWS_ACCESS_KEY_ID), one assignment on each line. It has to belong to
        root with mode V(0600).
    type: path
  state:
    description:
      - With V(copied), the snapshots are copied unless the newest copy has all of them already.
      - With V(drilled), the newest copy is restored to a private directory below C(/var/lib/whatsapp-ops) and removed again. The module
        fails if an account in it is damaged or incomplete. Nothing else is changed.
      - With V(fetched), the snapshots in the newest copy of O(from_host) are added to the directory of snapshots. The module fails if that
        directory has others, because accounts of two hosts may have the same names. A copy is fetched only once.
    type: str
    choices: [copied, drilled, fetched]
    default: copied
  from_host:
    description:
      - The host whose copy is fetched, by its own name, as C(restic snapshots) lists it. Required with O(state=fetched).
      - Fetch only from a host that is off for good. Two backends with the same account log each other out.
    type: str
  from_store:
    description:
      - The directory of snapshots of O(from_host), if it has copies of several. Defaults to the directory that O(path) has on this host.
    type: path
  keep_days:
    description:
      - Keep all copies of this many days.
    type: int
    default: 7
  keep_last:
    description:
      - Keep at least this many copies, however old they are.
    type: int
    default: 3
  check:
    description:
      - Verify the structure of the repository after each copy.
    type: bool
    default: true
seealso:
  - module: whatsapp_ops.sessions.session_backup
  - module: whatsapp_ops.sessions.session_timer
  - name: restic
    description: Repositories, credentials and passwords.
    link: https://restic.readthedocs.io
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Copy the snapshots to another machine
  whatsapp_ops.sessions.session_restic:
    path: /var/lib/whatsapp-backend/sessions
    repository: sftp:backup@vault:/srv/whatsapp
    password_file: /etc/whatsapp-ops/restic-password

- name: Prove that every account can be restored from the newest copy
  whatsapp_ops.sessions.session_restic:
    path: /var/lib/whatsapp-backend/sessions
    repository: s3:https://s3.example.com/whatsapp
    password_file: /etc/whatsapp-ops/restic-password
    environment_file: /etc/whatsapp-ops/restic-environment
    state: drilled

- name: Bring the snapshots of a lost host to this one
  whatsapp_ops.sessions.session_restic:
    path: /var/lib/whatsapp-backend/sessions
    repository: sftp:backup@vault:/srv/whatsapp
    password_file: /etc/whatsapp-ops/restic-password
    state: fetched
    from_host: old-host
"""

RETURN = r"""
initialized:
  description: Whether the repository exists.
  returned: success
  type: bool
  sample: true
copies:
  description: How many copies of these snapshots the repository has.
  returned: success
  type: int
  sample: 5
snapshots:
  description: How many snapshots are on this host.
  returned: success
  type: int
  sample: 12
copied:
  description: How many of them are in the newest copy.
  returned: success
  type: int
  sample: 12
newest_age_seconds:
  description: The age of the newest copy; V(null) if there is none.
  returned: success
  type: int
  sample: 260
store:
  description: The directory of the snapshots.
  returned: success
  type: str
  sample: /var/lib/whatsapp-ops/var-lib-whatsapp-backend-sessions-0f3c5c7a9e11/backups
fetched:
  description: How many snapshots were fetched, or would be in check mode.
  returned: if O(state=fetched)
  type: int
  sample: 12
drill:
  description: What the drill found.
  returned: if O(state=drilled), not in check mode
  type: dict
  contains:
    accounts:
      description: The accounts in the copy.
      type: int
    sound:
      description: Those that are complete and linked.
      type: int
    files:
      description: The files of their newest snapshots.
      type: int
    bytes:
      description: The bytes in these files.
      type: int
  sample: {accounts: 3, sound: 3, files: 1204, bytes: 4801992}
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import zip_imports
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import SESSION_RESTIC
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.module import run_module
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._restic import job

del zip_imports  # imported before all others, for its side effect


def main() -> None:
    """Run the module."""
    run_module(job, SESSION_RESTIC)


if __name__ == "__main__":
    main()
