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
  - Can also count lines in the journal of the unit, such as those of restored accounts. Lines are counted on the host and never told.
  - Of the reply only the status and the values of the keys that are asked for are returned, never anything else. An object or a list in
    place of what was expected is returned as its size only.
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
      - With V(*) for every item of a list and V(=) behind the key, it is the number of items that say so,
        for example V(accounts.*.state=connected).
      - Of the reply, 1 MiB is read at most.
    type: dict
    default: {}
  at_least:
    description:
      - What numbers the reply has to reach, by keys as in O(expect); for example as many accounts connected as before a restart.
    type: dict
    default: {}
  equal_keys:
    description:
      - Keys whose values have to be the same as those of other keys, for example V(lock.holder) as V(instance).
      - With V($) before it, the other one is a variable that the main process of O(unit) was started with,
        for example V($INSTANCE_ID). Its value is not told.
    type: dict
    default: {}
  return_keys:
    description:
      - Keys that are returned in RV(facts) where the reply has them, and need not have any value.
    type: list
    elements: str
    default: []
  unit:
    description:
      - The systemd unit of the backend, with or without C(.service). It has to be active, and its main process has to be older than
        O(interval), for a unit that crashes again and again is active between two crashes.
    type: str
  since:
    description:
      - From where on the journal of O(unit) is counted. A RV(cursor) that an earlier call returned, or a time as
        C(journalctl --since) takes it, for example V(now) or V(-10min).
      - Left out, since the unit's current invocation began, that is, since its last start.
      - The journal is read when this, O(signals), O(require) or O(forbid) is given. Only lines of the unit's own processes count.
    type: str
  signals:
    description:
      - What to count, as names with a regular expression (Python's) or a list of them. They are added to those below, or replace them. A
        signal with an empty list is not counted.
      - A line counts once for each signal that it matches. Colours are taken out of it before.
      - A named group C(account) is the account that a line is about, told in RV(signal_accounts). Any other named group is a number
        of at most six digits. These are added up and told as V(SIGNAL_GROUP).
      - V(restored_from_disk), V(restored_from_firestore) and V(restored) are lines with C(Session restored from disk),
        C(Session restored from Firestore) and C(✓ Session restored).
      - V(restore_failed) is C(✗ Failed to restore). V(needs_qr) is a line with that word.
      - V(restoration_complete) is C(Session restoration complete), and V(restoration_complete_restored) and
        V(restoration_complete_failed) are its numbers added up.
      - V(key_material) are lines that look like private keys, which some libraries print. They are a warning. Forbid them to fail.
    type: dict
  require:
    description:
      - Signals, and how many there have to be at least.
    type: dict
    default: {}
  forbid:
    description:
      - Signals, and how many there may be at most.
      - The look that finds all well ends the wait, and a line could still come after it. Name in O(require) or O(at_least) what comes last.
    type: dict
    default: {}
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
  action_group:
    membership:
      - whatsapp_ops.sessions.units
  check_mode:
    details: Looks once, without waiting, and succeeds whatever it sees; RV(healthy) has the answer.
  safe_file_operations:
    support: N/A
    details: Works on no files.
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.info
  - whatsapp_ops.sessions._attributes.action_group
seealso:
  - module: whatsapp_ops.sessions.session_info
    description: How many accounts there are and in which state.
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

- name: Wait until this instance holds the lock and all three accounts are back
  whatsapp_ops.sessions.session_health:
    url: http://127.0.0.1:8080/health
    unit: whatsapp-backend
    equal_keys:
      lock.holder: $INSTANCE_ID
    at_least:
      accounts.connected: 3
    require:
      restored_from_disk: 3
    forbid:
      needs_qr: 0

- name: Count the lines of a backend that says it in other words
  whatsapp_ops.sessions.session_health:
    unit: wa@1
    since: -10min
    signals:
      back_on_line: 'session (?P<account>\S+) is back on line$'
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
  description: Values of the keys asked for that the last reply has.
  returned: always, unless the options make no sense or the unit does not exist
  type: dict
  sample:
    sessions_dir_writable: true
    waMode: active
unit:
  description: What systemd said of O(unit) last; null without it.
  returned: always, unless the options make no sense or the unit does not exist
  type: dict
  contains:
    name:
      description: Its name.
      type: str
      sample: whatsapp-backend.service
    active:
      description: Whether it runs or is on its way up or down.
      type: bool
      sample: true
    state:
      description: Its state and what that means for a service.
      type: str
      sample: active (running)
    main_pid:
      description: The main process, 0 when there is none.
      type: int
      sample: 4711
    invocation:
      description: What tells this start of the unit from any other.
      type: str
      sample: e1dda8312fd94cba92df19c24559c682
    needs_reload:
      description: Whether its files changed since systemd read them.
      type: bool
      sample: false
    container:
      description: The container that is meant, where there is no such unit but a service of Docker Compose. Empty otherwise.
      type: str
      sample: ""
signals:
  description: How often each signal was seen in the journal; empty when it was not read.
  returned: always, unless the options make no sense or the unit does not exist
  type: dict
  sample: {restored_from_disk: 3, needs_qr: 0, key_material: 0}
signal_accounts:
  description: By signal, the masked names of the accounts that the lines were about, as far as the lines say so.
  returned: always, unless the options make no sense or the unit does not exist
  type: dict
  sample: {needs_qr: [4…7-9c1f2e]}
cursor:
  description: Where the counting ended, for O(since) of a later call; null when the journal was not read.
  returned: always, unless the options make no sense or the unit does not exist
  type: str
  sample: s=a4efffbb188341bfa233b32213ed0c40;i=3ac;b=51c0f3efb3904debaec3290522267831;m=3b6144af4;t=660b84c508620
elapsed_seconds:
  description: Seconds from the first look until the end of the last.
  returned: always, unless the options make no sense or the unit does not exist
  type: float
  sample: 4.018
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils import _compiled_once, _health
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._arguments import (
    SESSION_HEALTH,
    SESSION_HEALTH_RULES,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils.common import run_module

del _compiled_once  # imported before all others, for what it does


def main() -> None:
    run_module(_health, SESSION_HEALTH, **SESSION_HEALTH_RULES)


if __name__ == "__main__":
    main()
