#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves WhatsApp sessions to their persistent directory with the shortest interruption that is safe."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_migrate
short_description: Move WhatsApp sessions to a persistent directory without losing one
version_added: 0.1.0
description:
  - Copies accounts from where they were (a relative path, a release directory) to the sessions path, while the backend runs.
    Then stops the backend, copies what changed since, verifies, puts each account in its place by one rename, switches the
    configuration, and starts the backend again.
  - An account is one whole generation at any moment, also after a crash. A newer generation is never replaced by an older one
    unless you ask for exactly that, and what is replaced is kept aside.
  - A backend that ran before runs afterwards, on the sessions path when everything went well, else where it was before. So it does when
    the run is killed, and when the host loses power and boots again.
  - Source files are left as they are, except with O(engine=rename) and O(state=retired).
  - What belongs to an account elsewhere (the token file of wppconnect, say) travels, is put aside and is taken back with it. What lies
    beside accounts and travels with them is copied where O(path) has nothing of that name.
  - SQLite databases are copied by SQLite's own backup, with what is still in their C(-wal), and checked. One that is damaged keeps its
    account where it is.
  - An account that is a symbolic link is brought as a directory, where the link is safe to follow. Root made it, or it leads to a directory
    of its maker; it leads out of the legacy path, and to no directory of this collection. Others are reported and left behind.
  - Two different linked devices under one name in several O(src) are refused, because only one could be at O(path).
  - Locks and sockets are never copied. A lock at O(path) that keeps a browser from starting (of another host, of a dead process, broken)
    is removed where no process of the host uses the account; that interrupts nothing.
  - Modes and times are kept, but for set-id and sticky bits. A directory that gave its group to what is made in it does not any more,
    because all of an account belongs to O(group) then.
  - Staged and displaced accounts are kept in a directory that only root can enter, beside O(path) or inside it where O(path) is a
    mount of its own. The receipt and everything else that tells root what to do is kept below C(/var/lib/whatsapp-ops), where
    only root can make changes.
  - The backend is never held stopped for longer than twice O(unit_timeout) and ten minutes. A run that takes longer is ended, what
    it did is undone, and the backend is started.
  - Where O(unit) runs its program in a container (Podman with or without Quadlet, Docker), the container itself is looked at, and
    O(switch) does not count. If it has O(path) mounted, nothing is to be done for it. If its accounts lie in its own layer, which goes
    with it, they are brought to O(path) without loss, where the next container has that mounted or Quadlet can be told so. Anything else
    fails before anything is changed, with what to do.
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.action_group
  - whatsapp_ops.sessions._layout
attributes:
  action_group:
    membership:
      - whatsapp_ops.sessions.sessions
      - whatsapp_ops.sessions.layouts
      - whatsapp_ops.sessions.units
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  safe_file_operations:
    support: full
