# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the bytecode of what root's Python imports from zip files. Part of the image of test hosts only.

Ansible sends each module in a zip file, and Python compiles all of it at each call, which is half of what a module costs. Test hosts get
the same files hundreds of times.
"""

import os
import sys
import zipimport

KEPT = "/var/cache/bytecode/zip"
_compile = zipimport._compile_source


def _compiled(pathname, source):
    import _imp  # here, because every Python of a host reads this file
    import hashlib
    import marshal

    path = f"{KEPT}/{sys.hexversion:x}-{hashlib.sha256(source).hexdigest()}"
    try:
        with open(path, "rb") as file:
            code = marshal.load(file)
    except (OSError, ValueError, EOFError, TypeError):
        code = _compile(pathname, source)
        _keep(path, marshal.dumps(code))
    _imp._fix_co_filename(code, pathname)
    return code


def _keep(path, content):
    partial = f"{path}.{os.getpid()}"
    try:
        os.makedirs(KEPT, mode=0o700, exist_ok=True)
        with open(partial, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    except OSError:  # the disk of a test is full, or read-only
        pass


if os.geteuid() == 0:
    zipimport._compile_source = _compiled
