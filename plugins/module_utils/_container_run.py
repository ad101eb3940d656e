# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Brings the accounts of a running container to the sessions path, and has its next container use them there.

The engine throws away what lies in a container's own layer at each stop, also what the program writes while it stops. So the order is:
copy while it runs; hold its processes still (_container_hold.py); copy the difference, publish, write the drop-in for Quadlet, commit;
mount the sessions path over the directory in the running container; let it go on; restart the unit. Until it goes on nothing has used
the sessions path, so any failure is taken back as a whole. From then on the sessions path has all that is written.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import typing as t

from ._command import run
from ._container_handling import DROP_IN, Handling, by_hand, next_line
from ._container_hold import held_still, mount_over, require_still, require_whole
from ._container_inspect import Box
from ._container_view import LAYER, payload_groups
from ._container_words import lasting_mount_over
from ._containers import container_of, has_mounted
from ._cutover import Cutover, StartFailed, held_frozen, watched_over
from ._errors import SessionsError
from ._paths import read_file
from ._proof import OPENED_WITHIN, Start
from ._unit import Unit, daemon_reload, read_unit
from ._unitfile import parse, words

if t.TYPE_CHECKING:
    from ._use_watch import UseWatch

_GENERATORS = (
    "/usr/lib/systemd/system-generators/podman-system-generator",
    "/lib/systemd/system-generators/podman-system-generator",
)
_GENERATOR_SECONDS = 30.0
_USED_WITHIN = 30.0  # seconds: a container is made anew, and its image may be large


class Parts(t.NamedTuple):
    """What the run does by itself: publish everything, and take back what was done of it. ``is_gone``: whether the container has ended;
    ``is_committed``: whether everything is published. ``watched``: watches where accounts are opened, ``start``: what has to be proved.
    """

    publish: t.Callable[[], None]
    take_back: t.Callable[[], None]
    is_gone: t.Callable[[], bool]
    is_committed: t.Callable[[], bool]
    watched: t.Callable[[], t.ContextManager[UseWatch | None]]
    start: t.Callable[[], Start]


def cut_over(cutover: Cutover, handling: Handling, path: str, parts: Parts) -> tuple[str, ...]:
    """Carry the cutover out and return warnings. Raises SessionsError, the container being as it was, or, once it was restarted, with what
    to do.
    """
    container, root, unit = handling.container, handling.root, cutover.unit
    box = container.box
    if box is None or root is None:
        raise SessionsError(
            f"{unit.name} has no running container to take accounts from; nothing was changed, run again"
        )
    if handling.drop_in:
        _require_taken(handling, *handling.drop_in)
    groups = payload_groups(box)
    cutover = cutover._replace(frozen=groups)
    with watched_over(cutover), cutover.watch.down(counted=True):
        try:
            with held_frozen(cutover), held_still(groups, root.inside):
                if root.kind == LAYER:
                    require_whole(box.pid, root)
                try:
                    parts.publish()
                    _require_next_start(unit, root.inside, path)
                    with cutover.watch.phase("mount"):
                        require_still(groups, root.inside)
                        mount_over(box.pid, root, path)
                except BaseException as error:
                    if not parts.is_gone():
                        parts.take_back()
                        raise
                    # Its layer goes with it, and what was copied is all that is left. Published as a whole, it is what is to be used.
                    if not parts.is_committed() or not isinstance(error, Exception):
                        raise
                    daemon_reload()
        except SessionsError as error:
            shown = root.there
            raise SessionsError(
                f"{error}; the container of {unit.name} goes on as before and nothing was changed. If that stays so, see that it has "
                f"{path} mounted at {shown}, copy the accounts out ({by_hand(container, shown, path, root.owner)}) "
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


def _require_taken(handling: Handling, place: str, text: str) -> None:
    """See, before anything is changed, that this release of Podman reads the drop-in: those before 5.0 do not."""
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
        f"Podman on this host does not take {place} (drop-ins for Quadlet need Podman 5.0); nothing was changed: add 'Volume={wanted}' "
        f"below [Container] in {container.quadlet}, reload systemd ('systemctl daemon-reload') without restarting {container.unit}, "
        "and run again, which then copies the accounts out of the running container before it restarts it"
    )


def _volume_of(text: str) -> str:
    return next(setting.value for setting in parse(text) if setting.option == "Volume")


def _write(path: str, content: bytes) -> None:
    with open(path, "xb") as file:
        file.write(content)


def _require_next_start(unit: Unit, inside: str, path: str) -> None:
    """See that what systemd has read by now mounts the sessions path."""
    line = next_line(unit)
    planned = lasting_mount_over(line, inside) if line else None
    if planned is None or os.path.realpath(planned.source) != os.path.realpath(path) or planned.destination != inside:
        raise SessionsError(
            f"the next start of {unit.name} would not mount {path} where its accounts are now, so something overrides it"
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
        result = read_unit(unit.name).properties["Result"]
        raise SessionsError(f"{unit.name} did not start again (result {result}); {kept(unit, path)}")


def kept(unit: Unit, path: str) -> str:
    """Say where the accounts are of a container that is not what it should be after its start, and what to do."""
    what = f"docker logs {unit.compose.box.name}" if unit.compose else f"systemctl status {unit.name}"
    return (
        f"its accounts are all at {path}, with what it wrote last, and its next container has that mounted: "
        f"see '{what}', put that right and start it"
    )


def prove_container(start: Start, watch: UseWatch | None, but: str = "") -> tuple[str, ...]:
    """Wait until a container (another one than ``but``) runs that has the sessions path mounted, and opens accounts there.

    Raises StartFailed where it does not; returns a warning where that could not be watched, or where none was opened and nobody said how
    long that may take.
    """
    box = _running(start, but)
    if not start.has_accounts:
        return ()
    unseen = f"which accounts the container of {start.unit} opens could not be watched; seen was that {start.path} is mounted in it"
    if watch is None:
        return (unseen,)
    try:
        watch.cgroups = payload_groups(box)  # the container is another one than when the watch began
    except SessionsError:
        return (unseen,)  # nothing distinguishes its processes from others
    seconds = start.use_timeout or OPENED_WITHIN
    if watch.wait_for(lambda seen: start.path in seen and bool(seen[start.path].opens), seconds):
        return ()
    words = f"the container of {start.unit} opened none of the accounts in {start.path} within {seconds:g} seconds after its start"
    if start.use_timeout:
        raise StartFailed(
            f"{words}, so nothing shows that it uses them; see why, or give it longer ('use_timeout', role: wa_use_timeout)"
        )
    return (f"{words}; see that it uses them",)


def _running(start: Start, but: str) -> Box:
    deadline = time.monotonic() + _USED_WITHIN
    while True:
        with contextlib.suppress(SessionsError):
            container = container_of(read_unit(start.unit))
            box = container.box if container else None
            if container and box and box.pid and box.id != but and has_mounted(container, start.path, start.layout):
                return box
        if time.monotonic() > deadline:
            raise StartFailed(f"the container of {start.unit} does not run with {start.path} where its accounts are")
        time.sleep(0.1)
