#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports how many WhatsApp sessions there are and in what state, without showing what is in them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_info
short_description: Tell how many WhatsApp sessions are on disk and in what state
version_added: 0.1.0
description:
  - Counts the accounts below a directory and judges each by its structure, on the host itself.
  - Returns metadata only. Nothing from inside a file and no name of a file inside an account leaves the host, and account
    names are masked unless you ask for them.
  - The cost grows with the number of accounts, not of files, unless O(sizes=true).
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.info
  - whatsapp_ops.sessions._attributes.action_group
  - whatsapp_ops.sessions._layout
attributes:
  action_group:
    membership:
      - whatsapp_ops.sessions.sessions
      - whatsapp_ops.sessions.layouts
  safe_file_operations:
    support: full
options:
  path:
    description: The directory that holds the accounts. One that does not exist has none, which is no error.
    type: path
    required: true
  inspect:
    description:
      - With V(structure) the credentials of each account are parsed on the host to see whether it is linked.
      - With V(metadata) no file is opened, and each account is V(unknown).
    type: str
    choices: [structure, metadata]
    default: structure
  sizes:
    description: Also count the files and bytes of each account, which reads every directory below it.
    type: bool
    default: false
  expected:
    description:
      - Names of the accounts that a database says exist. The difference comes back in RV(missing), RV(unlinked) and RV(orphaned).
      - An account may be named as on disk or without what its library puts before, so that V(user_1) is V(session-user_1) too.
    type: list
    elements: str
  expected_are_all:
    description: Whether O(expected) and O(expected_from) name all accounts. If not, others are no RV(orphaned) ones.
    type: bool
    default: true
  expected_from:
    description:
      - Where a web application says which accounts it believes to be linked, to be asked from the host itself in place of O(expected).
      - Fails when there is no answer that names them, for then nothing is known.
    type: dict
    suboptions:
      url:
        description:
          - The address, with C(http://) or C(https://). It has to answer 200 itself, for redirects are not followed.
          - A query (after V(?)) is sent but left out of messages. Ansible itself shows options at C(-vvv), so keys belong in
            O(expected_from.headers).
        type: str
        required: true
      headers:
        description: Headers to ask with, for example an API key. They appear in no message and no log.
        type: dict
        default: {}
      names:
        description:
          - Where the names are in the JSON reply, as a path with dots between names in objects and positions in lists.
            V(*) stands for every item of a list.
        type: str
        default: data.sessions.*.session_id
      timeout:
        description: Seconds that the whole answer may take.
        type: float
        default: 10.0
  show_accounts:
    description: Return account names as they are. They are often phone numbers.
    type: bool
    default: false
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: See what is there
  whatsapp_ops.sessions.session_info:
    path: /var/lib/whatsapp-backend/sessions
  register: sessions

- name: Every account has to be linked
  ansible.builtin.assert:
    that: sessions.linked_accounts == sessions.total
    fail_msg: "{{ sessions.total - sessions.linked_accounts }} of {{ sessions.total }} accounts need a QR code"

- name: Ask the web application which sessions are active, and see which of them have nothing on disk
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
  description: The directory that was looked at.
  returned: success
  type: str
  sample: /var/lib/whatsapp-backend/sessions
exists:
  description: Whether it is there.
  returned: success
  type: bool
  sample: true
layout:
  description: The layout of the accounts. The first of the table where there are none.
  returned: success
  type: str
  sample: baileys
layout_reason:
  description: What told that it is this layout.
  returned: success
  type: str
  sample: a directory holds creds.json
count:
  description:
    - Number of markers, whatever they are worth, as C(find -maxdepth 3 -name creds.json | wc -l) counts them.
    - Which names are counted, and how deep, the table of layouts says.
  returned: success
  type: int
  sample: 3
total:
  description: Number of accounts.
  returned: success
  type: int
  sample: 3
linked_accounts:
  description: Number of accounts that are linked, so that they come back after a restart without a QR code.
  returned: success
  type: int
  sample: 3
linked:
  description: Number of linked devices in all accounts. Some libraries keep several in one place.
  returned: success
  type: int
  sample: 3
states:
  description: Number of accounts in each state; V(unknown) only where there can be any.
  returned: success
  type: dict
  sample: {paired: 3, pending: 0, fresh: 0, corrupt: 0}
accounts:
  description: What may be told of each account.
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
        - V(paired), linked to a phone as far as its structure shows; V(pending), a pairing code was asked for, or the page was never
          opened; V(fresh), new keys without a phone; V(corrupt), not usable; V(unknown) with O(inspect=metadata), or where the
          credentials are not in these files.
      type: str
      sample: paired
    problems:
      description: What is wrong, in fixed words.
      type: list
      elements: str
      sample: []
    linked:
      description: Number of linked devices in it.
      type: int
      sample: 1
    files:
      description: Number of files, null unless O(sizes=true).
      type: int
      sample: 254
    bytes:
      description: Their size in bytes, null unless O(sizes=true).
      type: int
      sample: 95211
    newest:
      description: When its credentials or its list of files last changed, or any of its files with O(sizes=true). UTC.
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
      description: Whether there is a lock of the library, whatever it says.
      type: bool
      sample: false
    lock:
      description:
        - What the lock says. Empty, there is none; V(live), a process of this host uses the account; V(stale), its process is gone;
          V(foreign), another host made it; V(damaged), it is none that the library can have made. A browser refuses to start on
          the last two.
      type: str
      sample: ""
    is_link:
      description: Whether the account is a symbolic link to a directory elsewhere. Links that are not safe to follow are in a warning.
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
  description: Groups of accounts on disk that hold one linked device. Devices are compared on the host and never shown.
  returned: success
  type: list
  elements: list
  sample: []
copies:
  description:
    - Accounts that look like a copy of another one, by their names (C(x-backup), C(x.bak), C(x_old), C(x copy), with a date) or because
      both hold one linked device. A backend starts both, and both get logged out.
  returned: success
  type: list
  elements: dict
  sample: [{id: 4…p-77aa03, of: 4…7-9c1f2e}]
  contains:
    id:
      description: The copy.
      type: str
    of:
      description: What it is a copy of. Where only the device shows it, the account that was used last is taken for the original.
      type: str
displaced:
  description:
    - Accounts that were put aside because another copy of them won, oldest first. Only root can see them.
    - To bring one back, stop the backend, move what is in its place away, and move this directory there.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: The account's name, masked.
      type: str
      sample: 4…7-9c1f2e
    since:
      description: When it was put aside, in UTC.
      type: str
      sample: 20261126T220102.000123Z
    path:
      description: Where it is.
      type: str
      sample: /var/lib/whatsapp-backend/.sessions.whatsapp-ops/displaced/20261126T220102.000123Z-8d969eef6ecad3c2
control:
  description:
    - The control directory of this sessions path, which may not exist yet. Receipts, the plan of a cutover in progress, and
      accounts on their way to or from another host are kept there, out of reach of everybody but root.
  returned: success
  type: dict
  contains:
    path:
      description: Where it is.
      type: str
      sample: /var/lib/whatsapp-ops/var-lib-whatsapp-backend-sessions-1f4c0ab2d93e
    same_mount:
      description: Whether accounts can be moved between the sessions path and it by rename(2).
      type: bool
      sample: true
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils import _compiled_once, _info
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._arguments import SESSION_INFO, SESSION_INFO_RULES
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils.common import run_module

del _compiled_once  # imported before all others, for what it does


def main() -> None:
    """Run the module."""
    run_module(_info, SESSION_INFO, **SESSION_INFO_RULES)


if __name__ == "__main__":
    main()
