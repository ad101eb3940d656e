# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The service that runs a backend: a unit of systemd or, if no unit has the name, a service of Docker Compose. Reads only."""

from __future__ import annotations

import dataclasses
import typing as t

from .._core.errors import SessionsError
from .._core.query_cache import cached_query
from .._fs.users import Identity, identity_of
from .._systemd.unit import PROPERTIES, Unit, UnknownUnit, read_unit, unit_identity, unit_name

if t.TYPE_CHECKING:
    from .compose import Compose


@dataclasses.dataclass(frozen=True)
class ComposeService(Unit):
    """A service of Docker Compose, described like a unit: ``properties`` are those of its container, in the terms of systemd."""

    compose: Compose


def compose_of(unit: Unit) -> Compose | None:
    """Return the Compose service; None for a unit of systemd."""
    return unit.compose if isinstance(unit, ComposeService) else None


@cached_query
def read_service(name: str) -> Unit:
    """Return the unit ``name`` or, if systemd has none, the service or container of Docker Compose of that name.

    Raises UnknownUnit if neither exists, and SessionsError if neither can be queried or the container is not supported.
    """
    try:
        return read_unit(name)
    except UnknownUnit as unknown:
        from .compose import compose_service, properties_of
        from .compose_services import way_out

        called = unit_name(name)
        compose = compose_service(called.removesuffix(".service"))
        if compose:
            return ComposeService(called, {**dict.fromkeys(PROPERTIES, ""), **properties_of(compose)}, compose)
        steps = way_out(called)
        if steps:
            raise SessionsError(f"{unknown.missing}; {steps}") from None
        raise


def service_identity(unit: Unit) -> Identity:
    """Return user and group of the backend's files: in a running container those of its program, otherwise those of the unit.

    Raises SessionsError as unit_identity does.
    """
    from .detect import container_of

    container = container_of(unit)
    if container:
        from .recognise import owner_in

        inside = owner_in(container)
        if inside:
            return identity_of(str(inside[0]), str(inside[1]))
    return unit_identity(unit)
