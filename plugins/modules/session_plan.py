#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks in one call what the other modules of the collection would do on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_plan
short_description: Say in one call what is left to do about WhatsApp sessions on a host
version_added: 0.1.0
description:
  - Takes the options of the other modules of this collection and says for each whether there is anything to do, without doing it.
  - Every module call costs a host some CPU whatever it does. With this one, a host where nothing is to be done costs one call.
  - Fails with what the modules would fail with, before anything is changed.
  - Where nothing is left to do, it fails when the owner cannot write to the directory of O(dir) or when fewer accounts are linked
    than O(expected_accounts), and it waits for O(health) if that does not hold yet.
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.info
attributes:
  safe_file_operations:
    support: full
options:
  dir:
    description:
      - The options of M(whatsapp_ops.sessions.session_dir).
      - What the drop-ins named here list in C(ReadWritePaths=) counts as writable for the unit.
    type: dict
  stop:
    description: The drop-in for a graceful stop of the backend, made from what its layout wants and what the unit has.
    type: dict
    suboptions:
      unit:
        description: The unit of the backend.
        type: str
        required: true
      name:
        description: Name of the drop-in.
        type: str
        default: 10-graceful-stop
      signal:
        description: The signal to stop with. Left out, the unit's own where it sets one, else the layout's.
        type: str
      mode:
        description: Who gets the signal, as C(KillMode=). Left out, the unit's own where it sets one, else the layout's.
        type: str
      timeout:
        description: Seconds until the backend is killed. Left out, the longer one of the unit's and the layout's.
        type: int
  overrides:
    description: Drop-ins, each with the options of M(whatsapp_ops.sessions.systemd_override).
    type: list
    elements: dict
    default: []
  environment_file:
    description: A file of variables, for those that read it with C(EnvironmentFile=).
    type: dict
    suboptions:
      path:
        description: The file.
        type: path
        required: true
      values:
        description: Variables that have to be set, or may not be set where the value is null.
        type: dict
        required: true
  in_force:
    description: Variables that a unit should have, to see whether it has them and which file decides.
    type: dict
    suboptions:
      unit:
        description: The unit.
        type: str
        required: true
      values:
        description: The variables and the values that they should have.
        type: dict
        required: true
  in_use:
    description:
      - The path that the running backend should use. Open files, mounts, environments and working directories of all processes of the
        unit count, and keys that are newer at a path that accounts came from.
      - Where nothing is left to do, it is an error when linked accounts are there and the backend uses another path, or nothing shows
        that it uses this one. The same holds for O(migrate).
    type: dict
    suboptions:
      unit:
        description: The unit of the backend.
        type: str
        required: true
      path:
        description: The path.
        type: path
        required: true
  migrate:
    description: The options of M(whatsapp_ops.sessions.session_migrate).
    type: dict
  info:
    description: The options of M(whatsapp_ops.sessions.session_info).
    type: dict
  health:
    description: The options of M(whatsapp_ops.sessions.session_health).
    type: dict
  expected_accounts:
    description:
      - How many accounts have to be linked at the path of O(info) at least, once nothing is left to do.
      - Where O(migrate) would publish or switch, it fails when fewer would be linked at its path then.
    type: int
    default: 0
  allow_stopped:
    description:
      - Do not wait for O(health) where the unit is stopped, by somebody or because it was never started. That is reported as a warning.
      - A unit that failed, or is started again and again, is waited for.
    type: bool
    default: false
seealso:
  - module: whatsapp_ops.sessions.session_dir
  - module: whatsapp_ops.sessions.session_health
  - module: whatsapp_ops.sessions.session_info
  - module: whatsapp_ops.sessions.session_migrate
  - module: whatsapp_ops.sessions.systemd_override
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Is anything left to do?
  whatsapp_ops.sessions.session_plan:
    dir:
      path: /var/lib/whatsapp-backend/sessions
      unit: whatsapp-backend
    migrate:
      path: /var/lib/whatsapp-backend/sessions
      unit: whatsapp-backend
    info:
      path: /var/lib/whatsapp-backend/sessions
    health:
      url: http://127.0.0.1:8080/health
  register: plan

