# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Containers that no unit starts, found where a unit was named that does not exist: what is to be done about them. Reads only.

Those of Docker Compose get the same verbs as units (_compose.py): their sessions path is mounted by an override file that Compose merges by
itself. Others (`docker run -d` by hand, Compose with Podman) are not touched, for nothing says how they are made anew: the operator gets
the steps.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ._compose import LABEL, Compose, conditions_for, found_files, identities, is_changed, next_line
from ._container_handling import Container, Handling, WayBack, by_hand
from ._container_inspect import Box, inspected
from ._container_view import LAYER, MOUNT, Root, roots_of
from ._container_words import DOCKER, PODMAN, lasting_mount_over
from ._errors import SessionsError
from ._paths import follow_no_link_below, read_file

if t.TYPE_CHECKING:
    from ._layouts import Layout

_OVERRIDE = """\
# Written by Ansible (whatsapp_ops.sessions): where the accounts of this service lie on the host.
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
    """Say how a service of Compose runs its program, and what Compose would make its next container of."""
    line, trouble = None, ""
    try:
        line = next_line(compose)
    except SessionsError as error:
        trouble = str(error)
    return Container(unit, DOCKER, line, compose.box, "", trouble, active, compose)


def brought(container: Container, root: Root, path: str, head: str, trouble: str) -> tuple[str, str] | None:
    """Return the override file, and its text, that has the next container mount ``path``; None where the project does so by itself.

    Raises SessionsError, with the steps, where the accounts cannot be brought there, or the project's own files have to be changed.
    """
    compose, line = t.cast("Compose", container.compose), container.line
    option = option_of(compose, path, root.there)
    if trouble or line is None:
        raise SessionsError(
            f"{head}, because {trouble}: add {option}, copy the accounts out ({by_hand(container, root.there, path, root.owner)}), "
            f"and have Compose make the container anew ({' '.join(compose.command)} up -d {compose.service})"
        )
    follow_no_link_below(root.path)
    planned = lasting_mount_over(line, root.inside)
    if planned and planned.destination == root.inside and os.path.realpath(planned.source) == os.path.realpath(path):
        return None
    then = "without having Compose make the container anew (no 'up'), and run again, which stops it, copies its accounts and makes it anew"
    if planned:
        raise SessionsError(
            f"{head}: its next container has {planned.source} at {planned.destination} instead; make that {option}, {then}"
        )
    if not compose.override:
        raise SessionsError(
            f"{head}: Compose merges no file of ours into this project by itself, for it has an override file already or was started with "
            f"files that are named (-f); add {option}, {then}"
        )
    if is_changed(compose):
        raise SessionsError(
            f"{head}: its next container would differ from this one in more than the mount, for the project's files, or variables that "
            f"they take from a shell, are not what they were; put them back, or add {option}, {then}"
        )
    return compose.override, _override(compose.service, path, root.inside)


def way_back(container: Container, path: str, layout: Layout | None) -> Handling:
    """Say how the accounts at ``path`` go back into the container. Raises SessionsError where they cannot."""
    compose, box = t.cast("Compose", container.compose), container.box
    if box is None or not box.pid:
        raise SessionsError(
            f"the container of {container.unit} does not run, so nothing was changed: start it and run again"
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
            return Handling(container)  # it is there already
    elif text == _override(compose.service, path, mount.destination):
        why = container.trouble
        if not why and is_changed(compose):
            why = (
                "the project's files, or variables that they take from a shell, are not what the container was made of"
            )
        if why:
            raise SessionsError(
                f"Compose cannot make the container of {container.unit} anew without {file}: {why}; nothing was changed, put that right "
                "and run again"
            )
        return Handling(container, back=WayBack(file, mount.destination))
    raise SessionsError(
        f"{container.unit} runs its program in a container ({container.called}), and no override file that persist wrote, unchanged since, "
        f"has {path} mounted there, so its accounts stay where they are; nothing was changed: to have it keep them elsewhere, stop it, "
        "copy them, change its volume, and have Compose make the container anew"
    )


def option_of(compose: Compose, path: str, inside: str) -> str:
    """Say what has to be added to the project's own files."""
    file = compose.read[-1] if compose.files else "the project's file"
    return f"'{path}:{inside}' to 'volumes' of {compose.service} in {file}"


def _override(service: str, path: str, inside: str) -> str:
    return _OVERRIDE.format(service=service, path=path, inside=inside)


def way_out(unit: str) -> str:
    """Say what to do where there is no unit ``unit``, but a container of its name runs without one; '' where there is none."""
    name = unit.removesuffix(".service")
    with contextlib.suppress(SessionsError, OSError):
        for engine in (DOCKER, PODMAN):
            for found in _called(engine, name):
                box = inspected(engine, found)
                if box and box.pid:
                    return _steps(box, name)
    return ""


def _called(engine: str, name: str) -> list[str]:
    """Return the running containers that are the Compose service ``name``, else those of that name."""
    found = (identities(engine, condition) for condition in conditions_for(engine, name))
    return next(filter(None, found), [])


def _steps(box: Box, name: str) -> str:
    project, service = (box.labels.get(f"{LABEL}{label}", "") for label in ("project", "service"))
    file = box.labels.get(f"{LABEL}project.config_files", "").partition(",")[0]
    what = f"service {service} of the Compose project {project}" if project and service else "which no unit starts"
    head = f"the container {box.name} is there instead ({box.engine}, {what})"
    roots = roots_of(box, None)
    if not roots:
        return f"{head}, and no account was found in it"
    if len(roots) > 1:
        places = ", ".join(root.there for root in roots)
        return f"{head}, with accounts in {len(roots)} directories ({places}): give each of them a volume of its own"
    root = roots[0]
    if root.kind == MOUNT:
        return (
            f"{head}, and keeps its accounts on {root.on_host} (there: {root.there}), which outlives it: "
            "it needs nothing of this collection, keep that volume when the container is made anew"
        )
    return (
        f"{head}, and keeps its accounts in what goes with the container (there: {root.there}): "
        f"{_to_do(box, root, f'/var/lib/{name}/sessions', service, file)}"
    )


def _to_do(box: Box, root: Root, path: str, service: str, file: str) -> str:
    engine, (uid, gid) = box.engine, root.owner
    option = f"'{path}:{root.there}'"
    added = (
        f"add {option} to 'volumes' of {service} in {file}"
        if service
        else f"have '-v {path}:{root.there}' in its next 'run'"
    )
    made = f"{engine} compose -f {file} up -d {service}" if service else f"{engine} rm {box.name} and 'run' it"
    archive = "-a " if engine == DOCKER else ""
    return (
        f"{added}, then copy the accounts out so that nothing is written after the copy (mkdir -p {path} && {engine} pause {box.name} && "
        f"{engine} cp {archive}{box.name}:{root.there}/. {path}/ && chown -R {uid}:{gid} {path} && {engine} kill {box.name}), "
        f"and make it anew ({made})"
    )
