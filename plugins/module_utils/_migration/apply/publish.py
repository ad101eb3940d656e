# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Publishes staged accounts: one rename each, announced durably beforehand, so that it can be undone after any crash.

The order makes it safe: copies durable, intent durable, displace, publish, directories durable. See rescue.py for undoing it.
The parts of an account outside its directory are published before it, so that a published account is always complete.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import typing as t

from ..._accounts import displaced as accounts_displaced
from ..._accounts.control_directory import INTENT, write_document_at
from ..._accounts.extras import slot_of
from ..._accounts.tombstone import is_tombstone_at, leave_tombstone
from ..._accounts.work_area import COMPANIONS, DISPLACED, STAGING, boot, moment
from ..._core.errors import SessionsError
from ..._core.masking import account_key
from ..._fs.fdopen import DirFd, open_below, open_private, opened_below, opened_parent, real_path, status_below
from ..._fs.syscalls import rename_new, sync_filesystem
from .rescue import (
    Intent,
    Move,
    MoveKind,
    Target,
    identity_of,
    kept_file,
    open_folder,
    open_real,
    planned_move,
    staying_entry,
)
from .staging_area import open_staged, part_slot

_LARGEST_RECEIPT = 1 << 28  # bytes


@dataclasses.dataclass(frozen=True)
class Publication:
    """One account to publish: its name, its masked name, its legacy root (real path) and whether a present copy is displaced.

    ``parts``: relative paths of the root that belong to it; some may be missing.
    """

    name: str
    label: str
    root: str
    displace: bool
    parts: tuple[str, ...] = ()


class Folders:
    """The source and target directories of renames, each opened once, because the owner of a parent can replace the one at a path."""

    def __init__(self) -> None:
        self.opened: dict[str, DirFd] = {}

    def __enter__(self) -> Folders:
        return self

    def __exit__(self, *_why: object) -> None:
        while self.opened:
            os.close(self.opened.popitem()[1])

    def keep(self, descriptor: DirFd) -> str:
        """Keep a directory open and return its path as a key. Raises SessionsError if that path is already kept for another directory."""
        path = real_path(descriptor)
        known = self.opened.get(path)
        if known is None:
            self.opened[path] = DirFd(os.dup(descriptor))
        elif identity_of(known) != identity_of(descriptor):
            raise SessionsError(
                f"{path} was replaced while its accounts were being moved; find out what replaces it and run again"
            )
        return path

    def sync(self) -> None:
        """Make the renames durable, with one syncfs(2) for each filesystem."""
        for descriptor in {os.fstat(descriptor).st_dev: descriptor for descriptor in self.opened.values()}.values():
            sync_filesystem(descriptor)

    def identities(self) -> dict[str, list[int]]:
        """Return device and inode of each kept path, for an intent."""
        return {path: identity_of(descriptor) for path, descriptor in self.opened.items()}


@dataclasses.dataclass(frozen=True)
class Place:
    """The open directories that publishing works on: control directory, area and sessions path, and the owner of created folders."""

    control: DirFd
    area: DirFd
    path: DirFd
    uid: int
    gid: int
    folders: Folders = dataclasses.field(default_factory=Folders)


def taking_moves(place: Place, publications: t.Sequence[Publication]) -> list[Move]:
    """Plan what the engine 'rename' does first: move each account and its parts from its legacy root to staging."""
    moves = []
    for publication in publications:
        with _opened_root(publication.root) as root, _opened_staging(place) as (_staging, staging_path):
            folder, name = _parent_of(place, root, publication.name)
            inode = _inode_of(root, publication.name)
            moves.append(
                planned_move(MoveKind.TAKING, folder, name, staging_path, account_key(publication.name), inode)
            )
            for part in publication.parts:
                status = status_below(root, part)
                if status:
                    folder, name = _parent_of(place, root, part)
                    slot = f"{staging_path}/{part_slot(publication.name, part)}"
                    moves.append(planned_move(MoveKind.TAKING, folder, name, slot, name, status.st_ino))
    return moves


