# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Packs the collection's own code that one job needs into a zip application, which Python runs without Ansible.

The code comes from where this file was loaded from: the zip file that Ansible sent, or a directory. Nothing is compressed and all times
are fixed, so the same code always gives the same bytes. Nothing is ever imported or run here.
"""

from __future__ import annotations

import io
import os
import re
import typing as t
import zipfile

from .._core import zip_imports
from .._core.errors import SessionsError
from . import run_job

PACKAGE = "whatsapp_ops_sessions"  # the name of the code in the program
# By their modules, because Ansible sends only what is imported. The loader halves the time to load the other files, so it is first.
RUNNER = ".".join(run_job.__name__.rsplit(".", 2)[1:])
LOADER = ".".join(zip_imports.__name__.rsplit(".", 2)[1:])

# Relative imports, wherever they are in a file; each has one level of parentheses at most.
_IMPORT = re.compile(r"^[ \t]*from (\.+)([\w.]*) import (\([^)]*\)|[^\n(]+)", re.MULTILINE)
_MAIN = '''"""Runs one job of the collection whatsapp_ops.sessions; written by its module session_timer."""

from {package}.{loader_package} import {loader_name}
from {package}.{runner} import main
from {package}.{job_package} import {job_name}

raise SystemExit(main({job_name}, {loader_name}))
'''

Source = t.Callable[[str], t.Optional[bytes]]


def own_source(path: str) -> bytes | None:
    """Return a file of module_utils by its path in there; None if it does not exist."""
    loader = t.cast("t.Any", __spec__).loader
    try:
        return t.cast("bytes", loader.get_data(f"{os.path.dirname(os.path.dirname(__file__))}/{path}"))
    except OSError:
        return None


def program_for(job: str, source: Source = own_source) -> bytes:
    """Return the zip application that runs the module ``job`` (dotted, below module_utils)."""
    files = needed((LOADER, RUNNER, job), source)
    loader_package, _dot, loader_name = LOADER.rpartition(".")
    job_package, _dot, job_name = job.rpartition(".")
    main = _MAIN.format(
        package=PACKAGE,
        loader_package=loader_package,
        loader_name=loader_name,
        runner=RUNNER,
        job_package=job_package,
        job_name=job_name,
    )
    members = {"__main__.py": main.encode(), f"{PACKAGE}/__init__.py": b""}
    members.update((f"{PACKAGE}/{path}", content) for path, content in files.items())
    return _packed(members)


def needed(modules: t.Iterable[str], source: Source) -> dict[str, bytes]:
    """Return the files of ``modules`` (dotted) and of all that they import, also within functions, by path. Pure but for ``source``."""
    found: dict[str, bytes] = {}
    todo = list(modules)
    while todo:
        module = todo.pop()
        path = _path_of(module)
        if path in found:
            continue
        content = source(path)
        if content is None:
            raise SessionsError(
                f"the code of this collection is incomplete: {path} is missing; install the collection again"
            )
        found[path] = content
        found.update(_packages_of(module, source))
        todo.extend(_imported(module, content.decode("utf-8"), source))
    return found


def _path_of(module: str) -> str:
    return f"{module.replace('.', '/')}.py"


def _packages_of(module: str, source: Source) -> t.Iterator[tuple[str, bytes]]:
    parts = module.split(".")[:-1]
    for length in range(1, len(parts) + 1):
        path = f"{'/'.join(parts[:length])}/__init__.py"
        yield path, source(path) or b""


def _imported(module: str, text: str, source: Source) -> t.Iterator[str]:
    """Yield the modules that the text of ``module`` imports from this collection."""
    for dots, named, names in _IMPORT.findall(text):
        base = [*module.split(".")[: -len(dots)], *(named.split(".") if named else [])]
        for name in re.sub(r"#[^\n]*|[()]", "", names).split(","):
            whole = ".".join((*base, name.split()[0])) if name.strip() else ""
            if whole:
                yield whole if source(_path_of(whole)) is not None else ".".join(base)


def _packed(members: t.Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(members):
            member = zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o644 << 16
            archive.writestr(member, members[path])
    return packed.getvalue()
