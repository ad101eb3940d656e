# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job of session_dir: a persistent directory for sessions that its owner can use and no other user can replace.

All reasons against it are found before anything is changed (_directory/refusals.py). Changes are made to the directory that was observed
(_directory/observe.py), even if its path is replaced meanwhile (apply.py).
"""

from __future__ import annotations

import typing as t

from .._core.errors import SessionsError
from .._core.job import Report
from .._fs.chown_tree import OwnershipTally, Wanted
from .._fs.fdopen import normal_path
from .._fs.filesystem import why_ephemeral
from .._fs.modes import directory_bits, octal, read_directory_mode
from .._fs.users import group_name, owner_name
from .._systemd.unit import unit_name
from .observe import DEFAULT_MODE, Params, PathEntry, State, observed, wanted_mode
from .refusals import AGAINST, is_taken
from .steps import ChangeDirectory, MakeDirectory, MakeParents, RemoveDirectory, RepairBelow, Step


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the parameters; raises SessionsError for a path or mode that is invalid on any host."""
    path = normal_path(options["path"], "path")
    if is_taken(path):
        raise SessionsError(
            f"path is {path}, a system or home directory; set it to a directory that is used for sessions only"
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
    """Observe the path and the directories above it; those below only for ``recurse``. Tries one write as the owner, without a trace."""
    return observed(params)


def plan(state: State, params: Params) -> tuple[Step, ...]:
    """Return the steps to take; raises SessionsError with the first reason against it."""
    for reason in AGAINST[params.state]:
        found = reason(state, params)
        if found:
            raise SessionsError(f"{found}; nothing was changed")
    if params.state == "absent":
        return (RemoveDirectory(),) if state.entry else ()
    return (*_steps_below(state, params), *_steps_at_path(state, params))


def diff(state: State, steps: tuple[Step, ...], params: Params) -> dict[str, t.Any]:
    """Return owner, group, mode and the number of corrections needed below, before and after."""
    before = {"path": params.path, **_shown(state.entry)}
    after = {"path": params.path, **_shown(_predicted(state, steps))}
    if state.below is not None:
        before["corrections_below"] = state.below.wrong
        after["corrections_below"] = 0
    return {"before": before, "after": after}


def apply(steps: tuple[Step, ...], state: State, params: Params) -> OwnershipTally:
    """Apply the steps; return what a repair below corrected and left."""
    from .apply import carried_out

    return carried_out(steps, state, params)


def verify(state: State, params: Params) -> None:
    """Check that another run would find nothing to do at the path. Below it the backend may have written in the meantime."""
    undone = state.entry is not None if params.state == "absent" else bool(_steps_at_path(state, params))
    if undone:
        raise SessionsError(
            f"{params.path} changed after this run had set it: find the process that changes it and run again"
        )


def report(params: Params, state: State, steps: tuple[Step, ...], evidence: OwnershipTally | None) -> Report:
    """Return the state of the directory; in check mode (``evidence`` is None) the state after the steps."""
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
        corrected, below = evidence or state.below or OwnershipTally(), state.below or OwnershipTally()
        values["repaired"] = {"owners": corrected.owners, "modes": corrected.modes, "left": below.left}
    return Report(values, tuple(_warnings(params, state, _predicted(state, steps), foreseen)))


def _steps_at_path(state: State, params: Params) -> tuple[Step, ...]:
    """Return the steps for the directory itself."""
    if state.entry is None:
        parents = (MakeParents(),) if state.way.missing else ()
        return (*parents, MakeDirectory(state.wanted, directory_bits(wanted_mode(state, params))))
    bits = directory_bits(wanted_mode(state, params), state.entry.mode)
    right = (state.entry.uid, state.entry.gid, state.entry.mode) == (state.wanted.uid, state.wanted.gid, bits)
    return () if right else (ChangeDirectory(state.wanted, bits),)


def _steps_below(state: State, params: Params) -> tuple[Step, ...]:
    """Return the repair of entries below, if needed. It comes first: the owner of the directory itself is set last."""
    return (RepairBelow(Wanted(state.wanted, params.mode)),) if state.below and state.below.wrong else ()


def _predicted(state: State, steps: tuple[Step, ...]) -> PathEntry | None:
    """Return what would be at the path after the steps."""
    entry = state.entry
    for step in steps:
        if isinstance(step, (MakeDirectory, ChangeDirectory)):
            entry = PathEntry("directory", step.identity.uid, step.identity.gid, step.bits)
        elif isinstance(step, RemoveDirectory):
            entry = None
    return entry


def _shown(entry: PathEntry | None) -> dict[str, t.Any]:
    if entry is None:
        return {"state": "absent"}
    return {
        "state": "present",
        "owner": owner_name(entry.uid),
        "group": group_name(entry.gid),
        "mode": octal(entry.mode),
    }


def _warnings(params: Params, state: State, entry: PathEntry | None, foreseen: bool) -> t.Iterator[str]:
    """Yield warnings about problems that are allowed."""
    if entry and entry.mode & 0o007:
        remedy = (
            f"{state.kept.mode_option}=0750 in a drop-in of {params.unit} keeps"
            if state.kept
            else "'0750' or '0700' keeps"
        )
        yield (
            f"mode {octal(entry.mode)} of {params.path} gives every user of this host access to the keys in it; {remedy} them out"
        )
    if entry and state.not_writable and not foreseen:
        yield (
            f"{owner_name(entry.uid)} cannot write in {params.path}: {state.not_writable}; "
            "check what prevents it (quota, immutable flag, SELinux, export options of a network filesystem)"
        )
    below = state.below or OwnershipTally()
    if below.left:
        yield (
            f"{below.left} entries below {params.path} were not changed, because changing their owner is not safe: "
            f"{below.hard_links} with more than one name (hard links), {below.special} that are neither file nor directory, "
            f"{below.other_filesystems} on other filesystems"
        )
