# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What is known of a host before session_migrate looks at an account: unit, container, owner, legacy paths, receipt. Reads only."""

from __future__ import annotations

import contextlib
import os
import stat
import typing as t

from .._accounts.mount_points import closed_in
from .._accounts.receipts import RECEIPT, Entry, entries_in
from .._accounts.tombstone import is_tombstone
from .._accounts.work_area import known_document
from .._containers.detect import container_of
from .._containers.service import read_service, service_identity
from .._core.errors import SessionsError
from .._fs.fdopen import opened_directory
from .._fs.users import Identity, identity_of
from .._layouts.layout import Layout
from .._systemd.unit import Unit, UnknownUnit
from .origins import receipt_of
from .owners import Owners, owners_of
from .params import Params
from .restoring import RESTORES
from .sources import Source, directories_of, found_sources, layout_of, named_sources
from .switch import PlainFile, Switch

if t.TYPE_CHECKING:
    from .._containers.handling import Handling
    from .._containers.recognise import Container


class Known(t.NamedTuple):
    """What is known before accounts are looked at.

    ``handling``: how the container that the unit runs its program in is handled. ``receipt``: the document receipt.json,
    ``receipts``: what this run or one like it recorded. ``former``: other paths where the backend may keep accounts.
    """

    unit: Unit | None
    handling: Handling | None
    identity: Identity
    owners: Owners
    sources: tuple[Source, ...]
    layout: Layout
    receipt: t.Mapping[str, t.Any]
    receipts: t.Mapping[str, Entry]
    former: tuple[str, ...]


def known_of(params: Params) -> tuple[Params, Known]:
    """Return what is known of this host, and the parameters as it changes them: a container, or a rollback, has others."""
    unit = _unit_of(params)
    container = container_of(unit) if unit else None
    handling = _handled(container, params) if container else None
    params = _for_this_host(params, unit, handling)
    return params, _known_of(params, unit, handling)


def _for_this_host(params: Params, unit: Unit | None, handling: Handling | None) -> Params:
    """Return the parameters as the container or the rollback changes them."""
    if params.switch.attach == "volume" and not handling:
        raise SessionsError(
            f"'attach' is volume, but the program does not run in a container (unit: {params.unit or 'none'}); nothing was changed: "
            "leave it at auto"
        )
    if handling:
        return _for_container(params, handling)
    # A rollback of a container leads into the container only.
    return _turned_round(params, unit) if params.state == "rolled_back" else params


def _known_of(params: Params, unit: Unit | None, handling: Handling | None) -> Known:
    identity = _identity(params, unit, (*_owned_by_program(params.sources, params), params.path))
    _require_directory_or_nothing(params.path)
    owners = owners_of(unit, identity, foreign=params.allow_foreign_owner)
    receipt = known_document(params.path, RECEIPT) if os.geteuid() == 0 else {}
    owners = owners._replace(closed=closed_in(receipt))  # only root can have closed any
    if handling:
        sources = _sources_in(handling, params, owners)
    elif params.sources:
        sources = named_sources(params.sources, params.path, owners)
    else:
        sources = found_sources(unit, params.path, params.layout, owners) if unit else ()
    receipt = receipt or known_document(params.path, RECEIPT)
    layout = layout_of(sources, params.path, params.layout)
    places = [Source(params.path, params.path)] if params.restores else sources
    identity = _identity(params, unit, (*directories_of(places, layout), params.path))
    migrated = entries_in(receipt)
    receipts = entries_in(known_document(params.path, RESTORES)) if params.restores else migrated
    former = _former_places(_owned_by_program(sources, params), migrated, params.path)
    return Known(unit, handling, identity, owners, sources, layout, receipt, receipts, former)


_Item = t.TypeVar("_Item")


def _owned_by_program(sources: tuple[_Item, ...], params: Params) -> tuple[_Item, ...]:
    """Return the sources that a backend may have used: none if they are snapshots, which belong to root."""
    return () if params.restores else sources


def _unit_of(params: Params) -> Unit | None:
    """Read the unit. Raises SessionsError if there is none of that name, and names processes that use accounts."""
    try:
        return read_service(params.unit) if params.unit else None
    except UnknownUnit as error:
        from .._containers.loose_backends import what_to_do

        raise SessionsError(f"{error}{what_to_do(params.sources, params.layout)}") from error