- name: Say so
  ansible.builtin.debug:
    msg: "{{ plan.linked_accounts }} linked accounts; to do: {{ plan.todo | join(', ') or 'nothing' }}"
"""

RETURN = r"""
todo:
  description: Which of the options have anything to do.
  returned: success
  type: list
  elements: str
  sample: [dir, migrate]
steps:
  description: The same for each option that was given.
  returned: success
  type: dict
  sample: {dir: true, stop: false, migrate: true}
summary:
  description: All of it in a few words.
  returned: success
  type: str
  sample: 3 accounts linked, backend healthy, nothing left to do
linked_accounts:
  description: Number of linked accounts at the legacy paths and the sessions path together, each counted once.
  returned: success
  type: int
  sample: 3
stop:
  description: The drop-in for a graceful stop, as options of M(whatsapp_ops.sessions.systemd_override).
  returned: when O(stop) is given
  type: dict
  sample: {unit: whatsapp-backend.service, name: 10-graceful-stop, sections: {Service: {KillSignal: SIGINT, TimeoutStopSec: "90"}}}
in_force:
  description: What was found about each variable. Values are not told.
  returned: when O(in_force) is given
  type: list
  elements: dict
  contains:
    name:
      description: The variable. Where it does not have a path that is wanted, and another one has, that one.
      type: str
      sample: SESSIONS_PATH
    as_wanted:
      description:
        - Whether the next start of the unit gives it the value in O(in_force.values), environment files included, or mounts that path
          elsewhere, where the program looks.
      type: bool
      sample: true
    file:
      description: The file that decides about it, empty where none sets it.
      type: str
      sample: /etc/whatsapp-backend/env
    line:
      description: The line in that file.
      type: int
      sample: 1
    running:
      description: Whether the main process runs with that value, or with that mount. Null where none runs.
      type: bool
      sample: true
    attached_by:
      description: How the next start is led to the value, V(variable), V(bind), or V(volume) of a container. Empty where it is not.
      type: str
      sample: variable
in_use:
  description: What the running backend uses.
  returned: when O(in_use) is given, also on failure; on failure also for O(migrate)
  type: dict
  contains:
    state:
      description:
        - V(used) for the path alone, V(elsewhere) for another one, V(nowhere) where nothing leads to a known path,
          V(unknown) where not all could be seen, V(stopped) where nothing runs.
      type: str
      sample: used
    where:
      description: The other paths that it uses.
      type: list
      elements: str
      sample: []
    newer:
      description: The paths that accounts came from which have newer keys.
      type: list
      elements: str
      sample: []
dir:
  description: What M(whatsapp_ops.sessions.session_dir) returns in check mode.
  returned: when O(dir) is given
  type: dict
  sample: {path: /var/lib/whatsapp-backend/sessions, owner: whatsapp, group: whatsapp, mode: "0750"}
migrate:
  description: What M(whatsapp_ops.sessions.session_migrate) returns in check mode.
  returned: when O(migrate) is given
  type: dict
  sample: {counts: {migrated: 3}, steps: [stage, publish, switch]}
info:
  description: What M(whatsapp_ops.sessions.session_info) returns.
  returned: when O(info) is given
  type: dict
  sample: {count: 3, total: 3, linked_accounts: 3}
health:
  description: What M(whatsapp_ops.sessions.session_health) returns.
  returned: when O(health) is given
  type: dict
  sample: {status: 200, healthy: true}
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils import _compiled_once, _plan
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._arguments import NESTED_IN_PLAN, SESSION_PLAN
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils.common import run_module

del _compiled_once  # imported before all others, for what it does


def main() -> None:
    """Run the module."""
    run_module(_plan, SESSION_PLAN, NESTED_IN_PLAN)


if __name__ == "__main__":
    main()
