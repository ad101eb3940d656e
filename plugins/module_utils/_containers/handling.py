# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Decide how to handle a unit whose program runs in a container (Podman, Docker), before anything is changed. Reads only.

The main process of such a unit is conmon or the client of the engine. So its environment and open files show nothing about the program, a
variable in a drop-in never reaches it, and each stop may discard what the program wrote.

Four cases: the container mounts the sessions path already (nothing to do); its accounts are in another directory of the host that outlives
the container (that directory is the sessions path, so the operator has to configure it); they are in storage that is deleted with the
container, and the next start mounts the sessions path there (they are migrated, see container_run.py); anything else is refused with the
manual steps.
"""

from __future__ import annotations

import contextlib
import os
import re
import typing as t

from .._core.errors import SessionsError
from .._fs.fdopen import follow_no_link_below
from .._proc.control_groups import group_of
from .command_lines import DOCKER, Mounted, lasting_mount_over, same_or_below
from .recognise import Container, roots_in
from .view import ANONYMOUS, LAYER, MOUNT, Root, image_has_files, sees

if t.TYPE_CHECKING:
    from .._layouts.layout import Layout
    from .inspect import Box

DROP_IN = "20-sessions.conf"
_QUADLETS = "/etc/containers/systemd"
# Paths that Quadlet and `-v` accept without quoting or separators.
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./@+~=-]+")


class WayBack(t.NamedTuple):
    """How a Compose service is rolled back into its container: by removing ``file``, which mounts the accounts at ``inside``."""

    file: str
    inside: str


class Handling(t.NamedTuple):
    """How to handle a container. ``root``: the accounts to migrate to the sessions path, None if it is mounted already. ``drop_in``:
    path and content of a file for Quadlet or Compose that adds the mount, None if the next start has it. ``back``: how to roll back.
    """

    container: Container
    root: Root | None = None
    drop_in: tuple[str, str] | None = None
    back: WayBack | None = None


def handling_of(container: Container, path: str, layout: Layout | None) -> Handling:
    """Decide how the accounts get to ``path``. Raises SessionsError with the next step if that is impossible."""
    container_box = container.box
    follow_no_link_below(os.path.realpath(path))
    if container_box:
        _follow_none_of(container_box)
    if container_box is None or not container_box.pid:
        return _stopped(container, path)
    real = os.path.realpath(path)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        status = os.stat(real)
        inode = (status.st_dev, status.st_ino)
        roots = roots_in(container.unit, layout)
        used = next((root.inside for root in roots if root.inode == inode), "") or sees(container_box, inode, real)
        if used:
            _require_alone(container, [root for root in roots if root.inode != inode], path)
            _require_next_start(container, container_box, used, path)
            return Handling(container)
    roots = roots_in(container.unit, layout)
    if not roots:
        raise SessionsError(
            f"{container.unit} runs its program in a container ({container.called}), no account was found in it, and it does not mount "
            f"{path}; nothing was changed: mount the directory of the accounts ({_option(container, path, 'DIRECTORY')}), "
            "or, if that is mounted already, set 'path' to it"
        )
    if len(roots) > 1:
        raise SessionsError(
            f"the container of {container.unit} has accounts in {len(roots)} directories ({', '.join(root.there for root in roots)}); "
            "nothing was changed: mount a separate volume at each of them, or remove the copies that are not in use"
        )
    return _brought(container, container_box, roots[0], path)


def _follow_none_of(box: Box) -> None:
    """Do not follow symbolic links in storage that the container can write: they may look like links of the host's root."""
    places = [box.upper, *(mount.source for mount in box.mounts if mount.writable and mount.kind in ("bind", "volume"))]
    for place in filter(None, places):
        real = os.path.realpath(place)
        if real != "/":  # a container that can write there is root on the host anyway
            follow_no_link_below(real)


def require_outside(handling: Handling, sources: t.Iterable[str]) -> None:
    """Refuse legacy paths that cannot be right: in storage that is deleted with the container, or not where it keeps its accounts."""
    box, root, unit = handling.container.box, handling.root, handling.container.unit
    for given in sources:
        real = os.path.realpath(given)
        if root is not None and real != root.path and os.path.isdir(real):
            raise SessionsError(
                f"the container of {unit} keeps its accounts in {root.there} (on the host: {root.on_host}), not in {given}; nothing was "
                "changed: set no legacy path, this directory is found automatically; migrate others after the sessions path is mounted"
            )
        gone = [box.upper, *(mount.source for mount in box.mounts if not mount.lasting)] if box else []
        if root is None and any(place and same_or_below(real, os.path.realpath(place)) for place in gone):
            raise SessionsError(
                f"{given} is deleted with the container of {unit} when that stops; nothing was changed: copy its content to a directory of "
                "the host first, and use that as the legacy path"
            )