def _handled(container: Container, params: Params) -> Handling:
    if params.state == "rolled_back" and container.compose:
        from .._containers.compose_services import way_back

        receipts = entries_in(known_document(params.path, RECEIPT))
        if not {entry.source for entry in receipts.values()}.issuperset(params.sources):
            raise SessionsError(
                f"the accounts of {container.unit} can only be rolled back into its container, not to {params.sources[0]}; nothing was "
                "changed: leave 'src' out"
            )
        return way_back(container, params.path, params.layout)
    if params.state == "rolled_back":
        raise SessionsError(
            f"{container.unit} runs its program in a container ({container.called}), which has no former path to return to, so its "
            f"accounts stay at {params.path}; nothing was changed: to keep them at another path, stop it, copy them, change its volume and "
            "start it"
        )
    from .._containers.handling import handling_of

    return handling_of(container, params.path, params.layout)


def _for_container(params: Params, handling: Handling) -> Params:
    """Adapt the parameters to a container: it reads no variables of its unit, its engine stops it, and its accounts are always copied."""
    from .._containers.handling import require_attach, require_outside

    if params.state == "rolled_back":
        return params._replace(sources=(), switch=Switch((), None))
    if params.restores:
        if handling.root is not None:
            raise SessionsError(
                f"the program of {params.unit} keeps its accounts in its container, not at {params.path}; nothing was changed: run persist "
                "first, or name the directory that the container has mounted"
            )
        return params._replace(switch=Switch((), None))
    require_outside(handling, params.sources)
    require_attach(handling, params.switch.attach, params.path)
    if handling.root is None:
        return params._replace(switch=Switch((), None))
    plain = (PlainFile(*handling.drop_in),) if handling.drop_in else ()
    return params._replace(sources=(), engine="native", switch=Switch((), None, plain=plain))


def _sources_in(handling: Handling, params: Params, owners: Owners) -> tuple[Source, ...]:
    """Return the container's own accounts directory, or the named sources if it already has the sessions path mounted."""
    root = handling.root
    if root is None:
        return named_sources(params.sources, params.path, owners)
    return (Source(root.path, root.path, None, owners.receiver.uid),)


def _former_places(sources: t.Iterable[Source], receipts: t.Mapping[str, Entry], path: str) -> tuple[str, ...]:
    """Return the paths, other than ``path``, where a backend may still keep accounts."""
    places = (*(source.path for source in sources), *(entry.source for entry in receipts.values()))
    return tuple(place for place in dict.fromkeys(places) if place != path)


def _turned_round(params: Params, unit: Unit | None) -> Params:
    """Return the parameters of the reverse migration, which is what a rollback is."""
    from .rollback import origin_of, switch_back

    try:
        with opened_directory(params.path):
            receipt = receipt_of(params.path)
    except FileNotFoundError as error:
        raise SessionsError(
            f"{params.path} does not exist, so nothing can be rolled back from it; make sure that its volume is mounted"
        ) from error
    origin = params.sources[0] if params.sources else origin_of(receipt, unit, params.path)
    switch = switch_back(receipt, unit, params.path)
    return params._replace(sources=(params.path,), path=origin, state="migrated", switch=switch, back=True)


def _identity(params: Params, unit: Unit | None, places: t.Iterable[str]) -> Identity:
    """Return the future owner of the accounts: as named, else the unit's user, else the owner of the first of ``places`` that exists."""
    if unit is not None:
        own = service_identity(unit)
        return identity_of(
            params.owner or own.owner, params.group or (own.group if params.owner in (None, own.owner) else None)
        )
    if params.owner is not None:
        return identity_of(params.owner, params.group)
    for place in places:
        with contextlib.suppress(OSError, SessionsError), opened_directory(place) as directory:
            status = os.fstat(directory)
            return identity_of(str(status.st_uid), params.group or str(status.st_gid))
    return identity_of(str(os.geteuid()), params.group or str(os.getegid()))


def _require_directory_or_nothing(path: str) -> None:
    directory, name = os.path.split(path)
    if not name:
        raise SessionsError("the sessions path is the root of the file system; choose a separate directory")
    try:
        with opened_directory(directory) as parent:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    except NotADirectoryError as error:
        raise SessionsError(
            f"a component of the path {path} is not a directory; choose another sessions path"
        ) from error
    if stat.S_ISLNK(status.st_mode):
        raise SessionsError(f"the sessions path {path} is a symbolic link; name the directory that it points to")
    if not stat.S_ISDIR(status.st_mode) and not is_tombstone(path):
        raise SessionsError(f"the sessions path {path} is not a directory; move that file away, or choose another path")
