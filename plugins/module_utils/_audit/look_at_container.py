# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Observe the container of a backend: what of its accounts is deleted with it. Only loaded for a backend in a container."""

from __future__ import annotations

import os
import typing as t

from .._containers.recognise import Container
from .._containers.view import ANONYMOUS, LAYER, MOUNT, UNREACHABLE, Root, roots_of
from .._fs.fdopen import follow_no_link_below
from .facts import Box

if t.TYPE_CHECKING:
    from .._layouts.layout import Layout

# Kinds of storage that are deleted with the container, and their description.
_LOST = {
    LAYER: "on the container's own layer",
    ANONYMOUS: "on an anonymous volume",
    UNREACHABLE: "in storage that root of the host cannot access",
}
_UNKNOWN_GRACE = 60.0


def box_of(container: Container, layout: Layout | None) -> Box:
    """Return what of the container's accounts is lost with it. Raises SessionsError if its processes cannot be examined."""
    kinds = tuple((root.there, _LOST[root.kind]) for root in _roots(container, layout) if root.kind in _LOST)
    grace = container.box.grace if container.box else _UNKNOWN_GRACE
    # Podman lets systemd decide how a Quadlet is stopped, and its own time then counts as well.
    return Box(f"{container.unit} ({container.called})", kinds, container.trouble, grace)


def other_directories(container: Container, path: str, layout: Layout | None) -> tuple[str, ...]:
    """Return the directories of the host, other than ``path``, in which a running container keeps accounts."""
    found = [root.path for root in _roots(container, layout) if root.kind == MOUNT and root.path]
    for place in found:
        follow_no_link_below(place)
    return tuple(place for place in found if not _is_same(place, path))


def _roots(container: Container, layout: Layout | None) -> tuple[Root, ...]:
    box = container.box
    return roots_of(box, layout) if box and box.pid else ()


def _is_same(place: str, path: str) -> bool:
    try:
        return os.path.samefile(place, path)
    except OSError:
        return False
