# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Turns an archive, or a folder of backups, into snapshots. Everything is unpacked in the store, where nobody but root can change it.

A snapshot of an import has the sequence 0, so that it never counts as newer than one that a backup took of the live account.
"""

from __future__ import annotations

import os
import time
import typing as t

from .._backup.known import choice_of
from .._backup.save import locked_store
from .._backup.store import PARTIAL, ROOT, opened_snapshot, write_document, write_manifest
from .._backup.take import Order, Unsound, begin, complete, discard, publish
from .._core.errors import SessionsError
from .._fs.copy_file import Rules, UnfitTree
from .._fs.copy_tree import remove_tree, sync_tree
from .._fs.fdopen import DirFd, open_private, opened_below, opened_directory, real_path
from .._fs.free_space import SpaceReserve, kept_free
from .._fs.syscalls import sync_filesystem
from .._fs.walk_tree import measure
from .._layouts.sqlite import DamagedStore
from .archive import unpack
from .archive_job import IMPORTS, Imported, Params, imports_in, opened_archive
from .unpacked import Unpacked, accounts_in, known_at

WORK = f"{PARTIAL}import"  # removed by the next run under the lock of the store


def import_all(store: DirFd, params: Params, digest: str) -> tuple[Imported, ...]:
    """Import every linked account of the source. Raises SessionsError if there is none; then nothing is recorded."""
    with locked_store(store):
        remove_tree(store, WORK)
        work = open_private(store, WORK, called="a directory in the directory of backups")
        try:
            _fill(work, params)
            found = accounts_in(work, known_at(params.path, params.layout), params.account)
            done = tuple(_imported(store, work, one, params) for one in found)
            _require_any(done)
            imports = {**imports_in(store), digest: sum(bool(one.snapshot) for one in done)}
            write_document(store, IMPORTS, imports)
            return done
        finally:
            os.close(work)
            remove_tree(store, WORK)


def _fill(work: DirFd, params: Params) -> None:
    """Unpack the archive, or copy the directory, into the open work directory."""
    room = SpaceReserve(kept_free(work))
    if not os.path.isdir(params.place):
        with opened_archive(params.place) as archive:
            unpack(archive, work, room)
        return
    with opened_directory(params.place) as source:
        owners = frozenset((0, os.geteuid(), os.fstat(source).st_uid))
        rules = Rules(os.geteuid(), os.getegid(), owners, lambda _name: None, checksum=True, room=room)
        try:
            sync_tree(source, work, rules, {})
        except UnfitTree as error:
            raise SessionsError(f"cannot import from {params.place}: {error}; nothing was imported") from error


def _imported(store: DirFd, work: DirFd, one: Unpacked, params: Params) -> Imported:
    place = real_path(work)
    order = Order(
        os.path.normpath(f"{place}/{one.root}"), one.name, choice_of(one.layout, exclude_caches=True), sequence=0
    )
    try:
        if not begin(store, order):
            raise Unsound("it was changed while it was imported")
        snapshot = complete(store, order)
        with opened_snapshot(store, order.partial) as directory:
            with opened_below(directory, f"{ROOT}/{one.name}") as account:
                newest = measure(account, lambda _name: None).newest_ns
            taken = min(one.taken or newest, time.time_ns())
            write_manifest(directory, snapshot._replace(path=params.path, taken=taken, confirmed=taken, newest=newest))
        sync_filesystem(store)
        publish(store, order, snapshot.name)
        os.fsync(store)
        return Imported(one.name, snapshot.moment)
    except DamagedStore:
        reason = "a database of it is damaged"
    except (Unsound, UnfitTree, SessionsError) as error:
        reason = str(error)
    discard(store, order)
    return Imported(one.name, reason=reason)


def _require_any(done: t.Sequence[Imported]) -> None:
    if not any(one.snapshot for one in done):
        raise SessionsError(
            f"none of the {len(done)} account(s) in the source can be restored ({done[0].reason}); nothing was imported"
        )
