# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Checks that a run makes right before it acts, and that check mode makes as well. Reads only."""

from __future__ import annotations

import typing as t

from ..._containers.service import read_service
from ..._core.errors import SessionsError
from ..._proc.open_files import holders, named
from ..._usage.in_use import USED, use_of
from ..sources import directories_of
from ..switch_refusals import linked_places, require_sound

if t.TYPE_CHECKING:
    from ..observe import State


def require_nobody_holds(state: State) -> None:
    """Raise SessionsError if a process outside the unit uses the accounts: two writers would corrupt them."""
    directories = [*directories_of(state.sources, state.survey.layout), *linked_places(state.survey)]
    control_group, main_pid = (state.unit.properties["ControlGroup"], state.unit.main_pid) if state.unit else ("", 0)
    if state.container:  # its processes belong to the container engine and see its files under other paths
        main_pid = 0
    found = holders(directories, control_group, main_pid) if directories else ()
    if found:
        others = sorted({holder.unit for holder in found if holder.unit})
        remedy = (
            f"stop them and run again; if they use the same accounts directory, migrate each of them ({', '.join(others)})"
            if others
            else "stop them and run again"
        )
        raise SessionsError(
            f"processes outside the unit use the legacy path: {named(found)}; nothing was changed: {remedy}"
        )


def without_damaged(state: State, names: t.Collection[str]) -> State:
    """Leave out accounts with damaged databases. Raises SessionsError if the sessions path would have no account at all."""
    require_sound(state, names)
    seen = state.survey.without_damaged(names)
    if names and not seen.to_publish and not seen.present:
        damaged = next(account for account in seen.accounts if account.name in names)
        raise SessionsError(
            f"the database of account {damaged.label!r} at {damaged.root} is damaged, and there is no other account; "
            "nothing was published: restore a backup of it or move it away and run again"
        )
    return state._replace(survey=seen)


def require_unused(state: State) -> None:
    """Raise SessionsError if the backend uses, or may use, the legacy path to retire."""
    params = state.effective
    if params.unit is None:
        return
    unit = read_service(params.unit)
    if not unit.main_pid:
        return
    found = use_of(unit, params.path, state.former, state.survey.layout)
    if found.state != USED:
        where = f"it uses {', '.join(found.where)}" if found.where else "nothing shows that it uses it"
        raise SessionsError(
            f"{unit.name} does not use {params.path} yet ({where}), so its legacy path is not retired; "
            "point it to that path (option 'switch') and run again"
        )
