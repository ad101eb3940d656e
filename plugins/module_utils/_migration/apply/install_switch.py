# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Installs the files of a switch (see switch.py), and restores them. Reloading systemd is left to the callers."""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from ..._core.errors import SessionsError
from ..._fs.fdopen import DirFd, make_directory, opened_directory
from ..._fs.files import Held, is_as_read, read_held, write_atomic, write_atomic_at
from ..._systemd import file_steps
from ..._systemd.unit import daemon_reload
from ..switch import Switch, SwitchState, is_written


def install(switch: Switch, state: SwitchState) -> None:
    """Write what differs durably, the environment file first, because it has precedence. Does not reload systemd."""
    file = switch.environment_file
    if file and state.text != state.wanted_text:
        if state.wanted_text is None:
            _remove(file.path, state)
        else:
            _write_text(file.path, state.wanted_text, state)
    for steps in state.steps:
        file_steps.install(steps)
    for plain in state.plain:
        make_directory(os.path.dirname(plain.path), 0o755, uid=0, gid=0)
        write_atomic(plain.path, plain.text.encode(), 0o644)


def clear_the_way(switch: Switch, state: SwitchState) -> None:
    """Restore the environment file before a start if it was replaced with something else, such as a FIFO, which systemd would wait for.

    systemd 252 reads such files in process 1 itself, so the whole host would block with it.
    """
    file, held = switch.environment_file, state.held
    if file is None or held is None:
        return
    directory, name = os.path.split(file.path)
    with contextlib.suppress(OSError, SessionsError), opened_directory(directory) as parent:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
            status = held.status
            write_atomic_at(parent, name, held.content, status.st_mode & 0o777, uid=status.st_uid, gid=status.st_gid)


def install_early(switch: Switch, state: SwitchState) -> bool:
    """Write the drop-ins that are needed before the stop; return whether the caller must reload systemd."""
    for steps in state.early:
        file_steps.install(steps)
    return any(isinstance(step, file_steps.Reload) for steps in state.early for step in steps)


@contextlib.contextmanager
def early_installed(switch: Switch, state: SwitchState) -> t.Iterator[None]:
    """Write the drop-ins that are needed before the stop; restore the former ones if the body fails. The body must reload systemd.

    An error with ``stops_again`` keeps them: without them, that stop could corrupt keys that were just written.
    """
    written = [wanted.path for wanted, steps in zip(switch.pre_stop_overrides, state.early) if is_written(steps)]
    before = {path: read_held(path) for path in written}
    try:
        install_early(switch, state)
        yield
    except BaseException as error:
        if getattr(error, "stops_again", False):
            raise
        for path, held in before.items():
            _put_back(path, held)
        if before:
            with contextlib.suppress(SessionsError):  # the first error is the one to report
                daemon_reload()
        raise


def _put_back(path: str, held: Held | None) -> None:
    """Restore a drop-in. Errors are ignored: a leftover drop-in does no harm, and the first error is the one to report."""
    with contextlib.suppress(OSError, SessionsError):
        if held is not None:
            write_atomic(path, held.content, held.status.st_mode & 0o777)
            return
        os.unlink(path)
        os.rmdir(os.path.dirname(path))


def _require_as_read(parent: DirFd, path: str, state: SwitchState) -> None:
    """Raise SessionsError if the file was changed since it was read: the owner of the directory can replace it with any file."""
    if not is_as_read(parent, os.path.basename(path), state.held):
        raise SessionsError(
            f"{path} was changed after it was read, so it was not written; find out what changes it (perhaps the backend when it stops) "
            "and run again"
        )
    if os.fstat(parent).st_uid not in state.trusted:
        raise SessionsError(
            f"the directory of {path} belongs to neither root nor the user of the unit, so the file was not written; give the directory to "
            "one of them and run again"
        )


def _remove(path: str, state: SwitchState) -> None:
    with opened_directory(os.path.dirname(path)) as parent:
        _require_as_read(parent, path, state)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.basename(path), dir_fd=parent)
        os.fsync(parent)


def _write_text(path: str, text: str, state: SwitchState) -> None:
    """Write the file with its former owner and mode; a new one is accessible to root only, because it may contain secrets."""
    directory, name = os.path.split(path)
    make_directory(directory, 0o755, uid=os.geteuid(), gid=os.getegid())
    mode, uid, gid = 0o600, os.geteuid(), os.getegid()
    if state.held is not None:
        status = state.held.status
        mode, uid, gid = status.st_mode & 0o777, status.st_uid, status.st_gid
    with opened_directory(directory) as parent:

        def ready() -> None:
            _require_as_read(parent, path, state)

        ready()
        write_atomic_at(parent, name, text.encode("utf-8", "surrogateescape"), mode, uid=uid, gid=gid, ready=ready)
