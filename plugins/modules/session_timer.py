#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Installs a job of this collection on a host, where systemd runs it without Ansible."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_timer
short_description: Let systemd run a job of this collection on a host, on schedule or after changes
version_added: 0.1.0
description:
  - Installs the code of one job, its options, and units that run it on the host without Ansible.
  - The program is C(/usr/local/lib/whatsapp-ops/JOB.pyz), a zip file with the part of this collection that the job needs. It uses the
    Python of the host and needs no other packages.
  - The options are in C(/etc/whatsapp-ops/JOB-NAME.json), which only root can read. They are checked as the module of the same job
    checks them.
  - The units are C(whatsapp-ops-JOB-NAME.service), and C(.timer) and C(.path) if O(on_calendar) and O(watch) are set. The service is
    confined to what the job needs. It has no network unless the job connects to other hosts.
  - A job that fails leaves its service in the state C(failed), and the reason in the journal. It prints counts only, never names of
    accounts.
  - This module never runs the job itself.
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Shows the texts of the units. The program and the options are shown as digests.
  idempotent:
    support: full
  safe_file_operations:
    support: full
options:
  job:
    description:
      - The job to run.
      - V(backup) saves snapshots of accounts, as M(whatsapp_ops.sessions.session_backup) does.
      - V(metrics) writes metrics for node_exporter, as M(whatsapp_ops.sessions.session_metrics) does.
      - V(recover) restores accounts that are certainly damaged or lost, as M(whatsapp_ops.sessions.session_restore) does with
        C(state=recovered), which has to be among O(options). It stops and starts the backend for that.
      - V(restic) copies snapshots to another machine, as M(whatsapp_ops.sessions.session_restic) does.
    type: str
    required: true
    choices: [backup, metrics, recover, restic]
  options:
    description:
      - The options of the module of that job.
      - With O(state=absent), only C(path) is used, if O(name) is not set.
    type: dict
    default: {}
  name:
    description:
      - What distinguishes this job from the same job for another sessions path. Part of the names of its units.
      - Defaults to the name of the control directory of the sessions path in C(/var/lib/whatsapp-ops).
    type: str
  state:
    description:
      - With V(present), the job is installed, and its timer and path unit are started.
      - With V(absent), its units and options are removed, and its program unless another sessions path uses it. What the job has
        written is kept.
    type: str
    choices: [present, absent]
    default: present
  on_calendar:
    description:
      - When to run the job, as in C(OnCalendar=), for example V(daily) or V(*-*-* 00/6:00:00). If the host is off at that time, the job
        runs after the next boot.
      - If empty, there is no timer.
    type: str
  randomized_delay:
    description:
      - Delay each run by a time up to this, for example V(30min), so that hosts do not all run it at the same moment. The delay of a host
        is always the same.
    type: str
  watch:
    description:
      - Run the job also after a change of these files, or of the entries of these directories, but not of what is below them.
    type: list
    elements: path
    default: []
  settle:
    description:
      - The time from a change until the job runs. Further changes in that time start no other run, so the job runs at most this often.
    type: str
    default: 2min
  on_success:
    description:
      - A unit to start after each successful run. Requires systemd 249.
    type: str
  on_failure:
    description:
      - A unit to start after each failed run, for example one that sends a notification.
    type: str
notes:
  - Run the module again after an update of the collection, so that the host gets its new code. The role backup does that.
seealso:
  - module: whatsapp_ops.sessions.session_backup
  - module: whatsapp_ops.sessions.session_restic
  - module: whatsapp_ops.sessions.session_restore
  - name: systemd.timer(5)
    description: Schedules and delays.
    link: https://www.freedesktop.org/software/systemd/man/latest/systemd.timer.html
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Save snapshots every six hours, and two minutes after a new account appears
  whatsapp_ops.sessions.session_timer:
    job: backup
    options:
      path: /var/lib/whatsapp-backend/sessions
      unit: whatsapp-backend
    on_calendar: "*-*-* 00/6:00:00"
    randomized_delay: 30min
    watch: [/var/lib/whatsapp-backend/sessions]
  register: timer

- name: Run the job now
  ansible.builtin.systemd_service:
    name: "{{ timer.unit }}"
    state: started

- name: Stop saving snapshots, and keep those that exist
  whatsapp_ops.sessions.session_timer:
    job: backup
    options:
      path: /var/lib/whatsapp-backend/sessions
    state: absent
"""

RETURN = r"""
unit:
  description: The service that runs the job.
  returned: success
  type: str
  sample: whatsapp-ops-backup-var-lib-whatsapp-backend-sessions-0f3c5c7a9e11.service
started:
  description: The units that start the service.
  returned: success
  type: list
  elements: str
  sample: [whatsapp-ops-backup-var-lib-whatsapp-backend-sessions-0f3c5c7a9e11.timer]
program:
  description: The program.
  returned: success
  type: str
  sample: /usr/local/lib/whatsapp-ops/backup.pyz
options_file:
  description: The file with the options.
  returned: success
  type: str
  sample: /etc/whatsapp-ops/backup-var-lib-whatsapp-backend-sessions-0f3c5c7a9e11.json
next_run:
  description: When the timer elapses next, as systemd prints it; empty without a timer.
  returned: success
  type: str
  sample: Sat 2026-11-21 06:12:44 UTC
last_run:
  description: When the last run ended, as systemd prints it; empty if there was none since the boot.
  returned: success
  type: str
  sample: Sat 2026-11-21 00:12:45 UTC
last_result:
  description: The result of that run, V(success) or the reason of the failure; empty if there was none since the boot.
  returned: success
  type: str
  sample: success
failed:
  description: Whether the last run failed.
  returned: success
  type: bool
  sample: false
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import zip_imports
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import SESSION_TIMER
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.module import run_module
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._timer import job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._timer.jobs import nested_options

del zip_imports  # imported before all others, for its side effect


def main() -> None:
    """Run the module."""
    run_module(job, SESSION_TIMER, nested=nested_options)


if __name__ == "__main__":
    main()
