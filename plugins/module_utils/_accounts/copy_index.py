# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Record the state of the source from which a staged copy was made, so that unchanged files are not read again.

The record is valid only within one boot, because it is not synced, and only for copies made with the same options.
"""

from __future__ import annotations

import dataclasses
import json
import marshal
import os
import typing as t

from .._core.masking import account_key
from .._fs.copy_tree import Index
from .._fs.files import read_file_at
from .._layouts.sqlite import Records
from .receipts import Mark
from .work_area import boot

if t.TYPE_CHECKING:
    from .._fs.fdopen import DirFd


class Known(t.NamedTuple):
    """The copied state: of an account's files, of the files of each database, and of each path outside its directory."""

    files: Index
    stores: Records
    parts: dict[str, Index]


NOTHING = Known({}, {}, {})


def read_index(directory: DirFd, name: str, made: t.Mapping[str, t.Any]) -> Known:
    """Return the index written in this boot with the same options ``made``; NOTHING if there is none.

    It uses marshal, because it is read while the backend is down and marshal is five times faster than JSON.
    """
    content = read_file_at(directory, name, at_most=1 << 30, called="an index")
    try:
        document = marshal.loads(content) if content else {}
        known = Known(*(document.pop(field, {}) for field in Known._fields))
    except (AttributeError, ValueError, EOFError, TypeError):
        return NOTHING  # a run was killed while writing it, or another version of Python wrote it
    return known if document == _valid(made) else NOTHING


def write_index(directory: DirFd, name: str, made: t.Mapping[str, t.Any], known: Known) -> None:
    """Write the index of a pass."""
    write_unsynced(directory, name, marshal.dumps({**_valid(made), **known._asdict()}))


def mark_document(mark: Mark) -> bytes:
    """Return the account's state at the time of its copy as bytes to write and compare."""
    return json.dumps({"boot": boot(), "mark": dataclasses.asdict(mark)}, sort_keys=True).encode()


def is_staged(staging: DirFd, name: str, mark: Mark) -> bool:
    """Return whether the copy of the account ``name`` was made from the state ``mark`` within this boot."""
    content = read_file_at(staging, f"{account_key(name)}.mark", called="a mark")
    return content == mark_document(mark)


def write_unsynced(directory: DirFd, name: str, content: bytes) -> None:
    """Write without fsync: the recorded boot invalidates the file after a power failure, when the copies may be incomplete."""
    descriptor = os.open(
        f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory
    )
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.rename(f"{name}.new", name, src_dir_fd=directory, dst_dir_fd=directory)


def _valid(made: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {"boot": boot(), **made}
