#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until a backend is healthy."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_health
short_description: Wait until a WhatsApp backend is healthy
version_added: 0.1.0
description:
  - Polls a backend until its health page answers 200 with the expected values, and its unit is active with a stable main process.
  - Fails on timeout. The message states what was expected and what was seen last.
  - Can also count lines in the journal of the unit, such as those about restored accounts. Lines are counted on the host and never
    returned.
  - Only the status and the values of the requested keys are returned from the reply. An object or a list in place of an expected value
    is returned as its size only.
  - At least one of O(url) and O(unit) is required.
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.info
  - whatsapp_ops.sessions._attributes.action_group
attributes:
  action_group:
    membership:
      - whatsapp_ops.sessions.units
  check_mode:
    details: Checks once, without waiting, and succeeds regardless of the result, which is in RV(healthy).
  safe_file_operations:
    support: N/A
    details: Does not work with files.
options:
  url:
    description:
      - URL of the health page, with C(http://) or C(https://). It has to answer 200 itself, because redirects are not followed.
      - The request never goes through a proxy. Certificates are verified against those that the host trusts.
      - A query string (after V(?)) is sent but left out of messages. Ansible itself shows options at C(-vvv), so pass keys in O(headers).
    type: str
  expect:
    description:
      - The values that the JSON reply from O(url) has to contain. Each key is a path into the reply, with dots between names in objects
        and positions in lists, for example V(accounts.0.state).
      - Values are compared as in JSON, so V(true) is not V(1). A string also matches a number, V(true), V(false) or V(null) with the
        same notation.
      - V(*) stands for every item of a list. With V(=) after the key, the value is the number of items that match,
        for example V(accounts.*.state=connected).
      - At most 1 MiB of the reply is read.
    type: dict
    default: {}
  at_least:
    description:
      - Minimum numbers in the reply, with keys as in O(expect); for example as many connected accounts as before a restart.
    type: dict
    default: {}
  equal_keys:
    description:
      - Keys whose values have to be equal to those of other keys, for example V(lock.holder) to V(instance).
      - With a leading V($), the second name is an environment variable of the main process of O(unit),
        for example V($INSTANCE_ID). Its value is not returned.
    type: dict
    default: {}
  return_keys:
    description:
      - Keys to return in RV(facts) if the reply has them, whatever their values.
    type: list
    elements: str
    default: []
  unit:
    description:
      - The systemd unit of the backend, with or without C(.service). It has to be active, and its main process has to be older than
        O(interval), because a unit in a crash loop is active between two crashes.
    type: str
  since:
    description:
      - Start of the part of the journal of O(unit) in which lines are counted. Either a RV(cursor) from an earlier call, or a time in the
        format of C(journalctl --since), for example V(now) or V(-10min).
      - Defaults to the start of the unit's current invocation.
      - The journal is read if this option, O(signals), O(require) or O(forbid) is set. Only lines of the unit's own processes count.
    type: str
  signals:
    description:
      - Lines to count. Each key is the name of a signal, each value a Python regular expression or a list of them. They are added to
        the predefined signals below, or replace them. A signal with an empty list is not counted.
      - A line counts once for each signal that it matches. Colour codes are removed first.
      - A named group C(account) captures the account that a line refers to, which is returned in RV(signal_accounts). Any other named
        group captures a number of at most six digits. These numbers are summed and returned as V(SIGNAL_GROUP).
      - V(restored_from_disk), V(restored_from_firestore) and V(restored) match C(Session restored from disk),
        C(Session restored from Firestore) and C(✓ Session restored).
      - V(restore_failed) matches C(✗ Failed to restore). V(needs_qr) matches the word C(needs_qr).
      - V(restoration_complete) matches C(Session restoration complete). V(restoration_complete_restored) and
        V(restoration_complete_failed) are the sums of the numbers in these lines.
      - V(key_material) matches lines that look like private keys, which some libraries print. Such lines cause a warning. Forbid the
        signal to fail instead.
    type: dict
  require:
    description:
      - Signals with their minimum counts.
    type: dict
    default: {}
  forbid:
    description:
      - Signals with their maximum counts.
      - The wait ends at the first check in which everything holds, and further lines may follow. Set in O(require) or O(at_least) what
        the backend reports last.
    type: dict
    default: {}
  timeout:
    description:
      - Maximum number of seconds to wait. With V(0), the backend is checked once.
    type: float
    default: 60.0
  interval:
    description:
      - Seconds between two checks, at least V(0.1). A single check takes at most 10 seconds.
    type: float
    default: 2.0
  headers:
    description:
      - Headers to send to O(url), for example an API key. They never appear in messages.
    type: dict
    default: {}
seealso:
  - module: whatsapp_ops.sessions.session_info
    description: Counts accounts and reports their state.
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Wait until the backend has come back after a restart
  whatsapp_ops.sessions.session_health:
    url: http://127.0.0.1:8080/health
    unit: whatsapp-backend
    expect:
      sessions_dir_writable: true
      waMode: active

- name: Check once whether the backend is healthy, with an API key
  whatsapp_ops.sessions.session_health:
    url: https://wa.example.org/api/v1/health
    headers:
      X-Api-Key: "{{ wa_api_key }}"
    timeout: 0

- name: Wait until this instance holds the lock and all three accounts have reconnected
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

- name: Count the lines of a backend with a different log format
  whatsapp_ops.sessions.session_health:
    unit: wa@1
    since: -10min
    signals:
      back_on_line: 'session (?P<account>\S+) is back on line$'
    timeout: 0

- name: Require that the backend is running and stays up
  whatsapp_ops.sessions.session_health:
    unit: wa@1
    timeout: 30
    interval: 5
"""

RETURN = r"""
healthy:
  description: Whether all conditions hold.
  returned: always, unless the options are invalid or the unit does not exist
  type: bool
  sample: true
status:
  description: HTTP status of the last answer; null without O(url) or without an answer.
  returned: always, unless the options are invalid or the unit does not exist
  type: int
  sample: 200
facts:
  description: Values of the requested keys that the last reply contains.
  returned: always, unless the options are invalid or the unit does not exist
  type: dict
  sample:
    sessions_dir_writable: true
    waMode: active
unit:
  description: Last state of O(unit) as reported by systemd; null without it.
  returned: always, unless the options are invalid or the unit does not exist
  type: dict
  contains:
    name:
      description: Name of the unit.
      type: str
      sample: whatsapp-backend.service
    active:
      description: Whether it is running, starting or stopping.
      type: bool
      sample: true
    state:
      description: Its state and substate.
      type: str
      sample: active (running)
    main_pid:
      description: PID of the main process, 0 if there is none.
      type: int
      sample: 4711
    invocation:
      description: Invocation ID of the unit, which is different after every start.
      type: str
      sample: e1dda8312fd94cba92df19c24559c682
    needs_reload:
      description: Whether its files have changed since systemd read them.
      type: bool
      sample: false
    container:
      description: The container, if O(unit) names a Docker Compose service instead of a unit. Empty otherwise.
      type: str
      sample: ""
signals:
  description: Number of journal lines for each signal; empty if the journal was not read.
  returned: always, unless the options are invalid or the unit does not exist
  type: dict
  sample: {restored_from_disk: 3, needs_qr: 0, key_material: 0}
signal_accounts:
  description: For each signal, the masked names of the accounts that the lines refer to, if the lines contain them.
  returned: always, unless the options are invalid or the unit does not exist
  type: dict
  sample: {needs_qr: [4…7-9c1f2e]}
cursor:
  description: Journal position at which counting ended, for O(since) of a later call; null if the journal was not read.
  returned: always, unless the options are invalid or the unit does not exist
  type: str
  sample: s=a4efffbb188341bfa233b32213ed0c40;i=3ac;b=51c0f3efb3904debaec3290522267831;m=3b6144af4;t=660b84c508620
elapsed_seconds:
  description: Seconds from the beginning of the first check to the end of the last one.
  returned: always, unless the options are invalid or the unit does not exist
  type: float
  sample: 4.018
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import zip_imports
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import (
    SESSION_HEALTH,
    SESSION_HEALTH_RULES,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.module import run_module
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._health import job as health_job

del zip_imports  # imported before all others, for its side effect


def main() -> None:
    """Run the module."""
    run_module(health_job, SESSION_HEALTH, **SESSION_HEALTH_RULES)


if __name__ == "__main__":
    main()
