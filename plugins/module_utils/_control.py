# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The control directory of a sessions path: receipt, intent, programs and notes, in a place where only root gets.

``/var/lib/whatsapp-ops/<id>``, root's, mode 0700, below directories that only root can change. What lies here tells root what to do,
and the parent of a sessions path may belong to the service user, who could exchange whatever lies there. The id is made from the
sessions path alone: two units on one path must not get a lock each, and a look at the path has to find its receipt without a unit.

A user other than root has nothing to gain from itself: there it lies beside the sessions path.

Nothing from a sessions path or a legacy path is ever copied here but names, times and digests.
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

from ._errors import SessionsError
from ._paths import read_file_at, write_atomic_at

HOME = "/var/lib/whatsapp-ops"
INTENT = "intent.json"  # what a cutover is about to do, see _publish.py
PROGRAM = "rescue.py"  # undoes a cutover whose run was killed or whose host lost power, see _cutover.py
AREA = "area.json"  # which directory the area is, see _area.py
NOTES = "displaced"  # what each displaced account was, see _displaced.py
_LARGEST = 1 << 28  # bytes: a receipt with ten thousand accounts has about ten million
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READABLE = 60  # characters of the path that its id keeps


def control_path(path: str) -> str:
    """Return where the control directory of the sessions path ``path`` is, or would be.

    Accounts that are on their way to or from another host lie in a control directory themselves: theirs is beside them, and goes with them.
    """
    directory, name = os.path.split(path)
    real = os.path.join(os.path.realpath(directory), name)
    if os.geteuid() != 0 or real.startswith(f"{os.path.realpath(HOME)}/"):
        return f"{os.path.dirname(real)}/.{name}.control"
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", real).strip("-.")[-_READABLE:]
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:12]
    return f"{HOME}/{readable}-{digest}"


@contextlib.contextmanager
def opened_control(path: str) -> t.Iterator[int]:
    """Make (where needed) and open the control directory of ``path``.

    Raises SessionsError where somebody else than root could exchange it.
    """
    descriptor = _open_trusted(control_path(path), make=True)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def existing_control(path: str) -> t.Iterator[int | None]:
    """Open the control directory of ``path`` for reading; None where there is none, or this user may not look."""
    try:
        descriptor = _open_trusted(control_path(path), make=False)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked(control: int, path: str) -> t.Iterator[int]:
    """Hold the lock of ``path``, for one run at a time; yields the lock's descriptor. Raises SessionsError when another run has it."""
    descriptor = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=control)
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


def open_private(parent: int, name: str, *, called: str) -> int:
    """Make (where needed) and open a directory that only root enters; ``called`` is its path, for the error."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    try:
        descriptor = os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        raise SessionsError(
            f"{called} is in the way: it has to be a directory of root; move it away and run again"
        ) from error
    if not is_private(os.fstat(descriptor)):
        os.close(descriptor)
        raise SessionsError(
            f"{called} is not private to root, so somebody may have put it there; look at it, move it away and run again"
        )
    return descriptor


def is_private(status: os.stat_result) -> bool:
    """Whether a directory belongs to this user (root, as a rule) and nobody else can enter it."""
    return status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077


def read_document_at(control: int, name: str) -> dict[str, t.Any]:
    """Return the JSON document ``name`` of an open directory; empty when there is none."""
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
    """Give the error for a document ``name`` that is not what this collection wrote."""
    return SessionsError(
        f"{name} in the control directory of the sessions path (below {HOME}) is damaged; "
        "move it away and run again, conflicts are then judged without it"
    )


def write_document_at(control: int, name: str, document: t.Mapping[str, t.Any]) -> None:
    """Write the JSON document ``name`` in one durable step, root only."""
    write_atomic_at(
        control, name, json.dumps(document, separators=(",", ":")).encode(), 0o600, uid=os.geteuid(), gid=os.getegid()
    )


def remove_document_at(control: int, name: str) -> None:
    """Remove the JSON document ``name``, durably, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=control)
        os.fsync(control)


def remove_unused_control(path: str) -> None:
    """Remove the control directory of ``path`` where nothing was ever written down in it."""
    place = control_path(path)
    with contextlib.suppress(OSError), existing_control(path) as control:
        disposable = ("lock", AREA, PROGRAM)
        if control is not None and set(os.listdir(control)) <= set(disposable):
            for name in disposable:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=control)
            os.rmdir(place)


def is_guarded(status: os.stat_result) -> bool:
    """Whether nobody but root (and this user) can put something else in the place of what root has in this directory.

    In a sticky directory others can make entries, but neither rename nor remove those of root.
    """
    if status.st_uid not in (0, os.geteuid()):
        return False
    writable = status.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if status.st_gid else 0))
    return not writable or bool(status.st_mode & stat.S_ISVTX)


def _open_trusted(path: str, *, make: bool) -> int:
    """Open the directory ``path``, each directory on the way being one that only root can change.

    Links on the way are resolved first: whatever they lead to, it is the way without links that is walked and has to be trusted.
    """
    here = os.open("/", _DIRECTORY)
    done = ""
    try:
        for part in os.path.realpath(path).strip("/").split("/"):
            if not is_guarded(os.fstat(here)):
                raise SessionsError(
                    f"others than root can write in {done or '/'}, so {path} cannot be trusted to tell root what to do; "
                    f"take that right away (chown root, chmod go-w) and run again"
                )
            done += f"/{part}"
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o700, dir_fd=here)
            below = os.open(part, _DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        if not is_private(os.fstat(here)):
            raise SessionsError(
                f"{path} is not private to root, so what it says cannot be trusted; look at it, move it away and run again"
            )
        return here
    except BaseException:
        os.close(here)
        raise