def require_attach(handling: Handling, attach: str, path: str) -> None:
    """Refuse values of ``attach`` that are impossible for containers."""
    container, root = handling.container, handling.root
    if attach == "bind":
        raise SessionsError(
            f"'attach' is bind, but {container.unit} runs its program in a container ({container.called}), which has its own mounts; "
            "nothing was changed: set 'attach' to auto or volume"
        )
    if attach == "none" and root is not None and handling.drop_in:
        raise SessionsError(
            f"'attach' is none, but the next container of {container.unit} does not mount {path}; nothing was changed: add "
            f"{_option(container, path, root.there)}, without restarting it{_reload(container)}, and run again"
        )


def by_hand(container: Container, inside: str, path: str, owner: tuple[int, int] | None = None) -> str:
    """Return commands to copy accounts out without losing writes: the program cannot write after the copy."""
    name = container.box.name if container.box else "CONTAINER"
    if container.compose:  # a stopped Compose container keeps its layer
        owned = f" && chown -R {owner[0]}:{owner[1]} {path}" if owner else ""
        return f"docker stop {name} && mkdir -p {path} && docker cp -a {name}:{inside}/. {path}/{owned}"
    copied = f"{container.engine} cp {name}:{inside}/. {path}/" + (
        f" && chown -R {owner[0]}:{owner[1]} {path}" if owner else ""
    )
    if container.engine == DOCKER:
        return f"docker pause {name} && {copied} && docker kill {name}"
    # Podman cannot kill a paused container with control groups of version 1.
    group = _scope_of(container)
    return f"systemctl kill -s STOP {group} && {copied} && systemctl kill -s KILL {group}"


def _scope_of(container: Container) -> str:
    """Return the systemd unit of a Podman container's processes: its own unit (Quadlet) or a scope."""
    identity, pid = (container.box.id, container.box.pid) if container.box else ("", 0)
    parts = group_of(pid).split("/") if pid else []
    if container.unit in parts or (container.quadlet and not parts[1:]):
        return container.unit
    return next((part for part in parts if part.endswith(".scope") and identity in part), "libpod-ID.scope")


def _stopped(container: Container, path: str) -> Handling:
    """Handle a container that is not running: accept it only if the next one will mount the sessions path.

    A container that may be running but cannot be inspected is never accepted: a restart could destroy its accounts.
    """
    real = os.path.realpath(path)
    sources = [mount.source for mount in container.line.mounts if mount.lasting] if container.line else []
    # A stopped container of Compose keeps its layer, which may hold accounts that the next container would not have.
    if container.compose:
        sources = [mount.source for mount in container.compose.box.mounts if mount.lasting and mount.writable]
    if not container.active and any(place.startswith("/") and os.path.realpath(place) == real for place in sources):
        return Handling(container)
    why = container.trouble or "it is not running"
    then = "stop it" if container.active else "or start it"
    raise SessionsError(
        f"{container.unit} runs its program in a container ({container.called}), and it is unknown where it keeps accounts: {why}; "
        f"nothing was changed: mount {path} where the program keeps them ({_option(container, path, 'DIRECTORY')}), copy them out "
        f"first ({by_hand(container, 'DIRECTORY', path)}), {then}, and run again"
    )


def _require_alone(container: Container, others: t.Sequence[Root], path: str) -> None:
    if others:
        raise SessionsError(
            f"the container of {container.unit} mounts {path} but also keeps accounts in {others[0].there}; nothing was changed: "
            "move those in use to the sessions path while it is stopped, and remove the others"
        )


def _require_next_start(container: Container, box: Box, inside: str, path: str) -> None:
    """Check that the sessions path is mounted writable in the running container, and will be in the next one."""
    over = [mount for mount in box.mounts if same_or_below(inside, os.path.normpath(mount.destination))]
    deepest = max(over, key=lambda mount: len(mount.destination), default=None)
    if deepest and not deepest.writable:
        raise SessionsError(
            f"the running container of {container.unit} mounts {path} at {inside} read-only; nothing was changed: "
            "remove the option that makes the mount read-only (ro), and run again"
        )
    if not container.line or not container.line.makes_anew:
        return  # the same container is started again
    planned = lasting_mount_over(container.line, inside)
    if planned is None or not _leads_to(planned, box, inside, path):
        raise SessionsError(
            f"the running container of {container.unit} mounts {path} at {inside}, but its next start does not mount it there writable; "
            f"nothing was changed: add {_option(container, path, inside)}{_reload(container)} and run again"
        )


def _leads_to(planned: Mounted, box: Box, inside: str, path: str) -> bool:
    """Return whether a mount of the next start provides ``path`` at ``inside``, as in the running container."""
    if planned.source.startswith("/"):
        place = os.path.normpath(f"{planned.source}/{inside[len(planned.destination.rstrip('/')) :]}")
        return os.path.realpath(place) == os.path.realpath(path)
    return any(
        mount.kind == "volume"
        and mount.name == planned.source
        and os.path.normpath(mount.destination) == planned.destination
        for mount in box.mounts
    )


