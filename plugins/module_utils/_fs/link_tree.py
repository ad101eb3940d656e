# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Share the files of a private copy with a further copy of the same tree, by hard links. Never links to a tree that another user can write.

Code that changes one of the two copies must replace a file and never write into it.
"""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from .copy_file import UNSETTLED
from .copy_tree import Index
from .fdopen import OPEN_DIRECTORY, DirFd, names_in, opened_parent
from .walk_tree import require_depth_and_device


def link_tree(source: DirFd, target: DirFd, known: Index) -> Index:
    """Link the files of the open directory ``source`` into the empty ``target``, and return what ``known`` has about the linked ones.

    ``known``: what was copied to ``source``. A file that is missing from it, or whose size differs from its record, is not linked, and
    neither is one that has too many links already: those files have to be copied again.
    """
    links = _Links(known, os.fstat(source).st_dev)
    links.below(source, target, "", 0)
    return links.linked


def link_below(source: DirFd, target: DirFd, path: str) -> bool:
    """Link one file at the relative ``path`` in both open directories; return whether that was possible."""
    with (
        contextlib.suppress(OSError),
        opened_parent(source, path) as (above, name),
        opened_parent(target, path) as (below, _name),
    ):
        os.link(name, name, src_dir_fd=above, dst_dir_fd=below, follow_symlinks=False)
        return stat.S_ISREG(os.stat(name, dir_fd=below, follow_symlinks=False).st_mode)
    return False


class _Links:
    """Links what can be linked of one tree; ``linked``: what ``known`` has about the linked files."""

    def __init__(self, known: Index, device: int) -> None:
        self.known = known
        self.device = device
        self.linked: Index = {}

    def below(self, source: DirFd, target: DirFd, place: str, depth: int) -> None:
        """Link what is in an open directory; ``place``: its key in the index."""
        require_depth_and_device(os.fstat(source), depth, self.device)
        records = self.known.get(place, {})
        held = self.linked.setdefault(place, {})
        for name in names_in(source):
            record = records.get(name)
            if record is None:
                continue
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode) and not record:
                os.mkdir(name, 0o700, dir_fd=target)
                held[name] = record
                with _opened(source, name) as below, _opened(target, name) as made:
                    self.below(below, made, f"{place}{name}/", depth + 1)
            elif stat.S_ISREG(status.st_mode) and record != UNSETTLED and record[1:2] == (status.st_size,):
                with contextlib.suppress(OSError):  # too many links
                    os.link(name, name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
                    held[name] = record


@contextlib.contextmanager
def _opened(parent: DirFd, name: str) -> t.Iterator[DirFd]:
    directory = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=parent))
    try:
        yield directory
    finally:
        os.close(directory)
