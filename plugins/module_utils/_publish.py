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
import typing as t

from . import _displaced
from ._area import COMPANIONS, DISPLACED, INTENT, STAGING, moment, open_private, write_document_at
from ._beside import slot_of
from ._errors import SessionsError
from ._kernel import rename_new
from ._layout import opened_below, status_of
from ._layouts import open_account
from ._paths import real_path
from ._receipts import account_key
from ._rescue import BESIDE, DISPLACING, LEAVING, PUBLISHING, TAKING, kept_file, open_real, planned_move
from ._staging import open_staged, part_slot, place_of
from ._tombstone import is_tombstone_at, leave_tombstone

Move = dict[str, t.Any]


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


@dataclasses.dataclass(frozen=True)
class Place:
    """The open directories that publishing works on: the area and the sessions path, and who owns what is made there."""

    area: int
    path: int
    uid: int
    gid: int


def taking_moves(place: Place, publications: t.Sequence[Publication]) -> list[Move]:
    """Plan what the engine 'rename' does first: each account moves from its legacy root to staging, with all that belongs to it."""
    moves = []
    for publication in publications:
        root = open_real(publication.root)
        try:
            folder, name = place_of(publication.root, publication.name)
            inode = _inode_of(root, publication.name)
            moves.append(planned_move(TAKING, folder, name, _staging_path(place), account_key(publication.name), inode))
            for part in publication.parts:
                status = _status_below(root, part)
                if status:
                    folder, name = place_of(publication.root, part)
                    slot = f"{_staging_path(place)}/{part_slot(publication.name, part)}"
                    moves.append(planned_move(TAKING, folder, name, slot, name, status.st_ino))
        finally:
            os.close(root)
    return moves


def publishing_moves(place: Place, publications: t.Sequence[Publication]) -> list[Move]:
    """Plan every rename from staging to the sessions path, with what is displaced out of the way first."""
    now = moment()
    moves: list[Move] = []
    for publication in publications:
        key = account_key(publication.name)
        moves += _displacing_moves(place, publication, f"{now}-{key[:16]}")
        moves += _part_moves(place, publication)
        folder, name = place_of(real_path(place.path), publication.name)
        staged = open_staged(place.area, publication.name)
        try:
            moves.append(planned_move(PUBLISHING, _staging_path(place), key, folder, name, os.fstat(staged).st_ino))
        finally:
            os.close(staged)
    return moves


def leaving_moves(place: Place, publications: t.Sequence[Publication], text: str) -> list[Move]:
    """Make a tombstone for each account that the engine 'rename' takes, and plan the renames that put them in the accounts' places."""
    moves = []
    staging = open_private(place.area, STAGING, called="the staging area")
    try:
        for publication in publications:
            made = f"{account_key(publication.name)}.tombstone"
            with contextlib.suppress(FileNotFoundError):
                os.unlink(made, dir_fd=staging)
            leave_tombstone(staging, made, text)
            inode = os.stat(made, dir_fd=staging, follow_symlinks=False).st_ino
            moves.append(
                planned_move(LEAVING, _staging_path(place), made, *place_of(publication.root, publication.name), inode)
            )
    finally:
        os.close(staging)
    return moves


def beside_moves(place: Place, companions: t.Sequence[str]) -> list[Move]:
    """Plan the renames of what lies beside accounts (relative paths). What is there already stays."""
    moves = []
    for companion in companions:
        folder, name = place_of(real_path(place.path), companion)
        status = _status_below(place.area, f"{COMPANIONS}/{slot_of(companion)}/{name}")
        if status:  # what is neither file nor directory was left out
            source = f"{real_path(place.area)}/{COMPANIONS}/{slot_of(companion)}"
            moves.append(planned_move(BESIDE, source, name, folder, name, status.st_ino))
    return moves


def announce(place: Place, moves: t.Sequence[Move], files: t.Sequence[str]) -> dict[str, t.Any]:
    """Write the intent durably and return it; ``files`` are the files whose content will change."""
    path = real_path(place.path)
    intent = {"version": 1, "path": path, "moves": list(moves), "files": [kept_file(file) for file in files]}
    write_document_at(place.area, INTENT, intent)
    return intent


def commit(area: int, intent: t.Mapping[str, t.Any]) -> None:
    """Say durably that all is done: from here on nothing is taken back by itself."""
    write_document_at(area, INTENT, {**intent, "committed": True})


def carry_out(moves: t.Sequence[Move]) -> None:
    """Do the renames. Raises SessionsError when a place is taken by something that was not there when they were planned."""
    for move in moves:
        source, target = open_real(move["source"]), open_real(move["target"])
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
        here = open_account(place.path, ".")
        for part in folder.split("/"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=here)
                if os.geteuid() == 0:
                    os.chown(part, place.uid, place.gid, dir_fd=here, follow_symlinks=False)
            below = open_account(here, part)
            os.close(here)
            here = below
        os.close(here)


def note_displaced(place: Place, moves: t.Sequence[Move]) -> None:
    """Leave a note beside each displaced account that says what it was."""
    for move in moves:
        if move["why"] == DISPLACING:
            _displaced.note(place.area, move["new_name"], move["name"], move["source"])


def _displacing_moves(place: Place, publication: Publication, new_name: str) -> list[Move]:
    """An account that gives way does so with all that belongs to it; what belongs to one that is gone does so, too."""
    displaced = f"{real_path(place.area)}/{DISPLACED}"
    moves = []
    if publication.displace or is_tombstone_at(place.path, publication.name):
        folder, name = place_of(real_path(place.path), publication.name)
        found = _status_below(place.path, publication.name)
        inode = found.st_ino if found else _inode_of(place.path, publication.name)
        moves.append(planned_move(DISPLACING, folder, name, displaced, new_name, inode))
    for number, part in enumerate(publication.parts):
        status = _status_below(place.path, part)
        if status:
            folder, name = place_of(real_path(place.path), part)
            part_name = f"{new_name}.part-{number}"
            moves.append(planned_move(DISPLACING, folder, name, displaced, part_name, status.st_ino))
    return moves


def _part_moves(place: Place, publication: Publication) -> list[Move]:
    moves = []
    for part in publication.parts:
        folder, name = place_of(real_path(place.path), part)
        slot = part_slot(publication.name, part)
        status = _status_below(place.area, f"{STAGING}/{slot}/{name}")
        if status:
            moves.append(planned_move(PUBLISHING, f"{_staging_path(place)}/{slot}", name, folder, name, status.st_ino))
    return moves


def _status_below(root: int, path: str) -> os.stat_result | None:
    """Look at what is at a relative path; None when it is not there."""
    folder, _slash, name = path.rpartition("/")
    try:
        with opened_below(root, folder or ".") as parent:
            return status_of(parent, name)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _staging_path(place: Place) -> str:
    return f"{real_path(place.area)}/{STAGING}"


def _inode_of(root: int, name: str) -> int:
    descriptor = open_account(root, name)
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)
