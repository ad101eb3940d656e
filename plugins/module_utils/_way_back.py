# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The way back from a sessions path: where its accounts came from and how the unit was configured before, as the receipt has it.

A rollback is a migration in the other direction, so that newer keys travel back. This file says where it goes and what the
configuration has to become; nothing is written from here.

In the receipt ``switched`` holds what was in the files that a switch changed, with what it wrote there. An environment file is known by
the variables alone: the rest of it is nobody's business, and may have been edited since. ``origins`` is in _origins.py.
"""

from __future__ import annotations

import os
import stat
import typing as t

from . import _environment_file, _override
from ._bindings import Binding, placed_bindings, read_items
from ._effective import effective_in, environment_names, read_sources
from ._errors import SessionsError
from ._parents import way_to, who_else_can_swap
from ._paths import opened_directory, read_file, real_path
from ._receipts import entries_in
from ._sources import is_in_use
from ._switch import EnvironmentFile, Switch, SwitchState, files_of, overlay_of
from ._unit import Unit, systemd_runs, unit_identity
from ._unitfile import environment_items, parse

Document = t.Mapping[str, t.Any]


def origin_of(receipt: Document, unit: Unit | None, path: str) -> str:
    """Return the legacy path that the accounts at ``path`` came from, in the release that the unit has now.

    Raises SessionsError where the receipt does not say it.
    """
    sources = sorted({entry.source for entry in entries_in(receipt).values() if not entry.damaged})
    if not sources:
        raise SessionsError(
            f"nothing says where the accounts at {path} came from, so there is no way back; "
            "name the legacy path in 'src' (role: wa_rollback_path)"
        )
    if len(sources) > 1:
        raise SessionsError(
            f"the accounts at {path} came from {len(sources)} legacy paths; name the one that the backend uses by itself in 'src'"
        )
    below = receipt.get("origins", {}).get(sources[0])
    if unit is None or not below or not unit.working_directory.startswith("/"):
        return sources[0]
    if os.path.normpath(f"{os.path.realpath(unit.working_directory)}/{below}") == sources[0]:
        return sources[0]  # which was written down free of links
    return _in_later_release(unit, below, path)


def _in_later_release(unit: Unit, below: str, path: str) -> str:
    """Return the legacy path in the release that the unit has now. Whoever can exchange that release must not choose one of root's."""
    home = unit.working_directory
    try:
        with opened_directory(home) as opened:
            origin = os.path.normpath(os.path.join(real_path(opened), below))
        why = _why_of_root(os.path.join(home, below), origin) if unit_identity(unit).uid else ""
    except (FileNotFoundError, NotADirectoryError):
        why = f"{home} is no directory"
    except SessionsError:
        why = "a link on the way there was made by a user and leads to a directory of another one"
    if why:
        raise SessionsError(
            f"the accounts at {path} came from {below} below the working directory of {unit.name}, and {why}; nothing was changed: "
            "name the legacy path in 'src' (role: wa_rollback_path)"
        )
    return origin


def _why_of_root(called: str, origin: str) -> str:
    """Say, in the middle of a sentence, why accounts of a user may not be brought to ``origin``: it is root's, or lies in what is root's,
    and somebody else could have chosen it.
    """
    place, empty = origin, False
    while True:
        try:
            with opened_directory(place) as directory:
                owner = os.fstat(directory).st_uid
                # An empty one of root's is what systemd makes for a mount: then what it was made in counts.
                if place != origin or owner != 0 or os.listdir(directory):
                    break
                empty = True
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            if place != origin:  # else it is a tombstone, or refused for what it is
                return f"{place} is no directory"
        place = os.path.dirname(place)
    if owner != 0:
        return ""
    if empty:
        return f"that is the empty directory {origin} now, which belongs to root"
    if who_else_can_swap(way_to(os.path.normpath(called)), (0, os.geteuid())):
        return f"that leads to {place} now, which belongs to root although others could have chosen it"
    return ""


def with_switch(notes: Document, switch: Switch, state: SwitchState) -> dict[str, t.Any]:
    """Add to ``notes`` what is in the files that installing ``switch`` is about to change.

    What an earlier switch wrote is not what was there before it: then what was noted first stays.
    """
    switched = dict(notes["switched"])
    plain = {file.path for file in state.plain}  # a container has no way back, see _containers.py
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
    """Return the switch that makes the configuration what it was. Raises SessionsError where the unit would stay on ``path``."""
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
    """Whether a file is there that not everybody may read, because of what it holds."""
    return os.path.lexists(path) and not os.lstat(path).st_mode & stat.S_IROTH


def _contents(path: str, switch: Switch) -> tuple[t.Any, t.Any]:
    """Return what a file holds and what the switch makes of it: the text of a drop-in, the variables of an environment file."""
    content = read_file(path)
    text = None if content is None else content.decode("utf-8", "surrogateescape")
    file = switch.environment_file
    if file is None or file.path != path:
        return text, next(wanted.text for wanted in switch.overrides if wanted.path == path)
    found = {assignment.name: assignment.value for assignment in _environment_file.parse(text or "")}
    return {name: found.get(name) for name in file.values}, dict(file.values)


def _environment_file_back(path: str, note: Document) -> EnvironmentFile:
    return EnvironmentFile(path, note["before"], made=note["made"])


def _drop_in_back(path: str, note: Document) -> _override.Params:
    """Read which drop-in lies at ``path``; it is to hold what it held before, or to be gone."""
    directory, file = os.path.split(path)
    scope = next(scope for scope, place in _override.DIRECTORIES.items() if path.startswith(f"{place}/"))
    absent = {"unit": os.path.basename(directory)[: -len(".d")], "name": file, "scope": scope, "state": "absent"}
    wanted = _override.read_params(absent)._replace(validate=False, on_shadowed="ignore", daemon_reload=systemd_runs())
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
    """Refuse to take the accounts away from a backend that would be started on ``path`` all the same."""
    sources = read_sources(unit.name, overlay_of(switch))
    for one in placed_bindings(sources):
        if f"{one.binding.source}/".startswith(f"{path}/") and one.binding.source != one.binding.directory:
            raise SessionsError(
                f"{one.file} line {one.line} mounts {path} at {one.binding.directory} for the backend, which no run of this collection "
                "wrote; nothing was changed: remove that line and run again"
            )
    names = set(switch.restored or ()) | set(
        environment_names(sources, [placed.setting for placed in sources.settings])
    )
    for name in sorted(names):
        winner = effective_in(sources, name)
        if winner.value and is_in_use(path, [os.path.normpath(winner.value)]):
            raise SessionsError(
                f"{winner.source} line {winner.line} sends the backend to {path}, and it is not known what was there before; "
                "nothing was changed: fix that line and run again"
            )
