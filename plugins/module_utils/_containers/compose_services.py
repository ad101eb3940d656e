# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Decide what to do about containers that no unit starts, if the named unit does not exist. Reads only.

Services of Docker Compose are handled like units (compose.py): an override file that Compose merges automatically mounts their sessions
path. Other containers (`docker run -d`, Compose with Podman) are not changed, because it is unknown how they are recreated: the error lists
the manual steps.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from .._core.errors import SessionsError
from .._fs.fdopen import follow_no_link_below
from .._fs.files import read_file
from .command_lines import DOCKER, PODMAN, lasting_mount_over
from .compose import LABEL, Compose, conditions_for, found_files, identities, is_changed, next_line
from .handling import Handling, WayBack, by_hand
from .inspect import Box, inspected
from .recognise import Container
from .view import LAYER, MOUNT, Root, roots_of

if t.TYPE_CHECKING:
    from .._layouts.layout import Layout

_OVERRIDE = """\
# Written by Ansible (whatsapp_ops.sessions): the directory of the accounts of this service on the host.
services:
  "{service}":
    volumes:
      - type: bind
        source: "{path}"
        target: "{inside}"
        bind:
          create_host_path: false
"""


def container_of_compose(unit: str, compose: Compose, active: bool) -> Container:
    """Describe how a Compose service runs its program, and what Compose would create its next container from."""
    line, trouble = None, ""
    try:
        line = next_line(compose)
    except SessionsError as error:
        trouble = str(error)
    return Container(unit, DOCKER, line, compose.box, "", trouble, active, compose)


def brought(container: Container, root: Root, path: str, head: str, trouble: str) -> tuple[str, str] | None:
    """Return the path and content of the override file that makes the next container mount ``path``; None if the project does already.

    Raises SessionsError, with manual steps, if the accounts cannot be migrated or the project's own files have to be changed.
    """
    compose, line = t.cast("Compose", container.compose), container.line
    option = option_of(compose, path, root.there)
    if trouble or line is None:
        raise SessionsError(
            f"{head}, because {trouble}: add {option}, copy the accounts out ({by_hand(container, root.there, path, root.owner)}), "
            f"and let Compose recreate the container ({' '.join(compose.command)} up -d {compose.service})"
        )
    follow_no_link_below(root.path)
    planned = lasting_mount_over(line, root.inside)
    if planned and planned.destination == root.inside and os.path.realpath(planned.source) == os.path.realpath(path):
        return None
    then = "do not let Compose recreate the container yet (no 'up'), and run again, which stops it, copies its accounts and recreates it"
    if planned:
        raise SessionsError(
            f"{head}: its next container has {planned.source} at {planned.destination} instead; change that to {option}, {then}"
        )
    if not compose.override:
        raise SessionsError(
            f"{head}: Compose does not merge an additional file into this project, because it has an override file already or was started "
            f"with named files (-f); add {option}, {then}"
        )
    if is_changed(compose):
        raise SessionsError(
            f"{head}: its next container would differ from this one in more than the mount, because the project's files, or variables that "
            f"they take from a shell, have changed; restore them, or add {option}, {then}"
        )
    return compose.override, _override(compose.service, path, root.inside)


def way_back(container: Container, path: str, layout: Layout | None) -> Handling:
    """Decide how the accounts at ``path`` are rolled back into the container. Raises SessionsError if they cannot be."""
    compose, box = t.cast("Compose", container.compose), container.box
    if box is None or not box.pid:
        raise SessionsError(
            f"the container of {container.unit} is not running, so nothing was changed: start it and run again"
        )
    mount = next(
        (one for one in box.mounts if one.kind == "bind" and os.path.realpath(one.source) == os.path.realpath(path)),
        None,
    )
    file = next(iter(found_files(compose.directory)[1:]), "")
    text = (read_file(file) or b"").decode("utf-8", "replace") if file else ""
    if mount is None:
        roots = roots_of(box, layout)
        if not text and roots and roots[0].kind == LAYER:
            return Handling(container)  # rolled back already
    elif text == _override(compose.service, path, mount.destination):
        why = container.trouble
        if not why and is_changed(compose):
            why = "the project's files, or variables that they take from a shell, have changed since the container was created"
        if why:
            raise SessionsError(
                f"Compose cannot recreate the container of {container.unit} without {file}: {why}; nothing was changed, correct that "
                "and run again"
            )
        return Handling(container, back=WayBack(file, mount.destination))
    raise SessionsError(
        f"{container.unit} runs its program in a container ({container.called}), and there is no unchanged override file of this "
        f"collection that mounts {path}, so its accounts stay in place; nothing was changed: to store them elsewhere, stop it, "
        "copy them, change its volume, and let Compose recreate the container"
    )


def option_of(compose: Compose, path: str, inside: str) -> str:
    """Return what has to be added to the project's own files."""
    file = compose.read[-1] if compose.files else "the project's file"
    return f"'{path}:{inside}' to 'volumes' of {compose.service} in {file}"


def _override(service: str, path: str, inside: str) -> str:
    return _OVERRIDE.format(service=service, path=path, inside=inside)


def way_out(unit: str) -> str:
    """Return what to do if there is no unit ``unit`` but a running container of that name without one; '' if there is none."""
    name = unit.removesuffix(".service")
    with contextlib.suppress(SessionsError, OSError):
        for engine in (DOCKER, PODMAN):
            for found in _called(engine, name):
                box = inspected(engine, found)
                if box and box.pid:
                    return _steps(box, name)
    return ""


def _called(engine: str, name: str) -> list[str]:
    """Return the running containers of the Compose service ``name``, else those with that name."""
    found = (identities(engine, condition) for condition in conditions_for(engine, name))
    return next(filter(None, found), [])


def _steps(box: Box, name: str) -> str:
    project, service = (box.labels.get(f"{LABEL}{label}", "") for label in ("project", "service"))
    file = box.labels.get(f"{LABEL}project.config_files", "").partition(",")[0]
    what = f"service {service} of the Compose project {project}" if project and service else "which no unit starts"
    head = f"a container {box.name} exists instead ({box.engine}, {what})"
    roots = roots_of(box, None)
    if not roots:
        return f"{head}, and no account was found in it"
    if len(roots) > 1:
        places = ", ".join(root.there for root in roots)
        return f"{head}, with accounts in {len(roots)} directories ({places}): mount a separate volume at each of them"
    root = roots[0]
    if root.kind == MOUNT:
        return (
            f"{head}, and keeps its accounts on {root.on_host} (in the container: {root.there}), which outlives it: "
            "no migration is needed, keep that volume when the container is recreated"
        )
    return (
        f"{head}, and keeps its accounts in storage that is deleted with the container (in the container: {root.there}): "
        f"{_to_do(box, root, f'/var/lib/{name}/sessions', service, file)}"
    )


def _to_do(box: Box, root: Root, path: str, service: str, file: str) -> str:
    engine, (uid, gid) = box.engine, root.owner
    option = f"'{path}:{root.there}'"
    added = (
        f"add {option} to 'volumes' of {service} in {file}"
        if service
        else f"add '-v {path}:{root.there}' to its next 'run'"
    )
    made = f"{engine} compose -f {file} up -d {service}" if service else f"{engine} rm {box.name} and 'run' it"
    archive = "-a " if engine == DOCKER else ""
    return (
        f"{added}, then copy the accounts out so that nothing is written after the copy (mkdir -p {path} && {engine} pause {box.name} && "
        f"{engine} cp {archive}{box.name}:{root.there}/. {path}/ && chown -R {uid}:{gid} {path} && {engine} kill {box.name}), "
        f"and recreate it ({made})"
    )
