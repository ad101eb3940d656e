# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job of session_dir: a directory for sessions that lasts, that its owner can use and that nobody else can take away.

Every reason against it is found before anything is changed (_dir_reasons.py), and what is done is done to the directory that
was looked at (_dir_state.py), whatever is put at its path meanwhile (_dir_work.py).
"""

from __future__ import annotations

import typing as t

from ._dir_reasons import AGAINST, is_taken
from ._dir_state import DEFAULT_MODE, Entry, Params, State, observed, wanted_mode
from ._dir_steps import ChangeDirectory, MakeDirectory, MakeParents, RemoveDirectory, RepairBelow, Step
from ._errors import SessionsError
from ._filesystem import why_ephemeral
from ._identity import group_name, owner_name
from ._job import Report
from ._mode import directory_bits, octal, read_directory_mode
from ._ownership import Tally, Wanted
from ._paths import normal_path
from ._unit import unit_name


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Make the parameters; raises SessionsError for a path or a mode that no host could accept."""
    path = normal_path(options["path"], "path")
    if is_taken(path):
        raise SessionsError(
            f"path is {path}, a directory of the system or of a person; give one that is to hold nothing but sessions"
        )
    return Params(
        path=path,
        state=options["state"],
        unit=unit_name(options["unit"]) if options["unit"] else None,
        owner=options["owner"],
        group=options["group"],
        mode=read_directory_mode(options["mode"] or DEFAULT_MODE),
        mode_given=options["mode"] not in (None, ""),
        allow_ephemeral=options["allow_ephemeral"],
        require_mount=options["require_mount"],
        min_free_bytes=options["min_free_bytes"] or 0,
        min_free_inodes=options["min_free_inodes"] or 0,
        recurse=options["recurse"],
    )


def observe(params: Params) -> State:
    """Look at the path and everything above it; below it only for ``recurse``. Reads, and tries one write that leaves no trace."""
    return observed(params)


def plan(state: State, params: Params) -> tuple[Step, ...]:
    """Say what is to be done; raises SessionsError with the first reason against it."""
    for reason in AGAINST[params.state]:
        found = reason(state, params)
        if found:
            raise SessionsError(f"{found}; nothing was changed")
    if params.state == "absent":
        return (RemoveDirectory(),) if state.entry else ()
    return (*_steps_below(state, params), *_steps_at_path(state, params))


def diff(state: State, steps: tuple[Step, ...], params: Params) -> dict[str, t.Any]:
    """Show owner, group and mode, and how many corrections are needed below, before and after."""
    before = {"path": params.path, **_shown(state.entry)}
    after = {"path": params.path, **_shown(_predicted(state, steps))}
    if state.below is not None:
        before["corrections_below"] = state.below.wrong
        after["corrections_below"] = 0
    return {"before": before, "after": after}


def apply(steps: tuple[Step, ...], state: State, params: Params) -> Tally:
    """Carry the steps out; return what a repair below corrected and what it left."""
    from ._dir_work import carried_out

    return carried_out(steps, state, params)


def verify(state: State, params: Params) -> None:
    """Require that a second look would find nothing to do at the path. Below it the backend may have written since."""
    undone = state.entry is not None if params.state == "absent" else bool(_steps_at_path(state, params))
    if undone:
        raise SessionsError(
            f"{params.path} is not as this run left it a moment ago: something else changes it; find out what and run again"
        )


def report(params: Params, state: State, steps: tuple[Step, ...], evidence: Tally | None) -> Report:
    """Describe the directory as it is, or in check mode (``evidence`` is None) as the steps would make it."""
    if params.state == "absent":
        return Report({"path": params.path})
    foreseen = evidence is None and bool(_steps_at_path(state, params))
    values = {
        "path": params.path,
        **_shown(_predicted(state, steps)),
        "filesystem": {
            "type": state.filesystem.type,
            "mount_point": state.filesystem.mount_point,
            "ephemeral": why_ephemeral(state.filesystem, state.way.path) is not None,
            "free_bytes": state.filesystem.free_bytes,
            "free_inodes": state.filesystem.free_inodes,
        },
        "writable_by_owner": None if foreseen or state.not_writable is None else not state.not_writable,
    }
    del values["state"]
    if params.recurse:
        corrected, below = evidence or state.below or Tally(), state.below or Tally()
        values["repaired"] = {"owners": corrected.owners, "modes": corrected.modes, "left": below.left}
    return Report(values, tuple(_warnings(params, state, _predicted(state, steps), foreseen)))


def _steps_at_path(state: State, params: Params) -> tuple[Step, ...]:
    """Say what is to be done for the directory itself."""
    if state.entry is None:
        parents = (MakeParents(),) if state.way.missing else ()
        return (*parents, MakeDirectory(state.wanted, directory_bits(wanted_mode(state, params))))
    bits = directory_bits(wanted_mode(state, params), state.entry.mode)
    right = (state.entry.uid, state.entry.gid, state.entry.mode) == (state.wanted.uid, state.wanted.gid, bits)
    return () if right else (ChangeDirectory(state.wanted, bits),)


def _steps_below(state: State, params: Params) -> tuple[Step, ...]:
    """Say whether what is below has to be repaired. It comes first: the directory is handed over last."""
    return (RepairBelow(Wanted(state.wanted, params.mode)),) if state.below and state.below.wrong else ()


def _predicted(state: State, steps: tuple[Step, ...]) -> Entry | None:
    """Say what would be at the path once the steps are done."""
    entry = state.entry
    for step in steps:
        if isinstance(step, (MakeDirectory, ChangeDirectory)):
            entry = Entry("directory", step.identity.uid, step.identity.gid, step.bits)
        elif isinstance(step, RemoveDirectory):
            entry = None
    return entry


def _shown(entry: Entry | None) -> dict[str, t.Any]:
    if entry is None:
        return {"state": "absent"}
    return {
        "state": "present",
        "owner": owner_name(entry.uid),
        "group": group_name(entry.gid),
        "mode": octal(entry.mode),
    }


def _warnings(params: Params, state: State, entry: Entry | None, foreseen: bool) -> t.Iterator[str]:
    """Say what is not forbidden but will hurt."""
    if entry and entry.mode & 0o007:
        remedy = (
            f"{state.kept.mode_option}=0750 in a drop-in of {params.unit} keeps"
            if state.kept
            else "'0750' or '0700' keeps"
        )
        yield (
            f"mode {octal(entry.mode)} of {params.path} lets every user of this host in, and sessions are keys; {remedy} them out"
        )
    if entry and state.not_writable and not foreseen:
        yield (
            f"{owner_name(entry.uid)} cannot write in {params.path}: {state.not_writable}; "
            "see what forbids it (quota, immutable flag, SELinux, export options of a network filesystem)"
        )
    below = state.below or Tally()
    if below.left:
        yield (
            f"{below.left} entries below {params.path} were left as they are, for it is not safe to give them away: "
            f"{below.hard_links} with more than one name (hard links), {below.special} neither file nor directory, "
            f"{below.other_filesystems} on other filesystems"
        )
