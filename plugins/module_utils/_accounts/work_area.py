# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The root-only work area on the filesystem of a sessions path: holds staged accounts and accounts that were put aside.

It is next to the path (``.sessions.whatsapp-ops``), or inside it (``.whatsapp-ops``) if the path is a mount of its own, because rename(2)
works only within one mount. Staged accounts are three levels down, out of reach of ``find -maxdepth 3`` from the path.

The owner of the parent directory can replace the area at any time. Therefore a run opens it once, works on it by descriptor, and accepts it
only if it is the one recorded in the control directory (control_directory.py). It holds accounts and how they were copied, but nothing that
root acts on.
"""

from __future__ import annotations

import contextlib
import functools
import os
import stat
import time
import typing as t

from .._core.errors import SessionsError
from .._core.names import AREA_INSIDE, ASIDE
from .._fs.fdopen import OPEN_DIRECTORY, DirFd, is_private, open_private, opened_directory
from .._fs.syscalls import same_mount
from .control_directory import AREA, existing_control, is_guarded, read_document_at, write_document_at

STAGING, DISPLACED, COMPANIONS = "staging", "displaced", "companions"


def area_path(path: str) -> str:
    """Return where the area of the sessions path ``path`` is or would be."""
    parent, name = os.path.split(path)
    try:
        with opened_directory(path) as inside, opened_directory(parent) as beside:
            if not same_mount(inside, beside):
                return f"{path}/{AREA_INSIDE}"
    except (FileNotFoundError, NotADirectoryError):
        pass  # does not exist yet, or was retired: it will be on the filesystem of its parent
    return f"{parent}/.{name}{AREA_INSIDE}"


@contextlib.contextmanager
def opened_area(path: str, control: DirFd) -> t.Iterator[DirFd]:
    """Open the area of ``path``, creating it if necessary; ``control`` is its open control directory.

    Any other directory at that place is renamed without being read. If only root can have created it, it is adopted instead; raises
    SessionsError if it is not private to root.
    """
    place = area_path(path)
    with opened_directory(os.path.dirname(place)) as parent:
        descriptor = _open_known(parent, os.path.basename(place), control, called=place)
    try:
        for name in (STAGING, DISPLACED):
            os.close(open_private(descriptor, name, called=f"{place}/{name}"))
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def existing_area(path: str, control: DirFd | None) -> t.Iterator[DirFd | None]:
    """Open the area of ``path`` for reading; yield None if there is none or if it is not the recorded one."""
    try:
        descriptor = DirFd(os.open(area_path(path), OPEN_DIRECTORY)) if control is not None else None
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        descriptor = None
    if descriptor is None or control is None:
        yield None
        return
    try:
        yield descriptor if _is_known(descriptor, control) else None
    finally:
        os.close(descriptor)


def known_document(path: str, name: str) -> dict[str, t.Any]:
    """Return the JSON document ``name`` of ``path`` from its control directory, or as an earlier release left it; empty if none."""
    with existing_control(path) as control:
        known = {} if control is None else read_document_at(control, name)
    if known:
        return known
    with _existing_trusted_area(path) as area:
        return {} if area is None else read_document_at(area, name)


def can_rename(source: str, path: str) -> bool:
    """Return whether rename(2) works from the directory ``source`` to where the area of ``path`` is or would be."""
    place = area_path(path)
    while place != "/":
        place = os.path.dirname(place)
        with contextlib.suppress(FileNotFoundError), opened_directory(place) as above, opened_directory(source) as root:
            return same_mount(above, root)
    return False


@contextlib.contextmanager
def opened_staging(path: str, control: DirFd | None) -> t.Iterator[DirFd | None]:
    """Open the staging area of ``path`` for reading; yield None if there is none."""
    with existing_area(path, control) as area:
        staging = None
        if area is not None:
            with contextlib.suppress(FileNotFoundError):
                staging = DirFd(os.open(STAGING, OPEN_DIRECTORY, dir_fd=area))
        try:
            yield staging
        finally:
            if staging is not None:
                os.close(staging)


def remove_unused(path: str) -> None:
    """Remove the area of ``path``, and ``path`` itself with the directories created in it, as far as they are empty."""
    place, levels = area_path(path), 16
    with contextlib.suppress(OSError), opened_directory(os.path.dirname(place)) as parent:
        _remove_empty(parent, os.path.basename(place), levels)
    with contextlib.suppress(OSError), opened_directory(os.path.dirname(path)) as parent:
        _remove_empty(parent, os.path.basename(path), levels)


@functools.cache
def boot() -> str:
    """Return the kernel's identifier of the current boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def moment() -> str:
    """Return the current time in UTC with microseconds, because two runs within a second may put the same account aside."""
    now = time.time_ns()
    return time.strftime(f"%Y%m%dT%H%M%S.{now // 1000 % 1_000_000:06d}Z", time.gmtime(now // 1_000_000_000))


@contextlib.contextmanager
def _existing_trusted_area(path: str) -> t.Iterator[DirFd | None]:
    """Open the area of ``path`` for reading if only root can have created it; else yield None."""
    place, descriptor = area_path(path), None
    gone = contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError)
    with gone, opened_directory(os.path.dirname(place)) as parent:
        if _is_only_roots(parent):
            descriptor = DirFd(os.open(os.path.basename(place), OPEN_DIRECTORY, dir_fd=parent))
    try:
        yield descriptor if descriptor is not None and is_private(os.fstat(descriptor)) else None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open_known(parent: DirFd, name: str, control: DirFd, *, called: str) -> DirFd:
    with contextlib.suppress(OSError):
        descriptor = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=parent))
        if _is_known(descriptor, control):
            return descriptor
        os.close(descriptor)
    if not _is_only_roots(parent):
        _set_aside(parent, name, called)
    descriptor = open_private(parent, name, called=called)  # creates it, or raises an error that names the obstacle
    _remember(descriptor, control)
    return descriptor


