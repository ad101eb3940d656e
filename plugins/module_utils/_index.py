# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Remembers from which state of its source a staged copy was made, so that what did not change since is not read again.

That counts only within one boot, because it is not made durable before the copies are, and only for copies that would be made the same way.
"""

from __future__ import annotations

import dataclasses
import json
import marshal
import os
import typing as t

from ._area import boot
from ._paths import read_file_at
from ._receipts import Mark, account_key
from ._stores import Records
from ._tree import Index


class Known(t.NamedTuple):
    """What a pass copied: of an account the files, of each of its databases the files, of each path beside it the files."""

    files: Index
    stores: Records
    beside: dict[str, Index]


NOTHING = Known({}, {}, {})


def read_index(directory: int, name: str, made: t.Mapping[str, t.Any]) -> Known:
    """Read what a pass of this boot wrote whose copies were ``made`` in the same way.

    marshal, because it is read while the backend is down and is five times faster than JSON.
    """
    content = read_file_at(directory, name, at_most=1 << 30, called="an index")
    try:
        document = marshal.loads(content) if content else {}
        known = Known(*(document.pop(field, {}) for field in Known._fields))
    except (AttributeError, ValueError, EOFError, TypeError):
        return NOTHING  # a run was killed while it wrote it, or another Python did
    return known if document == _valid(made) else NOTHING


def write_index(directory: int, name: str, made: t.Mapping[str, t.Any], known: Known) -> None:
    """Write what a pass copied."""
    write_unsynced(directory, name, marshal.dumps({**_valid(made), **known._asdict()}))


def mark_document(mark: Mark) -> bytes:
    """Give how an account looked when its copy was made, for writing and for comparing."""
    return json.dumps({"boot": boot(), "mark": dataclasses.asdict(mark)}, sort_keys=True).encode()


def is_staged(staging: int, name: str, mark: Mark) -> bool:
    """Whether the copy of the account ``name`` was made while it looked like ``mark``, in this boot."""
    content = read_file_at(staging, f"{account_key(name)}.mark", called="a mark")
    return content == mark_document(mark)


def write_unsynced(directory: int, name: str, content: bytes) -> None:
    """Write without fsync: the boot's name in it makes it worthless after a power cut, when the copies may be too."""
    descriptor = os.open(
        f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory
    )
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.rename(f"{name}.new", name, src_dir_fd=directory, dst_dir_fd=directory)


def _valid(made: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {"boot": boot(), **made}
