#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes a directory in which sessions last."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_dir
short_description: Make a directory in which sessions of a WhatsApp backend last
version_added: 0.1.0
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
description:
  - Makes sure that a directory exists that keeps sessions across restarts, that the backend can write to, and that no other
    user of the host can take away or put something else in place of.
  - Fails, before anything is changed, when the directory could not do that. The message says why and what to do.
  - Refused are relative paths; directories of the system; a path that is a symbolic link or a file; directories above that
    users other than root and the owner can write; filesystems that are mounted read-only; directories above that the owner
    may not pass; and everything that O(allow_ephemeral), O(require_mount), O(min_free_bytes), O(min_free_inodes) and O(unit) tell of.
  - Missing directories above are made for root with mode V(0755).
options:
  path:
    description:
      - The directory, as an absolute path. A symbolic link above it is followed only where its maker gains nothing by that.
    type: path
    required: true
  state:
    description:
      - With V(present) the directory is made or corrected.
      - With V(absent) it is removed when it is empty, and the module fails when it is not.
    type: str
    choices: [present, absent]
    default: present
  unit:
    description:
      - The systemd unit of the backend, with or without C(.service). It has to exist and to have a fixed user.
      - Owner and group default to its C(User=) and C(Group=), or to that user's primary group.
      - The module fails when the unit's own sandbox (C(ProtectSystem=), C(ProtectHome=), C(ReadOnlyPaths=), C(InaccessiblePaths=),
        C(TemporaryFileSystem=), C(PrivateTmp=), C(RootDirectory=), ...) would keep it from writing to O(path), and names the
        line that allows it. The unit is judged as systemd has loaded it.
      - Without it no running systemd is needed, so images and chroots can be prepared.
      - Not looked at when O(state=absent).
    type: str
  owner:
    description:
      - Name or number of the user that owns the directory.
      - Defaults to the user of O(unit). Without O(unit) too, the owner of an existing directory is kept and a new one belongs to whoever
        runs the module, usually root.
    type: str
  group:
    description:
      - Name or number of the group of the directory.
      - Defaults to the group of O(unit), or to the primary group of O(owner) where that is another user. Without both, the group of an
        existing directory is kept.
    type: str
  mode:
    description:
      - Mode of the directory, as M(ansible.builtin.file) takes it, for example V('0750') or V(u=rwx,g=rx,o=). Quote octal digits.
      - Symbolic clauses start from the mode that is there, and from V(0755) for a new directory. Each names its users
        (V(u), V(g), V(o), V(a)).
      - A mode that keeps the owner out is refused, which also catches octal digits without quotes and without a zero in front.
      - Left out, V('0750'). Where O(path) is a C(StateDirectory=), C(CacheDirectory=) or C(LogsDirectory=) of O(unit), it is the mode
        that systemd gives it at each start (C(StateDirectoryMode=)), and another one is refused.
    type: raw
  allow_ephemeral:
    description:
      - Allow a place that is emptied by a restart. That is C(tmpfs), C(ramfs) and C(overlay) (the writable layer of a container), and
        everything below C(/tmp), C(/var/tmp), C(/dev/shm) and C(/run).
    type: bool
    default: false
  require_mount:
    description:
      - Fail when the directory is not on a filesystem that is mounted for data, but on that of C(/) or another one of the operating system
        (C(/boot), C(/etc), C(/root), C(/usr), C(/var), C(/var/lib)). Set it where sessions belong on a volume, so that they are never
        written into the empty mount point below one that failed to mount.
    type: bool
    default: false
  min_free_bytes:
    description:
      - Fail when users other than root have fewer bytes left on the filesystem.
    type: int
  min_free_inodes:
    description:
      - Fail when there is room for fewer files. Filesystems that have no such limit always pass.
    type: int
  recurse:
    description:
      - Also give everything below the directory its owner and mode. Files get the mode without execute and set-id bits.
      - Safe while the owner is changing what is there. Links are neither followed nor changed; files with more than one name (hard links),
        devices, FIFOs, sockets and what lies on other filesystems are left as they are and counted in RV(repaired.left).
      - Do not use it in every run while a backend with another C(UMask=) writes, for each run will then find something to correct.
    type: bool
    default: false
