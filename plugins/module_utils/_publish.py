# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Puts staged accounts in their place: one rename each, announced durably beforehand, so that any crash can be taken back.

The order is what makes it safe: copies durable, intent durable, displace, publish, directories durable. See _rescue.py for the way back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ._area import DISPLACED, STAGING, moment, open_private, write_document_at
from ._errors import SessionsError
from ._kernel import rename_new
from ._layouts import open_account
from ._paths import real_path
from ._receipts import account_key
from ._rescue import kept_file, open_real, planned_move
from ._staging import open_staged, place_of

INTENT = "intent.json"
Move = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Publication:
    """One account to publish: its name, how to call it to people, its legacy root (real path) and whether a present copy gives way."""

    name: str
    label: str
    root: str
    displace: bool


@dataclasses.dataclass(frozen=True)
class Place:
    """The open directories that publishing works on: the area and the sessions path, and who owns what is made there."""

    area: int
    path: int
    uid: int
    gid: int


def taking_moves(place: Place, publications: t.Sequence[Publication]) -> list[Move]:
    """Plan what the engine 'rename' does first: each account moves from its legacy root into the staging area."""
    moves = []
    for publication in publications:
        folder, name = place_of(publication.root, publication.name)
        root = open_real(publication.root)
        try:
            inode = _inode_of(root, publication.name)
        finally:
            os.close(root)
        moves.append(planned_move(folder, name, _staging_path(place), account_key(publication.name), inode))
    return moves


def publishing_moves(place: Place, publications: t.Sequence[Publication]) -> list[Move]:
    """Plan every rename from staging to the sessions path, with displaced accounts out of the way first."""
    now = moment()
    moves: list[Move] = []
    for publication in publications:
        key = account_key(publication.name)
        parent, last = place_of(real_path(place.path), publication.name)
        if publication.displace:
            displaced = f"{real_path(place.area)}/{DISPLACED}"
            moves.append(
                planned_move(parent, last, displaced, f"{now}-{key[:16]}", _inode_of(place.path, publication.name))
            )
        staged = open_staged(place.area, publication.name)
        try:
            moves.append(planned_move(_staging_path(place), key, parent, last, os.fstat(staged).st_ino))
        finally:
            os.close(staged)
    return moves


def announce(place: Place, moves: t.Sequence[Move], files: t.Sequence[str]) -> dict[str, t.Any]:
    """Write the intent durably and return it; ``files`` are the files whose content will change."""
    intent = {"version": 1, "moves": list(moves), "files": [kept_file(path) for path in files]}
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
            raise SessionsError(
                f"something appeared in {move['target']} while its accounts were being published; nothing is published, run again"
            ) from error
        finally:
            os.close(source)
            os.close(target)


def make_folders(place: Place, publications: t.Sequence[Publication]) -> None:
    """Make the folders between the sessions path and accounts that lie deeper."""
    for publication in publications:
        here = open_account(place.path, ".")
        for part in publication.name.split("/")[:-1]:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=here)
                if os.geteuid() == 0:
                    os.chown(part, place.uid, place.gid, dir_fd=here, follow_symlinks=False)
            below = open_account(here, part)
            os.close(here)
            here = below
        os.close(here)


def note_displaced(place: Place, moves: t.Sequence[Move]) -> None:
    """Leave a note beside each displaced account that says what it was: the way back is one rename."""
    displaced = open_private(place.area, DISPLACED, called="the directory of displaced accounts")
    try:
        for move in moves:
            if move["target"].endswith(f"/{DISPLACED}"):
                note = {
                    "account": move["name"],
                    "from": move["source"],
                    "displaced": move["new_name"].partition("-")[0],
                }
                write_document_at(displaced, f"{move['new_name']}.json", note)
    finally:
        os.close(displaced)


def _staging_path(place: Place) -> str:
    return f"{real_path(place.area)}/{STAGING}"


def _inode_of(root: int, name: str) -> int:
    descriptor = open_account(root, name)
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)
