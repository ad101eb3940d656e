# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The options with which a module is told how accounts are kept, in the same words everywhere."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  layout:
    description:
      - How the library keeps accounts. V(auto) recognises it, and fails naming the candidates where more than one is possible.
      - One of V(baileys), V(wwebjs), V(session_manager), V(baileys_csharp), V(whatsmeow), V(waha), V(wppconnect), V(evolution),
        V(openwa) and V(venom), described in C(docs/layouts.md); or V(custom), described in O(custom).
    type: str
    default: auto
  custom:
    description:
      - How a library keeps accounts that the collection does not know. Required with O(layout=custom), and refused otherwise.
      - In names and paths C(*) and C(?) stand for anything but a slash; C(**/) at the beginning of a path means at any depth.
    type: dict
    suboptions:
      markers:
        description:
          - Paths of files or directories in an account. A directory that has any of them is an account; one that has all of them, none
            of them empty, is sound.
          - Required unless there is O(custom.origin).
        type: list
        elements: str
        default: []
      origin:
        description:
          - Accounts are profiles of a browser, which kept its database for the page of this origin, as the browser names its folders,
            for example C(https_web.whatsapp.com_0). Locks and caches of browsers are then known.
        type: str
      names:
        description: Names that the directory of an account has. Any, when empty.
        type: list
        elements: str
        default: []
      depth:
        description: How many directories below the root an account may lie, 1 to 5.
        type: int
        default: 1
      folders:
        description: Where the root has any of these directories, accounts are looked for only below them.
        type: list
        elements: str
        default: []
      exclude:
        description: Names of files and directories in an account that are never copied.
        type: list
        elements: str
        default: []
      locks:
        description:
          - Names of lock files. They are never copied. A lock that holds the number of a process counts while the process lives, any
            other one as long as it is there.
        type: list
        elements: str
        default: []
      caches:
        description: Paths in an account that are left out where caches are, because the library makes them anew.
        type: list
        elements: str
        default: []
      databases:
        description: Names of SQLite databases in an account. They are copied by SQLite itself.
        type: list
        elements: str
        default: []
      ignored:
        description: Paths in the root that are neither accounts, whatever they hold, nor travel with them.
        type: list
        elements: str
        default: []
      companions:
        description: The only paths in the root, beside accounts, that travel with them. All but O(custom.ignored), when left out.
        type: list
        elements: str
"""
