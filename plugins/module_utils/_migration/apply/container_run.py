# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Migrate the accounts of a running container to the sessions path, and make its next container use them there.

At each stop the engine discards the container's own layer, including what the program writes while it stops. Hence this order: copy while
it is running; suspend its processes (hold.py); copy the difference, publish, write the drop-in for Quadlet, commit; mount the
sessions path over the directory in the running container; resume it; restart the unit. Nothing uses the sessions path before the processes
are resumed, so until then any failure is rolled back completely. From then on every write goes to the sessions path.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import typing as t

from ..._containers.command_lines import lasting_mount_over
from ..._containers.detect import container_of, has_mounted
from ..._containers.handling import DROP_IN, Handling, by_hand
from ..._containers.hold import held_still, mount_over, require_still, require_whole
from ..._containers.inspect import Box
from ..._containers.recognise import next_line
from ..._containers.service import compose_of, read_service
from ..._containers.view import LAYER, payload_groups
from ..._core.errors import SessionsError, StartFailed
from ..._fs.files import read_file
from ..._proc.command import run
from ..._systemd.unit import Unit, daemon_reload
from ..._systemd.unit_file import parse, words
from .guard import Cutover, held_frozen, rescuer_armed
from .proof import OPENED_WITHIN, Start

if t.TYPE_CHECKING:
    from ..._usage.open_watch import UseWatch

_GENERATORS = (
    "/usr/lib/systemd/system-generators/podman-system-generator",
    "/lib/systemd/system-generators/podman-system-generator",
)
_GENERATOR_SECONDS = 30.0
_USED_WITHIN = 30.0  # seconds: creating a container from a large image takes long


class Parts(t.NamedTuple):
    """The callbacks of the run: publish everything, and undo that. ``is_gone``: whether the container has ended; ``is_committed``:
    whether everything is published. ``watched``: watches where accounts are opened; ``start``: what has to be proved.
    """

    publish: t.Callable[[], None]
    undo_moves: t.Callable[[], None]
    is_gone: t.Callable[[], bool]
    is_committed: t.Callable[[], bool]
    watched: t.Callable[[], t.ContextManager[UseWatch | None]]
    start: t.Callable[[], Start]


def cut_over(cutover: Cutover, handling: Handling, path: str, parts: Parts) -> tuple[str, ...]:
    """Perform the cutover and return warnings.

    Raises SessionsError: before the restart with the container unchanged, afterwards with the next step.
    """
    container, root, unit = handling.container, handling.root, cutover.unit
    box = container.box
    if box is None or root is None:
        raise SessionsError(
            f"{unit.name} has no running container to migrate accounts from; nothing was changed, run again"
        )
    if handling.drop_in:
        _require_taken(handling, *handling.drop_in)
    groups = payload_groups(box)
    cutover = cutover._replace(frozen=groups)
    with rescuer_armed(cutover), cutover.watch.down(counted=True):
        try:
            with held_frozen(cutover), held_still(groups, root.inside):
                if root.kind == LAYER:
                    require_whole(box.pid, root)
                with _undone_or_kept(parts):
                    parts.publish()
                    _require_next_start(unit, root.inside, path)
                    with cutover.watch.phase("mount"):
                        require_still(groups, root.inside)
                        mount_over(box.pid, root, path)
        except SessionsError as error:
            shown = root.there
            raise SessionsError(
                f"{error}; the container of {unit.name} keeps running as before and nothing was changed. If this error persists, make the "
                f"container mount {path} at {shown}, copy the accounts out ({by_hand(container, shown, path, root.owner)}) "
                "and start the unit",
                **error.facts,
            ) from error
        with parts.watched() as use:
            with cutover.watch.phase("restart"):
                _restart(unit, path, cutover.timeout)
            with cutover.watch.phase("prove"):
                try:
                    return prove_container(parts.start(), use, but=box.id)
                except StartFailed as error:
                    raise SessionsError(f"{error}; {kept(unit, path)}") from error


@contextlib.contextmanager
def _undone_or_kept(parts: Parts) -> t.Iterator[None]:
    """If the body fails, undo what it did, unless the container ended meanwhile: then a complete copy is all that is left of it."""
    try:
        yield
    except BaseException as error:
        if not parts.is_gone():
            parts.undo_moves()
            raise
        # The container's layer is lost with it. The copy is only usable if it was published completely.
        if not parts.is_committed() or not isinstance(error, Exception):
            raise
        daemon_reload()


