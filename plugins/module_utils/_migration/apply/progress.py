# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""A migration in progress: what all that carries it out shares."""

from __future__ import annotations

import dataclasses
import typing as t

from .guard import Stopwatch
from .publish import Folders, Place
from .stage import Stage, Task, stage_in, tasks_of

if t.TYPE_CHECKING:
    from ..._fs.fdopen import DirFd
    from ..._fs.inotify import Watch
    from ..._systemd.unit import Unit
    from ..observe import State
    from ..params import Params
    from ..survey import Survey


@dataclasses.dataclass
class Run:
    """A run in progress: its open directories, the state that it acts on, and what it has measured.

    ``control``: holds what root acts on (control_directory.py); ``data``: holds accounts (work_area.py). ``folders``: the directories that
    accounts are renamed between. ``state``: observed, and observed again when that can show more. ``touches``: watches for files that
    change after they were copied.
    """

    control: DirFd
    data: DirFd
    folders: Folders
    state: State
    watch: Stopwatch = dataclasses.field(default_factory=Stopwatch)
    warnings: list[str] = dataclasses.field(default_factory=list)
    touches: Watch | None = None

    @property
    def params(self) -> Params:
        """The parameters that are carried out."""
        return self.state.effective

    @property
    def unit(self) -> Unit | None:
        """The unit as it was before the run."""
        return self.state.unit

    @property
    def survey(self) -> Survey:
        """The accounts and what was decided about each."""
        return self.state.survey

    def stage(self) -> Stage:
        """Return how accounts are staged."""
        return stage_in(self.data, self.state)

    def tasks(self) -> list[Task]:
        """Return the accounts to stage."""
        return tasks_of(self.survey)

    def place(self, path: DirFd) -> Place:
        """Return what publishing in the open directory ``path`` works on."""
        identity = self.state.identity
        return Place(self.control, self.data, path, identity.uid, identity.gid, self.folders)

    def close(self) -> None:
        """Stop watching for changes."""
        if self.touches:
            self.touches.close()
