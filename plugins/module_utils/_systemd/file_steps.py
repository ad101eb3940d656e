# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Steps of a plan about files of units, and the reload that makes systemd read them. The caller decides about the reload."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import typing as t

from .._fs.fdopen import make_directory
from .._fs.files import read_file, remove_durably, write_atomic


@dataclasses.dataclass(frozen=True)
class Backup:
    """Copy the file at ``path`` to a name next to it that systemd does not read."""

    path: str
    mode: int


@dataclasses.dataclass(frozen=True)
class Write:
    """Write ``text`` to ``path``."""

    path: str
    text: str
    mode: int


@dataclasses.dataclass(frozen=True)
class Remove:
    """Remove the file at ``path``."""

    path: str


@dataclasses.dataclass(frozen=True)
class RemoveDirectory:
    """Remove the empty directory at ``path``."""

    path: str


@dataclasses.dataclass(frozen=True)
class Reload:
    """Make systemd reload its unit files."""


def install(steps: t.Iterable[object]) -> str | None:
    """Carry out the steps about files durably, and leave the reload to the caller. Returns the path of the backup, None without one."""
    backup_file = None
    for step in steps:
        if isinstance(step, Backup):
            backup_file = _back_up(step)
        elif isinstance(step, Write):
            make_directory(os.path.dirname(step.path), 0o755, uid=0, gid=0)
            write_atomic(step.path, step.text.encode("utf-8"), step.mode)
        elif isinstance(step, Remove):
            remove_durably(step.path)
        elif isinstance(step, RemoveDirectory):
            with contextlib.suppress(OSError):  # another drop-in was written meanwhile
                remove_durably(step.path, os.rmdir)
    return backup_file


def _back_up(step: Backup) -> str:
    # The naming scheme of Ansible's own backups. It does not end in .conf, so systemd does not read it.
    kept = f"{step.path}.{os.getpid()}.{time.strftime('%Y-%m-%d@%H:%M:%S~')}"
    write_atomic(kept, read_file(step.path) or b"", step.mode)
    return kept
