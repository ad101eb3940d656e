#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manages one drop-in of a systemd unit."""

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_override
short_description: Manage a drop-in of a systemd unit, and say what is really in force
version_added: 0.1.0
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
description:
  - Writes C(UNIT.d/NAME.conf) with the options of O(sections), or removes it, and makes systemd read its unit files again.
  - Systemd itself checks the drop-in before it is installed (see O(validate)), so a misspelt option never reaches C(/etc).
  - Afterwards the module says what the next start of the unit will use (RV(effective)), what beats the drop-in and where that is written
    (RV(shadowed)), and whether the running process lacks something that only a restart gives it (RV(needs_restart)).
  - Never starts, stops or restarts the unit.
options:
  unit:
    description:
      - The unit, with or without C(.service). Templates (V(wa@.service)) and instances (V(wa@1.service)) work too.
      - It has to exist, by its own name and not by an alias. Only with O(state=absent) it may be gone already.
    type: str
    required: true
  name:
    description:
      - Name of the drop-in, with or without C(.conf).
      - Systemd sorts all drop-ins of a unit by this name alone, whichever directory they are in, and the last one wins. V(override) is what
        C(systemctl edit) writes, and sorts after names that begin with a digit.
    type: str
    default: override
  sections:
    description:
      - The content, as section, option and value. Sections and options are written in the order in which they are given.
      - A value is a text, a number, a boolean (written as V(yes) or V(no)), a list of these (one line each), or V(null), which resets
        the option (C(Option=)). A list may begin with V(null), to drop what other files have added before.
      - Values are systemd's own. Specifiers work, so V(%H) is the host name, and a percent sign that is meant is written V(%%).
      - C(Environment) also takes a dictionary of variable and value. It is quoted as needed, so a value may hold blanks, quotes and
        backslashes. Given as a text or a list it has to be written as in a unit file.
      - Octal numbers (C(UMask), C(StateDirectoryMode)) have to be quoted, because YAML reads V(0077) as 63.
      - Refused are values with a newline or another control character, and names that no unit file has.
      - Required unless O(state=absent). With O(state=absent) they tell what RV(effective) and RV(needs_restart) are about.
    type: dict
  state:
    description:
      - With V(present) the drop-in is written whole. What somebody else added to it is gone.
      - With V(absent) it is removed, and its directory too when nothing else is in there.
    type: str
    choices: [present, absent]
    default: present
  scope:
    description:
      - With V(persistent) the drop-in is in C(/etc/systemd/system).
      - With V(runtime) it is in C(/run/systemd/system), and gone after the next boot. A drop-in of the same name in C(/etc) hides it.
    type: str
    choices: [persistent, runtime]
    default: persistent
  daemon_reload:
    description:
      - Make systemd read its unit files again after a change, and also when it holds something older than the files although nothing was
        changed here, as after a play that died in between. Then too the module reports a change.
      - Set it to V(false) where no systemd runs (images, chroots), or when you reload later yourself.
    type: bool
    default: true
  validate:
    description:
      - Have C(systemd-analyze verify) check the drop-in together with the unit, in a private directory, before it is installed. Whatever it
        remarks on the drop-in is an error. Also done in check mode, and where systemd does not run.
    type: bool
    default: true
  on_shadowed:
    description:
      - What to do when the drop-in does not come into force because something else beats it with another value.
      - With V(fail) nothing is written. With V(warn) a warning names file and line. With V(ignore) only RV(shadowed) says so.
    type: str
    choices: [warn, fail, ignore]
    default: warn
  sensitive:
    description:
      - Keep the values out of results, diffs, messages and the log of the target, and let nobody but root read the file (mode V(0600)).
      - Systemd still shows the values of most options to every user of the host. Secrets belong into C(LoadCredential=).
    type: bool
    default: false
  backup:
    description:
      - Keep a copy of the drop-in that is replaced or removed, beside it, under a name that systemd does not read.
    type: bool
    default: false
