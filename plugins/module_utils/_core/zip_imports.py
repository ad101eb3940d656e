# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Halve the time to load the other files; must be imported before them.

Ansible sends modules in a zip file. Python compiles each file imported from a zip file twice, the first time only to learn its name
(python/cpython#141276). With the last result cached, each file is compiled once, which saves 0.1 s of CPU per call of a module.

Garbage collection is off while loading, because nothing becomes garbage then: this saves 0.02 s more. ``loaded`` switches it on again.
"""

from __future__ import annotations

import functools
import gc
import zipimport

_COMPILE = "_get_module_code"

if hasattr(zipimport, _COMPILE):
    setattr(zipimport, _COMPILE, functools.lru_cache(maxsize=1)(getattr(zipimport, _COMPILE)))

_SENT = __spec__ is not None and isinstance(__spec__.loader, zipimport.zipimporter)
if _SENT:
    gc.disable()


def loaded() -> None:
    """Switch garbage collection on again, except for objects loaded so far, so that forked processes and the exit skip them too."""
    if _SENT:
        gc.freeze()
        gc.enable()
