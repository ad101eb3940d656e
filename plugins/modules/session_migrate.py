#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Moves WhatsApp sessions to their persistent directory with the shortest safe interruption."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_migrate
short_description: Move WhatsApp sessions to a persistent directory without losing any
version_added: 0.1.0
description:
  - Copies accounts from their current location (a relative path, a release directory) to the sessions path while the backend runs.
    Then stops the backend, copies the last changes, verifies the copies, publishes each account with a single rename, switches the
    configuration, and starts the backend again.
  - An account is complete and consistent at any time, even after a crash. A newer copy is never replaced by an older one unless you
    request exactly that, and replaced copies are kept.
  - A backend that ran before runs afterwards, on the sessions path if the run succeeds, otherwise as before. This also holds if the run
    is killed, or if the host loses power and boots again.
  - Source files are not changed, except with O(engine=rename) and O(state=retired).
  - Files that belong to an account but are stored elsewhere (for example, the token file of wppconnect) are moved, set aside and
    restored with it. Other files next to the accounts are copied with them, unless O(path) already has an entry of that name.
  - SQLite databases are copied with SQLite's own backup, including changes that are still in their C(-wal), and checked. An account
    with a damaged database is not moved.
  - An account that is a symbolic link is copied as a directory if the link is safe to follow. That is, root created it, or it points to
    a directory of its creator; and it points outside the legacy path and not to a directory of this collection. Other links are
    reported and left behind.
  - Two different linked devices with the same account name in several O(src) are refused, because only one of them fits in O(path).
  - Locks and sockets are never copied. A lock at O(path) that prevents a browser from starting (of another host, of a dead process, or
    damaged) is removed if no process on the host uses the account. This interrupts nothing.
  - Modes and times are preserved, except set-id and sticky bits. The set-group-ID bit of directories is dropped, because the whole
    account belongs to O(group) afterwards.
  - Staged and displaced accounts are kept in a directory that only root can access, next to O(path), or inside it if O(path) is a
    mount point. The receipt and all control files are kept below C(/var/lib/whatsapp-ops), which only root can change.
  - The backend is never kept stopped for longer than twice O(unit_timeout) plus ten minutes. A run that takes longer is aborted and
    rolled back, and the backend is started.
  - If O(unit) runs its program in a container (Podman with or without Quadlet, Docker), the module inspects the container itself and
    ignores O(switch). If the container has O(path) mounted, there is nothing to do. If its accounts are in the container's layer, which
    is removed with the container, they are copied to O(path) without loss, provided that the next container mounts that path or a
    Quadlet drop-in can mount it. Any other case fails before anything is changed, and the message says what to do.
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.action_group
  - whatsapp_ops.sessions._attributes.progress
  - whatsapp_ops.sessions._layout
  - whatsapp_ops.sessions._options.interruption
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
      - The legacy paths, most trusted first. A path that does not exist is ignored. If several paths contain the same account, the first
        intact copy is used.
      - If the library stores accounts in directories with known names, the path may be the directory of the application. Nothing else in
        it is touched.
      - If omitted, they are detected from O(unit), from its environment, from the default directory names of libraries in and below its
        working directory, and from its open files.
      - If O(switch) would point the backend away from accounts of its user below its working directory that no setting refers to,
        nothing is changed and the error reports their directory. The same applies if several directories were detected and the running
        backend writes to only some of them. Listing existing legacy paths here resolves this.
      - A detected path is used only if it and its accounts belong to the user of O(unit). A listed path may also belong to root if only
        root can write to its parent directories. See O(allow_foreign_owner) for other owners.
    type: list
    elements: path
    default: []
  allow_foreign_owner:
    description:
      - Accept accounts of users other than the user of O(unit) in the paths listed in O(src), and change their owner to that user.
      - Without this option they are refused before anything is changed. Other files next to accounts are copied only if they belong to
        the owner of the legacy path or to the user of O(unit), and never from a world-writable directory.
      - For a unit that runs as root, accounts of any user are accepted.
    type: bool
    default: false
  allow_empty:
    description:
      - Set this for a new backend that has no account yet.
      - Without this option, O(switch) does not interrupt a running backend if no account is found in O(path), in O(src) or in the paths
        detected from O(unit). A stopped unit is switched to O(path) in any case and stays stopped.
    type: bool
    default: false
  accept_left_behind:
    description:
      - Accounts that may stay at their legacy path although O(switch) points the backend away from them. Use the masked names from the
        error message, or the real names.
      - Without this option, nothing is changed if an account would be left behind because it is damaged, is a link that is not followed,
        or belongs to another user.
    type: list
    elements: str
    default: []
  path:
    description: The sessions path, the new location of the accounts. Created if it does not exist.
    type: path
    required: true
  accounts:
    description:
      - Names of the accounts to move, as they are on disk. Defaults to all accounts. If set, other files next to accounts are not copied.
      - The names are often phone numbers, so neither the host's journal nor the module's invocation shows them.
    type: list
    elements: str
    default: []
  unit:
    description:
      - The systemd unit of the backend, with or without C(.service). It is stopped only if something has to be published or switched,
        and only after all work that is possible without an interruption.
      - If there is no such unit, the name of a Docker Compose service or container, which is stopped and recreated instead.
      - Without this option no running systemd is required, and you have to make sure that nothing writes to the accounts.
    type: str
  owner:
    description:
      - The owner of the moved accounts. Defaults to the user of O(unit). Without a unit, defaults to the owner of the first source, or of
        the directory in it that contains the accounts.
    type: str
  group:
    description: The group of the moved accounts. Defaults to the group of O(unit), or without a unit to the primary group of O(owner).
    type: str
  mode:
    description:
      - Mode of O(path) if it has to be created, in the formats of M(whatsapp_ops.sessions.session_dir). The mode of an existing directory
        is not changed, and accounts keep their modes.
    type: raw
    default: "0750"
  state:
    description:
      - V(staged) copies to the staging area and publishes nothing; there is no interruption.
      - V(migrated) publishes the accounts.
      - V(retired) also renames each legacy path and leaves a file in its place that states where the accounts are now.
        In the directory of an application, only accounts and the files that are copied with them are retired. Entries that belong to
        another user, contain something of another user, or have further hard links are not touched, and a warning reports them.
      - V(rolled_back) reverses the migration in the same way. The accounts at O(path), with all keys written there since, are migrated
        back to the path recorded in the receipt (in the current release of O(unit)), or to O(src) if exactly one path is given.
        The changes of O(switch) are reverted. Legacy copies of accounts that were removed from O(path) since are not changed.
    type: str
    choices: [staged, migrated, retired, rolled_back]
    default: migrated
  on_conflict:
    description:
      - What to do with an account that exists at both paths and was used at both since the last migration, or has no receipt.
      - V(newest) prefers intact credentials, then the copy that the backend uses, then the copy with the newest key. If both were used
        since the last migration, it fails, whatever their age.
      - V(keep) keeps the copy at O(path), V(replace) takes the legacy one, V(fail) fails.
      - The other copy is set aside and kept. Decisions always apply to whole accounts.
    type: str
    choices: [newest, keep, replace, fail]
    default: newest
  engine:
    description:
      - V(native) uses the module's own copying. V(rsync) fills the staging area with rsync, as the owner of the source unless that is root.
      - V(rename) moves the accounts, which takes no time or space and leaves no copy; both paths have to be on the same filesystem.
      - Verification and publishing are the same for all engines.
    type: str
    choices: [native, rsync, rename]
    default: native
  tombstone:
    description:
      - Text of a tombstone, a file owned by root that replaces each moved account at its source before the backend starts again. A backend
        that knows the account by name fails at this file instead of creating a new account.
      - With O(engine=rename), the accounts themselves are moved. With another engine, the originals are set aside on their own
        filesystem, accessible to root only.
      - No module treats a tombstone as an account or a companion. It is replaced when the account is returned, that is, from a source
        in the control directory of O(path) (see M(whatsapp_ops.sessions.session_info)). No other source replaces it.
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
          - Drop-ins that have to be in effect when the backend is stopped, such as one for a graceful stop. They are written
            before the stop, and on their own they do not cause one. Each has the options of
            M(whatsapp_ops.sessions.systemd_override). The unit defaults to O(unit).
        type: list
        elements: dict
        default: []
      environment_file:
        description: A file that the unit reads with C(EnvironmentFile=), which overrides C(Environment=) in every drop-in.
        type: dict
        suboptions:
          path:
            description: The file. Created with access for root only if it does not exist.
            type: path
            required: true
          values:
            description: Variables to set, or to remove if the value is null. The rest of the file is not changed.
            type: dict
            required: true
      attach:
        description:
          - How the backend is made to use O(path). This concerns the variables in O(switch.overrides) and O(switch.environment_file) whose
            value is O(path).
          - V(variable) sets them as given. V(none) leaves them out, for a program that already uses that path.
          - V(bind) leaves them out and mounts O(path) (C(BindPaths=)) where the program expects its accounts, in the first drop-in of
            O(switch.overrides). A legacy path below the unit's C(WorkingDirectory=) is written as the unit spells that directory, so that
            each release gets the mount, even through a symbolic link. A unit that does not run as root also gets
            C(NoNewPrivileges=yes). Once the backend was observed to use the mount, the old directory is closed to everybody but root
            outside the unit. Settings that prevent this are refused.
          - V(auto) keeps the current setting of the drop-in. Otherwise, it replaces the given variables by the variable of the unit that
            currently points to the accounts, whatever its name, and if there is none, it sets the given variables and mounts the path.
            If several directories are found and no variable points to one, they are listed and nothing is changed.
          - If O(unit) runs its program in a container, a volume is always used, with a Quadlet drop-in if the next container would not
            mount it otherwise. V(bind) is refused in this case, V(none) is refused if a drop-in is needed, and V(volume) is refused
            without a container.
        type: str
        choices: [variable, bind, volume, none, auto]
        default: variable
  exclude_caches:
    description:
      - Leave out what a browser can recreate, which is most of a real profile. Everything else is copied.
      - With V(false), everything but locks is copied. O(engine=rename) always moves accounts with their caches, because that costs
        nothing.
    type: bool
    default: true
  verify:
    description: V(checksum) reads back every copy and compares contents; V(metadata) compares names, sizes and times.
    type: str
    choices: [checksum, metadata]
    default: checksum
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

