# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The options that describe how accounts are stored, identical in all modules."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  layout:
    description:
      - How the library stores accounts. V(auto) detects it, and fails with a list of candidates if several are possible.
      - One of V(baileys), V(wwebjs), V(session_manager), V(baileys_csharp), V(whatsmeow), V(waha), V(wppconnect), V(evolution),
        V(openwa) and V(venom), see C(docs/layouts.md); or V(custom), with the description in O(custom).
    type: str
    default: auto
  custom:
    description:
      - Describes how a library stores accounts that the collection does not know. Required with O(layout=custom), and refused otherwise.
      - In names and paths, C(*) and C(?) match anything but a slash; C(**/) at the beginning of a path matches any depth.
    type: dict
    suboptions:
      markers:
        description:
          - Paths of files or directories inside an account. A directory with any of them is an account. An account with all of them,
            none empty, counts as V(paired).
          - Required unless O(custom.origin) is set.
        type: list
        elements: str
        default: []
      origin:
        description:
          - Set this if accounts are browser profiles. It is the origin of the page whose databases identify an account, in the form of
            the browser's directory names, for example C(https_web.whatsapp.com_0). Locks and caches of browsers are then handled.
        type: str
      names:
        description: Names of account directories. Any name, if empty.
        type: list
        elements: str
        default: []
      depth:
        description: Maximum depth of an account below the root, 1 to 5 directories.
        type: int
        default: 1
      folders:
        description: If the root has any of these directories, accounts are searched only below them.
        type: list
        elements: str
        default: []
      exclude:
        description: Names of files and directories inside an account that are never copied.
        type: list
        elements: str
        default: []
      locks:
        description:
          - Names of lock files. They are never copied. A lock that contains a PID is live while that process exists; any other lock is
            live as long as the file exists.
        type: list
        elements: str
        default: []
      caches:
        description: Paths inside an account that the library can recreate. They are left out when caches are excluded.
        type: list
        elements: str
        default: []
      databases:
        description: Names of SQLite databases inside an account. They are copied with SQLite's own backup.
        type: list
        elements: str
        default: []
      ignored:
        description: Paths in the root that are never treated as accounts, and are not copied with accounts.
        type: list
        elements: str
        default: []
      companions:
        description: Paths in the root, other than accounts, that are copied with them. Defaults to all but O(custom.ignored).
        type: list
        elements: str
"""