options:
  src:
    description:
      - The legacy paths, most trusted first. One that does not exist is no error, there is nothing to do for it then. Of an account
        that is in several, the first sound copy is taken.
      - Where the library keeps accounts in folders of known names, it may be the application's directory. Nothing else in it is touched.
      - Left out, they are found from O(unit), in the environment it runs with, in and below its working directory under the names that
        libraries give, and around the files that it has open.
      - Where O(switch) is about to point the backend away from accounts of its user below its working directory to which nothing leads,
        nothing is changed and the error names their directory. So it is where several were found and the running backend writes to some
        of them only. Naming legacy paths that exist is taken as the answer.
      - A path that was found counts only where it and the accounts in it belong to the user of O(unit). One that is named may also belong
        to root where only root can write in the directories above it. See O(allow_foreign_owner) for others.
    type: list
    elements: path
    default: []
  allow_foreign_owner:
    description:
      - Take accounts of other users than that of O(unit) from the paths named in O(src), and give them to that user.
      - Without it they are refused before anything is changed. What lies beside accounts travels only where it belongs to the owner of
        the legacy path, or to the user of O(unit), and never from a directory that everybody can write in.
      - A unit that runs as root may take accounts of any user.
    type: bool
    default: false
  allow_empty:
    description:
      - The backend is new and has no account yet.
      - Without it a backend that runs is not interrupted by O(switch) where no account is found, neither in O(path) nor in O(src) or
        where O(unit) leads. A unit that is stopped is pointed to O(path) in any case, and stays stopped.
    type: bool
    default: false
  accept_left_behind:
    description:
      - The accounts that may stay where they are while O(switch) points the backend away from them, by the names that the error gives
        (masked), or by their own.
      - Without it nothing is changed where an account would stay at a legacy path alone because it is damaged, is a link that is not
        followed, or belongs to another user.
    type: list
    elements: str
    default: []
  path:
    description: The sessions path, where the accounts are kept from then on. Made where it is missing.
    type: path
    required: true
  accounts:
    description:
      - Names of the accounts to move, as they are on disk. Left out, all. What lies beside accounts stays where it is then.
      - They are often phone numbers, so neither the host's journal nor the module's invocation shows them.
    type: list
    elements: str
    default: []
  unit:
    description:
      - The systemd unit of the backend, with or without C(.service). It is stopped only if something is left to publish or to
        switch, and only after everything that can be done before is done.
      - Where there is no such unit, a service or a container of Docker Compose is meant, which is stopped and made anew instead.
      - Without it nothing needs a running systemd. Then it is up to you that nothing writes to the accounts.
    type: str
  owner:
    description:
      - Who will own the accounts. Defaults to the user of O(unit), else to the owner of the first source, or of the folder in it that
        holds accounts.
    type: str
  group:
    description: Defaults to the group of O(unit), else to the primary group of O(owner).
    type: str
  mode:
    description:
      - Mode of O(path) where it has to be made, as M(whatsapp_ops.sessions.session_dir) takes it. The mode of a directory that is there
        is left as it is, and accounts keep theirs.
    type: raw
    default: "0750"
  state:
    description:
      - V(staged) copies to the staging area and publishes nothing; there is no interruption.
      - V(migrated) publishes.
      - V(retired) also renames each legacy path aside and leaves a file in its place that says where the accounts went.
        Of an application's directory only accounts and what travels with them are put out of use. What belongs to another user, holds
        something of one, or is a file with other names elsewhere stays where it is, and a warning says so.
      - V(rolled_back) goes the way back, in the same way. The accounts at O(path), with the keys that were written there since, are
        migrated to where the receipt says that they came from (in the release that O(unit) has now), or to O(src) where one path is given.
        What O(switch) changed becomes what it was. Accounts that were removed from O(path) since are left there as they are.
    type: str
    choices: [staged, migrated, retired, rolled_back]
    default: migrated
  on_conflict:
    description:
      - What to do with an account that is at both paths and was used at both since the last migration, or has no receipt.
      - V(newest) decides by evidence, sound credentials first, then the copy that the backend uses, then the newest key. Where
        both were used since the last migration it fails, whatever their age.
      - V(keep) keeps the copy at O(path), V(replace) takes the legacy one, V(fail) fails.
      - The copy that gives way is kept aside. Whole accounts only are decided about.
    type: str
    choices: [newest, keep, replace, fail]
    default: newest
  engine:
    description:
      - V(native) copies by itself. V(rsync) lets rsync fill the staging area, as the owner of the source where that is not root.
      - V(rename) moves the accounts, which takes no time and no space and leaves no copy; both paths have to be on one filesystem.
      - All end in the same verification and publishing.
    type: str
    choices: [native, rsync, rename]
    default: native
  tombstone:
    description:
      - The accounts leave their source. A file of root that says this is left in the place of each, before the backend starts
        again. A backend that knows the account by name fails there, instead of making a new one.
      - With O(engine=rename) that moves the accounts themselves. With another engine the originals are put aside on their own
        filesystem, for root only.
      - It is no account and no companion to any module. It gives way to the account when that is brought back, that is, when a source
        lies in the control directory of O(path) (see M(whatsapp_ops.sessions.session_info)). No other source brings the account back.
    type: str
  switch:
    description: The configuration that points the backend to O(path). It is written while the backend is stopped.
    type: dict
    suboptions:
      overrides:
        description: Drop-ins, each with the options of M(whatsapp_ops.sessions.systemd_override). The unit defaults to O(unit).
        type: list
        elements: dict
        default: []
      pre_stop_overrides:
        description:
          - Drop-ins that have to be in force when the backend is stopped, such as one for a graceful stop. They are written
            before that, and alone they are no reason to stop it. Each has the options of
            M(whatsapp_ops.sessions.systemd_override). The unit defaults to O(unit).
        type: list
        elements: dict
        default: []
      environment_file:
        description: A file that the unit reads with C(EnvironmentFile=), which beats every drop-in.
        type: dict
        suboptions:
          path:
            description: The file. Made for root alone where it is missing.
            type: path
            required: true
          values:
            description: Variables to set, or to remove where the value is null. All else in the file stays as it is.
            type: dict
            required: true
      attach:
        description:
          - How the backend is brought to O(path), by the variables of O(switch.overrides) and O(switch.environment_file) that are O(path).
          - V(variable) sets them as they are. V(none) leaves them out, for a program that looks there already.
          - V(bind) leaves them out, and has O(path) mounted (C(BindPaths=)) where the program looks for its accounts, in the first
            drop-in of O(switch.overrides). A legacy path below the unit's C(WorkingDirectory=) is named by that, so that each release
            gets the mount, also through a link. A unit that does not run as root gets C(NoNewPrivileges=yes) with it. Once the backend
            was seen to run so, the directory is closed to everybody but root outside of the unit. What would keep it from working is
            refused.
          - V(auto) keeps to what the drop-in says. Else it takes the variable of the unit that leads to the accounts now, whatever it is
            called, in the place of those that were given, and where none does both. Where several directories
            are found and no variable leads to one, they are listed and nothing is changed.
          - Where O(unit) runs its program in a container, it is a volume in any case, in a drop-in for Quadlet where the next container
            would not have one. V(bind) is refused then, V(none) where a drop-in would be needed, and V(volume) where it is no container.
        type: str
        choices: [variable, bind, volume, none, auto]
        default: variable
  exclude_caches:
    description:
      - Leave out what a browser can make anew, most of what a real profile holds. What else is in it is copied.
      - With V(false) everything is copied but locks. O(engine=rename) moves accounts with their caches in any case, because that costs
        nothing.
    type: bool
    default: true
  verify:
    description: V(checksum) reads every copy back and compares, V(metadata) compares names, sizes and times.
    type: str
    choices: [checksum, metadata]
    default: checksum
  unit_timeout:
    description: Seconds to wait for the unit to stop, and again to start.
    type: int
    default: 120
  use_timeout:
    description:
      - Seconds within which a backend with linked accounts has to open one of them at O(path) after it was started. Where it does not,
        it is brought back to where it was, and the module fails.
      - With V(0) that is only warned of, after 3 seconds. A backend that opens accounts at another path is always brought back.
    type: float
    default: 0