def _require_taken(handling: Handling, place: str, text: str) -> None:
    """Check, before anything is changed, that this release of Podman reads the drop-in: releases before 5.0 do not."""
    container = handling.container
    generator = next(filter(os.path.exists, _GENERATORS), None)
    wanted = _volume_of(text)
    if generator is not None:
        with tempfile.TemporaryDirectory(prefix="whatsapp-ops-") as folder:
            file = os.path.basename(container.quadlet)
            _write(f"{folder}/{file}", read_file(container.quadlet) or b"")
            os.mkdir(f"{folder}/{file}.d", 0o700)
            _write(f"{folder}/{file}.d/{DROP_IN}", text.encode())
            done = run([generator, "--dryrun"], timeout=_GENERATOR_SECONDS, environment={"QUADLET_UNIT_DIRS": folder})
        starts = [setting.value for setting in parse(done.stdout) if setting.option == "ExecStart"]
        if any(wanted in words(value) for value in starts):
            return
    raise SessionsError(
        f"Podman on this host does not read {place} (drop-ins for Quadlet need Podman 5.0); nothing was changed: add 'Volume={wanted}' "
        f"below [Container] in {container.quadlet}, reload systemd ('systemctl daemon-reload') without restarting {container.unit}, "
        "and run again, which then copies the accounts out of the running container before it restarts it"
    )


def _volume_of(text: str) -> str:
    return next(setting.value for setting in parse(text) if setting.option == "Volume")


def _write(path: str, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)


def _require_next_start(unit: Unit, inside: str, path: str) -> None:
    """Check that the configuration that systemd has loaded mounts the sessions path."""
    line = next_line(unit)
    planned = lasting_mount_over(line, inside) if line else None
    if planned is None or os.path.realpath(planned.source) != os.path.realpath(path) or planned.destination != inside:
        raise SessionsError(
            f"the next start of {unit.name} would not mount {path} where its accounts are: another setting overrides it"
        )


def _restart(unit: Unit, path: str, timeout: float) -> None:
    run(["systemctl", "reset-failed", "--", unit.name])
    try:
        done = run(["systemctl", "restart", "--", unit.name], timeout=2 * timeout)
    except SessionsError as error:
        raise SessionsError(
            f"{unit.name} did not restart within {2 * timeout:g} seconds; {kept(unit, path)}"
        ) from error
    if done.rc:
        result = read_service(unit.name).properties["Result"]
        raise SessionsError(f"{unit.name} did not restart (result {result}); {kept(unit, path)}")


def kept(unit: Unit, path: str) -> str:
    """Return a sentence for a container that failed after its start: where its accounts are, and what to do."""
    compose = compose_of(unit)
    what = f"docker logs {compose.box.name}" if compose else f"systemctl status {unit.name}"
    return (
        f"all its accounts are at {path}, including its last writes, and its next container mounts that directory: "
        f"see '{what}', correct the cause and start it"
    )


def prove_container(start: Start, watch: UseWatch | None, but: str = "") -> tuple[str, ...]:
    """Wait until a container (other than ``but``) is running with the sessions path mounted and opens accounts there.

    Raises StartFailed if that does not happen. Returns a warning if it could not be watched, or if no account was opened and no
    ``use_timeout`` is set.
    """
    box = _running(start, but)
    if not start.has_accounts:
        return ()
    unseen = (
        f"which accounts the container of {start.unit} opens could not be watched, but {start.path} is mounted in it"
    )
    if watch is None:
        return (unseen,)
    try:
        watch.cgroups = payload_groups(box)  # a new container since the watch began
    except SessionsError:
        return (unseen,)  # its processes cannot be distinguished from others
    seconds = start.use_timeout or OPENED_WITHIN
    if watch.wait_for(lambda seen: start.path in seen and bool(seen[start.path].opens), seconds):
        return ()
    words = f"the container of {start.unit} opened none of the accounts in {start.path} within {seconds:g} seconds after its start"
    if start.use_timeout:
        raise StartFailed(f"{words}, so it is not proved that it uses them; see its log, or set a longer 'use_timeout'")
    return (f"{words}; check that it uses them",)


def _running(start: Start, but: str) -> Box:
    deadline = time.monotonic() + _USED_WITHIN
    while True:
        with contextlib.suppress(SessionsError):
            container = container_of(read_service(start.unit))
            box = container.box if container else None
            if container and box and box.pid and box.id != but and has_mounted(container, start.path, start.layout):
                return box
        if time.monotonic() > deadline:
            raise StartFailed(
                f"the container of {start.unit} is not running with {start.path} mounted where it keeps its accounts"
            )
        time.sleep(0.1)
