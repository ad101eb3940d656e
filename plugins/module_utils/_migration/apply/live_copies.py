# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Copies accounts to the work area while their backend runs. The backend is neither interrupted nor left without free space."""

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from ..._fs.syscalls import sync_filesystem
from ..._proc.pool import in_background
from ..switch_refusals import require_sound
from .companions import bring_companions, clear_companions
from .kept_copies import is_source_gone
from .progress import Run
from .space import has_ample_room, need_of, require_space
from .staging import DamagedAccounts, stage_live, watched
from .staging_area import clear_staging
from .take_out import require_movable

if t.TYPE_CHECKING:
    from ..._fs.fdopen import DirFd
    from ..._fs.inotify import Watch
    from .stage import Stage, Task

_LIVE_ROUNDS = 3
_SHORT_ROUND = 1.0  # seconds: copying what a backend writes in this time is faster than scanning everything once more
_WRITE_OUT_EVERY = 0.1  # seconds


def copy_live(run: Run) -> None:
    """Copy while the backend runs, and repeat as long as each round leaves less to copy."""
    stage, tasks = run.stage(), run.tasks()
    if stage.engine == "rename":
        require_movable(stage, tasks)
        return
    with run.watch.phase("stage"):
        if not has_ample_room(stage, tasks):
            require_space(run.data, need_of(stage, tasks), run.params.path)
        try:
            with _written_out_meanwhile(run.data):
                _copy_all(run, stage, tasks)
        except DamagedAccounts as error:
            _clear_copies(run)
            require_sound(run.state, error.names)
            raise
        except BaseException:
            _clear_copies(run)  # the disk may be full, and a running backend writes to it
            raise
        sync_filesystem(run.data)


def _clear_copies(run: Run) -> None:
    if not is_source_gone(run.control):
        clear_staging(run.data)
        clear_companions(run.data)


@contextlib.contextmanager
def _written_out_meanwhile(area: DirFd) -> t.Iterator[None]:
    """Write copied data to the disk while copying continues, instead of all of it at the end."""
    # A separate open file description: the kernel reports a failed write once per description (errseq), and the run itself must see it.
    disk = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=area)
    try:
        with in_background(lambda: sync_filesystem(disk), _WRITE_OUT_EVERY):
            yield
    finally:
        os.close(disk)


def _copy_all(run: Run, stage: Stage, tasks: t.Sequence[Task]) -> None:
    running = run.unit is not None and run.unit.active
    run.touches = watched(stage, tasks)
    _copy_in_rounds(stage, tasks, run.touches, _LIVE_ROUNDS if running else 1)
    bring_companions(stage, run.survey.companions)


def _copy_in_rounds(stage: Stage, tasks: t.Sequence[Task], touches: Watch | None, at_most: int) -> None:
    """Copy, and copy again what changed meanwhile, until a round is short or copies no less than the one before."""
    copied = 0
    for number in range(at_most):
        begin = time.monotonic()
        figures = stage_live(stage, tasks, touches)
        if time.monotonic() - begin < _SHORT_ROUND or (number and figures.copied >= copied):
            return
        copied = figures.copied
