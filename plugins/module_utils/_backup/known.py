# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What a snapshot recorded about the files that it was copied from, to recognise unchanged ones. Never decides by the content of a file.

A file is unchanged if inode, size, mtime and ctime are all equal to those of the file that was copied. Programs can set mtimes, and a clock
that is set back makes new files look old, but no program can set a ctime, and each of the four only has to differ, in whichever direction.
"""

from __future__ import annotations

import itertools
import typing as t

from .._accounts.copy_index import NOTHING, Known
from .._accounts.entries import is_kept
from .._core.bounded_json import parsed_json
from .._core.errors import SessionsError
from .._core.limits import FILE_LIST_BYTES
from .._core.names import AREA_INSIDE
from .._fs.compare_tree import Difference, difference
from .._fs.copy_file import UNSETTLED, record_of
from .._fs.copy_tree import Index
from .._fs.fdopen import DirFd, opened_below, status_below
from .._fs.files import read_file_at
from .._fs.patterns import name_matcher, path_matcher
from .._layouts.layout import OF_A_PROGRAM, Layout
from .._layouts.sqlite import records_of_store, store_names, store_patterns
from .store import FILES


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


def difference_of(root: DirFd, name: str, directory: DirFd, choice: Choice, known: Known) -> Difference:
    """Compare an account with what was recorded of it, from the status of its files only. ``root``: the sessions path, both open."""
    found = difference(directory, known.files, choice.is_left_out, choice.is_cache)
    if choice.layout.databases:
        now = {store: records_of_store(directory, store) for store in store_names(directory, choice.layout)}
        for store in {**known.stores, **now}:
            found = found.and_also(_difference(now.get(store, {}), known.stores.get(store, {})))
    parts = [part for part in choice.layout.sidecars_of(name) if is_kept(root, part)]
    for part in parts:
        found = found.and_also(_difference_of_part(root, part, choice, known.parts.get(part, {})))
    return found._replace(same=found.same and known.parts.keys() == set(parts) and known != NOTHING)


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


def _difference(now: t.Mapping[str, tuple[int, ...]], before: t.Mapping[str, tuple[int, ...]]) -> Difference:
    new = [record for name, record in now.items() if before.get(name) != record]
    return Difference(now == before, len(new), sum(record[1] for record in new))


def _difference_of_part(root: DirFd, part: str, choice: Choice, copied: Index) -> Difference:
    name = part.rpartition("/")[2]
    try:
        with opened_below(root, part) as below:
            return difference(below, copied, choice.layout.volatile_matcher, None, f"{name}/")
    except NotADirectoryError:
        status = status_below(root, part)
        return _difference({name: record_of(status)} if status else {}, copied.get("", {}))


def files_in(index: Index) -> t.Iterator[tuple[str, tuple[int, ...]]]:
    """Yield relative path and record of each file."""
    for place, records in index.items():
        for name, record in records.items():
            if record:
                yield place + name, record


def _index(document: t.Mapping[str, t.Any]) -> Index:
    """Return an index with tuples for records. Raises AttributeError, TypeError or ValueError for anything else."""
    return {place: _records(held) for place, held in document.items()}


def _records(held: t.Mapping[str, t.Sequence[int]]) -> dict[str, tuple[int, ...]]:
    """Return the records of one directory. They are verified together, because there may be thousands."""
    records = dict(zip(held, map(tuple, held.values())))
    lengths, kinds = set(map(len, records.values())), set(map(type, itertools.chain.from_iterable(records.values())))
    if not lengths <= {0, len(UNSETTLED)} or not kinds <= {int}:
        raise ValueError("not a record")
    return records
