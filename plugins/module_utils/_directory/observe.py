# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Observe what session_dir needs to know about a path. Changes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import typing as t

from .._containers.service import read_service, service_identity
from .._core.errors import SessionsError
from .._fs.ancestors import PathChain, way_to
from .._fs.chown_tree import OwnershipTally, Wanted, survey
from .._fs.fdopen import DirFd, open_directory, real_path
from .._fs.filesystem import Filesystem, filesystem_of
from .._fs.modes import Mode
from .._fs.users import Identity, group_name, group_number, identity_of, owner_name
from .._proc.access import first_closed, may_become, why_not_writable
from .._systemd.sandbox import Verdict, verdict
from .._systemd.state_directory import Kept, kept_by_systemd
from .._systemd.unit import Unit

DEFAULT_MODE = "0750"
_LOOK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Params(t.NamedTuple):
    """Options of the module; ``path`` is absolute and normalized.

    ``read_write_paths``: ReadWritePaths= of a drop-in of the unit that is still to be written. ``mode_given``: whether the mode option was
    set.
    """

    path: str
    mode: Mode
    state: str = "present"
    unit: str | None = None
    owner: str | None = None
    group: str | None = None
    allow_ephemeral: bool = False
    require_mount: bool = False
    min_free_bytes: int = 0
    min_free_inodes: int = 0
    recurse: bool = False
    read_write_paths: tuple[str, ...] = ()
    mode_given: bool = True


@dataclasses.dataclass(frozen=True)
class PathEntry:
    """What exists at the path. ``kind``: directory, link or other; ``place``: (device, inode), to recognise it later."""

    kind: str
    uid: int
    gid: int
    mode: int
    place: tuple[int, int] = (0, 0)


class State(t.NamedTuple):
    """Everything observed about the path.

    ``wanted``: its intended owner. ``sandbox``: the unit's permissions there, None without a unit. ``closed_to_owner``: the first directory
    above that the owner may not enter. ``not_writable``: why a real write as the owner failed, empty if it succeeded, None if it could not
    be tried. ``entries``: the number of entries of a directory to be removed. ``own_uid``: the user that this process runs as. ``kept``: a
    setting by which systemd manages the directory for the unit with its own mode.
    """

    way: PathChain
    entry: PathEntry | None
    filesystem: Filesystem
    wanted: Identity
    sandbox: Verdict | None = None
    closed_to_owner: str | None = None
    not_writable: str | None = None
    below: OwnershipTally | None = None
    entries: int = 0
    own_uid: int = 0
    kept: Kept | None = None

    @property
    def trusted(self) -> frozenset[int]:
        """The users that may be able to change the directories above: root, the intended owner, and the user of this process."""
        return frozenset((0, self.wanted.uid, self.own_uid))


def observed(params: Params) -> State:
    """Observe the path and the directories above it; those below only for ``recurse``.

    Raises SessionsError if this host does not have the unit, user or group.
    """
    wants = params.state == "present"
    unit = read_service(params.unit) if params.unit and wants else None
    named = _named_identity(params, unit) if wants else None
    way = way_to(params.path)
    with opened_base(way) as base:
        entry = None if way.missing else _entry_at(base, way.name)
        wanted = named or _kept_identity(params.group if wants else None, entry)
        if entry is None or entry.kind != "directory":
            state = State(way, entry, filesystem_of(base), wanted, own_uid=os.geteuid())
            return _with_use(state, unit, params.read_write_paths) if wants else state
        with opened_same(base, way, entry) as directory:
            state = State(way, entry, filesystem_of(directory), wanted, own_uid=os.geteuid())
            if not wants:
                return state._replace(entries=_count_entries(directory, way.path))
            return _with_use(_with_below(state, params, directory), unit, params.read_write_paths)


