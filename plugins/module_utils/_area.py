# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The root-only directory on the filesystem of a sessions path where staging, displaced accounts and the receipt are kept.

It lies beside the path (``.sessions.whatsapp-ops``), or inside it (``.whatsapp-ops``) where the path is a mount of its own, because
rename(2) works only within one mount. Staged accounts lie three levels down, out of reach of ``find -maxdepth 3`` from the path.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
import typing as t

from ._errors import SessionsError
from ._kernel import same_mount
from ._layouts import AREA_INSIDE
from ._paths import opened_directory, read_file_at, write_atomic_at

STAGING, DISPLACED, COMPANIONS = "staging", "displaced", "companions"
INTENT = "intent.json"  # what a cutover is about to do, see _publish.py
RESCUER = "rescue.py"  # the program that takes a cutover back when the host lost power, see _cutover.py


def area_path(path: str) -> str:
    """Return where the area of the sessions path ``path`` is, or would be."""
    parent, name = os.path.split(path)
    try:
        with opened_directory(path) as inside, opened_directory(parent) as beside:
            if not same_mount(inside, beside):
                return f"{path}/{AREA_INSIDE}"
    except (FileNotFoundError, NotADirectoryError):
        pass  # not made yet, or put out of use: it will be on the filesystem of its parent
    return f"{parent}/.{name}{AREA_INSIDE}"


@contextlib.contextmanager
def opened_area(path: str) -> t.Iterator[int]:
    """Make (where needed) and open the area of ``path``. Raises SessionsError when somebody else could have made it."""
    place = area_path(path)
    with opened_directory(os.path.dirname(place)) as parent:
        descriptor = open_private(parent, os.path.basename(place), called=place)
    try:
        for name in (STAGING, DISPLACED):
            os.close(open_private(descriptor, name, called=f"{place}/{name}"))
        yield descriptor
    finally:
        os.close(descriptor)


def can_rename(source: str, path: str) -> bool:
    """Whether rename(2) works from the directory ``source`` to where the area of ``path`` is, or would be."""
    place = area_path(path)
    while place != "/":
        place = os.path.dirname(place)
        with contextlib.suppress(FileNotFoundError), opened_directory(place) as above, opened_directory(source) as root:
            return same_mount(above, root)
    return False


@contextlib.contextmanager
def opened_staging(path: str) -> t.Iterator[int | None]:
    """Open the staging area of ``path`` for reading, or yield None while there is none."""
    try:
        with opened_directory(f"{area_path(path)}/{STAGING}") as staging:
            yield staging
    except FileNotFoundError:
        yield None


def open_private(parent: int, name: str, *, called: str) -> int:
    """Make (where needed) and open a directory that only root enters; ``called`` is its path, for the error."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        raise SessionsError(
            f"{called} is in the way: it has to be a directory of root; move it away and run again"
        ) from error
    status = os.fstat(descriptor)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        os.close(descriptor)
        raise SessionsError(
            f"{called} is not private to root, so somebody may have put it there; look at it, move it away and run again"
        )
    return descriptor


def remove_unused(path: str) -> None:
    """Remove the area of ``path``, and ``path`` itself with the folders that were made in it, where nothing was ever put in."""
    place = area_path(path)
    with contextlib.suppress(OSError):  # whatever is not empty stays, and so does all above it
        for name in (STAGING, DISPLACED):
            os.rmdir(f"{place}/{name}")
        os.unlink(f"{place}/lock")
        os.rmdir(place)
    with contextlib.suppress(OSError), opened_directory(os.path.dirname(path)) as parent:
        _remove_empty(parent, os.path.basename(path))


def _remove_empty(parent: int, name: str) -> None:
    """Remove a directory of an open one, with all directories below it, up to the first that is not empty."""
    below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        for entry in os.listdir(below):
            _remove_empty(below, entry)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=parent)


def moment() -> str:
    """Name this instant, in UTC and to the microsecond: two runs within one second may put the same account aside."""
    now = time.time_ns()
    return time.strftime(f"%Y%m%dT%H%M%S.{now // 1000 % 1_000_000:06d}Z", time.gmtime(now // 1_000_000_000))


@contextlib.contextmanager
def locked(area: int, path: str) -> t.Iterator[int]:
    """Hold the area's lock, for one run at a time; yields the lock's descriptor. Raises SessionsError when another run has it."""
    descriptor = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=area)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SessionsError(
                f"another run is working on {path} right now; wait for it to end and run again"
            ) from error
        yield descriptor
    finally:
        os.close(descriptor)


def read_document(path: str, name: str) -> dict[str, t.Any]:
    """Return the JSON document ``name`` of the area of ``path``; empty when there is none."""
    try:
        with opened_directory(area_path(path)) as area:
            return read_document_at(area, name)
    except FileNotFoundError:
        return {}


def read_document_at(area: int, name: str) -> dict[str, t.Any]:
    """Do as read_document, in the open area."""
    content = read_file_at(area, name, at_most=1 << 28)
    if content is None:
        return {}
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise damaged(name)
    return document


def damaged(name: str) -> SessionsError:
    """Give the error for a document ``name`` that is not what this collection wrote."""
    return SessionsError(
        f"{name} in the area of the sessions path is damaged; move it away and run again, conflicts are then judged without it"
    )


def write_document_at(area: int, name: str, document: t.Mapping[str, t.Any]) -> None:
    """Write the JSON document ``name`` in one durable step, root only."""
    write_atomic_at(
        area, name, json.dumps(document, separators=(",", ":")).encode(), 0o600, uid=os.geteuid(), gid=os.getegid()
    )


def remove_document_at(area: int, name: str) -> None:
    """Remove the JSON document ``name``, durably, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=area)
        os.fsync(area)