def publishing_moves(place: Place, publications: t.Sequence[Publication]) -> list[Move]:
    """Plan every rename from staging to the sessions path, with displaced entries moved away first."""
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
                moves.append(
                    planned_move(MoveKind.PUBLISHING, staging_path, key, folder, name, os.fstat(staged).st_ino)
                )
            finally:
                os.close(staged)
    return moves


def aside_moves(source: Place, publications: t.Sequence[Publication]) -> list[Move]:
    """Plan the renames that displace copied accounts from their root ``source``."""
    now = moment()
    return [
        move
        for publication in publications
        for move in _displacing_moves(
            source, dataclasses.replace(publication, displace=True), f"{now}-{account_key(publication.name)[:16]}"
        )
    ]


def leaving_moves(place: Place, publications: t.Sequence[Publication], text: str) -> list[Move]:
    """Create a tombstone for each account that leaves its root, and plan the renames that put it in the account's place."""
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
                    planned_move(
                        MoveKind.LEAVING, staging_path, made, *_parent_of(place, root, publication.name), inode
                    )
                )
    return moves


def beside_moves(place: Place, companions: t.Sequence[str]) -> list[Move]:
    """Plan the renames of companions (relative paths). Existing entries are kept."""
    moves = []
    area = place.folders.keep(place.area)
    for companion in companions:
        folder, name = _parent_of(place, place.path, companion)
        slot = f"{COMPANIONS}/{slot_of(companion)}"
        status = status_below(place.area, f"{slot}/{name}")
        if status:  # entries that are neither file nor directory were left out
            moves.append(planned_move(MoveKind.BESIDE, f"{area}/{slot}", name, folder, name, status.st_ino))
    return moves


def staying(place: Place, names: t.Iterable[str]) -> list[Target]:
    """Describe the entries that stay at the sessions path (relative paths): a backend that uses it may write to them."""
    entries: list[Target] = []
    for name in names:
        status = os.fstat(place.path) if name == "." else status_below(place.path, name)
        if status:
            entries.append(staying_entry(*_parent_of(place, place.path, name), status.st_ino))
    return entries


