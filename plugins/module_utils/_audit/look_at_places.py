# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Observe the directories that hold accounts. Changes nothing, and does not even try to write."""

from __future__ import annotations

import os
import shlex
import stat
import typing as t

from .._fs.ancestors import PathChain, untrusted_writer, way_to
from .._fs.fdopen import opened_directory, real_path
from .._fs.filesystem import Filesystem, filesystem_of, is_own_mount, why_ephemeral
from .._fs.users import Identity, group_number, owner_name
from .._proc.access import first_closed, may_become
from .._systemd.sandbox import verdict
from .._systemd.unit import Unit
from .._usage.process_paths import working_directories
from .facts import Place, Program
from .naming import named_by
from .programs import program_around

if t.TYPE_CHECKING:
    from .._systemd.effective import Sources

# Directives that show the unit something else at a path. The others only forbid writing.
_REPLACING = ("PrivateTmp", "TemporaryFileSystem", "RootDirectory", "RootImage", "BindPaths", "BindReadOnlyPaths")


class Backend(t.NamedTuple):
    """What is known about the backend. ``identity``: of its files, None if unknown. ``sources``: of its unit, None for a container.

    ``inside``: whether its program runs in a container, which has its own view of the filesystem.
    """

    unit: Unit | None = None
    identity: Identity | None = None
    sources: Sources | None = None
    inside: bool = False


def place_at(path: str, backend: Backend) -> Place:
    """Observe the directory at ``path``. Raises OSError or SessionsError if it cannot be opened safely."""
    way = way_to(path)
    with opened_directory(path) as opened:
        status, filesystem, real = os.fstat(opened), filesystem_of(opened), real_path(opened)
    place = Place(
        path,
        lost=why_ephemeral(filesystem, real) or "",
        is_link=os.path.islink(path),
        mode=stat.S_IMODE(status.st_mode),
        open_to_others=bool(status.st_mode & (stat.S_IROTH | stat.S_IXOTH | stat.S_IWOTH)) and _is_reachable(way),
        mounted_read_only=filesystem.read_only,
        free_bytes=filesystem.free_bytes,
        free_inodes=filesystem.free_inodes,
        mount=filesystem.mount_point if is_own_mount(filesystem) else "",
        program=Program() if backend.inside else program_around(real, _working(backend)),
    )
    return _with_unit(_with_owner(place, way, status, backend), real, filesystem, backend)


def _is_reachable(way: PathChain) -> bool:
    return all(directory.mode & stat.S_IXOTH for directory in way.above)


def _working(backend: Backend) -> list[str]:
    return working_directories(backend.unit) if backend.unit else []


def _with_owner(place: Place, way: PathChain, status: os.stat_result, backend: Backend) -> Place:
    identity = backend.identity
    trusted = {0, identity.uid} if identity else {0, status.st_uid}
    swappable = untrusted_writer(way, trusted) or ""
    place = place._replace(swappable=swappable, owner_can_swap=untrusted_writer(way, {0}) or "")
    if identity is None or identity.uid == 0 or backend.inside:
        return place
    groups = _groups(identity, backend.unit)
    if not _may_write(status, identity.uid, groups):
        place = place._replace(wrong_owner=owner_name(status.st_uid))
    if may_become(identity):
        closed = first_closed(identity, [directory.path for directory in way.above], groups)
        place = place._replace(closed=closed or "")
    return place


def _groups(identity: Identity, unit: Unit | None) -> tuple[int, ...]:
    named = unit.properties["SupplementaryGroups"].split() if unit else ()
    listed = os.getgrouplist(identity.owner, identity.gid) if not identity.owner.isdecimal() else [identity.gid]
    return (*listed, *map(group_number, named))


def _may_write(status: os.stat_result, uid: int, groups: t.Collection[int]) -> bool:
    """Return whether the mode lets a user create files in a directory."""
    shift = 6 if status.st_uid == uid else 3 if status.st_gid in groups else 0
    return status.st_mode >> shift & 0o3 == 0o3


def _with_unit(place: Place, real: str, filesystem: Filesystem, backend: Backend) -> Place:
    """Add what the unit makes of the path; a container has mounts of its own."""
    if backend.unit is None or backend.inside:
        return place
    seen = verdict(backend.unit.properties, real)
    if not seen.writable and seen.directive:
        name = seen.directive.partition("=")[0]
        replacing = name in _REPLACING or seen.directive == "ProtectHome=tmpfs"
        hidden, forbidden = (seen.directive, "") if replacing else ("", seen.directive)
        place = place._replace(replaced=hidden, read_only=forbidden, opening=seen.lines)
    waited = [_normal(item) for item in _split(backend.unit.properties["RequiresMountsFor"])]
    mount = filesystem.mount_point
    return place._replace(
        mount_required=any(path == mount or path.startswith(f"{mount}/") for path in waited),
        named_by=named_by(backend.unit, backend.sources, real) if backend.sources else "",
    )


def _split(shown: str) -> list[str]:
    try:
        return shlex.split(shown)
    except ValueError:  # another version of systemd may quote differently
        return shown.split()


def _normal(path: str) -> str:
    return os.path.realpath(path)
