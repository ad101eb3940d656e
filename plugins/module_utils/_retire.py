# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Puts a legacy path out of use once its accounts have moved: renamed aside, with a tombstone in its place.

An old release that falls back to its relative path then fails loudly, instead of starting a second client on old keys.
"""

from __future__ import annotations

import os
import stat
import time
import typing as t

from ._errors import SessionsError
from ._rescue import open_real
from ._sources import TOMBSTONE, Source


def retire(sources: t.Sequence[Source], path: str) -> None:
    """Rename each legacy root to ``<name>.migrated-<time>``, root only, and leave a file that says where the accounts went.

    Raises SessionsError for one that cannot be renamed (a mount, say).
    """
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    for source in sources:
        try:
            _retire_one(source.path, f"{TOMBSTONE}The accounts that were here are in {path} since {moment}.\n", moment)
        except OSError as error:
            raise SessionsError(
                f"the accounts are in {path}, but the legacy path {source.path} cannot be put out of use: {error.strerror}; "
                "mend that and run again, or leave it with state=migrated"
            ) from error


def _retire_one(root: str, text: str, moment: str) -> None:
    directory, name = os.path.split(root)
    parent = open_real(directory)
    try:
        aside = f"{name}.migrated-{moment}"
        os.rename(name, aside, src_dir_fd=parent, dst_dir_fd=parent)
        _close_to_others(parent, aside)
        descriptor = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o444, dir_fd=parent
        )
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, 0o444)
            os.fsync(descriptor)
        os.fsync(parent)
    finally:
        os.close(parent)


def _close_to_others(parent: int, name: str) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if os.geteuid() == 0:
            os.fchown(descriptor, 0, 0)
        os.fchmod(descriptor, stat.S_IRWXU)
    finally:
        os.close(descriptor)
