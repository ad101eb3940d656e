# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Puts staged accounts in their place: one rename each, announced durably beforehand, so that any crash can be taken back.

The order is what makes it safe: copies durable, intent durable, displace, publish, directories durable. See _rescue.py for the way back.
What belongs to an account beside its directory goes before it, so that an account which is there is there as a whole.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import typing as t

from . import _displaced
from ._area import COMPANIONS, DISPLACED, STAGING, boot, moment
from ._beside import slot_of
from ._control import INTENT, open_private, write_document_at
from ._errors import SessionsError
from ._kernel import rename_new, sync_filesystem
from ._layout import open_below, opened_below, status_of
from ._paths import real_path
from ._receipts import account_key
from ._rescue import (
    BESIDE,
    DISPLACING,
    LEAVING,
    PUBLISHING,
    TAKING,
    identity_of,
    kept_file,
    open_folder,
    open_real,
    planned_move,
    staying_entry,
)
from ._staging import open_staged, part_slot
from ._tombstone import is_tombstone_at, leave_tombstone

Move = dict[str, t.Any]
_LARGEST_RECEIPT = 1 << 28  # bytes


@dataclasses.dataclass(frozen=True)
class Publication:
    """One account to publish: its name, how to call it to people, its legacy root (real path) and whether a present copy gives way.

    ``parts``: relative paths of the root that belong to it; some may be missing.
    """

    name: str
    label: str
    root: str
    displace: bool
    parts: tuple[str, ...] = ()


class Folders:
    """The directories that renames lead from and to, each opened once: who owns a parent of one can exchange what its path leads to."""

    def __init__(self) -> None:
        self.opened: dict[str, int] = {}

    def __enter__(self) -> Folders:
        return self

    def __exit__(self, *_why: object) -> None:
        while self.opened:
            os.close(self.opened.popitem()[1])

    def keep(self, descriptor: int) -> str:
        """Keep an open directory and return the path that stands for it. Raises SessionsError where that stands for another one."""
        path = real_path(descriptor)
        known = self.opened.get(path)
        if known is None:
            self.opened[path] = os.dup(descriptor)
        elif identity_of(known) != identity_of(descriptor):
            raise SessionsError(
                f"{path} was exchanged while its accounts were being moved; see who does that and run again"
            )
        return path

    def sync(self) -> None:
        """Make what was renamed in them durable, one syncfs(2) for each filesystem."""
        for descriptor in {os.fstat(descriptor).st_dev: descriptor for descriptor in self.opened.values()}.values():
            sync_filesystem(descriptor)

    def identities(self) -> dict[str, list[int]]:
        """Return which directory each path stands for, for an intent."""
        return {path: identity_of(descriptor) for path, descriptor in self.opened.items()}


@dataclasses.dataclass(frozen=True)
class Place:
    """The open directories that publishing works on: control directory, area and sessions path, and who owns what is made there."""

    control: int
    area: int
    path: int
    uid: int
    gid: int
    folders: Folders = dataclasses.field(default_factory=Folders)


def taking_moves(place: Place, publications: t.Sequence[Publication]) -> list[Move]:
    """Plan what the engine 'rename' does first: each account moves from its legacy root to staging, with all that belongs to it."""
    moves = []
    for publication in publications:
        with _opened_root(publication.root) as root, _opened_staging(place) as (_staging, staging_path):
            folder, name = _parent_of(place, root, publication.name)
            inode = _inode_of(root, publication.name)
            moves.append(planned_move(TAKING, folder, name, staging_path, account_key(publication.name), inode))
            for part in publication.parts:
                status = _status_below(root, part)
                if status:
                    folder, name = _parent_of(place, root, part)
                    slot = f"{staging_path}/{part_slot(publication.name, part)}"
                    moves.append(planned_move(TAKING, folder, name, slot, name, status.st_ino))
    return moves


def publishing_moves(place: Place, publications: t.Sequence[Publication]) -> list[Move]:
    """Plan every rename from staging to the sessions path, with what is displaced out of the way first."""
    now = moment()
    moves: list[Move] = []
    for publication in publications:
        key = account_key(publication.name)
        moves += _displacing_moves(place, publication, f"{now}-{key[:16]}")
        with _opened_staging(place) as (staging, staging_path):
            moves += _part_moves(place, staging, staging_path, publication)
            folder, name = _parent_of(place, place.path, publication.name)
            staged = open_staged(place.area, publication.name)
            try:
                moves.append(planned_move(PUBLISHING, staging_path, key, folder, name, os.fstat(staged).st_ino))
            finally:
                os.close(staged)
    return moves


