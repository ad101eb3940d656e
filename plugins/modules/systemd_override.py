#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Manages one drop-in of a systemd unit."""

from __future__ import annotations

DOCUMENTATION = r"""
module: systemd_override
short_description: Manage a drop-in of a systemd unit and report the effective settings
version_added: 0.1.0
description:
  - Writes C(UNIT.d/NAME.conf) with the options in O(sections), or removes it, and reloads the systemd manager.
  - Systemd validates the drop-in before it is installed (see O(validate)), so a misspelt option never reaches C(/etc).
  - Then reports the settings that the next start of the unit will use (RV(effective)), the files and lines that override the drop-in
    (RV(shadowed)), and whether the running process needs a restart for the settings to take effect (RV(needs_restart)).
  - Never starts, stops or restarts the unit.
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.action_group
attributes:
  action_group:
    membership:
      - whatsapp_ops.sessions.units
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Shows the text of the drop-in, unless it is O(sensitive) or the current file is readable by root only.
  idempotent:
    support: full
  safe_file_operations:
    support: full
options:
  unit:
    description:
      - The unit, with or without C(.service). Templates (V(wa@.service)) and instances (V(wa@1.service)) are supported.
      - It has to exist under this name, which must not be an alias. With O(state=absent), it may be missing.
    type: str
    required: true
  name:
    description:
      - Name of the drop-in, with or without C(.conf).
      - Systemd sorts all drop-ins of a unit by this name alone, regardless of their directory, and the last one wins. V(override) is the
        name that C(systemctl edit) uses. It sorts after names that begin with a digit.
    type: str
    default: override
  sections:
    description:
      - The content, as section, option and value. Sections and options are written in the given order.
      - A value is a string, a number, a boolean (written as V(yes) or V(no)), a list of these (one line each), or V(null), which resets
        the option (C(Option=)). A list can begin with V(null) to discard the values of earlier files.
      - Values are written in systemd's own syntax. Specifiers are expanded, so V(%H) is the host name, and a literal percent sign is
        written as V(%%).
      - C(Environment) also takes a dictionary of variables and values. They are quoted as needed, so a value can contain spaces, quotes
        and backslashes. A string or a list has to be written as in a unit file.
      - Octal numbers (C(UMask), C(StateDirectoryMode)) have to be quoted, because YAML reads V(0077) as 63.
      - Values with a newline or another control character are refused, and so are names that are invalid in unit files.
      - Required unless O(state=absent). With O(state=absent), it selects the options for RV(effective) and RV(needs_restart).
    type: dict
  state:
    description:
      - With V(present), the whole drop-in is written, and additions from other sources are replaced.
      - With V(absent), it is removed, together with its directory if that is empty.
    type: str
    choices: [present, absent]
    default: present
  scope:
    description:
      - With V(persistent), the drop-in is in C(/etc/systemd/system).
      - With V(runtime), it is in C(/run/systemd/system), and disappears at the next boot. A drop-in of the same name in C(/etc) masks it.
    type: str
    choices: [persistent, runtime]
    default: persistent
  daemon_reload:
    description:
      - Reload the systemd manager after a change. It is also reloaded, and a change reported, if nothing was changed but the manager still
        has an older version of the files, for example after a play that was interrupted.
      - Set this to V(false) if systemd is not running (images, chroots), or to reload later.
    type: bool
    default: true
  validate:
    description:
      - Check the drop-in with C(systemd-analyze verify), together with the unit and in a private directory, before it is installed. Every
        message about the drop-in is an error. This also works in check mode and without a running systemd.
    type: bool
    default: true
  on_shadowed:
    description:
      - What to do if a setting of the drop-in does not take effect because another file overrides it.
      - With V(fail), nothing is written. With V(warn), a warning names the file and the line. With V(ignore), it is only returned in
        RV(shadowed).
    type: str
    choices: [warn, fail, ignore]
    default: warn
  sensitive:
    description:
      - Keep the values out of results, diffs, messages and the log of the target, and make the file readable by root only (mode V(0600)).
      - Systemd still shows the values of most options to every user of the host. Use C(LoadCredential=) for secrets.
    type: bool
    default: false
  backup:
    description:
      - Keep a copy of a replaced or removed drop-in in the same directory, under a name that systemd ignores.
    type: bool
    default: false
notes:
  - The module does not rely on systemd's reports alone, because C(NeedDaemonReload) misses files whose modification time was set back,
    and C(systemctl show) omits environment files.
seealso:
  - module: whatsapp_ops.sessions.session_migrate
    description: Changes drop-ins and environment files of a stopped unit (O(whatsapp_ops.sessions.session_migrate#module:switch)).
  - name: systemd.unit(5)
    description: Drop-ins, their order, and specifiers.
    link: https://www.freedesktop.org/software/systemd/man/latest/systemd.unit.html
  - name: systemd.exec(5)
    description: Options of processes, and the sources of their environment.
    link: https://www.freedesktop.org/software/systemd/man/latest/systemd.exec.html
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Give the backend time to finish writing when it is stopped
  whatsapp_ops.sessions.systemd_override:
    unit: whatsapp-backend
    name: 10-graceful-stop
    sections:
      Service:
        KillSignal: SIGTERM
        KillMode: mixed
        TimeoutStopSec: 90

- name: Configure the sessions path, and fail if another file overrides it
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

- name: Restart only if the running process has outdated settings
  ansible.builtin.systemd_service:
    name: whatsapp-backend
    state: restarted
  when: override.needs_restart

- name: Replace the command of all instances, and discard the commands of other drop-ins
  whatsapp_ops.sessions.systemd_override:
    unit: wa@.service
    sections:
      Service:
        ExecStart: [null, /usr/bin/node /opt/wa/server.js %i]

- name: Prepare an image, without a running systemd
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
  description: The value of O(scope).
  returned: success
  type: str
  sample: persistent
effective:
  description:
    - The effective value of each option in O(sections) after a reload, whichever file sets it. Structured like O(sections).
    - A string, or V(null) for an option that is not set. A list for options that accumulate. For C(Environment), the variables in
      O(sections) with their values at the next start, including environment files, with specifiers expanded.
    - In check mode, the values that would be in effect. With O(sensitive), every value is V((sensitive\)).
  returned: success
  type: dict
  sample:
    Service:
      Environment:
        INSTANCE_ID: host-7
        SESSIONS_PATH: /var/lib/whatsapp-backend/sessions
      UMask: "0077"
shadowed:
  description: Settings of the drop-in that another file overrides. Empty if the whole drop-in is in effect.
  returned: success, and if the module fails because of O(on_shadowed=fail)
  type: list
  elements: dict
  contains:
    section:
      description: Section of the option.
      type: str
    option:
      description: The option that does not take effect.
      type: str
    variable:
      description: The variable, if the option is C(Environment).
      type: str
      returned: for C(Environment)
    file:
      description: The overriding file. It can be a later drop-in, a drop-in for all services, or an environment file.
      type: str
    line:
      description:
        - The line in that file.
        - V(0) if that file masks the whole drop-in, because it has the same name in a directory with higher priority.
      type: int
    value:
      description: The overriding value; V(null) if the setting is unset or reset there.
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
    - Whether the running process has to be restarted for the drop-in (or its removal) to take effect.
    - Variables and C(UMask) are read from the process. Options that concern stopping and restarting do not need a restart. For other
      options it is true if the drop-in is newer than the process. It is false if the unit is not running.
    - It remains true until the restart, even if plays are interrupted before it.
  returned: success
  type: bool
  sample: true
backup_file:
  description: The copy of the replaced or removed drop-in.
  returned: if O(backup) is set and a file was replaced or removed
  type: str
  sample: /etc/systemd/system/whatsapp-backend.service.d/20-sessions.conf.4711.2026-11-20@12:00:00~
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import zip_imports
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import (
    SYSTEMD_OVERRIDE,
    SYSTEMD_OVERRIDE_RULES,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.module import run_module
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._systemd import drop_in

del zip_imports  # imported before all others, for its side effect


def main() -> None:
    """Run the module."""
    run_module(drop_in, SYSTEMD_OVERRIDE, **SYSTEMD_OVERRIDE_RULES)


if __name__ == "__main__":
    main()
