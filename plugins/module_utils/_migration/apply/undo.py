# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Undoes a cutover that failed: before its commit as a whole, after it only if the backend has not written at the sessions path."""

from __future__ import annotations

import typing as t

from ..._accounts.control_directory import INTENT, read_document_at, remove_document_at, write_document_at
from ..._core.errors import SessionsError, StartFailed, WroteAlready
from ..._systemd.unit import daemon_reload
from .guard import Cutover, Stopwatch, guarded, stop_again
from .progress import Run
from .recover import require_all_taken_back
from .rescue import Intent, undo_committed, undo_moves
from .staging_area import clear_staging


def undo(run: Run) -> None:
    """Undo what the intent announces, as far as it was done. Raises SessionsError if that fails; the next run then continues."""
    intent = t.cast(Intent, read_document_at(run.control, INTENT))
    if intent:
        if intent.get("committed"):  # made durable first: a run killed from this point on must be undone
            intent["committed"] = False
            write_document_at(run.control, INTENT, intent)
        try:
            undo_moves(intent, run.folders.opened)
        except OSError as error:
            raise SessionsError(
                f"the migration failed and could not be rolled back completely ({error.strerror}); "
                "fix the disk or its permissions and run again: the next run first rolls back the rest"
            ) from error
        finally:
            if run.unit is not None and intent["files"]:
                daemon_reload()
        require_all_taken_back(intent, run.folders.opened)
        remove_document_at(run.control, INTENT)
    if run.params.engine != "rename":  # there the staged accounts are the only ones
        clear_staging(run.data)  # the disk may be full, and the backend is about to write to it


def fall_back(run: Run, cutover: Cutover, why: str) -> t.NoReturn:
    """Return a backend that does not start on the sessions path to the legacy path, unless it has already written to its accounts.

    Always raises: SessionsError after the rollback, WroteAlready if the backend has written, StartFailed if it does not start again.
    """
    gone_back = True
    try:
        with guarded(cutover._replace(watch=Stopwatch())):
            stop_again(cutover)
            try:
                gone_back = undo_committed(cutover.intent, run.folders.opened)
            except OSError as error:
                raise SessionsError(
                    f"{why}; the rollback is incomplete ({error.strerror}): fix the disk or its permissions and run again"
                ) from error
            finally:
                daemon_reload()
    except StartFailed as error:
        if gone_back:
            raise
        raise WroteAlready(
            why, run.params.path
        ) from error  # whether it starts again does not matter: it is rolled back
    if not gone_back:
        raise WroteAlready(why, run.params.path)
    raise SessionsError(
        f"{why}; it runs on the legacy path again and nothing was lost: fix what keeps it from using {run.params.path} and run again"
    )
