# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The rollback from a sessions path: where its accounts came from and how the unit was configured before, according to the receipt.

A rollback is a migration in reverse, so that newer keys are copied back. This file determines its target and the former configuration;
it writes nothing.

In the receipt, ``switched`` contains the former content of the files that a switch changed, and what it wrote to them. For an environment
file, these are only the variables of the switch: the rest is private and may have been edited since. ``origins`` is in origins.py.
"""

from __future__ import annotations

import os
import stat
import typing as t

from .._accounts.receipts import entries_in
from .._containers.service import service_identity
from .._core.errors import SessionsError
from .._fs.ancestors import untrusted_writer, way_to
from .._fs.fdopen import opened_directory, real_path
from .._fs.files import read_file
from .._systemd import drop_in as systemd_drop_in
from .._systemd import environment_file as systemd_environment_file
from .._systemd.bindings import Binding, placed_bindings, read_items
from .._systemd.effective import effective_in, environment_names, read_sources
from .._systemd.unit import Unit, systemd_runs
from .._systemd.unit_file import environment_items, parse
from .sources import is_in_use
from .switch import EnvironmentFileEdit, Switch, SwitchState, files_of, overlay_of

Document = t.Mapping[str, t.Any]


def origin_of(receipt: Document, unit: Unit | None, path: str) -> str:
    """Return the legacy path that the accounts at ``path`` came from, in the unit's current release.

    Raises SessionsError if the receipt does not contain it.
    """
    sources = sorted({entry.source for entry in entries_in(receipt).values() if not entry.damaged})
    if not sources:
        raise SessionsError(
            f"no receipt says where the accounts at {path} came from, so they cannot be rolled back; "
            "name the legacy path in 'src'"
        )
    if len(sources) > 1:
        raise SessionsError(
            f"the accounts at {path} came from {len(sources)} legacy paths; name in 'src' the one that the backend uses by default"
        )
    below = receipt.get("origins", {}).get(sources[0])
    if unit is None or not below or not unit.working_directory.startswith("/"):
        return sources[0]
    if os.path.normpath(f"{os.path.realpath(unit.working_directory)}/{below}") == sources[0]:
        return sources[0]  # already recorded as a real path
    return _in_later_release(unit, below, path)


def _in_later_release(unit: Unit, below: str, path: str) -> str:
    """Return the legacy path in the unit's current release. A user who can replace the release must not direct root to root's files."""
    home = unit.working_directory
    try:
        with opened_directory(home) as opened:
            origin = os.path.normpath(os.path.join(real_path(opened), below))
        why = _why_of_root(os.path.join(home, below), origin) if service_identity(unit).uid else ""
    except (FileNotFoundError, NotADirectoryError):
        why = f"{home} is not a directory"
    except SessionsError:
        why = "that path leads through a symbolic link of one user to a directory of another"
    if why:
        raise SessionsError(
            f"the accounts at {path} came from {below} below the working directory of {unit.name}, but {why}; nothing was changed: "
            "name the legacy path in 'src'"
        )
    return origin


def _why_of_root(called: str, origin: str) -> str:
    """Return, as a clause, why accounts of a user may not be rolled back to ``origin``; '' if they may.

    They may not if it, or the directory above it, belongs to root, but another user could have chosen that path.
    """
    place, empty = origin, False
    while True:
        try:
            with opened_directory(place) as directory:
                owner = os.fstat(directory).st_uid
                # systemd creates an empty directory of root as a mount point: then the directory above it counts.
                if place != origin or owner != 0 or os.listdir(directory):
                    break
                empty = True
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            if place != origin:  # otherwise it is a tombstone, or is refused later
                return f"{place} is not a directory"
        place = os.path.dirname(place)
    if owner != 0:
        return ""
    if empty:
        return f"that path is now the empty directory {origin}, which belongs to root"
    if untrusted_writer(way_to(os.path.normpath(called)), (0, os.geteuid())):
        return f"that path now leads to {place}, which belongs to root although other users could have chosen it"
    return ""


def with_switch(notes: Document, switch: Switch, state: SwitchState) -> dict[str, t.Any]:
    """Add the current content of the files that installing ``switch`` will change to ``notes``.

    If that content was written by an earlier switch, the original content that was noted then is kept.
    """
    switched = dict(notes["switched"])
    plain = {file.path for file in state.plain}  # a container cannot be rolled back, see detect.py
    for path in files_of(switch, state):
        if path in plain:
            continue
        now, wrote = _contents(path, switch)
        known = switched.get(path)
        if known and known["wrote"] == now:
            switched[path] = {**known, "wrote": wrote}
        else:
            switched[path] = {
                "before": now,
                "wrote": wrote,
                "made": not os.path.lexists(path),
                "private": _is_private(path),
            }
    return {**notes, "switched": switched}


def switch_back(receipt: Document, unit: Unit | None, path: str) -> Switch:
    """Return the switch that restores the configuration. Raises SessionsError if the unit would still use ``path``."""
    switched: t.Mapping[str, Document] = receipt.get("switched", {})
    drop_ins = []
    environment_file = None
    names: set[str] = set()
    bindings: list[Binding] = []
    for file, note in switched.items():
        if isinstance(note["wrote"], dict):
            environment_file = _environment_file_back(file, note)
            names |= set(note["wrote"])
        else:
            drop_ins.append(_drop_in_back(file, note))
            names |= _variables_in(note["wrote"])
            bindings += _bindings_in(note["wrote"], path)
    switch = Switch(tuple(drop_ins), environment_file, restored=frozenset(names), unbound=tuple(bindings))
    if unit is not None:
        _require_elsewhere(switch, unit, path)
    return switch


def _is_private(path: str) -> bool:
    """Whether a file exists that is not readable for all users, so that its content may be secret."""
    return os.path.lexists(path) and not os.lstat(path).st_mode & stat.S_IROTH


def _contents(path: str, switch: Switch) -> tuple[t.Any, t.Any]:
    """Return the current and the future content of a file: the text of a drop-in, or the variables of an environment file."""
    content = read_file(path)
    text = None if content is None else content.decode("utf-8", "surrogateescape")
    file = switch.environment_file
    if file is None or file.path != path:
        return text, next(wanted.text for wanted in switch.overrides if wanted.path == path)
    found = {assignment.name: assignment.value for assignment in systemd_environment_file.parse(text or "")}
    return {name: found.get(name) for name in file.values}, dict(file.values)


def _environment_file_back(path: str, note: Document) -> EnvironmentFileEdit:
    return EnvironmentFileEdit(path, note["before"], made=note["made"])


def _drop_in_back(path: str, note: Document) -> systemd_drop_in.Params:
    """Return the parameters that restore the drop-in at ``path``, or remove it if it did not exist."""
    directory, file = os.path.split(path)
    scope = next(scope for scope, place in systemd_drop_in.DIRECTORIES.items() if path.startswith(f"{place}/"))
    absent = {"unit": os.path.basename(directory)[: -len(".d")], "name": file, "scope": scope, "state": "absent"}
    wanted = systemd_drop_in.read_params(absent)._replace(
        validate=False, on_shadowed="ignore", daemon_reload=systemd_runs()
    )
    before = note["before"]
    if before is None:
        return wanted
    return wanted._replace(present=True, former=before, sensitive=bool(note.get("private")))


def _variables_in(drop_in: str | None) -> set[str]:
    settings = parse(drop_in or "")
    return {
        name
        for setting in settings
        if setting.option == "Environment" and setting.value
        for name, _value in environment_items(setting.value)
    }


def _bindings_in(drop_in: str | None, path: str) -> list[Binding]:
    lines = (setting.value for setting in parse(drop_in or "") if setting.option == "BindPaths")
    found = (Binding(*(part.replace("%%", "%") for part in item)) for line in lines for item in read_items(line))
    return [binding for binding in found if f"{binding.source}/".startswith(f"{path}/")]


def _require_elsewhere(switch: Switch, unit: Unit, path: str) -> None:
    """Raise SessionsError if the backend would still be started on ``path`` after its accounts were moved away."""
    sources = read_sources(unit.name, overlay_of(switch))
    for one in placed_bindings(sources):
        if f"{one.binding.source}/".startswith(f"{path}/") and one.binding.source != one.binding.directory:
            raise SessionsError(
                f"{one.file} line {one.line}, which was not written by this collection, mounts {path} at {one.binding.directory} for the "
                "backend; nothing was changed: remove that line and run again"
            )
    names = set(switch.restored or ()) | set(
        environment_names(sources, [placed.setting for placed in sources.settings])
    )
    for name in sorted(names):
        winner = effective_in(sources, name)
        if winner.value and is_in_use(path, [os.path.normpath(winner.value)]):
            raise SessionsError(
                f"{winner.source} line {winner.line} points the backend to {path}, and its former value is unknown; "
                "nothing was changed: fix that line and run again"
            )