- name: Copy accounts before a maintenance window
  whatsapp_ops.sessions.session_migrate:
    src: [/opt/whatsapp/current/.baileys_auth]
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend
    state: staged

- name: Roll back to the previous path, with the current keys
  whatsapp_ops.sessions.session_migrate:
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend
    state: rolled_back

- name: Add sessions to an image during its build
  whatsapp_ops.sessions.session_migrate:
    src: [/build/sessions]
    path: /var/lib/whatsapp-backend/sessions
    owner: whatsapp
"""

RETURN = r"""
path:
  description: The sessions path. With O(state=rolled_back), the path to which the accounts were returned.
  returned: success
  type: str
  sample: /var/lib/whatsapp-backend/sessions
path_made:
  description: Whether the path was created, or would be created in check mode.
  returned: success
  type: bool
  sample: true
summary:
  description: Short summary of what was done, or would be done in check mode.
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
  description: The action for each account of the legacy paths, or the predicted action in check mode.
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
        - V(migrated); V(unchanged), already migrated; V(kept), the copy at the sessions path was preferred; V(corrupt), damaged and not
          moved; V(diverged), both copies changed and you have to decide; V(skipped), it was removed from the sessions path on purpose.
      type: str
      sample: migrated
    reason:
      description: Reason why it was left behind.
      type: str
      sample: only the legacy path has it
