# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the bytecode of the collection's modules, and of all that they import, to PYTHONPYCACHEPREFIX.

Test hosts see the checkout read-only, so each module would otherwise compile all of it again, which takes three times as
long as its work. Processes that must write nothing themselves, because their system calls are counted, read it too.
"""

from __future__ import annotations

import compileall
import importlib
import pathlib
import sys

PACKAGE = "ansible_collections.whatsapp_ops.sessions.plugins"


def main() -> int:
    plugins = pathlib.Path(next(iter(importlib.import_module(PACKAGE).__path__)))
    compiled = compileall.compile_dir(plugins / "module_utils", quiet=1)
    for module in sorted((plugins / "modules").glob("*.py")):
        importlib.import_module(f"{PACKAGE}.modules.{module.stem}")
    return 0 if compiled else 1


if __name__ == "__main__":
    sys.exit(main())
