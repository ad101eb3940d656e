# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The staging area: which entries hold the copy of an account, and what is recorded about it.

A staged account is a directory ``staging/<key>`` and an index ``staging/<key>.index`` that records the state of each source file that
was copied. The index is valid only within one boot (it is not made durable before the copies are) and for one owner of the copies.
Parts of the account outside its directory are staged in ``staging/<key>.parts``, copies of its SQLite databases in
``staging/<key>.stores``. Only root can enter the staging area.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ..._accounts.copy_index import Known, read_index, write_index
from ..._accounts.extras import slot_of
from ..._accounts.work_area import DISPLACED, STAGING, moment
from ..._core import progress
from ..._core.errors import SessionsError
from ..._core.masking import account_key
from ..._fs.copy_file import UnfitTree
from ..._fs.copy_tree import remove_tree
from ..._fs.fdopen import DirFd, open_private
from ..._fs.files import read_file_at
from ..._fs.syscalls import rename_new
from ..._fs.walk_tree import Tally
from ..._layouts.sqlite import DamagedStore
from ..._proc.pool import parallel_map
from .stage import Stage, Task

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KNOWLEDGE = (".index", ".mark")  # suffixes of the records about a staged copy


class Opened(t.NamedTuple):
    """The open directories of one account: its root, the account, and the staging area."""

    root: DirFd
    source: DirFd
    staging: DirFd


@dataclasses.dataclass(frozen=True)
class StagedCopy:
    """The copy of one account in the staging area: of what (``task``) and how (``stage``) it is made."""

    stage: Stage
    task: Task

    @property
    def key(self) -> str:
        """The name of the copy in the staging area."""
        return account_key(self.task.name)

    @contextlib.contextmanager
    def opened(self) -> t.Iterator[Opened]:
        """Open the root of the account, the account and the staging area."""
        with self.task.opened() as (root, source), opened_copies(self.stage.area) as staging:
            yield Opened(root, source, staging)

    @contextlib.contextmanager
    def opened_stores(self, staging: DirFd) -> t.Iterator[DirFd]:
        """Open, in the open staging area, the directory of database copies; make it if it is missing."""
        with _opened_holder(staging, f"{self.key}.stores") as holder:
            yield holder

    @contextlib.contextmanager
    def opened_parts(self, staging: DirFd) -> t.Iterator[DirFd]:
        """Open, in the open staging area, the directory of parts; make it if it is missing."""
        with _opened_holder(staging, _parts_name(self.task.name)) as holder:
            yield holder

    @contextlib.contextmanager
    def opened_target(self, staging: DirFd) -> t.Iterator[DirFd]:
        """Open the copy itself; make it if it is missing."""
        target = self._open_target(staging)
        try:
            yield target
        finally:
            os.close(target)

    def known(self, staging: DirFd) -> Known:
        """Return what the index in the open staging area says; nothing if it is invalid."""
        return read_index(staging, f"{self.key}.index", self.stage.made)

    def note(self, staging: DirFd, known: Known) -> None:
        """Write the index."""
        write_index(staging, f"{self.key}.index", self.stage.made, known)

    @contextlib.contextmanager
    def errors_named(self, outcome: str = "nothing was published") -> t.Iterator[None]:
        """Raise SessionsError for errors of the body. It names the account, never a file. DamagedStore is raised as it is."""
        try:
            yield
        except DamagedStore:
            raise
        except UnfitTree as error:
            raise SessionsError(f"{self._failure}: {error}; {outcome}") from error
        except OSError as error:
            raise SessionsError(f"{self._failure}: {error.strerror}; {outcome}") from error
        finally:
            progress.advance(accounts=1)

    @property
    def _failure(self) -> str:
        return f"cannot stage account {self.task.label!r} from {self.task.root}"

    def _open_target(self, staging: DirFd) -> DirFd:
        # Only root can enter the staging area, so this collection has created the directory, whatever its owner is now.
        try:
            return DirFd(os.open(self.key, _DIRECTORY, dir_fd=staging))
        except FileNotFoundError:
            forget_index(staging, self.task.name)  # it describes a copy that was published or removed
            os.mkdir(self.key, 0o700, dir_fd=staging)
            return DirFd(os.open(self.key, _DIRECTORY, dir_fd=staging))


def sum_of(stage: Stage, tasks: t.Sequence[Task], work: t.Callable[[StagedCopy], Tally]) -> Tally:
    """Do the work for each account, with all CPUs, and return the sum."""
    total = Tally()
    for tally in tally_each(stage, tasks, work):
        total.add(tally)
    return total


def tally_each(stage: Stage, tasks: t.Sequence[Task], work: t.Callable[[StagedCopy], Tally]) -> t.Iterator[Tally]:
    """Do the work for each account, with all CPUs, and yield the result of each, in their order."""

    def figures_of(task: Task) -> dict[str, int]:
        copy = StagedCopy(stage, task)
        with copy.errors_named():
            return dataclasses.asdict(work(copy))

    for figures in parallel_map(figures_of, tasks):
        yield Tally(**figures)


@contextlib.contextmanager
def opened_copies(area: DirFd) -> t.Iterator[DirFd]:
    """Open the staging area of an open work area; make it if it is missing."""
    with _opened_holder(area, STAGING, called="the staging area") as staging:
        yield staging


def open_staged(area: DirFd, name: str) -> DirFd:
    """Open the staged copy of the account ``name``."""
    with opened_copies(area) as staging:
        return DirFd(os.open(account_key(name), _DIRECTORY, dir_fd=staging))


def part_slot(name: str, part: str) -> str:
    """Return the directory below the staging area for a part of the account ``name``."""
    return f"{_parts_name(name)}/{slot_of(part)}"


def forget_index(staging: DirFd, name: str) -> None:
    """Remove the records about the staged copy of the account ``name``."""
    for kind in _KNOWLEDGE:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{account_key(name)}{kind}", dir_fd=staging)


def clear_staging(area: DirFd) -> None:
    """Remove everything staged, the records first: a run killed in between must not leave half a copy that counts as complete."""
    with opened_copies(area) as staging:
        for name in sorted(os.listdir(staging), key=lambda name: not name.endswith(_KNOWLEDGE)):
            remove_tree(staging, name)


def clear_staged_copy(area: DirFd, staging: DirFd, name: str) -> None:
    """Remove a copy of another engine. A directory without an index may be more than a copy, so it is displaced instead."""
    key = account_key(name)
    if read_file_at(staging, f"{key}.index", at_most=1 << 30, called="an index") is not None:
        forget_index(staging, name)  # must be first, see clear_staging
        remove_tree(staging, key)
        return
    with (
        _opened_holder(area, DISPLACED, called="the directory of displaced accounts") as displaced,
        contextlib.suppress(FileNotFoundError),
    ):
        rename_new(staging, key, displaced, f"{moment()}-{key[:16]}-staged")


@contextlib.contextmanager
def _opened_holder(above: DirFd, name: str, called: str = "a directory in the staging area") -> t.Iterator[DirFd]:
    holder = open_private(above, name, called=called)
    try:
        yield holder
    finally:
        os.close(holder)


def _parts_name(name: str) -> str:
    return f"{account_key(name)}.parts"