seealso:
  - module: whatsapp_ops.sessions.session_dir
  - module: whatsapp_ops.sessions.session_info
  - module: whatsapp_ops.sessions.systemd_override
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Move the accounts of a release to their persistent directory, and point the backend there
  whatsapp_ops.sessions.session_migrate:
    src: [/opt/whatsapp/current/.baileys_auth]
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend
    switch:
      overrides:
        - name: 20-sessions
          sections:
            Service:
              Environment: {SESSIONS_PATH: /var/lib/whatsapp-backend/sessions}
              UMask: "0077"
      environment_file:
        path: /etc/whatsapp-backend/env
        values: {SESSIONS_PATH: /var/lib/whatsapp-backend/sessions}

- name: Copy ahead of a maintenance window
  whatsapp_ops.sessions.session_migrate:
    src: [/opt/whatsapp/current/.baileys_auth]
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend
    state: staged

- name: Go back to where the accounts were before, with the keys that they have now
  whatsapp_ops.sessions.session_migrate:
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend
    state: rolled_back

- name: Put sessions into an image that is being built
  whatsapp_ops.sessions.session_migrate:
    src: [/build/sessions]
    path: /var/lib/whatsapp-backend/sessions
    owner: whatsapp
"""

RETURN = r"""
path:
  description: The sessions path. With O(state=rolled_back), where the accounts were brought back to.
  returned: success
  type: str
  sample: /var/lib/whatsapp-backend/sessions
