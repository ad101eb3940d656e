# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The steps of session_dir; they are carried out in apply.py, which read-only calls need not load."""

from __future__ import annotations

import dataclasses
import typing as t

if t.TYPE_CHECKING:
    from .._fs.chown_tree import Wanted
    from .._fs.users import Identity


@dataclasses.dataclass(frozen=True)
class MakeParents:
    """Create the missing directories above the path, owned by root."""


@dataclasses.dataclass(frozen=True)
class MakeDirectory:
    """Create the directory itself."""

    identity: Identity
    bits: int


@dataclasses.dataclass(frozen=True)
class RepairBelow:
    """Set owner and mode of everything below."""

    wanted: Wanted


@dataclasses.dataclass(frozen=True)
class ChangeDirectory:
    """Set owner and mode of the existing directory."""

    identity: Identity
    bits: int


@dataclasses.dataclass(frozen=True)
class RemoveDirectory:
    """Remove the empty directory."""


Step = t.Union[MakeParents, MakeDirectory, RepairBelow, ChangeDirectory, RemoveDirectory]
