# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens the control directory and the area of a sessions path, like a run."""

from __future__ import annotations

import contextlib
import os
import pathlib
import typing as t

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.control_directory import (
    control_path,
    opened_control,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.work_area import opened_area
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import DirFd, opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration.apply import publish


@contextlib.contextmanager
def opened(path: pathlib.Path) -> t.Iterator[tuple[DirFd, DirFd]]:
    """Open the control directory and the area of a sessions path."""
    with opened_control(str(path)) as control, opened_area(str(path), control) as area:
        yield control, area


@contextlib.contextmanager
def opened_place(path: pathlib.Path) -> t.Iterator[publish.Place]:
    """Open all directories for publishing to a sessions path."""
    with opened(path) as (control, area), opened_directory(str(path)) as root, publish.Folders() as folders:
        yield publish.Place(control, area, root, os.geteuid(), os.getegid(), folders)


def control_of(path: pathlib.Path) -> pathlib.Path:
    """Return the control directory of a sessions path."""
    return pathlib.Path(control_path(str(path)))


def carry_out(intent: t.Mapping[str, t.Any], moves: t.Sequence[t.Any]) -> None:
    """Carry out renames of an intent, like a run with their directories open."""
    with publish.Folders() as folders:
        for path in intent["folders"]:
            descriptor = DirFd(os.open(path, os.O_RDONLY | os.O_DIRECTORY))
            folders.keep(descriptor)
            os.close(descriptor)
        publish.apply_moves(folders, moves)