@contextlib.contextmanager
def opened_base(way: PathChain) -> t.Iterator[DirFd]:
    """Open the deepest existing directory of ``way``; raise SessionsError if it was replaced."""
    descriptor = open_directory(way.base)
    try:
        if real_path(descriptor) != way.base:
            raise SessionsError(
                f"{way.base} was replaced by a link during this run; find out which process did it and run again"
            )
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def opened_same(base: DirFd, way: PathChain, entry: PathEntry | None) -> t.Iterator[DirFd]:
    """Open the directory at the path without read access; raise SessionsError if it is not the one observed before."""
    try:
        descriptor = DirFd(os.open(way.name, _LOOK, dir_fd=base))
    except OSError as error:
        raise SessionsError(
            f"{way.path} was replaced during this run; find out which process did it and run again"
        ) from error
    try:
        if entry is None or _place(os.fstat(descriptor)) != entry.place:
            raise SessionsError(f"{way.path} was replaced during this run; find out which process did it and run again")
        yield descriptor
    finally:
        os.close(descriptor)


def reopened(directory: DirFd) -> DirFd:
    """Return a descriptor that can list the directory, which ``directory`` (O_PATH) cannot."""
    return DirFd(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory))


def wanted_mode(state: State, params: Params) -> Mode:
    """Return the intended mode of the directory: the option, or the mode that systemd sets at each start if the option is not set."""
    return Mode(state.kept.bits) if state.kept and not params.mode_given else params.mode


def _named_identity(params: Params, unit: Unit | None) -> Identity | None:
    """Return the owner according to the options; None if they do not name one."""
    by_unit = service_identity(unit) if unit else None
    if params.owner is not None:
        named = identity_of(params.owner, params.group)
        return by_unit if by_unit and by_unit.uid == named.uid and params.group is None else named
    return by_unit and (_in_group(by_unit, params.group) if params.group is not None else by_unit)


def _kept_identity(group: str | None, entry: PathEntry | None) -> Identity:
    """Return the current owner; the user of this process (root) if nothing exists."""
    uid, gid = (entry.uid, entry.gid) if entry else (os.geteuid(), os.getegid())
    kept = Identity(uid, gid, owner_name(uid), group_name(gid))
    return kept if group is None else _in_group(kept, group)


def _in_group(identity: Identity, group: str) -> Identity:
    gid = group_number(group)
    return identity._replace(gid=gid, group=group_name(gid))


def _entry_at(base: DirFd, name: str) -> PathEntry | None:
    try:
        status = os.stat(name, dir_fd=base, follow_symlinks=False)
    except FileNotFoundError:
        return None
    kind = "directory" if stat.S_ISDIR(status.st_mode) else "link" if stat.S_ISLNK(status.st_mode) else "other"
    return PathEntry(kind, status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), _place(status))


def _with_use(state: State, unit: Unit | None, read_write_paths: tuple[str, ...]) -> State:
    """Add what the owner can do at the path, on its own and inside the unit."""
    groups = _supplementary_groups(unit) if unit else ()
    kept = kept_by_systemd(unit, state.way.path) if unit else None
    state = state._replace(kept=kept)
    sandbox = verdict(unit.properties, state.way.path, read_write_paths) if unit else None
    if not may_become(state.wanted):
        return state._replace(sandbox=sandbox)
    closed = first_closed(state.wanted, [directory.path for directory in state.way.above], groups)
    exists = state.entry is not None and state.entry.kind == "directory"
    tried = (why_not_writable(state.wanted, state.way.path, groups) or "") if exists else None
    return state._replace(sandbox=sandbox, closed_to_owner=closed, not_writable=tried)


def _with_below(state: State, params: Params, directory: DirFd) -> State:
    """Add the number of entries below the path with the wrong owner or mode, for ``recurse``."""
    if not params.recurse:
        return state
    try:
        below = reopened(directory)
        try:
            return state._replace(below=survey(below, Wanted(state.wanted, params.mode)))
        finally:
            os.close(below)
    except OSError as error:
        raise SessionsError(f"cannot read everything below {state.way.path}: {error.strerror}; run as root") from error


def _count_entries(directory: DirFd, path: str) -> int:
    try:
        below = reopened(directory)
    except OSError as error:
        raise SessionsError(f"cannot list {path}: {error.strerror}; run as root") from error
    try:
        return len(os.listdir(below))
    finally:
        os.close(below)


def _supplementary_groups(unit: Unit) -> tuple[int, ...]:
    return tuple(group_number(name) for name in unit.properties["SupplementaryGroups"].split())


def _place(status: os.stat_result) -> tuple[int, int]:
    return (status.st_dev, status.st_ino)
