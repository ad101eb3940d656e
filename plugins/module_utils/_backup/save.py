# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Saves accounts to the store and removes expired snapshots. What is in the store already is never changed, only removed as a whole.

Accounts are copied while their backend runs. Only those that keep changing need a backend that is held, and it is held for their difference
alone. One syncfs makes all snapshots durable before the first one appears.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import os
import time
import typing as t

from .._core.errors import SessionsError
from .._fs.copy_tree import remove_tree
from .._fs.fdopen import names_in
from .._fs.syscalls import rename_new, sync_filesystem
from .._layouts.sqlite import DamagedStore
from .._proc.pool import parallel_map
from .quiesce import Hold, Interruption, held
from .store import LOCK, PARTIAL
from .take import Order, Unsound, begin, complete, discard, publish, resume

SAVED, SKIPPED, FAILED = "saved", "skipped", "failed"
BUSY = "it kept changing while it was copied; let the backup freeze its backend (quiesce=freeze), or run it when it is less busy"
_HELD_AT_MOST, _BETWEEN = 4, 0.1  # times, seconds: a process may be frozen while it is writing a file


class Outcome(t.NamedTuple):
    """What became of an account: ``action``: saved, skipped or failed; ``detail``: the name of its snapshot, or why there is none."""

    action: str
    detail: str = ""


_COPIED, _BUSY = Outcome("copied"), Outcome("busy")


@contextlib.contextmanager
def locked_store(store: int) -> t.Iterator[None]:
    """Hold the lock of an open store, and remove what a killed run has left in it. Raises SessionsError if another run holds it."""
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=store)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SessionsError(
                "another run is writing to the directory of backups; wait until it has ended and run again"
            ) from error
        for name in unfinished(store):
            remove_tree(store, name)
        yield
    finally:
        os.close(descriptor)


def unfinished(store: int) -> list[str]:
    """Return what a run that was killed has left in an open store, or what one is writing now."""
    return [name for name in names_in(store) if name.startswith(PARTIAL)]


def save(
    store: int, orders: t.Sequence[Order], hold: t.Callable[[], Hold | None], interruption: Interruption
) -> dict[str, Outcome]:
    """Save accounts; return what became of each, by its name. Raises SessionsError if the disk cannot be written to.

    ``hold``: returns how to hold the backend, None if it is not to be held or does not run; called only if it has to be held.
    """
    outcomes = _each(store, orders, lambda order: _COPIED if begin(store, order) else _BUSY)
    busy = [order for order in orders if outcomes[order.name] == _BUSY]
    if busy:
        outcomes.update(_while_held(store, busy, hold, interruption))
    copied = [order for order in orders if outcomes[order.name] == _COPIED]
    outcomes.update(_each(store, copied, lambda order: _completed(store, order)))
    _publish(store, [order for order in copied if outcomes[order.name].action == SAVED], outcomes)
    for order in orders:
        if outcomes[order.name] == _BUSY:
            discard(store, order)
            outcomes[order.name] = Outcome(SKIPPED, BUSY)
    return outcomes


def prune(store: int, names: t.Iterable[str]) -> None:
    """Remove snapshots. Each disappears from the list at once, by a rename, so that none is ever listed with half its files."""
    removed = [(name, f"{PARTIAL}{name}") for name in names]
    for name, partial in removed:
        rename_new(store, name, store, partial)
    os.fsync(store)
    for _name, partial in removed:
        remove_tree(store, partial)


def _publish(store: int, orders: t.Sequence[Order], outcomes: t.Mapping[str, Outcome]) -> None:
    if not orders:
        return
    try:
        sync_filesystem(store)
    except OSError as error:
        raise SessionsError(
            f"the disk of the directory of backups cannot be written to ({error.strerror}); nothing was saved: check the disk"
        ) from error
    for order in orders:
        publish(store, order, outcomes[order.name].detail)
    os.fsync(store)


def _while_held(
    store: int, busy: t.Sequence[Order], hold: t.Callable[[], Hold | None], interruption: Interruption
) -> dict[str, Outcome]:
    """Copy the difference of accounts while their backend is held, a few times if it was held while it was writing a file."""
    outcomes: dict[str, Outcome] = {}
    try:
        how = hold()
        for attempt in range(_HELD_AT_MOST if how else 0):
            time.sleep(_BETWEEN if attempt else 0)
            with held(t.cast("Hold", how), busy[0].path, interruption) as until:
                outcomes.update(_each(store, busy, functools.partial(_resumed, store, until)))
            busy = [order for order in busy if outcomes[order.name] == _BUSY]
            if not busy:
                break
    except SessionsError as error:
        for order in busy:
            discard(store, order)
            outcomes[order.name] = Outcome(FAILED, str(error))
    return outcomes


def _resumed(store: int, until: float, order: Order) -> Outcome:
    return _COPIED if resume(store, order, until) else _BUSY


def _completed(store: int, order: Order) -> Outcome:
    try:
        return Outcome(SAVED, complete(store, order).name)
    except Unsound:
        if not order.previous:
            raise
    # The account was judged sound, so a file that is shared with the previous snapshot may be damaged there.
    alone = dataclasses.replace(order, previous="")
    return Outcome(SAVED, complete(store, alone).name) if begin(store, alone) else _BUSY


def _each(store: int, orders: t.Sequence[Order], work: t.Callable[[Order], Outcome]) -> dict[str, Outcome]:
    results = parallel_map(lambda order: _tried(store, order, work), orders)
    return {order.name: Outcome(*result) for order, result in zip(orders, results)}


def _tried(store: int, order: Order, work: t.Callable[[Order], Outcome]) -> Outcome:
    """Do the work on one account. An error concerns only that account, never names a file, and leaves nothing of its snapshot."""
    try:
        return work(order)
    except DamagedStore:
        outcome = Outcome(SKIPPED, "a database of it is damaged")
    except Unsound as error:
        outcome = Outcome(SKIPPED, str(error))
    except SessionsError as error:
        outcome = Outcome(FAILED, str(error))
    except (FileNotFoundError, NotADirectoryError):
        outcome = Outcome(SKIPPED, "it was removed while it was copied")
    except OSError as error:
        outcome = Outcome(FAILED, error.strerror or "it cannot be read")
    discard(store, order)
    return outcome
