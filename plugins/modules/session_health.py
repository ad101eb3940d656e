#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waits until a backend is well."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_health
short_description: Wait until a WhatsApp backend is well
version_added: 0.1.0
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
description:
  - Looks at a backend until its health page answers 200 and says what is expected, and its unit is active with a main process that stays.
  - Fails when the time is over. The message says what was expected and what was seen last.
  - Of the reply only the status and the values of the keys in O(expect) are told, never anything else. An object or a list in
    place of what was expected is told by its size only.
  - At least one of O(url) and O(unit) is needed.
options:
  url:
    description:
      - The health page, with C(http://) or C(https://). It has to answer 200 itself, for redirects are not followed.
      - The host itself is asked, never a proxy. Certificates are checked against those that the host trusts.
      - A query (after V(?)) is sent but left out of messages. Ansible itself shows options at C(-vvv), so keys belong in O(headers).
    type: str
  expect:
    description:
      - What the JSON reply from O(url) has to say. Each key is a path into it, with dots between names in objects and positions in lists,
        for example V(accounts.0.state).
      - Values are compared as in JSON, so V(true) is not V(1). Text also matches a number, V(true), V(false) or V(null) that
        is written like it.
      - Of the reply, 1 MiB is read at most.
    type: dict
    default: {}
  unit:
    description:
      - The systemd unit of the backend, with or without C(.service). It has to be active, and its main process has to be older than
        O(interval), for a unit that crashes again and again is active between two crashes.
    type: str
  timeout:
    description:
      - Seconds to wait at most. With V(0) there is one look.
    type: float
    default: 60.0
  interval:
    description:
      - Seconds between two looks, at least V(0.1). One look takes 10 seconds at most.
    type: float
    default: 2.0
  headers:
    description:
      - Headers to send to O(url), for example an API key. They appear in no message.
    type: dict
    default: {}
attributes:
  check_mode:
    details: Looks once, without waiting, and succeeds whatever it sees; RV(healthy) tells.
  safe_file_operations:
    support: N/A
    details: Works on no files.
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.info
  - whatsapp_ops.sessions._attributes.action_group
seealso:
  - module: whatsapp_ops.sessions.session_info
    description: Tells how many accounts there are and in which state.
"""

EXAMPLES = r"""
- name: Wait until the backend has come back after a restart
  whatsapp_ops.sessions.session_health:
    url: http://127.0.0.1:8080/health
    unit: whatsapp-backend
    expect:
      sessions_dir_writable: true
      waMode: active

- name: See once whether the backend is well, with an API key
  whatsapp_ops.sessions.session_health:
    url: https://wa.example.org/api/v1/health
    headers:
      X-Api-Key: "{{ wa_api_key }}"
    timeout: 0

- name: Require that the backend runs and stays up
  whatsapp_ops.sessions.session_health:
    unit: wa@1
    timeout: 30
    interval: 5
"""

RETURN = r"""
healthy:
  description: Whether everything was as it has to be.
  returned: always, unless the options make no sense or the unit does not exist
  type: bool
  sample: true
status:
  description: Status of the last answer; null without O(url) or without an answer.
  returned: always, unless the options make no sense or the unit does not exist
  type: int
  sample: 200
facts:
  description: Values of the keys in O(expect) that the last reply has.
  returned: always, unless the options make no sense or the unit does not exist
  type: dict
  sample:
    sessions_dir_writable: true
    waMode: active
elapsed_seconds:
  description: Seconds from the first look until the end of the last.
  returned: always, unless the options make no sense or the unit does not exist
  type: float
  sample: 4.018
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils import _health
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._arguments import (
    SESSION_HEALTH,
    SESSION_HEALTH_RULES,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils.common import run_module


def main() -> None:
    run_module(_health, SESSION_HEALTH, **SESSION_HEALTH_RULES)


if __name__ == "__main__":
    main()
