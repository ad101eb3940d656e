# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Carries out a migration: live copies first, then everything between stop and start, undone as a whole if anything fails."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ..._accounts.control_directory import INTENT, locked, opened_control, read_document_at, remove_unused_control
from ..._accounts.leftovers import is_interrupted
from ..._accounts.locks import remove_locks
from ..._accounts.mount_points import closed_in
from ..._accounts.receipts import RECEIPT, entries_in
from ..._accounts.work_area import opened_area, remove_unused
from ..._core.errors import SessionsError
from ..._core.progress import backend, reported
from ..._fs.fdopen import DirFd, make_directory
from ..._fs.modes import directory_bits
from ..._systemd.bindings import placed_bindings
from ..._systemd.effective import read_sources
from ..._systemd.unit import daemon_reload
from ..observe import State, observe
from ..origins import receipt_of
from ..plan import Evidence
from ..steps import INTERRUPTING, Step, StepKind, planned
from .checks import require_unused
from .close_mount_points import given_back
from .cutover import close_points, cut_over
from .install_switch import install_early
from .kept_copies import kept_if_last, note_source, require_none_left
from .live_copies import copy_live
from .older_area import take_over
from .progress import Run
from .publish import Folders
from .record import write_receipt
from .recover import recover, tidy
from .retire import retire, without_tombstone


def apply_steps(steps: tuple[Step, ...], state: State) -> Evidence:
    """Carry out the steps while holding the lock of the area. Raises SessionsError, also for errors of the operating system."""
    path = state.effective.path
    try:
        with (
            Folders() as folders,
            opened_control(path) as control,
            locked(control, path),
            without_tombstone(path),
            _given_back(state),
            _made(state) as path_made,
            opened_area(path, control) as data,
            _reported(control, state),
            contextlib.closing(Run(control, data, folders, state, warnings=[*state.miscounts])) as run,
        ):
            take_over(path, control, data, (RECEIPT, INTENT))
            _carry_out(run, steps)
    except OSError as error:
        verb = "restore" if state.effective.restores else "migrate"
        raise SessionsError(
            f"cannot {verb} to {path}: {error.strerror}; changes were rolled back: fix the disk or its permissions and run again"
        ) from error
    return Evidence(run.survey.accounts, run.watch.downtime, run.watch.phases, path_made, tuple(run.warnings))


@contextlib.contextmanager
def _reported(control: DirFd, state: State) -> t.Iterator[None]:
    """Report the progress of the body."""
    with reported(
        control, "restore" if state.effective.restores else "migration", state.unit.name if state.unit else ""
    ):
        if state.unit and state.unit.active:
            backend(True)
        yield


@contextlib.contextmanager
def _given_back(state: State) -> t.Iterator[None]:
    """Reopen the mount points that accounts return to; if the body fails, close those that the unit is still bound to."""
    if state.effective.switch.restored is None:
        yield
        return
    notes = {point: note for source in state.sources for point, note in closed_in(receipt_of(source.path)).items()}
    paths = {source.path for source in state.sources}

    def is_bound() -> bool:
        return state.unit is not None and any(
            one.binding.source in paths for one in placed_bindings(read_sources(state.unit.name))
        )

    with given_back(state.effective.path, notes, state.identity.uid, state.identity.gid, is_bound):
        yield


@contextlib.contextmanager
def _made(state: State) -> t.Iterator[bool]:
    """Create the sessions path if it is missing, and remove it again if the body fails. Yields whether it was missing."""
    params, identity = state.effective, state.identity
    is_missing = not os.path.lexists(params.path)
    try:
        make_directory(params.path, directory_bits(params.mode), uid=identity.uid, gid=identity.gid)
        yield is_missing
    except BaseException:
        if is_missing:
            remove_unused(params.path)
            remove_unused_control(params.path)
        raise


def _carry_out(run: Run, steps: tuple[Step, ...]) -> None:
    path = run.params.path
    require_none_left(run.control, run.data, run.unit.name if run.unit else "the unit", path)
    interrupted = is_interrupted(path)
    if interrupted:
        recover(run.control, run.unit, run.state.at_path is True)
    # The receipts differ if another run has ended since the state was observed.
    if interrupted or entries_in(read_document_at(run.control, run.params.receipt)) != run.state.receipts:
        run.state = observe(run.params)
        steps = planned(run.state)
    kinds = {step.kind for step in steps}
    if StepKind.UNLOCK in kinds:
        remove_locks(path, run.state.locked, run.survey.layout, run.survey.path_inode)
    with _source_noted(run):
        if StepKind.STAGE in kinds:
            copy_live(run)
        if kinds & INTERRUPTING:
            cut_over(run)
        else:
            apply_without_downtime(run, kinds)
    if StepKind.RETIRE in kinds:
        require_unused(run.state)
        retire(run.state.retirable, path)


@contextlib.contextmanager
def _source_noted(run: Run) -> t.Iterator[None]:
    """While accounts are copied that are deleted with their container: keep the copies if the container ends during that time."""
    handling = run.state.container
    container = handling.container if handling and handling.root else None
    # Containers of Compose keep their layer when they stop.
    if container is None or container.box is None or container.compose:
        yield
        return
    note_source(run.control, container.box.id, container.box.pid)
    with kept_if_last(run.control, run.data, container.unit, run.params.path):
        yield


def apply_without_downtime(run: Run, kinds: t.Collection[StepKind]) -> None:
    """Carry out the steps that need no interruption of the backend."""
    stale = StepKind.RELOAD in kinds
    if StepKind.PRE_STOP_OVERRIDES in kinds:
        stale = install_early(run.params.switch, run.state.switch)
    if stale:
        daemon_reload()
    if StepKind.REMEMBER in kinds:
        write_receipt(run, run.state.notes)
    if StepKind.CLOSE in kinds:
        close_points(run)
    if StepKind.TIDY in kinds:
        tidy(run.control, run.data, run.unit)
