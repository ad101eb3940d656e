# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Writes what a switch changes, see _switch.py: drop-ins and an environment file, and puts them back. systemd is told by the callers."""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from . import _override
from ._errors import SessionsError
from ._paths import (
    Held,
    is_as_read,
    make_directory,
    opened_directory,
    read_held,
    write_atomic,
    write_atomic_at,
)
from ._switch import Switch, SwitchState, is_written
from ._unit import daemon_reload


def install(switch: Switch, state: SwitchState) -> None:
    """Write what differs, durably, the environment file first: it is the one that wins. systemd is not told here."""
    file = switch.environment_file
    if file and state.text != state.wanted_text:
        if state.wanted_text is None:
            _remove(file.path, state)
        else:
            _write_text(file.path, state.wanted_text, state)
    for wanted, steps in zip(switch.overrides, state.steps):
        _override.install(steps, wanted)
    for plain in state.plain:
        make_directory(os.path.dirname(plain.path), 0o755, uid=0, gid=0)
        write_atomic(plain.path, plain.text.encode(), 0o644)


def clear_the_way(switch: Switch, state: SwitchState) -> None:
    """Put the environment file back where something that is no file took its place, before a start: systemd would wait for a FIFO.

    systemd 252 reads such files in process 1 itself, so that the whole host would wait with it.
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
    """Write the drop-ins that come before the stop; return whether systemd, which is not told here, has to read its files again."""
    for wanted, steps in zip(switch.pre_stop_overrides, state.early):
        _override.install(steps, wanted)
    return any(isinstance(step, _override.Reload) for steps in state.early for step in steps)


@contextlib.contextmanager
def early_installed(switch: Switch, state: SwitchState) -> t.Iterator[None]:
    """Write the drop-ins that come before the stop; an error puts back what was there. The block has systemd read them.

    One that says that it ``stops_again`` leaves them: without them that stop could tear the keys that were just written.
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
            with contextlib.suppress(SessionsError):  # what went wrong first has to be said
                daemon_reload()
        raise


def _put_back(path: str, held: Held | None) -> None:
    """Have a drop-in as it was; one that cannot be put back does no harm, and what went wrong first has to be said."""
    with contextlib.suppress(OSError, SessionsError):
        if held is not None:
            write_atomic(path, held.content, held.status.st_mode & 0o777)
            return
        os.unlink(path)
        os.rmdir(os.path.dirname(path))


def _require_as_read(parent: int, path: str, state: SwitchState) -> None:
    """Raise SessionsError where there is no longer what was read: who rules the directory can put any file in its place."""
    if not is_as_read(parent, os.path.basename(path), state.held):
        raise SessionsError(
            f"{path} was changed since it was read, so it was not written; see what changes it (the backend itself, as it stops?) "
            "and run again"
        )
    if os.fstat(parent).st_uid not in state.trusted:
        raise SessionsError(
            f"the directory of {path} belongs to neither root nor the user of the unit; the file was not written, give it to one of them"
        )


def _remove(path: str, state: SwitchState) -> None:
    with opened_directory(os.path.dirname(path)) as parent:
        _require_as_read(parent, path, state)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.basename(path), dir_fd=parent)
        os.fsync(parent)


def _write_text(path: str, text: str, state: SwitchState) -> None:
    """Keep owner and mode of the file that was read; a new one is for root alone, for such files tend to hold secrets."""
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
