# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What a snapshot recorded about the files that it was copied from, to recognise unchanged ones. Never decides by the content of a file.

A file is unchanged if inode, size, mtime and ctime are all equal to those of the file that was copied. Programs can set mtimes, and a clock
that is set back makes new files look old, but no program can set a ctime, and each of the four only has to differ, in whichever direction.
"""

from __future__ import annotations

import typing as t

from .._accounts.copy_index import NOTHING, Known
from .._accounts.entries import is_kept
from .._core.bounded_json import is_integer, parsed_json
from .._core.errors import SessionsError
from .._core.limits import FILE_LIST_BYTES
from .._core.names import AREA_INSIDE
from .._fs.copy_file import UNSETTLED, record_of
from .._fs.copy_tree import Index
from .._fs.fdopen import DirFd, opened_below, status_below
from .._fs.files import read_file_at
from .._fs.patterns import name_matcher, path_matcher
from .._fs.walk_tree import files_below
from .._layouts.layout import OF_A_PROGRAM, Layout
from .._layouts.sqlite import records_of_store, store_names, store_patterns
from .store import FILES

# By kind and path of each file of an account: its record.
Look = dict[tuple[str, ...], tuple[int, ...]]


class Choice(t.NamedTuple):
    """Which files of an account are saved: ``left_out``: patterns of names, ``caches``: patterns of relative paths."""

    layout: Layout
    left_out: tuple[str, ...]
    caches: tuple[str, ...]

    @property
    def is_left_out(self) -> t.Callable[[str], t.Any]:
        """The test whether a name is not copied with the other files; databases are copied by SQLite."""
        return name_matcher(self.left_out)

    @property
    def is_cache(self) -> t.Callable[[str], t.Any] | None:
        """The test whether a relative path is a cache that is left out; None if none is."""
        return path_matcher(self.caches) if self.caches else None

    @property
    def made(self) -> list[t.Any]:
        """How snapshots are made; files of one that was made in another way are not shared."""
        return [self.layout.name, sorted(self.left_out), sorted(self.caches)]


def choice_of(layout: Layout, *, exclude_caches: bool) -> Choice:
    """Return which files of accounts of a layout are saved."""
    left_out = (*layout.volatile, *OF_A_PROGRAM, AREA_INSIDE, *store_patterns(layout))
    return Choice(layout, left_out, layout.caches if exclude_caches else ())


def look_at(root: DirFd, name: str, directory: DirFd, choice: Choice) -> Look:
    """Return the records of all files of an account now, from their status only. ``root``: the sessions path, both open."""
    found: Look = {
        ("file", path): record_of(status)
        for path, status in files_below(directory, choice.is_left_out, choice.is_cache)
    }
    for store in store_names(directory, choice.layout) if choice.layout.databases else ():
        found.update({("store", store, kind): one for kind, one in records_of_store(directory, store).items()})
    for part in choice.layout.sidecars_of(name):
        if is_kept(root, part):
            found.update(_look_at_part(root, part, choice))
    return found


def look_of(known: Known) -> Look:
    """Return the records of all files in the form of ``look_at``."""
    found: Look = {("file", path): record for path, record in files_in(known.files)}
    for store, records in known.stores.items():
        found.update({("store", store, kind): record for kind, record in records.items()})
    for part, index in known.parts.items():
        found.update({("part", part, path): record for path, record in files_in(index)})
    return found


def document_of(known: Known, choice: Choice) -> dict[str, t.Any]:
    """Return the document that describes the files of a snapshot."""
    return {"made": choice.made, **known._asdict()}


def read_known(directory: DirFd, choice: Choice) -> Known:
    """Return what is recorded in the open directory of a snapshot; NOTHING if it was made in another way, or if the record is damaged."""
    try:
        content = read_file_at(directory, FILES, at_most=FILE_LIST_BYTES)
        document = parsed_json(content or b"{}")
        if document["made"] != choice.made:
            return NOTHING
        parts = {part: _index(index) for part, index in document["parts"].items()}
        return Known(_index(document["files"]), _index(document["stores"]), parts)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError, SessionsError):
        return NOTHING


def _look_at_part(root: DirFd, part: str, choice: Choice) -> Look:
    name = part.rpartition("/")[2]
    try:
        with opened_below(root, part) as below:
            found = files_below(below, choice.layout.volatile_matcher, None)
            return {("part", part, f"{name}/{path}"): record_of(status) for path, status in found}
    except NotADirectoryError:
        status = status_below(root, part)
        return {("part", part, name): record_of(status)} if status else {}


def files_in(index: Index) -> t.Iterator[tuple[str, tuple[int, ...]]]:
    """Yield relative path and record of each file."""
    for place, records in index.items():
        for name, record in records.items():
            if record:
                yield place + name, record


def _index(document: t.Mapping[str, t.Any]) -> Index:
    """Return an index with tuples for records. Raises AttributeError, TypeError or ValueError for anything else."""
    return {place: {name: _record(record) for name, record in held.items()} for place, held in document.items()}


def _record(values: t.Sequence[int]) -> tuple[int, ...]:
    record = tuple(values)
    if len(record) not in (0, len(UNSETTLED)) or not all(map(is_integer, record)):
        raise ValueError("not a record")
    return record
