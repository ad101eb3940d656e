# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The control directory of a sessions path: receipt, intent, programs and notes, in a directory that only root can access.

It is ``/var/lib/whatsapp-ops/<id>``, owned by root with mode 0700, below directories that only root can change. Root acts on its content,
so it cannot be next to the sessions path, where the service user may own the parent and replace entries. The ID depends on the sessions
path alone, so that two units with the same path share a lock, and the receipt of a path is found without a unit.

For a user other than root it is next to the sessions path, because such a user can only harm itself.

Only names, times and digests from a sessions path or legacy path are ever stored here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import stat
import typing as t

from .._core import names as core_names
from .._core.errors import SessionsError
from .._fs.fdopen import OPEN_DIRECTORY, DirFd, is_private
from .._fs.files import read_file_at, write_atomic_at

INTENT = "intent.json"  # the planned steps of a cutover, see publish.py
PROGRAM = "rescue.py"  # undoes a cutover after its run was killed or its host lost power, see guard.py
AREA = "area.json"  # identifies the work area, see work_area.py
NOTES = "displaced"  # describe displaced accounts, see displaced.py
_LARGEST = 1 << 28  # bytes: a receipt with ten thousand accounts has about ten million
_READABLE = 60  # characters of the path that its ID contains


def control_path(path: str) -> str:
    """Return where the control directory of the sessions path ``path`` is or would be.

    Accounts in transit between hosts are in a control directory themselves: theirs is next to them and is removed with them.
    """
    directory, name = os.path.split(path)
    real = os.path.join(os.path.realpath(directory), name)
    if os.geteuid() != 0 or real.startswith(f"{os.path.realpath(core_names.HOME)}/"):
        return f"{os.path.dirname(real)}/.{name}.control"
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", real).strip("-.")[-_READABLE:]
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:12]
    return f"{core_names.HOME}/{readable}-{digest}"


@contextlib.contextmanager
def opened_control(path: str) -> t.Iterator[DirFd]:
    """Open the control directory of ``path``, creating it if necessary.

    Raises SessionsError if another user than root could replace it.
    """
    descriptor = open_trusted(control_path(path), make=True)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def existing_control(path: str) -> t.ContextManager[DirFd | None]:
    """Open the control directory of ``path`` for reading; yield None if there is none or this user has no access."""
    return existing_trusted(control_path(path))


@contextlib.contextmanager
def existing_trusted(directory: str) -> t.Iterator[DirFd | None]:
    """Open a trusted directory for reading, see open_trusted; yield None if there is none or this user has no access."""
    try:
        descriptor = open_trusted(directory, make=False)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(control: DirFd, path: str) -> t.Iterator[int]:
    """Hold the lock of ``path`` against other runs; yield its descriptor. Raises SessionsError if another run holds it."""
    descriptor = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=control)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SessionsError(f"another run is working on {path}; wait until it has ended and run again") from error
        yield descriptor
    finally:
        os.close(descriptor)


def read_document_at(control: DirFd, name: str) -> dict[str, t.Any]:
    """Return the JSON document ``name`` of an open directory; empty if there is none."""
    content = read_file_at(control, name, at_most=_LARGEST)
    if content is None:
        return {}
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise damaged(name)
    return document


def damaged(name: str) -> SessionsError:
    """Return the error for a document ``name`` that this collection did not write."""
    return SessionsError(
        f"{name} in the control directory of the sessions path (below {core_names.HOME}) is damaged; "
        "move it away and run again, conflicts are then resolved without it"
    )


def write_document_at(control: DirFd, name: str, document: t.Mapping[str, t.Any]) -> None:
    """Write the JSON document ``name`` atomically and durably, readable by root only."""
    write_atomic_at(
        control, name, json.dumps(document, separators=(",", ":")).encode(), 0o600, uid=os.geteuid(), gid=os.getegid()
    )


def remove_document_at(control: DirFd, name: str) -> None:
    """Remove the JSON document ``name`` durably if it exists."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=control)
        os.fsync(control)


def remove_unused_control(path: str) -> None:
    """Remove the control directory of ``path`` if nothing was ever recorded in it."""
    place = control_path(path)
    with contextlib.suppress(OSError), existing_control(path) as control:
        disposable = ("lock", AREA, PROGRAM)
        if control is not None and set(os.listdir(control)) <= set(disposable):
            for name in disposable:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=control)
            os.rmdir(place)


def is_guarded(status: os.stat_result) -> bool:
    """Return whether only root (and the effective user) can replace root's entries in this directory.

    In a sticky directory others can create entries, but neither rename nor remove those of root.
    """
    if status.st_uid not in (0, os.geteuid()):
        return False
    writable = status.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if status.st_gid else 0))
    return not writable or bool(status.st_mode & stat.S_ISVTX)


def open_trusted(path: str, *, make: bool) -> DirFd:
    """Open the directory ``path``, which only root can enter, and check that only root can change each directory above it.

    ``make``: create what is missing. Raises SessionsError if it cannot be trusted, OSError if it cannot be opened.

    Symbolic links are resolved first: the resulting path without links is the one that is walked and checked.
    """
    here = DirFd(os.open("/", OPEN_DIRECTORY))
    done = ""
    try:
        for part in os.path.realpath(path).strip("/").split("/"):
            if not is_guarded(os.fstat(here)):
                raise SessionsError(
                    f"users other than root can write to {done or '/'}, so root cannot trust the content of {path}; "
                    f"remove that permission (chown root, chmod go-w) and run again"
                )
            done += f"/{part}"
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=here)
            below = DirFd(os.open(part, OPEN_DIRECTORY, dir_fd=here))
            os.close(here)
            here = below
        if not is_private(os.fstat(here)):
            raise SessionsError(
                f"{path} is not private to root, so its content cannot be trusted; check it, move it away and run again"
            )
        return here
    except BaseException:
        os.close(here)
        raise
