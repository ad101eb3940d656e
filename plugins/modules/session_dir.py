#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates a persistent directory for sessions."""

from __future__ import annotations

DOCUMENTATION = r"""
module: session_dir
short_description: Create a persistent directory for the sessions of a WhatsApp backend
version_added: 0.1.0
description:
  - Ensures that a directory exists which survives restarts, which the backend can write to, and which no other user of the
    host can remove or replace.
  - Fails before changing anything if the directory cannot meet these requirements. The message explains why and what to do.
  - Refuses relative paths, system directories, a path that is a symbolic link or a file, parent directories that users other
    than root and the owner can write to, parent directories that the owner cannot traverse, filesystems mounted read-only, and
    the cases described for O(allow_ephemeral), O(require_mount), O(min_free_bytes), O(min_free_inodes) and O(unit).
  - Missing parent directories are created, owned by root with mode V(0755).
extends_documentation_fragment:
  - whatsapp_ops.sessions._attributes
  - whatsapp_ops.sessions._attributes.action_group
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
options:
  path:
    description:
      - The directory, as an absolute path. A symbolic link in a parent directory is followed only if its creator gains nothing by that.
    type: path
    required: true
  state:
    description:
      - With V(present), the directory is created or corrected.
      - With V(absent), the directory is removed if it is empty; otherwise the module fails.
    type: str
    choices: [present, absent]
    default: present
  unit:
    description:
      - The systemd unit of the backend, with or without C(.service). It must exist and run as a static user.
      - Owner and group default to its C(User=) and C(Group=), or to that user's primary group.
      - The module fails if the unit's sandbox (C(ProtectSystem=), C(ProtectHome=), C(ReadOnlyPaths=), C(InaccessiblePaths=),
        C(TemporaryFileSystem=), C(PrivateTmp=), C(RootDirectory=), ...) prevents it from writing to O(path), and names the
        line that allows it. The unit is checked as systemd has loaded it.
      - Without this option no running systemd is required, so images and chroots can be prepared.
      - Ignored with O(state=absent).
    type: str
  owner:
    description:
      - Name or number of the user that owns the directory.
      - Defaults to the user of O(unit). Without O(unit), an existing directory keeps its owner, and a new one belongs to the user that
        runs the module, usually root.
    type: str
  group:
    description:
      - Name or number of the group of the directory.
      - Defaults to the group of O(unit), or to the primary group of O(owner) if that is a different user. Without either option, an
        existing directory keeps its group.
    type: str
  mode:
    description:
      - Mode of the directory, in the formats of M(ansible.builtin.file), for example V('0750') or V(u=rwx,g=rx,o=). Quote octal digits.
      - Symbolic modes are relative to the current mode, or to V(0755) for a new directory. Each clause must name its users
        (V(u), V(g), V(o), V(a)).
      - A mode that denies access to the owner is refused. This also catches octal digits without quotes and without a leading zero.
      - Defaults to V('0750'). If O(path) is a C(StateDirectory=), C(CacheDirectory=) or C(LogsDirectory=) of O(unit), the default is
        the mode that systemd sets at each start (C(StateDirectoryMode=)), and any other mode is refused.
    type: raw
  allow_ephemeral:
    description:
      - Allow a location that does not survive a restart, that is, C(tmpfs), C(ramfs) and C(overlay) (the writable layer of a container),
        and everything below C(/tmp), C(/var/tmp), C(/dev/shm) and C(/run).
    type: bool
    default: false
  require_mount:
    description:
      - Fail if the directory is not on a data volume but on the filesystem of C(/) or another one of the operating system
        (C(/boot), C(/etc), C(/root), C(/usr), C(/var), C(/var/lib)). Set this if sessions belong on a volume, so that they are never
        written to the empty mount point of a volume that failed to mount.
    type: bool
    default: false
  min_free_bytes:
    description:
      - Fail if users other than root have fewer bytes available on the filesystem.
    type: int
  min_free_inodes:
    description:
      - Fail if the filesystem has fewer free inodes. Filesystems without an inode limit always pass.
    type: int
  recurse:
    description:
      - Also apply the owner and mode to everything below the directory. Files get the mode without execute and set-id bits.
      - Safe while the owner changes the content. Links are neither followed nor changed. Files with several hard links, devices, FIFOs,
        sockets and entries on other filesystems are not changed, and counted in RV(repaired.left).
      - Do not set this permanently for a backend that writes with a different C(UMask=), because every run would then report changes.
    type: bool
    default: false
notes:
  - The module does not read the content of the directory and does not return any name from it.
seealso:
  - module: whatsapp_ops.sessions.session_migrate
    description: Moves existing sessions into the directory.
  - module: whatsapp_ops.sessions.systemd_override
    description: Configures the path of the sessions in the unit and permits it to write there.
author:
  - The whatsapp_ops.sessions contributors (!UNKNOWN)
"""

EXAMPLES = r"""
- name: Create a persistent directory for the sessions of a backend
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

- name: Prepare the directory during an image build, without a running systemd
  whatsapp_ops.sessions.session_dir:
    path: /var/lib/whatsapp-backend/sessions
    owner: whatsapp
    allow_ephemeral: true

- name: Correct owners and modes after sessions were copied as root
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
  description: The directory, without repeated and trailing slashes.
  returned: success
  type: str
  sample: /var/lib/whatsapp-backend/sessions
owner:
  description: Name of its owner, or the number if the user has no name. In check mode, the owner that it would get.
  returned: success and O(state=present)
  type: str
  sample: whatsapp
group:
  description: Name of its group, or the number if the group has no name. In check mode, the group that it would get.
  returned: success and O(state=present)
  type: str
  sample: whatsapp
mode:
  description: Its mode. In check mode, the mode that it would get.
  returned: success and O(state=present)
  type: str
  sample: "0750"
filesystem:
  description: The filesystem that contains it, or would contain it.
  returned: success and O(state=present)
  type: dict
  contains:
    type:
      description: Type of the filesystem; V(unknown) if a chroot hides it.
      returned: success
      type: str
      sample: ext4
    mount_point:
      description: Mount point of the filesystem.
      returned: success
      type: str
      sample: /
    ephemeral:
      description: Whether its content is lost at a restart. Can be true only with O(allow_ephemeral=true).
      returned: success
      type: bool
      sample: false
    free_bytes:
      description: Bytes available to users other than root.
      returned: success
      type: int
      sample: 21474836480
    free_inodes:
      description: Number of free inodes; null if the filesystem has no inode limit.
      returned: success
      type: int
      sample: 1310720
writable_by_owner:
  description:
    - Whether a test write as the owner succeeded. The file has no name and disappears when the module ends.
    - Null in check mode if the directory would be created or changed, and if the module runs neither as root nor as the owner.
  returned: success and O(state=present)
  type: bool
  sample: true
repaired:
  description: Numbers of entries that O(recurse) corrected below the directory, or would correct in check mode.
  returned: success and O(recurse=true)
  type: dict
  contains:
    owners:
      description: Entries whose owner or group was changed.
      returned: success
      type: int
      sample: 12
    modes:
      description: Entries whose mode was changed.
      returned: success
      type: int
      sample: 3
    left:
      description: Entries that were not changed because changing their owner is not safe.
      returned: success
      type: int
      sample: 0
"""

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import zip_imports
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import SESSION_DIR
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.module import run_module
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._directory import job as directory_job

del zip_imports  # imported before all others, for its side effect


def main() -> None:
    """Run the module."""
    run_module(directory_job, SESSION_DIR)


if __name__ == "__main__":
    main()
