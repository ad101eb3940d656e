#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports in one call what the other modules of the collection would do on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_plan
short_description: Report in one call what has to be done about WhatsApp sessions on a host
version_added: 0.1.0
description:
  - Takes the options of the other modules of this collection and reports for each whether it would change anything. Changes nothing.
  - Every module call uses some CPU time on the host. With this module, a host with nothing to do needs a single call.
  - Fails with the errors of these modules, before anything is changed.
  - If nothing is left to do, it fails if the owner cannot write to the directory of O(dir) or if fewer accounts are linked
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
      - Paths that the drop-ins in O(overrides) and O(migrate) list in C(ReadWritePaths=) count as writable for the unit.
    type: dict
  stop:
    description: The drop-in for a graceful stop of the backend, derived from the settings of its layout and of the unit.
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
        description: The stop signal. Defaults to the unit's own setting, or to the layout's if the unit has none.
        type: str
      mode:
        description: The C(KillMode=). Defaults to the unit's own setting, or to the layout's if the unit has none.
        type: str
      timeout:
        description: Seconds until the backend is killed. Defaults to the longer timeout of the unit and the layout.
        type: int
  overrides:
    description: Drop-ins, each with the options of M(whatsapp_ops.sessions.systemd_override).
    type: list
    elements: dict
    default: []
  environment_file:
    description: A file of environment variables, for units that read it with C(EnvironmentFile=).
    type: dict
    suboptions:
      path:
        description: The file.
        type: path
        required: true
      values:
        description: Variables that have to be set, or must not be set if the value is null.
        type: dict
        required: true
  in_force:
    description: Variables that a unit should have. The module reports whether they are in effect and which file sets them.
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
      - The path that the running backend should use. This is determined from open files, mounts, environments and working directories
        of all processes of the unit, and from newer keys at the paths from which accounts were moved.
      - If nothing is left to do, the module fails if there are linked accounts and the backend uses another path, or if there is no
        evidence that it uses this one. The same applies to O(migrate).
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
      - Minimum number of linked accounts at the path of O(info), once nothing is left to do.
      - If O(migrate) would publish accounts or switch the backend, the module fails if fewer would be linked at its path afterwards.
    type: int
    default: 0
  allow_stopped:
    description:
      - Do not wait for O(health) if the unit is stopped or was never started. A warning reports this.
      - The module still waits for a unit that failed or that systemd keeps restarting.
    type: bool
    default: false
  backup:
    description:
      - The snapshots of linked accounts. The module reports their ages, and whether saving them failed or is overdue.
    type: dict
    suboptions:
      path:
        description: The directory that contains the accounts.
        type: path
        required: true
      backup_path:
        description: The directory of the snapshots, as in M(whatsapp_ops.sessions.session_backup).
        type: path
      max_age:
        description:
          - The age in seconds that the newest snapshot of an account may have.
          - With V(0), a day if M(whatsapp_ops.sessions.session_timer) has installed a schedule, and any age otherwise.
        type: int
        default: 0
  moment:
    description:
      - When a backend may be interrupted. Applies if something is left to do, or if none of O(dir), O(stop), O(overrides),
        O(environment_file) and O(migrate) is given, because the caller is then about to do it.
      - The module fails outside of the window, and waits until no account has been written to for a while.
      - In check mode it does neither, and a warning reports that it is outside of the window.
    type: dict
    suboptions:
      window:
        description:
          - The time of day in which interruptions may begin, for example V(22:00-05:00), in the time zone of the host.
          - Another time zone follows after a space, for example V(22:00-05:00 Europe/Berlin).
        type: str
      paths:
        description: The directories that contain the accounts. One that does not exist has none.
        type: list
        elements: path
        default: []
      layout:
        description: How the library stores accounts, as in M(whatsapp_ops.sessions.session_info).
        type: str
        default: auto
      custom:
        description: With O(moment.layout=custom), the description of a library, as in M(whatsapp_ops.sessions.session_info).
        type: dict
      quiet_seconds:
        description: For how many seconds no file of an account may have been written to. With V(0), this does not matter.
        type: float
        default: 0
      quiet_timeout:
        description: How many seconds to wait for that.
        type: float
        default: 300
      quiet_required:
        description: Fail if it was never quiet within O(moment.quiet_timeout). Otherwise, continue.
        type: bool
        default: true
seealso:
  - module: whatsapp_ops.sessions.session_backup
  - module: whatsapp_ops.sessions.session_dir
  - module: whatsapp_ops.sessions.session_health
  - module: whatsapp_ops.sessions.session_info
  - module: whatsapp_ops.sessions.session_migrate
  - module: whatsapp_ops.sessions.systemd_override
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Check whether anything has to be done
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

- name: Show the result
  ansible.builtin.debug:
    msg: "{{ plan.linked_accounts }} linked accounts; to do: {{ plan.todo | join(', ') or 'nothing' }}"
