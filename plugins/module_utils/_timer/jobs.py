# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The one table of the jobs that can run on a host without Ansible, and what each needs from the host.

A job is imported only to check its options: the program on the host has its own copy of the code.
"""

from __future__ import annotations

import os
import typing as t

from .._core.argument_specs import SESSION_BACKUP, SESSION_METRICS, SESSION_RESTIC, SESSION_RESTORE, Spec
from .._core.errors import SessionsError
from .._core.job import Job

Options = t.Mapping[str, t.Any]
SYSTEM_UNITS = "/etc/systemd/system"


class Needs(t.NamedTuple):
    """What a job needs. ``name``: of the sessions path among others of this host. ``mounts``: paths that must be mounted.

    ``writes``: directories of root that it writes to, in addition to ``/var/lib/whatsapp-ops``. ``network``: whether it connects to other
    hosts. ``holds``: whether it stops, starts or freezes the backend. ``changes``: directories of others in which it changes something;
    they are never created.
    """

    name: str
    mounts: tuple[str, ...]
    writes: tuple[str, ...] = ()
    network: bool = False
    holds: bool = False
    changes: tuple[str, ...] = ()


class Entry(t.NamedTuple):
    """One job. ``load``: imports its module. ``spec`` and ``rules``: those of the module of Ansible that runs the same job."""

    load: t.Callable[[], Job]
    spec: Spec
    rules: t.Mapping[str, t.Any]
    needs: t.Callable[[Options], Needs]


def _load_backup() -> Job:
    from .._backup import job

    return job


def _backup_needs(options: Options) -> Needs:
    from .._backup.store import store_path

    path, backup_path = str(options["path"]), options.get("backup_path")
    own = (store_path(path, backup_path),) if backup_path else ()
    return Needs(name_of(path), (path, *own), own, holds=options.get("quiesce", "none") != "none")


def _load_restic() -> Job:
    from .._restic import job

    return job


def _restic_needs(options: Options) -> Needs:
    from .._restic.job import read_params

    params = read_params(options)
    places = [place for place in (params.backup_path, params.repository.local) if place]
    return Needs(name_of(params.path), tuple(places), tuple(places), network=not params.repository.local)


def _load_recover() -> Job:
    from .._restore import job

    return job


def _recover_needs(options: Options) -> Needs:
    """A restart of the host in the middle of it is undone by a unit of systemd, which it writes."""
    if options.get("state") != "recovered":
        raise SessionsError(
            "the job recover restores only what is certainly damaged or lost; set 'state: recovered' in its options"
        )
    path, backup_path = str(options["path"]), options.get("backup_path")
    own = (str(backup_path),) if backup_path else ()
    return Needs(name_of(path), (path, *own), own, holds=True, changes=(os.path.dirname(path), SYSTEM_UNITS))


def name_of(path: str) -> str:
    """Return the name of a sessions path in names of units and files: that of its control directory."""
    from .._backup.store import store_path

    return os.path.basename(os.path.dirname(store_path(path))).lstrip(".")


def _load_metrics() -> Job:
    from .._report import metrics_job

    return metrics_job


def _metrics_needs(options: Options) -> Needs:
    path = str(options["path"])
    return Needs(name_of(path), (path,), (str(options["directory"]),))


JOBS: dict[str, Entry] = {
    "metrics": Entry(_load_metrics, SESSION_METRICS, {}, _metrics_needs),
    "backup": Entry(_load_backup, SESSION_BACKUP, {}, _backup_needs),
    "recover": Entry(_load_recover, SESSION_RESTORE, {}, _recover_needs),
    "restic": Entry(_load_restic, SESSION_RESTIC, {}, _restic_needs),
}


def nested_options(options: Options) -> dict[str, tuple[Spec, t.Mapping[str, t.Any]]]:
    """Return how the option ``options`` of session_timer is validated: as those of the module of the same job, unless it is removed."""
    entry = JOBS.get(str(options.get("job"))) if options.get("state") != "absent" else None
    return {"options": (entry.spec, entry.rules)} if entry else {}
