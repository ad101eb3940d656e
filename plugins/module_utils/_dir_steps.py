# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What session_dir can do; how it is done is in _dir_work.py, which who only looks need not load."""

from __future__ import annotations

import dataclasses
import typing as t

if t.TYPE_CHECKING:
    from ._identity import Identity
    from ._ownership import Wanted


@dataclasses.dataclass(frozen=True)
class MakeParents:
    """Make the directories above that are missing; they belong to root."""


@dataclasses.dataclass(frozen=True)
class MakeDirectory:
    """Make the directory itself."""

    identity: Identity
    bits: int


@dataclasses.dataclass(frozen=True)
class RepairBelow:
    """Give everything below its owner and mode."""

    wanted: Wanted


@dataclasses.dataclass(frozen=True)
class ChangeDirectory:
    """Give the directory that is there its owner and mode."""

    identity: Identity
    bits: int


@dataclasses.dataclass(frozen=True)
class RemoveDirectory:
    """Remove the directory, which is empty."""


Step = t.Union[MakeParents, MakeDirectory, RepairBelow, ChangeDirectory, RemoveDirectory]
