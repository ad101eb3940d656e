# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What each module says about itself in the same words: the attributes of its documentation.

A module takes ``whatsapp_ops.sessions._attributes`` and states how far it supports each attribute but the platform, which
is the same for all; ``.info`` and ``.action_group`` state it themselves.
"""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: In check mode, predicts what a run would change, and changes nothing.
  diff_mode:
    description: In diff mode, shows what changed or would change. Metadata only, never the content of a session.
  idempotent:
    description: A second run with the same options changes nothing and interrupts nothing, unless the host was changed otherwise.
  safe_file_operations:
    description:
      - Uses file descriptors instead of path names, so that other users cannot redirect it while it runs. It never follows a link, a
        device or a directory that another user can replace.
      - Files are written atomically.
  platform:
    description: Supported target systems.
    support: full
    platforms: linux
"""

    # For modules that change nothing.
    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: Changes nothing in any mode.
  diff_mode:
    support: N/A
    details: Changes nothing, so there is no diff to show.
  idempotent:
    support: full
    details: Changes nothing in any mode.
"""

    # Groups of modules with common options, which module_defaults can set once. A module states its ``membership``.
    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description:
      - Use a group in C(module_defaults) to set options that all of its modules have in common.
      - V(group/whatsapp_ops.sessions.sessions) sets C(path).
      - V(group/whatsapp_ops.sessions.layouts) sets C(path), C(layout) and C(custom).
      - V(group/whatsapp_ops.sessions.units) sets C(unit).
    support: full
"""

    # For modules whose calls may take long, see plugins/plugin_utils/_progress.py.
    PROGRESS = r"""
options: {}
notes:
  - A call that takes longer shows what it is doing every 5 seconds, and less often after a minute. These lines have phases and counts
    only. The variable C(wa_progress) sets the seconds; with V(0), there are no lines.
  - The lines are read from the host while the module runs as usual, and are part of the error output. There are none in check mode, with
    C(no_log), with C(async), or if the module does not run as root.
"""
