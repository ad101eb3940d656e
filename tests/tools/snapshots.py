# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts snapshots of accounts into a store, as a backup leaves them, without running one."""

from __future__ import annotations

import os
import pathlib
import shutil
import time
import typing as t

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._accounts.receipts import mark_of
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup import store
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import opened_directory
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._layouts.registry import layout_named
from areas import control_of

# Options of session_backup as it has them by default, except for what a test decides.
OPTIONS: dict[str, t.Any] = {
    "unit": None,
    "layout": "baileys",
    "custom": None,
    "accounts": [],
    "state": "present",
    "backup_path": None,
    "quiesce": "none",
    "keep_days": 7,
    "keep_last": 1,
    "min_free_bytes": 0,
    "exclude_caches": True,
    "unit_timeout": 30,
    "show_accounts": True,
}


def store_of(path: pathlib.Path) -> pathlib.Path:
    """Return the store of a sessions path."""
    return control_of(path) / "backups"


def put_snapshot(
    path: pathlib.Path,
    account: str,
    *,
    taken: float | None = None,
    place: pathlib.Path | None = None,
    of: pathlib.Path | None = None,
    **changed: t.Any,
) -> store.Snapshot:
    """Save the account at a sessions path as it is now, with a manifest that may have ``changed`` fields.

    ``taken``: seconds since the epoch, now by default. ``place``: the store, that of the path by default. ``of``: the sessions path that
    the manifest names.
    """
    taken = time.time() if taken is None else taken
    moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime(taken)) + f".{int(taken % 1 * 1e6):06d}Z"
    with store.opened_store(str(path), str(place) if place else None) as opened:
        name = store.name_of(account, moment)
        directory = pathlib.Path(store.store_path(str(path), str(place) if place else None)) / name
        root = directory / store.ROOT
        sequence = 1 + len(store.snapshots(opened))
        directory.mkdir(0o700)
        shutil.copytree(path / account, root / account)
        files = _restricted(directory)
        layout = layout_named(changed.get("layout", "baileys"))
        with opened_directory(str(path / account)) as live:
            mark, state = mark_of(live, layout), layout.judged(live).state
        taken_ns, newest = int(taken * 1e9), max(file.stat().st_mtime_ns for file in files)
        size = sum(file.stat().st_size for file in files)
        found = store.Snapshot(
            name,
            account,
            layout.name,
            taken_ns,
            taken_ns,
            newest,
            state,
            len(files),
            size,
            mark,
            str(of or path),
            sequence,
        )._replace(**changed)
        with opened_directory(str(directory)) as written:
            store.write_manifest(written, found)
    return found


def _restricted(directory: pathlib.Path) -> list[pathlib.Path]:
    """Give a tree to root alone; return its files."""
    found = []
    for entry in (directory, *directory.rglob("*")):
        os.chown(entry, os.geteuid(), os.getegid())
        entry.chmod(0o700 if entry.is_dir() else 0o600)
        if not entry.is_dir():
            found.append(entry)
    return found
