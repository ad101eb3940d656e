# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Puts a legacy path out of use once its accounts have moved: renamed aside, with a tombstone in its place.

An old release that falls back to its relative path then fails loudly, instead of starting a second client on old keys.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import typing as t

from ._area import moment, open_private
from ._beside import is_kept
from ._errors import SessionsError
from ._layout import Layout, is_folder, path_matcher
from ._layouts import account_names, companions
from ._paths import opened_directory, read_file_at
from ._rescue import open_real
from ._sources import Source
from ._tombstone import TOMBSTONE, is_tombstone, leave_tombstone


@dataclasses.dataclass(frozen=True)
class Retirement:
    """What is put out of use: a legacy root (``name`` empty), or what is at the relative path ``name`` of one.

    ``apart``: it is moved out of the root, because the library would find it under any name there.
    """

    root: str
    name: str = ""
    apart: bool = False

    @property
    def path(self) -> str:
        """Where it is."""
        return f"{self.root}/{self.name}" if self.name else self.root


def retirable(sources: t.Sequence[Source], layout: Layout) -> tuple[Retirement, ...]:
    """Say what is to be put out of use: each legacy root. Of one that is an application's directory only what is the sessions'."""
    return tuple(found for source in sources for found in _found_in(source.path, layout))


def retire(retirements: t.Sequence[Retirement], path: str) -> None:
    """Rename each to ``<name>.migrated-<time>``, root only; where a directory was is then a file that says where the accounts went.

    Raises SessionsError for one that cannot be renamed (a mount, say).
    """
    now = moment()
    for retirement in retirements:
        try:
            _retire_one(retirement, f"The accounts that were here are in {path} since {now}.", now)
        except OSError as error:
            raise SessionsError(
                f"the accounts are in {path}, but the legacy path {retirement.root} cannot be put out of use: {error.strerror}; "
                "mend that and run again, or leave it with state=migrated"
            ) from error


@contextlib.contextmanager
def reopened(path: str) -> t.Iterator[None]:
    """Take the tombstone away that may be at ``path``, because accounts come back there; an error puts it there again."""
    if not is_tombstone(path):
        yield
        return
    directory, name = os.path.split(os.path.realpath(path))
    with opened_directory(directory) as parent:
        text = (read_file_at(parent, name) or b"").decode()[len(TOMBSTONE) :].rstrip("\n")
        os.unlink(name, dir_fd=parent)
        os.fsync(parent)
        try:
            yield
        except BaseException:
            with contextlib.suppress(FileExistsError):  # something is there, so that no backend starts on an empty path
                leave_tombstone(parent, name, text)
            raise


def _found_in(root: str, layout: Layout) -> list[Retirement]:
    if not layout.folders and layout.travels is None:
        return [Retirement(root)]
    with opened_directory(root) as opened:
        folders = [folder for folder in layout.folders if is_folder(opened, folder)]
        accounts = list(account_names(opened, layout))
        own = [*accounts, *(part for name in accounts for part in layout.parts_of(name)), *companions(opened, layout)]
        if folders:
            beside = (name for name in own if name.partition("/")[0] not in folders)
            return [Retirement(root, name) for name in (*folders, *beside) if is_kept(opened, name)]
        if accounts and not _foreign_entries(opened, own, layout):
            return [Retirement(root)]
        return [Retirement(root, name, apart=True) for name in own if is_kept(opened, name)] if accounts else []


def _foreign_entries(root: int, own: t.Collection[str], layout: Layout) -> set[str]:
    """Return what in an open root is not the sessions'. A root that is an account itself has nothing else."""
    known, is_beside = {name.partition("/")[0] for name in own}, path_matcher(layout.beside)
    names = {name for name in os.listdir(root) if not layout.is_volatile(name) and not is_beside(name)}
    return set() if "." in known else names - known


def _retire_one(retirement: Retirement, text: str, now: str) -> None:
    directory, name = os.path.split(retirement.path)
    parent = open_real(directory)
    try:
        holder = _holder(retirement.root, now) if retirement.apart else os.dup(parent)
        try:
            aside = retirement.name.replace("/", "!") if retirement.apart else f"{name}.migrated-{now}"
            os.rename(name, aside, src_dir_fd=parent, dst_dir_fd=holder)
            if _close_to_others(holder, aside):
                leave_tombstone(parent, name, text)
            os.fsync(holder)
        finally:
            os.close(holder)
        os.fsync(parent)
    finally:
        os.close(parent)


def _holder(root: str, now: str) -> int:
    """Make and open the directory beside a legacy root that takes what is moved out of it."""
    directory, name = os.path.split(root)
    parent = open_real(directory)
    try:
        return open_private(parent, f"{name}.migrated-{now}", called=f"{root}.migrated-{now}")
    finally:
        os.close(parent)


def _close_to_others(parent: int, name: str) -> bool:
    """Give what was renamed to root alone; return whether it is a directory."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISDIR(status.st_mode) and status.st_nlink > 1:
            return False  # it has another name, under which it must not change hands
        if os.geteuid() == 0:
            os.fchown(descriptor, 0, 0)
        os.fchmod(descriptor, stat.S_IRWXU if stat.S_ISDIR(status.st_mode) else stat.S_IRUSR | stat.S_IWUSR)
        return stat.S_ISDIR(status.st_mode)
    finally:
        os.close(descriptor)
