# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job of session_restic: copies the store of one sessions path to a repository, drills the restore of the newest copy, or fetches the
copy of a lost host.

It reads the store and never the sessions path. A copy is made if the store has a snapshot that the newest copy does not have.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
import typing as t

from .._backup.store import PREFIX, existing_store, snapshots, store_path, write_document
from .._core.errors import SessionsError
from .._core.job import Report
from .._fs.fdopen import normal_path
from .._layouts.registry import chosen_layout
from . import repository as restic
from .drill import Outcome, drilled
from .fetch import chosen_copy, fetched, is_fetched

# In the store: when it was last copied, and when a drill last restored it.
LAST_COPY, LAST_DRILL = "last_copy.json", "last_drill.json"


class Params(t.NamedTuple):
    """The requested copy, or drill if ``drill``. ``store``: the directory to copy. ``layout``: how to judge
    accounts, empty for the layout of each snapshot. ``from_host``: the host whose copy is fetched to ``store``, '' to
    fetch none; ``from_store``: the directory of its snapshots, '' if there is only one."""

    path: str
    backup_path: str | None
    store: str
    repository: restic.Repository
    keep_days: int
    keep_last: int
    check: bool
    drill: bool
    layout: t.Mapping[str, t.Any]
    from_host: str = ""
    from_store: str = ""


class State(t.NamedTuple):
    """Whether the repository exists, its copies of the store, and the names of the snapshots in the store and in the newest copy.

    ``fetched``: whether the newest copy was fetched before.
    """

    exists: bool
    copies: tuple[restic.Copy, ...]
    names: frozenset[str]
    copied: frozenset[str]
    fetched: bool = False


@dataclasses.dataclass(frozen=True)
class Initialize:
    """Create the repository."""


@dataclasses.dataclass(frozen=True)
class Copy:
    """Copy the store, remove old copies, and verify the repository if ``check``."""

    check: bool


@dataclasses.dataclass(frozen=True)
class Confirm:
    """Record that the newest copy has all snapshots. Accounts that are not used have no new ones, and their copy is not overdue."""

    bookkeeping: bool = True


@dataclasses.dataclass(frozen=True)
class Drill:
    """Restore the newest copy to a private directory, judge and remove it. Leaves nothing behind but the time of the drill."""

    copy: restic.Copy
    bookkeeping: bool = True


@dataclasses.dataclass(frozen=True)
class Fetch:
    """Bring the snapshots of a copy that the store lacks to the store."""

    copy: restic.Copy


