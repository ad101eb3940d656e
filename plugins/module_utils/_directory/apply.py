# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Create, change and remove a sessions directory by descriptor, so that a replacement at its path is never touched."""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from .._core.errors import SessionsError
from .._fs.chown_tree import OwnershipTally, repair
from .._fs.fdopen import DirFd
from .observe import Params, State, opened_base, opened_same, reopened
from .steps import ChangeDirectory, MakeDirectory, MakeParents, RemoveDirectory, RepairBelow, Step

_PARENT_BITS = 0o755  # as install -d creates them
_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def carried_out(steps: t.Sequence[Step], state: State, params: Params) -> OwnershipTally:
    """Carry out ``steps``; return what a repair below corrected and left.

    New directories are removed if a later step fails. Raises SessionsError, which names no entry below the path.
    """
    tally = OwnershipTally()
    made: list[tuple[DirFd, str]] = []
    with contextlib.ExitStack() as opened:
        try:
            parent = opened.enter_context(opened_base(state.way))
            for step in steps:
                if isinstance(step, MakeParents):
                    parent = _make_parents(parent, state.way.missing, made, opened)
                elif isinstance(step, MakeDirectory):
                    _make(parent, state.way.name, step.identity[:2], step.bits, made, opened)
                elif isinstance(step, RemoveDirectory):
                    _remove(parent, state)
                else:
                    tally = _change(parent, state, step) or tally
        except BaseException as error:
            _unmake(made)
            if not isinstance(error, OSError):
                raise
            raise SessionsError(
                f"cannot finish {params.path}: {error.strerror}; check what prevents it (immutable entries, a quota, a mount) and run again"
            ) from error
    return tally


def _make_parents(
    parent: DirFd, names: t.Sequence[str], made: list[tuple[DirFd, str]], opened: contextlib.ExitStack
) -> DirFd:
    ours = os.geteuid(), os.getegid()
    for name in names:
        parent = _make(parent, name, ours, _PARENT_BITS, made, opened)
    return parent


def _make(
    parent: DirFd,
    name: str,
    owner: tuple[int, int],
    bits: int,
    made: list[tuple[DirFd, str]],
    opened: contextlib.ExitStack,
) -> DirFd:
    """Create one directory, accessible to root only until it has its owner, and return its descriptor."""
    os.mkdir(name, 0o700, dir_fd=parent)
    made.append((parent, name))
    directory = DirFd(os.open(name, _ENTER, dir_fd=parent))
    opened.callback(os.close, directory)
    # The owner of the parent could have replaced it by another directory of root with a rename; a new one is empty and ours.
    if os.fstat(directory).st_uid != os.geteuid() or os.listdir(directory):
        raise SessionsError(
            f"the directory {name!r} was replaced while it was created; find out which process did it and run again"
        )
    _hand_over(directory, owner, bits)
    return directory


def _unmake(made: t.Sequence[tuple[DirFd, str]]) -> None:
    for parent, name in reversed(made):
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=parent)


def _change(parent: DirFd, state: State, step: RepairBelow | ChangeDirectory) -> OwnershipTally | None:
    """Carry out a step at or below the existing directory."""
    with _entered(parent, state) as directory:
        if isinstance(step, RepairBelow):
            return repair(directory, step.wanted)
        _hand_over(directory, step.identity[:2], step.bits)
        return None


def _remove(parent: DirFd, state: State) -> None:
    with _entered(parent, state):
        os.rmdir(state.way.name, dir_fd=parent)


@contextlib.contextmanager
def _entered(parent: DirFd, state: State) -> t.Iterator[DirFd]:
    """Open exactly the directory that was observed."""
    with opened_same(parent, state.way, state.entry) as pinned:
        directory = reopened(pinned)
        try:
            yield directory
        finally:
            os.close(directory)


def _hand_over(directory: DirFd, owner: tuple[int, int], bits: int) -> None:
    """Set owner (uid and gid) and mode of an open directory if they differ."""
    status = os.fstat(directory)
    if (status.st_uid, status.st_gid) != owner:
        os.fchown(directory, *owner)
    if stat.S_IMODE(os.fstat(directory).st_mode) != bits:  # after the owner: chown(2) may clear bits
        os.fchmod(directory, bits)
