# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Find out whether a directory belongs to a deployed program: what is above it, and which of its scripts delete it. Reads only.

The service user may own all of this: files are read by descriptor and within limits, and nothing of them is returned but names.
"""

from __future__ import annotations

import os
import re
import typing as t

from .._core.bounded_json import parsed_json
from .._core.errors import SessionsError
from .._core.limits import DEPTH, FILE_BYTES
from .._fs.fdopen import exists, opened_directory
from .._fs.files import read_file_at
from .facts import Program

_MANIFEST = "package.json"
# Files and directories that are in the root of a deployed program.
_OF_A_RELEASE = (
    _MANIFEST,
    "node_modules",
    "pyproject.toml",
    "requirements.txt",
    "go.mod",
    "composer.json",
    "Dockerfile",
    "REVISION",
)
# The directory of all releases, as deployment tools name it.
_RELEASES = "releases"
_DELETES = re.compile(
    r"\brm\s+-|\brimraf\b|\brm(?:dir)?Sync\b|\brmdir\b|\bdel(?:-cli)?\s|\bfs\.(?:promises\.)?rm\b|\bunlink|\btrash\b|\bshutil\.rmtree\b"
)
_CLEANS = re.compile(r"\bgit\s+clean\b")
_SCRIPT_AT_MOST = 1 << 14  # characters
_SCRIPTS_AT_MOST = 500
_NAME_AT_MOST = 40  # characters


def program_around(path: str, working: t.Iterable[str]) -> Program:
    """Return what is known about the program that ``path`` (a real path) belongs to. ``working``: working directories of the backend."""
    release = marker = git = ""
    above = list(_at_and_above(path))
    for directory in above:
        names = _markers_in(directory)
        if not git and ".git" in names:
            git = directory
        if not release:
            marker = next((name for name in _OF_A_RELEASE if name in names), "")
            if not marker and os.path.basename(os.path.dirname(directory)) == _RELEASES and directory != path:
                marker = _RELEASES
            release = directory if marker else ""
    places = dict.fromkeys([*above, *map(os.path.realpath, working)])
    wipers = tuple((f"{place}/{_MANIFEST}", name) for place in places for name in _wipers(place, path, git))
    return Program(release, marker, git, wipers)


def _at_and_above(path: str) -> t.Iterator[str]:
    for _level in range(DEPTH):
        if path in ("/", ""):
            return
        yield path
        path = os.path.dirname(path)


def _markers_in(directory: str) -> set[str]:
    try:
        with opened_directory(directory) as opened:
            return {name for name in (*_OF_A_RELEASE, ".git") if exists(opened, name)}
    except (OSError, SessionsError):
        return set()


def _wipers(directory: str, path: str, git: str) -> t.Iterator[str]:
    """Yield the names of the scripts in a package.json that delete ``path``, or everything that ``git`` does not track."""
    try:
        with opened_directory(directory) as opened:
            document = parsed_json(read_file_at(opened, _MANIFEST, at_most=FILE_BYTES) or b"{}")
    except (OSError, SessionsError, ValueError, RecursionError):
        return  # the program cannot use it either
    scripts = document.get("scripts") if isinstance(document, dict) else None
    for name, text in list(scripts.items())[:_SCRIPTS_AT_MOST] if isinstance(scripts, dict) else ():
        if isinstance(text, str) and _deletes(text[:_SCRIPT_AT_MOST], os.path.basename(path), bool(git)):
            yield _shown(name)


def _deletes(script: str, name: str, in_git: bool) -> bool:
    named = re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", script)
    return bool((named and _DELETES.search(script)) or (in_git and _CLEANS.search(script)))


def _shown(name: str) -> str:
    return "".join(mark if mark.isascii() and mark.isprintable() else "?" for mark in name[:_NAME_AT_MOST])