attributes:
  action_group:
    membership:
      - whatsapp_ops.sessions.sessions
      - whatsapp_ops.sessions.units
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
  safe_file_operations:
    support: full
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.action_group
seealso:
  - module: whatsapp_ops.sessions.session_migrate
    description: Brings sessions from where they were into the directory.
  - module: whatsapp_ops.sessions.systemd_override
    description: Tells the unit where its sessions are, and lets it write there.
notes:
  - Nothing that is in the directory is read, and no name of anything in it is returned.
"""

EXAMPLES = r"""
- name: Give the sessions of a backend a place that lasts
  whatsapp_ops.sessions.session_dir:
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend

- name: Keep sessions on their own volume, with room to grow
  whatsapp_ops.sessions.session_dir:
    path: /srv/whatsapp/sessions
    unit: whatsapp-backend
    mode: "0700"
    require_mount: true
    min_free_bytes: 1073741824
    min_free_inodes: 100000

- name: Prepare the directory while an image is built, where no systemd runs
  whatsapp_ops.sessions.session_dir:
    path: /var/lib/whatsapp-backend/sessions
    owner: whatsapp
    allow_ephemeral: true

- name: Correct owners and modes after somebody copied sessions as root
  whatsapp_ops.sessions.session_dir:
    path: /var/lib/whatsapp-backend/sessions
    unit: whatsapp-backend
    recurse: true

- name: Remove a sessions directory that was never used
  whatsapp_ops.sessions.session_dir:
    path: /var/lib/old-backend/sessions
    state: absent
"""

RETURN = r"""
path:
  description: The directory, without doubled and trailing slashes.
  returned: success
  type: str
  sample: /var/lib/whatsapp-backend/sessions
owner:
  description: Name of the user that owns it, or the number where it has no name. In check mode what it would be.
  returned: success and O(state=present)
  type: str
  sample: whatsapp
group:
  description: Name of its group, or the number where it has no name. In check mode what it would be.
  returned: success and O(state=present)
  type: str
  sample: whatsapp
mode:
  description: Its mode. In check mode what it would be.
  returned: success and O(state=present)
  type: str
  sample: "0750"
filesystem:
  description: The filesystem that it is on, or would be on.
  returned: success and O(state=present)
  type: dict
  contains:
    type:
      description: Type of the filesystem; V(unknown) where a chroot hides it.
      returned: success
      type: str
      sample: ext4
    mount_point:
      description: Where it is mounted.
      returned: success
      type: str
      sample: /
    ephemeral:
      description: Whether a restart empties the place. True only with O(allow_ephemeral=true).
      returned: success
      type: bool
      sample: false
    free_bytes:
      description: Bytes that users other than root may still take.
      returned: success
      type: int
      sample: 21474836480
    free_inodes:
      description: Number of files that there is room for; null where the filesystem has no such limit.
      returned: success
      type: int
      sample: 1310720
writable_by_owner:
  description:
    - Whether a real write as the owner succeeded. The file that is written has no name and is gone when the module ends.
    - Null in check mode when the directory would be made or changed, and when the module runs neither as root nor as the owner.
  returned: success and O(state=present)
  type: bool
  sample: true
repaired:
  description: What O(recurse) corrected below the directory, or would in check mode. Counts only.
  returned: success and O(recurse=true)
  type: dict
  contains:
    owners:
      description: Entries that got another owner or group.
      returned: success
      type: int
      sample: 12
    modes:
      description: Entries that got another mode.
      returned: success
      type: int
      sample: 3
    left:
      description: Entries that were left as they are because it is not safe to give them away.
      returned: success
      type: int
      sample: 0
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils import _compiled_once, _dir
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._arguments import SESSION_DIR
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils.common import run_module

del _compiled_once  # imported before all others, for what it does


def main() -> None:
    run_module(_dir, SESSION_DIR)


if __name__ == "__main__":
    main()
