# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Share the files of a private copy with a further copy of the same tree, by hard links. Never links to a tree that another user can write.

Code that changes one of the two copies must replace a file and never write into it.
"""

from __future__ import annotations

import contextlib
import os
import stat

from .copy_file import UNSETTLED
from .copy_tree import Index, require_depth_and_device
from .fdopen import OPEN_DIRECTORY, names_in, opened_below


def link_tree(source: int, target: int, known: Index) -> Index:
    """Link the files of the open directory ``source`` into the empty ``target``, and return what ``known`` has about the linked ones.

    ``known``: what was copied to ``source``. A file that is missing from it, or whose size differs from its record, is not linked, and
    neither is one that has too many links already: those files have to be copied again.
    """
    linked: Index = {}
    _link_below(source, target, "", known, linked, os.fstat(source).st_dev, 0)
    return linked


def link_below(source: int, target: int, path: str) -> bool:
    """Link one file at the relative ``path`` in both open directories; return whether that was possible."""
    folder, _slash, name = path.rpartition("/")
    with (
        contextlib.suppress(OSError),
        opened_below(source, folder or ".") as above,
        opened_below(target, folder or ".") as below,
    ):
        os.link(name, name, src_dir_fd=above, dst_dir_fd=below, follow_symlinks=False)
        return stat.S_ISREG(os.stat(name, dir_fd=below, follow_symlinks=False).st_mode)
    return False


def _link_below(source: int, target: int, place: str, known: Index, linked: Index, device: int, depth: int) -> None:
    require_depth_and_device(os.fstat(source), depth, device)
    records = known.get(place, {})
    held = linked.setdefault(place, {})
    for name in names_in(source):
        record = records.get(name)
        if record is None:
            continue
        status = os.stat(name, dir_fd=source, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode) and not record:
            os.mkdir(name, 0o700, dir_fd=target)
            held[name] = record
            _link_folder(source, target, name, f"{place}{name}/", known, linked, device, depth + 1)
        elif stat.S_ISREG(status.st_mode) and record != UNSETTLED and record[1:2] == (status.st_size,):
            with contextlib.suppress(OSError):  # too many links
                os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
                held[name] = record


def _link_folder(
    source: int, target: int, name: str, place: str, known: Index, linked: Index, device: int, depth: int
) -> None:
    below = os.open(name, OPEN_DIRECTORY, dir_fd=source)
    try:
        made = os.open(name, OPEN_DIRECTORY, dir_fd=target)
        try:
            _link_below(below, made, place, known, linked, device, depth)
        finally:
            os.close(made)
    finally:
        os.close(below)