def announce(
    place: Place, moves: t.Sequence[Move], files: t.Sequence[str], receipt: str, kept: t.Sequence[Target] = ()
) -> Intent:
    """Write the intent durably and return it. ``files``, and the ``receipt``: the files that will change. ``kept``: see ``staying``."""
    path = real_path(place.path)
    contents = [*map(kept_file, files), kept_file(receipt, _LARGEST_RECEIPT)]
    intent: Intent = {
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


def commit(control: DirFd, intent: Intent) -> None:
    """Mark the intent durably as committed: from now on, nothing is undone automatically."""
    committed = intent.copy()
    committed["committed"] = True
    write_document_at(control, INTENT, committed)


def apply_moves(folders: Folders, moves: t.Sequence[Move]) -> None:
    """Do the renames. Raises SessionsError if a target exists that did not exist when they were planned."""
    for move in moves:
        source, target = (DirFd(open_folder(move[end], None, folders.opened)) for end in ("source", "target"))
        try:
            rename_new(source, move["name"], target, move["new_name"])
        except FileExistsError as error:
            if move["why"] == MoveKind.BESIDE:
                continue
            raise SessionsError(
                f"a new entry appeared in {move['target']} while accounts were being published; nothing was published: run again"
            ) from error
        finally:
            os.close(source)
            os.close(target)


def paths_of(publications: t.Sequence[Publication], companions: t.Sequence[str]) -> t.Iterator[str]:
    """Yield the relative paths of everything that is published."""
    for publication in publications:
        yield publication.name
        yield from publication.parts
    yield from companions


def make_folders(place: Place, names: t.Iterable[str]) -> None:
    """Create the folders between the sessions path and the entries ``names`` (relative paths)."""
    for folder in sorted({name.rpartition("/")[0] for name in names} - {""}):
        here = open_below(place.path, ".")
        try:
            for part in folder.split("/"):
                below = _made_folder(place, here, part)
                os.close(here)
                here = below
        finally:
            os.close(here)


def _made_folder(place: Place, parent: DirFd, name: str) -> DirFd:
    """Open a folder of the sessions path, and create it if it is missing."""
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return open_below(parent, name)
    below = open_below(parent, name)
    status = os.fstat(below)
    if os.geteuid() == 0:
        # The new folder may have been replaced already: change the owner only of an empty directory that belongs to root.
        if status.st_uid != 0 or stat.S_IMODE(status.st_mode) != 0o700 or os.listdir(below):
            os.close(below)
            raise SessionsError(
                f"a folder of {real_path(place.path)} was replaced while it was being created; find out what replaces it and run again"
            )
        os.fchown(below, place.uid, place.gid)
    return below


def note_displaced(place: Place, moves: t.Sequence[Move]) -> None:
    """Record the name and path of each displaced account."""
    for move in moves:
        if move["why"] == MoveKind.DISPLACING:
            accounts_displaced.note(place.control, move["new_name"], move["name"], move["source"])


def _displacing_moves(place: Place, publication: Publication, new_name: str) -> list[Move]:
    """Plan the renames that displace an account and its parts; parts are displaced even if their account is missing."""
    moves = []
    with opened_below(place.area, DISPLACED) as opened:
        displaced = place.folders.keep(opened)
    if publication.displace or is_tombstone_at(place.path, publication.name):
        folder, name = _parent_of(place, place.path, publication.name)
        found = status_below(place.path, publication.name)
        inode = found.st_ino if found else _inode_of(place.path, publication.name)
        moves.append(planned_move(MoveKind.DISPLACING, folder, name, displaced, new_name, inode))
    for number, part in enumerate(publication.parts):
        status = status_below(place.path, part)
        if status:
            folder, name = _parent_of(place, place.path, part)
            part_name = f"{new_name}.part-{number}"
            moves.append(planned_move(MoveKind.DISPLACING, folder, name, displaced, part_name, status.st_ino))
    return moves


def _part_moves(place: Place, staging: DirFd, staging_path: str, publication: Publication) -> list[Move]:
    moves = []
    for part in publication.parts:
        folder, name = _parent_of(place, place.path, part)
        slot = part_slot(publication.name, part)
        status = status_below(staging, f"{slot}/{name}")
        if status:
            moves.append(planned_move(MoveKind.PUBLISHING, f"{staging_path}/{slot}", name, folder, name, status.st_ino))
    return moves


@contextlib.contextmanager
def _opened_root(path: str) -> t.Iterator[DirFd]:
    root = DirFd(open_real(path))
    try:
        yield root
    finally:
        os.close(root)


@contextlib.contextmanager
def _opened_staging(place: Place) -> t.Iterator[tuple[DirFd, str]]:
    staging = open_private(place.area, STAGING, called="the staging area")
    try:
        yield staging, place.folders.keep(staging)
    finally:
        os.close(staging)


def _parent_of(place: Place, root: DirFd, name: str) -> tuple[str, str]:
    """Open and keep the directory of the entry ``name`` (a relative path) of an open root; return its path and the last name.

    The account ``.`` is the root itself, so its directory is the one above it.
    """
    if name != ".":
        with opened_parent(root, name) as (parent, last):
            return place.folders.keep(parent), last
    above, last = os.path.split(real_path(root))
    with _opened_root(above) as parent:
        found = os.stat(last, dir_fd=parent, follow_symlinks=False)
        if [found.st_dev, found.st_ino] != identity_of(root):
            raise SessionsError(
                f"{above}/{last} was replaced while it was being inspected; find out what replaces it and run again"
            )
        return place.folders.keep(parent), last


def _inode_of(root: DirFd, name: str) -> int:
    descriptor = open_below(root, name)
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)