"""

RETURN = r"""
todo:
  description: The options that would change something.
  returned: success
  type: list
  elements: str
  sample: [dir, migrate]
steps:
  description: For each given option, whether it would change something.
  returned: success
  type: dict
  sample: {dir: true, stop: false, migrate: true}
summary:
  description: The result in a few words.
  returned: success
  type: str
  sample: 3 accounts linked, backend healthy, nothing left to do
linked_accounts:
  description: Number of linked accounts at the legacy paths and the sessions path together, each of them counted once.
  returned: success
  type: int
  sample: 3
stop:
  description: The drop-in for a graceful stop, as options of M(whatsapp_ops.sessions.systemd_override).
  returned: when O(stop) is given
  type: dict
  sample: {unit: whatsapp-backend.service, name: 10-graceful-stop, sections: {Service: {KillSignal: SIGINT, TimeoutStopSec: "90"}}}
in_force:
  description: The state of each variable. Values are not returned.
  returned: when O(in_force) is given
  type: list
  elements: dict
  contains:
    name:
      description: The variable. If another variable has the wanted path instead, the name of that one.
      type: str
      sample: SESSIONS_PATH
    as_wanted:
      description:
        - Whether it will have the value in O(in_force.values) after the next start of the unit, including environment files, or whether
          that path will be mounted where the program expects its accounts.
      type: bool
      sample: true
    file:
      description: The file that sets it; empty if none does.
      type: str
      sample: /etc/whatsapp-backend/env
    line:
      description: The line in that file.
      type: int
      sample: 1
    running:
      description: Whether the running main process has that value or mount. Null if there is no such process.
      type: bool
      sample: true
    attached_by:
      description: How the value takes effect at the next start, V(variable), V(bind), or V(volume) for a container. Empty if it does not.
      type: str
      sample: variable
in_use:
  description: The paths that the running backend uses.
  returned: when O(in_use) is given, also on failure; on failure also for O(migrate)
  type: dict
  contains:
    state:
      description:
        - V(used), only the path; V(elsewhere), another path; V(nowhere), no known path; V(unknown), some processes could not be
          inspected; V(stopped), there is no process.
      type: str
      sample: used
    where:
      description: Other paths that it uses.
      type: list
      elements: str
      sample: []
    newer:
      description: Paths from which accounts were moved and which have newer keys.
      type: list
      elements: str
      sample: []
dir:
  description: Result of M(whatsapp_ops.sessions.session_dir) in check mode.
  returned: when O(dir) is given
  type: dict
  sample: {path: /var/lib/whatsapp-backend/sessions, owner: whatsapp, group: whatsapp, mode: "0750"}
migrate:
  description: Result of M(whatsapp_ops.sessions.session_migrate) in check mode.
  returned: when O(migrate) is given
  type: dict
  sample: {counts: {migrated: 3}, steps: [stage, publish, switch]}
info:
  description: Result of M(whatsapp_ops.sessions.session_info).
  returned: when O(info) is given
  type: dict
  sample: {count: 3, total: 3, linked_accounts: 3}
backup:
  description: The snapshots of linked accounts.
  returned: when O(backup) is given
  type: dict
  contains:
    store:
      description: Whether there is a directory of snapshots.
      type: bool
      sample: true
    scheduled:
      description: Whether systemd saves snapshots on this host.
      type: bool
      sample: true
    without_snapshot:
      description: How many linked accounts have no sound snapshot.
      type: int
      sample: 0
    oldest_age_seconds:
      description: The age of the newest sound snapshot of the account for which it is highest. V(null) if there is none.
      type: int
      sample: 5210
    copy_age_seconds:
      description: The age of the newest off-host copy that this host made. V(null) if there is none.
      type: int
      sample: 5180
    problem:
      description: What failed or is overdue, in one sentence; empty if nothing is.
      type: str
      sample: ""
moment:
  description: Whether the backend may be interrupted now.
  returned: when O(moment) is given
  type: dict
  contains:
    time:
      description: The time of the host, in the time zone of the window.
      type: str
      sample: 23:10 CET
    problem:
      description: Why it may not be interrupted now; empty if it may be.
      type: str
      sample: ""
    quiet_for_seconds:
      description: How long ago a file of an account was written to. V(null) if O(moment.quiet_seconds) is 0 or there is no account.
      type: float
      sample: 12.5
health:
  description: Result of M(whatsapp_ops.sessions.session_health).
  returned: when O(health) is given
  type: dict
  sample: {status: 200, healthy: true}
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import zip_imports
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import (
    NESTED_IN_PLAN,
    SESSION_PLAN,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.module import run_module
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._plan import job as plan_job

del zip_imports  # imported before all others, for its side effect


def main() -> None:
    """Run the module."""
    run_module(plan_job, SESSION_PLAN, NESTED_IN_PLAN)


if __name__ == "__main__":
    main()
