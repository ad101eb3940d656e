# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The way back from a sessions path: where its accounts came from and how the unit was configured before, as the receipt has it.

A rollback is a migration in the other direction, so that newer keys travel back. This file says where it goes and what the
configuration has to become; nothing is written from here.

In the receipt ``origins`` holds, by legacy path, where that was below the unit's working directory ("" where it was not), and ``switched``
what was in the files that a switch changed, with what it wrote there. An environment file is known by the variables alone: the rest of it
is nobody's business, and may have been edited since.
"""

from __future__ import annotations

import os
import stat
import typing as t

from . import _environment_file, _override
from ._area import area_path, read_document_at
from ._effective import effective_in, environment_names, read_sources
from ._errors import SessionsError
from ._paths import opened_directory, read_file
from ._receipts import RECEIPT, Entry, entries_in
from ._sources import Source, is_in_use
from ._switch import EnvironmentFile, Switch, SwitchState, files_of, overlay_of
from ._unit import Unit, systemd_runs
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
    if unit is None or not below:
        return sources[0]
    return os.path.normpath(f"{os.path.realpath(unit.working_directory)}/{below}")


def notes_for(receipt: Document, sources: t.Iterable[Source], unit: Unit | None) -> dict[str, t.Any]:
    """Return what the next receipt has to keep of this one, and where ``sources`` are below the unit's working directory."""
    home = f"{os.path.realpath(unit.working_directory)}/" if unit and unit.working_directory.startswith("/") else None
    origins = {
        source.path: source.path[len(home) :] if home and source.path.startswith(home) else "" for source in sources
    }
    return {"origins": {**receipt.get("origins", {}), **origins}, "switched": dict(receipt.get("switched", {}))}


def with_switch(notes: Document, switch: Switch, state: SwitchState) -> dict[str, t.Any]:
    """Add to ``notes`` what is in the files that installing ``switch`` is about to change.

    What an earlier switch wrote is not what was there before it: then what was noted first stays.
    """
    switched = dict(notes["switched"])
    for path in files_of(switch, state):
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
    for file, note in switched.items():
        if isinstance(note["wrote"], dict):
            environment_file = _environment_file_back(file, note)
            names |= set(note["wrote"])
        else:
            drop_ins.append(_drop_in_back(file, note))
            names |= _variables_in(note["wrote"])
    switch = Switch(tuple(drop_ins), environment_file, restored=frozenset(names))
    if unit is not None:
        _require_elsewhere(switch, unit, path)
    return switch


def mirrored(sources: t.Iterable[Source], path: str) -> dict[str, Entry]:
    """Return what the receipts of ``sources``, which may be sessions paths themselves, say of accounts that came from ``path``."""
    real = os.path.realpath(path)
    return {
        key: entry.mirror(source.path)
        for source in sources
        for key, entry in entries_in(private_receipt(source.path)).items()
        if entry.source == real and not entry.damaged
    }


def ancestors(receipts: t.Mapping[str, Entry], sources: t.Iterable[Source], path: str) -> dict[str, Entry]:
    """Return the last common generation of each account, whichever direction it went in last."""
    found = dict(receipts)
    for key, entry in mirrored(sources, path).items():
        if key not in found or found[key].time < entry.time:
            found[key] = entry
    return found


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


def _require_elsewhere(switch: Switch, unit: Unit, path: str) -> None:
    """Refuse to take the accounts away from a backend that would be started on ``path`` all the same."""
    sources = read_sources(unit.name, overlay_of(switch))
    names = set(switch.restored or ()) | set(
        environment_names(sources, [placed.setting for placed in sources.settings])
    )
    for name in sorted(names):
        winner = effective_in(sources, name)
        if winner.value and is_in_use(path, [os.path.normpath(winner.value)]):
            raise SessionsError(
                f"{winner.source} line {winner.line} sends the backend to {path}, and it is not known what was there before; "
                "nothing was changed: mend that line and run again"
            )


def private_receipt(path: str) -> Document:
    """Read the receipt of a path; none where its area could have been made by somebody else, who would tell root what to write."""
    try:
        with opened_directory(area_path(path)) as area:
            status = os.fstat(area)
            private = status.st_uid == os.geteuid() and not status.st_mode & 0o077
            return read_document_at(area, RECEIPT) if private else {}
    except (FileNotFoundError, NotADirectoryError):
        return {}