def aside_moves(source: Place, publications: t.Sequence[Publication]) -> list[Move]:
    """Plan the renames that put accounts aside which were copied from the root ``source`` and have to leave it."""
    now = moment()
    return [
        move
        for publication in publications
        for move in _displacing_moves(
            source, dataclasses.replace(publication, displace=True), f"{now}-{account_key(publication.name)[:16]}"
        )
    ]


def leaving_moves(place: Place, publications: t.Sequence[Publication], text: str) -> list[Move]:
    """Make a tombstone for each account that leaves its root, and plan the renames that put them in the accounts' places."""
    moves = []
    with _opened_staging(place) as (staging, staging_path):
        for publication in publications:
            made = f"{account_key(publication.name)}.tombstone"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(made, dir_fd=staging)
            leave_tombstone(staging, made, text)
            inode = os.stat(made, dir_fd=staging, follow_symlinks=False).st_ino
            with _opened_root(publication.root) as root:
                moves.append(
                    planned_move(LEAVING, staging_path, made, *_parent_of(place, root, publication.name), inode)
                )
    return moves


def beside_moves(place: Place, companions: t.Sequence[str]) -> list[Move]:
    """Plan the renames of what lies beside accounts (relative paths). What is there already stays."""
    moves = []
    area = place.folders.keep(place.area)
    for companion in companions:
        folder, name = _parent_of(place, place.path, companion)
        slot = f"{COMPANIONS}/{slot_of(companion)}"
        status = _status_below(place.area, f"{slot}/{name}")
        if status:  # what is neither file nor directory was left out
            moves.append(planned_move(BESIDE, f"{area}/{slot}", name, folder, name, status.st_ino))
    return moves


def staying(place: Place, names: t.Iterable[str]) -> list[Move]:
    """Describe what is at the sessions path already and stays (relative paths): a backend that is sent there may write to it."""
    entries = []
    for name in names:
        status = os.fstat(place.path) if name == "." else _status_below(place.path, name)
        if status:
            entries.append(staying_entry(*_parent_of(place, place.path, name), status.st_ino))
    return entries


def announce(
    place: Place, moves: t.Sequence[Move], files: t.Sequence[str], receipt: str, kept: t.Sequence[Move] = ()
) -> dict[str, t.Any]:
    """Write the intent durably and return it; ``files`` are the files whose content will change, the ``receipt`` is another.

    ``kept``: what ``staying`` describes.
    """
    path = real_path(place.path)
    contents = [*map(kept_file, files), kept_file(receipt, _LARGEST_RECEIPT)]
    intent = {
        "version": 2,
        "path": path,
        "boot": boot(),
        "folders": place.folders.identities(),
        "moves": list(moves),
        "files": contents,
        "staying": list(kept),
    }
    write_document_at(place.control, INTENT, intent)
    return intent


def commit(control: int, intent: t.Mapping[str, t.Any]) -> None:
    """Say durably that all is done: from here on nothing is taken back by itself."""
    write_document_at(control, INTENT, {**intent, "committed": True})


def carry_out(folders: Folders, moves: t.Sequence[Move]) -> None:
    """Do the renames. Raises SessionsError when a place is taken by something that was not there when they were planned."""
    for move in moves:
        source, target = (open_folder(move[end], {}, folders.opened) for end in ("source", "target"))
        try:
            rename_new(source, move["name"], target, move["new_name"])
        except FileExistsError as error:
            if move["why"] == BESIDE:
                continue
            raise SessionsError(
                f"something appeared in {move['target']} while its accounts were being published; nothing is published, run again"
            ) from error
        finally:
            os.close(source)
            os.close(target)


def paths_of(publications: t.Sequence[Publication], companions: t.Sequence[str]) -> t.Iterator[str]:
    """Yield the relative paths of all that is published."""
    for publication in publications:
        yield publication.name
        yield from publication.parts
    yield from companions