Step = t.Union[Initialize, Copy, Confirm, Drill, Fetch]


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return Params for the options of the module session_restic."""
    path, backup_path = normal_path(str(options["path"]), "path"), options.get("backup_path")
    where = str(options["repository"])
    environment = options.get("environment_file")
    repository = restic.Repository(
        where,
        normal_path(str(options["password_file"]), "password_file"),
        normal_path(str(environment), "environment_file") if environment else "",
    )
    store = store_path(path, backup_path)
    fetches = options.get("state") == "fetched"
    if fetches and not options.get("from_host"):
        raise SessionsError(
            "'from_host' does not say whose copy is fetched; name the lost host as the repository lists it"
        )
    if repository.local and f"{repository.local}/".startswith((f"{store}/", f"{path}/")):
        raise SessionsError(
            f"the repository {repository.local} is in the directory that it should be a copy of; name another place, on another machine"
        )
    return Params(
        path,
        backup_path,
        store,
        repository,
        keep_days=int(options.get("keep_days", 7)),
        keep_last=int(options.get("keep_last", 3)),
        check=options.get("check", True),
        drill=options.get("state") == "drilled",
        layout=_layout(options),
        from_host=str(options["from_host"]) if fetches else "",
        from_store=str(options.get("from_store") or "") if fetches else "",
    )


def observe(params: Params) -> State:
    """List the snapshots of the store and of its newest copy."""
    names = _names(params)
    if not restic.exists(params.repository):
        return State(False, (), names, frozenset())
    if params.from_host:
        copy = chosen_copy(
            params.repository, params.from_host, params.from_store, (params.store, store_path(params.path))
        )
        wanted = frozenset(
            one for one in restic.names_in(params.repository, copy, copy.store) if one.startswith(PREFIX)
        )
        return State(True, (copy,), names, wanted, is_fetched(params.path, params.backup_path, copy))
    found = restic.copies(params.repository, params.store)
    copied = restic.names_in(params.repository, found[-1], params.store) if found else frozenset()
    return State(True, found, names, copied)


def plan(state: State, params: Params) -> tuple[Step, ...]:
    """Return what has to be done. Raises SessionsError for a drill without a copy, and for a fetch to a store in use."""
    if params.from_host:
        return _fetching(state, params)
    if params.drill:
        if not state.copies:
            raise SessionsError(
                f"there is no off-host copy of {params.store}, so nothing can be restored; copy the snapshots first"
            )
        return (Drill(state.copies[-1]),)
    if not state.names:
        return ()
    copying = Confirm() if state.names <= state.copied else Copy(params.check)
    return (copying,) if state.exists else (Initialize(), copying)


def diff(state: State, steps: tuple[Step, ...], params: Params) -> t.Mapping[str, t.Any]:
    """Return how many of the snapshots are in the newest copy."""
    if params.from_host:
        return {"before": f"{len(state.names)} snapshots\n", "after": f"{_after(state, steps)} snapshots\n"}
    held = len(state.names & state.copied)
    after = len(state.names) if any(isinstance(step, Copy) for step in steps) else held
    return {"before": f"{held} of the snapshots copied\n", "after": f"{after} of the snapshots copied\n"}


def apply(steps: tuple[Step, ...], state: State, params: Params) -> Outcome | None:
    """Carry out the steps; return what a drill found."""
    outcome = None
    for step in steps:
        if isinstance(step, Initialize):
            restic.initialize(params.repository)
        elif isinstance(step, Copy):
            _copy(params)
            restic.forget(params.repository, params.store, params.keep_days, params.keep_last)
            if step.check:
                restic.check(params.repository)
            # A backup that has ended meanwhile did not start this job, because systemd starts none that is running.
            now = observe(params)
            if not now.names <= now.copied:
                _copy(params)
        if isinstance(step, (Copy, Confirm)):
            _record(params, LAST_COPY, {"time": time.time_ns(), "snapshots": len(state.names)})
        elif isinstance(step, Fetch):
            fetched(params.repository, step.copy, params.path, params.backup_path)
        elif isinstance(step, Drill):
            outcome = drilled(params.repository, step.copy, params.store, params.layout)
            _record(params, LAST_DRILL, {"time": time.time_ns(), **outcome._asdict()})
            if outcome.sound < outcome.accounts:
                raise SessionsError(
                    f"the drill restored {outcome.accounts} accounts and only {outcome.sound} are sound; "
                    "save new snapshots, copy them and run the drill again",
                    **outcome._asdict(),
                )
    return outcome


def _copy(params: Params) -> None:
    """Copy the store. Raises SessionsError if a snapshot that was there before is not in the newest copy."""
    before = _names(params)
    restic.copy(params.repository, params.store)
    after = observe(params)
    missing = (before & after.names) - after.copied
    if missing:
        raise SessionsError(
            f"{len(missing)} snapshots of {params.store} are not in the newest off-host copy; run again"
        )


def verify(state: State, params: Params) -> None:
    """Raise SessionsError if nothing that was fetched can be read. What a copy has to contain is known when it is made."""
    if params.from_host and not state.names:
        raise SessionsError(
            f"none of the fetched snapshots can be read in {params.store}; check the disk, and the copy with 'restic check'"
        )


def report(params: Params, state: State, steps: tuple[Step, ...], evidence: Outcome | None) -> Report:
    """Report the copies, and what a drill found."""
    values: dict[str, t.Any] = {
        "initialized": state.exists,
        "copies": len(state.copies),
        "snapshots": len(state.names),
        "copied": len(state.names & state.copied),
        "newest_age_seconds": _age(state.copies[-1].time) if state.copies else None,
        "store": params.store,
    }
    if params.from_host:
        values["fetched"] = sum(len(state.copied - state.names) for step in steps if isinstance(step, Fetch))
    if evidence is not None:
        values["drill"] = evidence._asdict()
    return Report(values)


def _names(params: Params) -> frozenset[str]:
    with existing_store(params.path, params.backup_path) as store:
        return frozenset(() if store is None else (one.name for one in snapshots(store)))


def _fetching(state: State, params: Params) -> tuple[Step, ...]:
    """Return the step that fetches a copy; none if that was done before. Raises SessionsError if it would mix two hosts."""
    if not state.exists:
        raise SessionsError(
            "the repository of off-host copies does not exist, so nothing can be fetched; check its address"
        )
    if state.fetched or state.copied <= state.names:
        return ()
    others = len(state.names - state.copied)
    if others:
        raise SessionsError(
            f"{params.store} has {others} snapshots that are not in the copy of {params.from_host}, and accounts of both hosts may have "
            "the same names; nothing was changed: name an empty directory in 'backup_path', or move the snapshots away"
        )
    return (Fetch(state.copies[-1]),)


def _after(state: State, steps: tuple[Step, ...]) -> int:
    return len(state.names | state.copied) if steps else len(state.names)


def _layout(options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return the options that describe the layout, validated; none if it is that of each snapshot."""
    if options.get("layout", "auto") == "auto" and not options.get("custom"):
        return {}
    chosen_layout(options)
    return {name: options.get(name) for name in ("layout", "custom")}


def _record(params: Params, name: str, document: t.Mapping[str, t.Any]) -> None:
    with existing_store(params.path, params.backup_path) as store:
        if store is not None:
            write_document(store, name, document)


def _age(printed: str) -> int | None:
    """Return the seconds since a time that restic printed, with up to nine digits of a second; None if it is none."""
    whole, _dot, rest = printed.partition(".")
    zone = rest.lstrip("0123456789") if rest else ""
    try:
        taken = datetime.datetime.fromisoformat(f"{whole}{zone}".replace("Z", "+00:00"))
    except ValueError:
        return None
    if taken.tzinfo is None:
        taken = taken.replace(tzinfo=datetime.timezone.utc)
    return max(0, int(time.time() - taken.timestamp()))