def _brought(container: Container, box: Box, root: Root, path: str) -> Handling:
    inside = root.there
    _require_not_lasting(container, root)
    where = {LAYER: "in the container's own layer", ANONYMOUS: "on an anonymous volume"}.get(
        root.kind, "where root cannot access them"
    )
    head = (
        f"the container of {container.unit} ({container.called}) keeps its accounts {where} (in the container: {inside}), "
        "which is deleted with the container; nothing was changed"
    )
    trouble = _trouble(container, box, root, path)
    if container.compose:
        from .compose_services import brought

        return Handling(container, root, brought(container, root, path, head, trouble))
    option = _option(container, path, inside)
    if trouble:
        raise SessionsError(
            f"{head}, because {trouble}: add {option}, reload systemd without restarting the unit ('systemctl daemon-reload'), "
            f"copy the accounts out so that nothing is written after the copy ({by_hand(container, inside, path, root.owner)}), "
            "start it and run again"
        )
    follow_no_link_below(root.path)
    planned = lasting_mount_over(container.line, root.inside) if container.line else None
    if planned and planned.destination == root.inside and os.path.realpath(planned.source) == os.path.realpath(path):
        return Handling(container, root)
    _require_place_for_mount(container, root, planned, f"{head}: ", option)
    return Handling(container, root, _quadlet_drop_in(container, root, path))


def _require_place_for_mount(container: Container, root: Root, planned: Mounted | None, head: str, option: str) -> None:
    """Raise SessionsError if this run cannot add the mount ``option`` to the next start; ``planned``: the mount that it has there now."""
    if planned:
        raise SessionsError(
            f"{head}the next start of {container.unit} mounts {planned.source} at {planned.destination} instead; "
            f"change that to {option}, reload systemd without restarting the unit, and run again"
        )
    taken = container.line and any(mount.destination == root.inside for mount in container.line.mounts)
    if taken:  # engines reject two mounts at the same directory
        raise SessionsError(
            f"{head}replace the option that mounts {root.there} by {option}, reload systemd ('systemctl daemon-reload') without restarting "
            f"{container.unit}, and run again, which then copies the accounts out of the running container before it restarts it"
        )
    if not container.quadlet or _is_template(container.quadlet):
        raise SessionsError(
            f"{head}add {option}, reload systemd ('systemctl daemon-reload') without restarting {container.unit}, "
            "and run again, which then copies the accounts out of the running container before it restarts it"
        )


def _require_not_lasting(container: Container, root: Root) -> None:
    if root.kind == MOUNT:
        raise SessionsError(
            f"the container of {container.unit} ({container.called}) keeps its accounts on {root.on_host} (in the container: "
            f"{root.there}), which outlives the container and therefore is its sessions path; nothing was changed: "
            f"set 'path' to {root.on_host} and run again"
        )


def _trouble(container: Container, box: Box, root: Root, path: str) -> str:
    """Return why accounts cannot be copied from the running container; '' if they can."""
    if not root.path:
        return "that directory is not accessible from the host"
    if root.holds_program:
        return "a mount would hide the directory of its program"
    if not _PLAIN_PATH.fullmatch(path) or not _PLAIN_PATH.fullmatch(root.inside):
        return "a path has characters that are not supported in a mount option"
    if box.paused:
        return "it is paused"
    if container.line is None or not container.line.makes_anew:
        return container.trouble or "it is unknown how its next container is created"
    if root.kind == LAYER and image_has_files(box, root.inside):
        return "its image contains files in that directory"
    if _is_enforcing():
        return "SELinux would deny it access to a directory without a container label"
    return _trouble_with_users(box)


def _trouble_with_users(box: Box) -> str:
    try:
        if os.readlink(f"/proc/{box.pid}/ns/user") != os.readlink("/proc/self/ns/user"):
            return "it uses a user namespace, so its users have other numbers on the host"
    except OSError:
        return "it has just ended"
    return ""


def _is_enforcing() -> bool:
    try:
        with open("/sys/fs/selinux/enforce", encoding="ascii") as file:
            return file.read(1) == "1"
    except OSError:
        return False


def _is_template(quadlet: str) -> bool:
    """Return whether a Quadlet is a template: its content and its drop-ins apply to all instances."""
    return "@." in os.path.basename(quadlet)


def _reload(container: Container) -> str:
    return "" if container.compose else ", reload systemd ('systemctl daemon-reload')"


def _option(container: Container, path: str, inside: str) -> str:
    if container.compose:
        from .compose_services import option_of

        return option_of(container.compose, path, inside)
    if _is_template(container.quadlet):
        return (
            f"'Volume={path}:{inside}' below [Container] in a Quadlet of {container.unit} alone, not in {container.quadlet}, which applies "
            "to all instances"
        )
    if container.quadlet:
        return f"'Volume={path}:{inside}' below [Container] in {container.quadlet}"
    return f"'-v {path}:{inside}' to '{container.engine} run' in ExecStart= of {container.unit}"


def _quadlet_drop_in(container: Container, root: Root, path: str) -> tuple[str, str]:
    place = f"{_QUADLETS}/{os.path.basename(container.quadlet)}.d/{DROP_IN}"
    text = (
        "# Written by Ansible (whatsapp_ops.sessions): the directory of the accounts of this container on the host.\n"
        f"[Container]\nVolume={path}:{root.inside}\n"
    )
    return place, text
