# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Brings the off-host copy of a lost host to the store of this one. No account is judged or restored here, and no snapshot is replaced.

The copy is restored to a private directory in the store. Its snapshots appear by one rename each after they are durable, so a run that is
killed leaves complete ones only, and the next run fetches the others.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
import typing as t

from .._backup.save import locked_store
from .._backup.store import (
    CONFIRMED,
    GONE,
    LAST_RUN,
    PARTIAL,
    PREFIX,
    existing_store,
    opened_store,
    read_document,
    store_path,
    write_document,
)
from .._core.errors import SessionsError
from .._fs.copy_tree import remove_tree
from .._fs.fdopen import DirFd, names_in, opened_below
from .._fs.syscalls import rename_new, sync_filesystem
from . import repository as restic

LAST_FETCH = "last_fetch.json"  # in the store: the copy that was fetched
_TARGET = f"{PARTIAL}fetch"
_NAMED_AT_MOST = 5


def chosen_copy(repository: restic.Repository, host: str, named: str, likely: t.Sequence[str]) -> restic.Copy:
    """Return the newest copy that ``host`` made of its directory of snapshots.

    ``named``: that directory, or '': then the first of ``likely`` that the host has copies of, else its only one. Raises SessionsError for
    none.
    """
    copies = [copy for copy in restic.copies_of(repository, host) if copy.store]
    stores = sorted({copy.store for copy in copies})
    if not copies or (named and named not in stores):
        what = f"{host} of {named}" if copies else host
        raise SessionsError(
            f"the repository has no off-host copy of {what}; nothing was changed: 'restic snapshots --tag whatsapp-ops' lists the "
            "hosts and their directories"
        )
    fitting = [named] if named else [store for store in (*likely, *stores) if store in stores]
    if len(stores) > 1 and fitting[0] not in (named, *likely):
        raise SessionsError(
            f"the repository has copies of several directories of {host}: {', '.join(stores[:_NAMED_AT_MOST])}; nothing was changed: name "
            "one of them in 'from_store'"
        )
    return [copy for copy in copies if copy.store == fitting[0]][-1]


def is_fetched(path: str, backup_path: str | None, copy: restic.Copy) -> bool:
    """Whether ``copy`` was fetched to the store of ``path`` before."""
    with existing_store(path, backup_path) as store:
        return store is not None and read_document(store, LAST_FETCH).get("copy") == copy.id


def fetched(repository: restic.Repository, copy: restic.Copy, path: str, backup_path: str | None) -> None:
    """Bring the snapshots of ``copy`` that the store of ``path`` lacks to it. Raises SessionsError if restic fails."""
    with opened_store(path, backup_path) as store, locked_store(store):
        os.mkdir(_TARGET, 0o700, dir_fd=store)
        try:
            restic.restore(repository, copy, f"{store_path(path, backup_path)}/{_TARGET}")
            with opened_below(store, _TARGET) as target, opened_below(target, copy.store.strip("/")) as restored:
                sync_filesystem(store)
                _publish(restored, store)
        finally:
            remove_tree(store, _TARGET)
        write_document(store, LAST_FETCH, {"copy": copy.id, "time": time.time_ns()})


def _publish(restored: DirFd, store: DirFd) -> None:
    """Move the snapshots to the store, and what the lost host recorded about them."""
    for name in sorted(names_in(restored)):
        mode = os.stat(name, dir_fd=restored, follow_symlinks=False).st_mode
        if name.startswith(PREFIX) and stat.S_ISDIR(mode):
            with contextlib.suppress(FileExistsError):
                rename_new(restored, name, store, name)
        elif name in (CONFIRMED, LAST_RUN, GONE) and stat.S_ISREG(mode):
            os.rename(name, name, src_dir_fd=restored, dst_dir_fd=store)
    os.fsync(store)