left_behind:
  description: Entries that are accounts, or may be, and exist only at a legacy path.
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
      description: Reason for the action.
      type: str
      sample: the legacy copy is damaged; it stays where it is
  sample: []
counts:
  description: Number of accounts for each action. C(displaced) counts the copies that were set aside.
  returned: success
  type: dict
  sample: {migrated: 3, unchanged: 0, kept: 0, displaced: 0, corrupt: 0, diverged: 0, skipped: 0}
companions:
  description: Number of other files and directories that were copied with the accounts.
  returned: success
  type: int
  sample: 0
unlocked:
  description: Number of accounts at the sessions path whose unused lock was removed.
  returned: success
  type: int
  sample: 0
steps:
  description: Steps that were carried out, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [pre_stop_overrides, stage, publish, switch]
attached_by:
  description: How the backend is made to use the sessions path, or would be in check mode, see O(switch.attach).
  returned: success
  type: str
  sample: variable
downtime_seconds:
  description: Seconds from the stop of the backend to the end of its start. 0 if it was not interrupted.
  returned: success
  type: float
  sample: 0.9
phases:
  description: Duration of each phase in seconds.
  returned: success
  type: dict
  sample: {stage: 4.1, guard: 0.2, stop: 0.3, decide: 0.0, difference: 0.1, verify: 0.0, durable: 0.1, publish: 0.0, record: 0.0,
    switch: 0.2, start: 0.1}
receipt:
  description: Path of the receipt, accessible to root only.
  returned: success
  type: str
  sample: /var/lib/whatsapp-ops/var-lib-whatsapp-backend-sessions-1f4c0ab2d93e/receipt.json
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import zip_imports
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import (
    DROP_INS,
    SESSION_MIGRATE,
    SESSION_MIGRATE_RULES,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.module import run_module
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import job as migration_job

del zip_imports  # imported before all others, for its side effect


def main() -> None:
    """Run the module."""
    run_module(migration_job, SESSION_MIGRATE, DROP_INS, **SESSION_MIGRATE_RULES)


if __name__ == "__main__":
    main()