def _set_aside(parent: DirFd, name: str, called: str) -> None:
    """Rename an entry that another user may have created, and do nothing else with it."""
    try:
        os.rename(name, f"{name}{ASIDE}{moment()}", src_dir_fd=parent, dst_dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise SessionsError(
            f"{called} is not the directory that this collection created, and cannot be renamed ({error.strerror}); "
            "move it away and run again"
        ) from error


def _is_only_roots(parent: DirFd) -> bool:
    """Return whether only root can have created entries in the directory or replaced the directory itself."""
    here = os.dup(parent)
    try:
        while True:
            status = os.fstat(here)
            if not is_guarded(status) or (status.st_mode & stat.S_ISVTX and status.st_mode & stat.S_IWOTH):
                return False
            above = DirFd(os.open("..", OPEN_DIRECTORY, dir_fd=here))
            is_top = os.path.samestat(os.fstat(above), status)
            os.close(here)
            here = above
            if is_top:
                return True
    finally:
        os.close(here)


def _is_known(descriptor: DirFd, control: DirFd) -> bool:
    status = os.fstat(descriptor)
    known = read_document_at(control, AREA)
    if not is_private(status) or known.get("inode") != status.st_ino:
        return False
    return known.get("boot") != boot() or known.get("device") == status.st_dev


def _remember(descriptor: DirFd, control: DirFd) -> None:
    status = os.fstat(descriptor)
    # Device numbers are stable only within one boot.
    write_document_at(control, AREA, {"device": status.st_dev, "inode": status.st_ino, "boot": boot()})


def _remove_empty(parent: DirFd, name: str, levels: int) -> None:
    """Remove the directory ``name`` and the directories below it; raise OSError at the first one that is not empty."""
    below = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=parent))
    try:
        for entry in os.listdir(below) if levels else ():
            _remove_empty(below, entry, levels - 1)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=parent)