attributes:
  action_group:
    membership:
      - whatsapp_ops.sessions.units
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Shows the text of the drop-in, unless it is O(sensitive) or only root may read what is there.
  idempotent:
    support: full
  safe_file_operations:
    support: full
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.action_group
seealso:
  - module: whatsapp_ops.sessions.session_migrate
    description: Changes drop-ins and environment file while the unit is down (O(whatsapp_ops.sessions.session_migrate#module:switch)).
  - name: systemd.unit(5)
    description: Drop-ins, their order, and specifiers.
    link: https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html
  - name: systemd.exec(5)
    description: The options of processes, and where their environment comes from.
    link: https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
notes:
  - Systemd's word alone is not believed. C(NeedDaemonReload) misses files whose time was set back, and C(systemctl show) misses
    environment files.
"""

EXAMPLES = r"""
- name: Let the backend finish writing when it is stopped
  whatsapp_ops.sessions.systemd_override:
    unit: whatsapp-backend
    name: 10-graceful-stop
    sections:
      Service:
        KillSignal: SIGTERM
        KillMode: mixed
        TimeoutStopSec: 90

- name: Tell the backend where its sessions are, and stop when something else says otherwise
  whatsapp_ops.sessions.systemd_override:
    unit: whatsapp-backend
    name: 20-sessions
    sections:
      Unit:
        RequiresMountsFor: /var/lib/whatsapp-backend/sessions
      Service:
        Environment:
          SESSIONS_PATH: /var/lib/whatsapp-backend/sessions
          INSTANCE_ID: "%H"
        UMask: "0077"
        ReadWritePaths: [/var/lib/whatsapp-backend/sessions]
    on_shadowed: fail
  register: override

- name: Restart only when the running process lacks something
  ansible.builtin.systemd_service:
    name: whatsapp-backend
    state: restarted
  when: override.needs_restart

- name: Replace the command of all instances, whatever other drop-ins say
  whatsapp_ops.sessions.systemd_override:
    unit: wa@.service
    sections:
      Service:
        ExecStart: [null, /usr/bin/node /opt/wa/server.js %i]

- name: Prepare an image, where no systemd runs
  whatsapp_ops.sessions.systemd_override:
    unit: whatsapp-backend
    name: 20-sessions
    sections:
      Service:
        Environment: {SESSIONS_PATH: /var/lib/whatsapp-backend/sessions}
    daemon_reload: false

- name: Remove the drop-in
  whatsapp_ops.sessions.systemd_override:
    unit: whatsapp-backend
    name: 20-sessions
    state: absent
"""

RETURN = r"""
path:
  description: The drop-in.
  returned: success
  type: str
  sample: /etc/systemd/system/whatsapp-backend.service.d/20-sessions.conf
unit:
  description: The unit, with its suffix.
  returned: success
  type: str
  sample: whatsapp-backend.service
scope:
  description: What O(scope) was.
  returned: success
  type: str
  sample: persistent
effective:
  description:
    - What is in force for each option of O(sections) once systemd has read its files, whichever file says so. In the levels of O(sections).
    - A text, or V(null) for an option that is not set. A list for options that accumulate. For C(Environment) the variables of
      O(sections) with the values that the next start gives them, environment files included, specifiers expanded.
    - In check mode what would be in force. With O(sensitive) every value is V((sensitive\)).
  returned: success
  type: dict
  sample:
    Service:
      Environment:
        INSTANCE_ID: host-7
        SESSIONS_PATH: /var/lib/whatsapp-backend/sessions
      UMask: "0077"
shadowed:
  description: What beats the drop-in with another value. Empty when all of it is in force.
  returned: success, and when the module fails because of O(on_shadowed=fail)
  type: list
  elements: dict
  contains:
    section:
      description: Section of the option.
      type: str
    option:
      description: The option that does not come into force.
      type: str
    variable:
      description: The variable, where the option is C(Environment).
      type: str
      returned: for C(Environment)
    file:
      description: The file that wins. It may be a drop-in that sorts later, one for all services, or an environment file.
      type: str
    line:
      description:
        - The line in that file.
        - V(0) when that file hides the drop-in as a whole, because it has the same name in a stronger directory.
      type: int
    value:
      description: The value that wins; V(null) when it is unset or reset there.
      type: str
      returned: unless O(sensitive)
  sample:
    - section: Service
      option: Environment
      variable: SESSIONS_PATH
      file: /etc/whatsapp-backend/env
      line: 3
      value: .baileys_auth
needs_restart:
  description:
    - Whether the running process lacks something that the drop-in (or its removal) asks for, and that only a restart gives it.
    - Variables and C(UMask) are looked up in the process. Options of stopping and restarting need none. For others it is true when the
      drop-in is newer than the process. It is false when the unit does not run.
    - It stays true until the restart has happened, however many plays die before it.
  returned: success
  type: bool
  sample: true
backup_file:
  description: The copy of the drop-in that was replaced or removed.
  returned: when O(backup) and something was replaced or removed
  type: str
  sample: /etc/systemd/system/whatsapp-backend.service.d/20-sessions.conf.4711.2026-11-20@12:00:00~
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils import _compiled_once, _override
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._arguments import (
    SYSTEMD_OVERRIDE,
    SYSTEMD_OVERRIDE_RULES,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils.common import run_module

del _compiled_once  # imported before all others, for what it does


def main() -> None:
    run_module(_override, SYSTEMD_OVERRIDE, **SYSTEMD_OVERRIDE_RULES)


if __name__ == "__main__":
    main()
