# SPDX-License-Identifier: GPL-3.0-or-later
"""Backup, restore and migration of a browser profile on XFS, where files can share their blocks, next to a copy of all bytes.

The jobs of the modules run in this process, and the first round is not counted, so that their figures are those of the work alone.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import typing as t

import measure
import trees
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from backup_unchanged import Costs, median, mounted, timed

import disks
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._backup import job as backup_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.argument_specs import (
    SESSION_BACKUP,
    SESSION_MIGRATE,
    SESSION_RESTORE,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.job import execute
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._migration import job as migration_job
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._restore import job as restore_job
from layouts import ORIGIN, put_account_of

FILES, SIZE = 100, 2  # files of so many MiB, as a browser's database has them
NAME = "session-one"
Figures = dict[str, t.Any]


def measured(runs: int) -> Figures:
    """Return seconds until all is durable, CPU seconds, and MiB of disk, for each way; and the same for a profile without large files."""
    with mounted("xfs", megabytes=2048) as where:
        disks.keep_apart(pathlib.Path("/var/lib"))
        large, small = _costs(where / "large", FILES, runs), _costs(where / "small", 0, runs)
    return {"mebibytes": FILES * SIZE, "runs": runs, "costs": large, "fixed": small}


def _costs(where: pathlib.Path, files: int, runs: int) -> dict[str, Figures]:
    source = where / "sessions"
    account = put_account_of("wwebjs", source, NAME)
    database = account / f"Default/IndexedDB/{ORIGIN}.indexeddb.leveldb"
    for number in range(files):
        (database / f"{100_000 + number}.ldb").write_bytes(os.urandom(SIZE << 20))
    measure.run(["chown", "-R", f"{trees.OWNER}:{trees.OWNER}", str(source)])
    found = [_round(where, source, f"moved-{turn}") for turn in range(runs + 1)][1:]
    return {way: median([one[way] for one in found]) for way in found[0]}


def _round(where: pathlib.Path, source: pathlib.Path, moved: str) -> dict[str, Costs]:
    """Copy, save, migrate and restore the profile once, and remove the copies. A path is migrated to only once."""
    common = {"layout": "wwebjs", "owner": str(trees.OWNER), "group": str(trees.OWNER)}
    store, aside = str(where / "store"), where / "aside"
    found = {
        "cp": timed(where, lambda: measure.run(["cp", "-a", "--reflink=never", str(source), str(where / "copy")])[0]),
        "backup": timed(where, lambda: _backup(path=str(source), backup_path=store, layout="wwebjs")),
        "migration": timed(where, lambda: _migrate(src=[str(source)], path=str(where / moved), **common)),
    }
    (source / NAME).rename(aside)
    options = {"path": str(source), "accounts": [NAME], "backup_path": store, **common}
    found["restore"] = timed(where, lambda: _restore(**options))
    for path in (source / NAME, where / "copy", where / "store", where / moved):
        shutil.rmtree(path)
    aside.rename(source / NAME)
    return found


def _backup(**options: t.Any) -> measure.Cost:
    return _done(backup_job, SESSION_BACKUP, options)


def _migrate(**options: t.Any) -> measure.Cost:
    return _done(migration_job, SESSION_MIGRATE, options)


def _restore(**options: t.Any) -> measure.Cost:
    return _done(restore_job, SESSION_RESTORE, options)


def _done(job: t.Any, spec: t.Mapping[str, t.Any], options: t.Mapping[str, t.Any]) -> measure.Cost:
    """Do a job, which must change something; return its cost with that of its processes."""
    completed = ArgumentSpecValidator(dict(spec)).validate(dict(options)).validated_parameters
    before = os.times()
    outcome = execute(job, completed, check_mode=False)
    after = os.times()
    if not outcome.changed:
        raise RuntimeError("nothing was changed")
    return measure.Cost(after.elapsed - before.elapsed, sum(after[:4]) - sum(before[:4]))