path_made:
  description: Whether it was missing and was made, or in check mode would be.
  returned: success
  type: bool
  sample: true
summary:
  description: What was done in a few words, or in check mode would be.
  returned: success
  type: str
  sample: 3 accounts moved, away for 0.6 s
src:
  description: The legacy paths that exist. With O(state=rolled_back), the sessions path.
  returned: success
  type: list
  elements: str
  sample: [/opt/whatsapp/current/.baileys_auth]
layout:
  description: The layout of the accounts.
  returned: success
  type: str
  sample: baileys
accounts:
  description: What was, or in check mode would be, done about each account of the legacy paths.
  returned: success, and when accounts diverged
  type: list
  elements: dict
  contains:
    id:
      description: The account's name, masked.
      type: str
      sample: 4…7-9c1f2e
    action:
      description:
        - V(migrated); V(unchanged), migrated before; V(kept), the copy at the sessions path won; V(corrupt), damaged and left
          where it is; V(diverged), only you can decide; V(skipped), it was removed from the sessions path on purpose.
      type: str
      sample: migrated
    reason:
      description: Why.
      type: str
      sample: only the legacy path has it
left_behind:
  description: What is, or may be, an account and stays at a legacy path alone.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Its name, masked.
      type: str
      sample: 4…7-9c1f2e
    path:
      description: The legacy path.
      type: str
      sample: /opt/whatsapp/current/.baileys_auth
    reason:
      description: Why.
      type: str
      sample: the legacy copy is damaged; it stays where it is
  sample: []
counts:
  description: Number of accounts per action. C(displaced) counts the copies that were put aside.
  returned: success
  type: dict
  sample: {migrated: 3, unchanged: 0, kept: 0, displaced: 0, corrupt: 0, diverged: 0, skipped: 0}
companions:
  description: Number of other files and directories that were copied because they lie beside the accounts.
  returned: success
  type: int
  sample: 0
unlocked:
  description: Number of accounts at the sessions path whose lock, which nobody held, was removed.
  returned: success
  type: int
  sample: 0
steps:
  description: What was done, or in check mode would be.
  returned: success
  type: list
  elements: str
  sample: [pre_stop_overrides, stage, publish, switch]
attached_by:
  description: How the backend is, or in check mode would be, brought to the sessions path, see O(switch.attach).
  returned: success
  type: str
  sample: variable
downtime_seconds:
  description: How long the backend was down, from the stop to the end of the start. 0 where it was not interrupted.
  returned: success
  type: float
  sample: 0.9
phases:
  description: Seconds that each phase took.
  returned: success
  type: dict
  sample: {stage: 4.1, guard: 0.2, stop: 0.3, decide: 0.0, difference: 0.1, verify: 0.0, durable: 0.1, publish: 0.0, record: 0.0,
    switch: 0.2, start: 0.1}
receipt:
  description: Where the receipt is kept, for root only.
  returned: success
  type: str
  sample: /var/lib/whatsapp-ops/var-lib-whatsapp-backend-sessions-1f4c0ab2d93e/receipt.json
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils import _compiled_once, _migrate
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._arguments import (
    DROP_INS,
    SESSION_MIGRATE,
    SESSION_MIGRATE_RULES,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils.common import run_module

del _compiled_once  # imported before all others, for what it does


def main() -> None:
    """Run the module."""
    run_module(_migrate, SESSION_MIGRATE, DROP_INS, **SESSION_MIGRATE_RULES)


if __name__ == "__main__":
    main()
