# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What a run does while the backend is stopped: decide again, bring the difference, publish, record, switch, commit.

An error leaves undoing to the caller, who has the intent for it (undo.py).
"""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ..._accounts.control_directory import opened_control
from ..._accounts.receipts import RECEIPT
from ..._accounts.work_area import opened_area
from ..._containers.service import compose_of
from ..._core.errors import SessionsError
from ..._fs.fdopen import DirFd, opened_directory
from ..._fs.syscalls import sync_filesystem
from ..._layouts.sqlite import store_names
from ..._systemd.unit import daemon_reload
from ..observe import surveyed_again
from ..refusals import require_decided
from ..rollback import with_switch
from ..switch import files_of
from . import publish
from .checks import without_damaged
from .companions import finish_companions
from .guard import remove_guard_drop_ins
from .install_switch import install
from .progress import Run
from .publish import Place, Publication
from .record import write_receipt
from .staging import changes_since_copy, stage_final
from .staging_area import open_staged

if t.TYPE_CHECKING:
    from ..survey import Survey
    from .rescue import Intent


def publish_all(run: Run) -> None:
    """Decide again now that the backend is stopped, copy the difference, publish, write the receipt, switch, commit."""
    with run.watch.phase("decide"):
        run.state = surveyed_again(run.state)
        require_decided(run.state)
    with opened_directory(run.params.path) as path:
        place = run.place(path)
        with run.watch.phase("difference"):
            taking = _announce_taking(run, place)
            damaged = _bring_difference(run)
        with run.watch.phase("verify"):
            _require_same_states(run.data, run.survey)
        with run.watch.phase("durable"):
            sync_filesystem(run.data)
        with run.watch.phase("publish"):
            intent = _publish(run, place, taking)
    with run.watch.phase("record"):
        notes = with_switch(run.state.notes, run.params.switch, run.state.switch)
        write_receipt(run, notes, [account.name for account in run.survey.to_publish], damaged)
    with run.watch.phase("switch"):
        _switch(run)
    with run.watch.phase("record"):
        publish.commit(run.control, intent)
    if run.unit is not None and compose_of(run.unit) is None:
        with run.watch.phase("switch"):
            remove_guard_drop_ins(run.unit.name)
            daemon_reload()


def _announce_taking(run: Run, place: Place) -> list[publish.Move]:
    """Announce the moves out of the legacy path that the engine 'rename' begins with."""
    taking = publish.taking_moves(place, _publications(run.survey)) if run.params.engine == "rename" else []
    if taking:
        _announce(run, place, taking)
    return taking


def _announce(run: Run, place: Place, moves: list[publish.Move], staying: t.Any = ()) -> Intent:
    files, receipt = files_of(run.params.switch, run.state.switch), f"{run.state.control}/{RECEIPT}"
    return publish.announce(place, moves, files, receipt, staying)


def _bring_difference(run: Run) -> frozenset[str]:
    """Bring what changed since the live copies; return the names of accounts with damaged databases, which are left out then."""
    stage = run.stage()
    marks = {account.name: account.legacy.mark for account in run.survey.to_publish}
    staged = stage_final(stage, run.tasks(), changes_since_copy(run.touches, stage, marks))
    run.state = without_damaged(run.state, staged.damaged)
    unread = finish_companions(stage, run.survey.companions)
    if unread:
        run.warnings.append(
            f"{unread} file(s) next to the accounts are named like databases but SQLite cannot read them, so they were copied "
            "unchanged; restore a backup of those that are databases"
        )
    return staged.damaged


def _publish(run: Run, place: Place, taking: t.Sequence[publish.Move]) -> Intent:
    """Announce all moves, then make them, durably."""
    publications = _publications(run.survey)
    companions = [companion.name for companion in run.survey.companions]
    copy_root_mode(run.data, place.path, publications)
    publish.make_folders(place, publish.paths_of(publications, companions))
    displacing = publish.publishing_moves(place, publications)
    publishing = [*displacing, *publish.beside_moves(place, companions)]
    if run.params.tombstone:
        publishing += _leaving(run, place, publications)
    staying = publish.staying(place, _staying(run.survey))
    intent = _announce(run, place, [*taking, *publishing], staying)
    publish.note_displaced(place, displacing)
    publish.apply_moves(run.folders, publishing)
    run.folders.sync()
    return intent


def _switch(run: Run) -> None:
    state = run.state
    install(run.params.switch, state.switch)
    compose = compose_of(state.unit) if state.unit else None
    if compose and state.container and state.container.root:
        from .compose_run import require_next

        require_next(compose, state.container.root.inside, run.params.path)


def _leaving(run: Run, place: Place, publications: t.Sequence[Publication]) -> list[publish.Move]:
    """Plan the tombstones at the legacy roots. With an engine that copies, the accounts are displaced first."""
    if run.params.engine == "rename":
        return publish.leaving_moves(place, publications, run.params.tombstone)
    moves = []
    for root in dict.fromkeys(publication.root for publication in publications):
        own = [publication for publication in publications if publication.root == root]
        with opened_control(root) as control, opened_area(root, control) as area, opened_directory(root) as opened:
            source = dataclasses.replace(place, control=control, area=area, path=opened)
            aside = publish.aside_moves(source, own)
            publish.note_displaced(source, aside)
            moves += [*aside, *publish.leaving_moves(source, own, run.params.tombstone)]
    return moves


def _publications(seen: Survey) -> list[Publication]:
    return [
        Publication(
            account.name,
            account.label,
            account.root,
            account.decision.displace or account.name == ".",
            seen.layout.sidecars_of(account.name),
        )
        for account in seen.to_publish
    ]


def _staying(seen: Survey) -> list[str]:
    """Return the relative paths of accounts at the sessions path that nothing is published over, and of their parts."""
    published = {account.name for account in seen.to_publish}
    return [part for name in seen.present if name not in published for part in (name, *seen.layout.sidecars_of(name))]


def copy_root_mode(area: DirFd, path: DirFd, publications: t.Sequence[Publication]) -> None:
    """Give an account that replaces the sessions path itself the mode of that directory."""
    if any(publication.name == "." for publication in publications):
        staged = open_staged(area, ".")
        try:
            os.fchmod(staged, os.fstat(path).st_mode & 0o777)
        finally:
            os.close(staged)


def _require_same_states(area: DirFd, seen: Survey) -> None:
    """Raise SessionsError if a staged copy has another state than its original.

    Databases are left out: SQLite has already checked them, and judging them would mean reading them completely.
    """
    for account in seen.to_publish:
        staged = open_staged(area, account.name)
        try:
            checked = bool(seen.layout.databases) and bool(store_names(staged, seen.layout))
            state = account.legacy.state if checked else seen.layout.judged(staged).state
        finally:
            os.close(staged)
        if state != account.legacy.state:
            raise SessionsError(
                f"the copy of account {account.label!r} is {state} while the original is {account.legacy.state}; "
                "nothing was published: run again"
            )
