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
    description: Predicts in check mode what a run would change, and changes nothing.
  diff_mode:
    description: Shows in diff mode what changed or would change. Metadata only, never anything from inside a session.
  idempotent:
    description: Run again with the same options it changes nothing and interrupts nothing, unless something else changed the host.
  safe_file_operations:
    description:
      - Works on descriptors instead of path names, so that nobody can lead it astray while it works. A link, a device
        or a directory that somebody else can swap is never followed.
      - Files appear whole or not at all.
  platform:
    description: Systems on targets that it works on.
    support: full
    platforms: linux
"""

    # For modules that only look.
    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: Changes nothing in any mode.
  diff_mode:
    support: N/A
    details: Changes nothing, so there is no difference to show.
  idempotent:
    support: full
    details: Changes nothing in any mode.
"""

    # Groups of modules that take the same options, so that module_defaults can set them once. A module states its ``membership``.
    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description:
      - Use a group in C(module_defaults) to set options for all of its modules. Only those that all of them take can be set so.
      - V(group/whatsapp_ops.sessions.sessions) sets C(path).
      - V(group/whatsapp_ops.sessions.layouts) sets C(path), C(layout) and C(custom).
      - V(group/whatsapp_ops.sessions.units) sets C(unit).
    support: full
"""
