#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports the number and state of WhatsApp sessions without revealing their content."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_info
short_description: Report the number and state of WhatsApp sessions on disk
version_added: 0.1.0
description:
  - Counts the accounts below a directory and determines the state of each from its structure, on the host itself.
  - Returns metadata only. File contents and names of files inside an account never leave the host, and account names are masked
    unless O(show_accounts=true).
  - The cost depends on the number of accounts, not on the number of files, unless O(sizes=true).
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.info
  - whatsapp_ops.sessions._attributes.action_group
  - whatsapp_ops.sessions._layout
  - whatsapp_ops.sessions._options.show_accounts
attributes:
  action_group:
    membership:
      - whatsapp_ops.sessions.sessions
      - whatsapp_ops.sessions.layouts
  safe_file_operations:
    support: full
options:
  path:
    description: The directory that contains the accounts. A directory that does not exist counts as empty and is not an error.
    type: path
    required: true
  inspect:
    description:
      - With V(structure), the credentials of each account are parsed on the host to determine whether it is linked.
      - With V(metadata), no file is opened and the state of each account is V(unknown).
    type: str
    choices: [structure, metadata]
    default: structure
  sizes:
    description: Also count the files and bytes of each account, which reads every directory below it.
    type: bool
    default: false
  expected:
    description:
      - Names of the accounts that should exist according to a database. Differences are returned in RV(missing), RV(unlinked) and
        RV(orphaned).
      - An account can be named as on disk or without the prefix of its library, so V(user_1) also means V(session-user_1).
    type: list
    elements: str
  expected_are_all:
    description: Whether O(expected) and O(expected_from) name all accounts. With V(false), other accounts are not RV(orphaned).
    type: bool
    default: true
  expected_from:
    description:
      - The page of a web application that lists the accounts it considers linked. It is requested from the host itself and replaces
        O(expected).
      - The module fails without an answer that names accounts, because there is nothing to compare with.
    type: dict
    suboptions:
      url:
        description:
          - URL of the page, with C(http://) or C(https://). It has to answer 200 itself, because redirects are not followed.
          - A query string (after V(?)) is sent but left out of messages. Ansible itself shows options at C(-vvv), so pass keys in
            O(expected_from.headers).
        type: str
        required: true
      headers:
        description: Headers to send, for example an API key. They never appear in messages or logs.
        type: dict
        default: {}
      names:
        description:
          - Path to the names in the JSON reply, with dots between names in objects and positions in lists.
            V(*) stands for every item of a list.
        type: str
        default: data.sessions.*.session_id
      timeout:
        description: Maximum number of seconds for the complete answer.
        type: float
        default: 10.0
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Report the accounts on disk
  whatsapp_ops.sessions.session_info:
    path: /var/lib/whatsapp-backend/sessions
  register: sessions

- name: Require that every account is linked
  ansible.builtin.assert:
    that: sessions.linked_accounts == sessions.total
    fail_msg: "{{ sessions.total - sessions.linked_accounts }} of {{ sessions.total }} accounts need a QR code"

- name: Compare the active sessions of a web application with the accounts on disk
  whatsapp_ops.sessions.session_info:
    path: /var/lib/whatsapp-backend/sessions
    expected_from:
      url: http://127.0.0.1:8000/api/v1/sessions/active-sessions/
      headers:
        x-api-key: "{{ wa_api_key }}"
  register: sessions
"""

RETURN = r"""
path:
  description: The inspected directory.
  returned: success
  type: str
  sample: /var/lib/whatsapp-backend/sessions
exists:
  description: Whether it exists.
  returned: success
  type: bool
  sample: true
layout:
  description: The layout of the accounts. Without accounts, the first layout of the table.
  returned: success
  type: str
  sample: baileys
layout_reason:
  description: Why this layout was chosen.
  returned: success
  type: str
  sample: a directory holds creds.json
count:
  description:
    - Number of marker files, valid or not, as counted by C(find -maxdepth 3 -name creds.json | wc -l).
    - The table of layouts in C(docs/layouts.md) lists the names that are counted, and the depth.
  returned: success
  type: int
  sample: 3
total:
  description: Number of accounts.
  returned: success
  type: int
  sample: 3
linked_accounts:
  description: Number of linked accounts, which reconnect after a restart without a QR code.
  returned: success
  type: int
  sample: 3
linked:
  description: Number of linked devices in all accounts. Some libraries store several devices in one account.
  returned: success
  type: int
  sample: 3
states:
  description: Number of accounts in each state; V(unknown) only for layouts in which it can occur.
  returned: success
  type: dict
  sample: {paired: 3, pending: 0, fresh: 0, corrupt: 0}
accounts:
  description: Metadata of each account.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The account's name, masked unless O(show_accounts=true).
      type: str
      sample: 4…7-9c1f2e
    state:
      description:
        - V(paired), linked to a phone according to its structure; V(pending), a pairing code was requested, or the page was never
          opened; V(fresh), new keys that are not linked to a phone; V(corrupt), unusable; V(unknown) with O(inspect=metadata), or if
          the credentials are not stored in these files.
      type: str
      sample: paired
    problems:
      description: Problems, as fixed identifiers.
      type: list
      elements: str
      sample: []
    linked:
      description: Number of linked devices in the account.
      type: int
      sample: 1
    files:
      description: Number of files; null unless O(sizes=true).
      type: int
      sample: 254
    bytes:
      description: Their total size in bytes; null unless O(sizes=true).
      type: int
      sample: 95211
    newest:
      description: Time of the last change of its credentials or file list, or of any file with O(sizes=true). UTC.
      type: str
      sample: "2026-11-20T12:00:00Z"
    owner:
      description: Owner of its directory.
      type: str
      sample: whatsapp
    mode:
      description: Mode of its directory.
      type: str
      sample: "0700"
    locked:
      description: Whether the library's lock exists, in whatever state.
      type: bool
      sample: false
    lock:
      description:
        - State of the lock. Empty, there is none; V(live), a process on this host uses the account; V(stale), its process no longer
          exists; V(foreign), it was created on another host; V(damaged), the library cannot have created it. A browser refuses to
          start with the last two.
      type: str
      sample: ""
    is_link:
      description: Whether the account is a symbolic link to a directory elsewhere. A warning reports links that are not safe to follow.
      type: bool
      sample: false
missing:
  description: Expected accounts that are not on disk. Empty without O(expected) or O(expected_from).
  returned: success
  type: list
  elements: str
  sample: []
unlinked:
  description: Expected accounts that are on disk but not linked to a phone. Empty without O(expected) or O(expected_from).
  returned: success
  type: list
  elements: str
  sample: []
orphaned:
  description: Accounts on disk that are not expected. Empty without O(expected) or O(expected_from).
  returned: success
  type: list
  elements: str
  sample: []
duplicates:
  description: Groups of accounts on disk that contain the same linked device. Devices are compared on the host and never returned.
  returned: success
  type: list
  elements: list
  sample: []
copies:
  description:
    - Accounts that appear to be copies of another account, by their names (C(x-backup), C(x.bak), C(x_old), C(x copy), with a date) or
      because both contain the same linked device. A backend starts both, and WhatsApp logs both out.
  returned: success
  type: list
  elements: dict
  sample: [{id: 4…p-77aa03, of: 4…7-9c1f2e}]
  contains:
    id:
      description: The copy.
      type: str
    of:
      description: The original. If only the linked device reveals the copy, the account used last counts as the original.
      type: str
displaced:
  description:
    - Accounts that were set aside because another copy was preferred, oldest first. Only root can access them.
    - To restore one, stop the backend, move the current account away, and move this directory to its path.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The account's name, masked.
      type: str
      sample: 4…7-9c1f2e
    since:
      description: When it was set aside, in UTC.
      type: str
      sample: 20261126T220102.000123Z
    path:
      description: Path of the directory.
      type: str
      sample: /var/lib/whatsapp-backend/.sessions.whatsapp-ops/displaced/20261126T220102.000123Z-8d969eef6ecad3c2
control:
  description:
    - The control directory of this sessions path, which may not exist yet. It contains receipts, the plan of a cutover in progress
      and accounts in transit to or from another host, accessible to root only.
  returned: success
  type: dict
  contains:
    path:
      description: Path of the directory.
      type: str
      sample: /var/lib/whatsapp-ops/var-lib-whatsapp-backend-sessions-1f4c0ab2d93e
    same_mount:
      description: Whether rename(2) can move accounts between the sessions path and this directory.
      type: bool
      sample: true
progress:
  description:
    - The run that is changing this sessions path at the moment, such as a migration; null if there is none. Only root can see it.
    - Each phase is also a line of the journal (C(journalctl -t whatsapp-ops)).
  returned: success
  type: dict
  contains:
    work:
      description: The kind of work.
      type: str
      sample: migration
    phase:
      description: What it is doing.
      type: str
      sample: stage
    accounts:
      description: Number of accounts that are done in this phase.
      type: int
      sample: 2
    accounts_total:
      description: Number of accounts of this phase; null if unknown.
      type: int
      sample: 3
    files:
      description: Number of files that were copied in this phase. A process adds its files a hundred at a time.
      type: int
      sample: 41200
    files_total:
      description: Number of files of this phase; null if they were not counted.
      type: int
    backend:
      description: Whether the backend is V(up) or V(down); null while it was not touched.
      type: str
      sample: down
    elapsed_seconds:
      description: Seconds since the run began.
      type: int
      sample: 12
    phase_seconds:
      description: Seconds since the phase began.
      type: int
      sample: 3
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts import info as accounts_info
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import zip_imports
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import (
    SESSION_INFO,
    SESSION_INFO_RULES,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.module import run_module

del zip_imports  # imported before all others, for its side effect


def main() -> None:
    """Run the module."""
    run_module(accounts_info, SESSION_INFO, **SESSION_INFO_RULES)


if __name__ == "__main__":
    main()