def make_folders(place: Place, names: t.Iterable[str]) -> None:
    """Make the folders between the sessions path and what lies deeper (relative paths)."""
    for folder in sorted({name.rpartition("/")[0] for name in names} - {""}):
        here = open_below(place.path, ".")
        try:
            for part in folder.split("/"):
                below = _made_folder(place, here, part)
                os.close(here)
                here = below
        finally:
            os.close(here)


def _made_folder(place: Place, parent: int, name: str) -> int:
    """Open a folder of the sessions path, made for its owner where it is missing."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return open_below(parent, name)
    below = open_below(parent, name)
    status = os.fstat(below)
    if os.geteuid() == 0:
        # What lies there now may have taken the place of what was made: only an empty directory of root's changes hands.
        if status.st_uid != 0 or stat.S_IMODE(status.st_mode) != 0o700 or os.listdir(below):
            os.close(below)
            raise SessionsError(
                f"a folder of {real_path(place.path)} was exchanged while it was made; see who does that and run again"
            )
        os.fchown(below, place.uid, place.gid)
    return below


def note_displaced(place: Place, moves: t.Sequence[Move]) -> None:
    """Write down what each displaced account was."""
    for move in moves:
        if move["why"] == DISPLACING:
            _displaced.note(place.control, move["new_name"], move["name"], move["source"])


def _displacing_moves(place: Place, publication: Publication, new_name: str) -> list[Move]:
    """An account that gives way does so with all that belongs to it; what belongs to one that is gone does so, too."""
    moves = []
    with opened_below(place.area, DISPLACED) as opened:
        displaced = place.folders.keep(opened)
    if publication.displace or is_tombstone_at(place.path, publication.name):
        folder, name = _parent_of(place, place.path, publication.name)
        found = _status_below(place.path, publication.name)
        inode = found.st_ino if found else _inode_of(place.path, publication.name)
        moves.append(planned_move(DISPLACING, folder, name, displaced, new_name, inode))
    for number, part in enumerate(publication.parts):
        status = _status_below(place.path, part)
        if status:
            folder, name = _parent_of(place, place.path, part)
            part_name = f"{new_name}.part-{number}"
            moves.append(planned_move(DISPLACING, folder, name, displaced, part_name, status.st_ino))
    return moves


def _part_moves(place: Place, staging: int, staging_path: str, publication: Publication) -> list[Move]:
    moves = []
    for part in publication.parts:
        folder, name = _parent_of(place, place.path, part)
        slot = part_slot(publication.name, part)
        status = _status_below(staging, f"{slot}/{name}")
        if status:
            moves.append(planned_move(PUBLISHING, f"{staging_path}/{slot}", name, folder, name, status.st_ino))
    return moves


@contextlib.contextmanager
def _opened_root(path: str) -> t.Iterator[int]:
    root = open_real(path)
    try:
        yield root
    finally:
        os.close(root)


@contextlib.contextmanager
def _opened_staging(place: Place) -> t.Iterator[tuple[int, str]]:
    staging = open_private(place.area, STAGING, called="the staging area")
    try:
        yield staging, place.folders.keep(staging)
    finally:
        os.close(staging)


def _parent_of(place: Place, root: int, name: str) -> tuple[str, str]:
    """Open and keep the directory that the entry ``name`` (a relative path) of an open root lies in; return its path and the last name.

    The account ``.`` is its root, and lies in the directory above it.
    """
    if name != ".":
        folder, _slash, last = name.rpartition("/")
        with opened_below(root, folder or ".") as parent:
            return place.folders.keep(parent), last
    above, last = os.path.split(real_path(root))
    with _opened_root(above) as parent:
        found = os.stat(last, dir_fd=parent, follow_symlinks=False)
        if [found.st_dev, found.st_ino] != identity_of(root):
            raise SessionsError(
                f"{above}/{last} was exchanged while it was being looked at; see who does that and run again"
            )
        return place.folders.keep(parent), last


def _status_below(root: int, path: str) -> os.stat_result | None:
    """Look at what is at a relative path; None when it is not there."""
    folder, _slash, name = path.rpartition("/")
    try:
        with opened_below(root, folder or ".") as parent:
            return status_of(parent, name)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _inode_of(root: int, name: str) -> int:
    descriptor = open_below(root, name)
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)
