# SPDX-License-Identifier: GPL-3.0-or-later
"""What is imported from a zip file, as modules are on targets, is compiled once. Python itself does it twice."""

from __future__ import annotations

import gc
import pathlib
import subprocess
import sys
import zipfile

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import zip_imports

PROGRAM = """
import sys
sys.dont_write_bytecode = True
sys.path.insert(0, sys.argv[1])
import zip_imports
compiled = []
sys.addaudithook(lambda event, about: compiled.append(str(about[1])) if event == "compile" else None)
import gc
import package.first, package.second
collecting = [gc.isenabled()]
zip_imports.loaded()
collecting += [gc.isenabled(), gc.get_freeze_count() > 0]
print(*(name.rpartition("/")[2] for name in compiled if name.startswith(sys.argv[1])))
print(package.first.__file__.endswith("first.py"), package.second.VALUE)
print(*collecting)
"""


def test_each_file_is_compiled_once(tmp_path: pathlib.Path) -> None:
    archive = tmp_path / "payload.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.write(zip_imports.__file__, "zip_imports.py")
        packed.writestr("package/__init__.py", "")
        packed.writestr("package/first.py", "from . import second")
        packed.writestr("package/second.py", "VALUE = 2")
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, str(archive)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["__init__.py first.py second.py", "True 2", "False True True"]


def test_garbage_is_collected_where_nothing_was_sent() -> None:
    frozen = gc.get_freeze_count()
    zip_imports.loaded()
    assert gc.isenabled() and gc.get_freeze_count() == frozen
