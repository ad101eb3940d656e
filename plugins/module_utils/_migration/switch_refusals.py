# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Refuse a switch that would leave accounts behind or interrupt the backend in vain, unless the operator accepts exactly that.

Decides from what was observed; writes nothing.
"""

from __future__ import annotations

import contextlib
import typing as t

from .._core.errors import SessionsError
from .._fs.fdopen import opened_directory, real_path
from .._layouts.account import opened_account
from .._layouts.layout import LINKED
from .left_behind import LeftBehind

if t.TYPE_CHECKING:
    from .observe import State
    from .survey import Survey

_NAMED_AT_MOST = 5
_DATABASE = "SQLite finds its database damaged"


def linked_places(survey: Survey) -> list[str]:
    """Return the real paths of accounts that are symbolic links at their legacy path: a process that uses those uses the account."""
    found = []
    for account in survey.accounts:
        if account.linked:
            with (
                contextlib.suppress(OSError),
                opened_directory(account.root) as root,
                opened_account(root, account.name) as directory,
            ):
                found.append(real_path(directory))
    return found


def not_accepted(left: t.Iterable[LeftBehind], accepted: t.Collection[str]) -> tuple[LeftBehind, ...]:
    """Return the accounts that are not accepted, neither by the name in reports nor by their own name."""
    return tuple(one for one in left if one.label not in accepted and one.name not in accepted)


def require_one_device_each(state: State) -> None:
    """Refuse names that two different devices share: only one of them can be at the sessions path."""
    clashes = state.survey.clashes
    if clashes:
        first = clashes[0]
        raise SessionsError(
            f"{len(clashes)} account(s), first {first.label!r}, are two different linked devices, one in {first.one} and one in "
            f"{first.other}, and a name can exist only once at the sessions path; nothing was changed: move one of them to a directory "
            "with another name (and configure its program for that), or list only one of the paths in 'src'"
        )


def require_none_left(state: State) -> None:
    """Refuse to point the backend away from accounts that would stay at a legacy path."""
    if state.effective.state == "staged" or not _is_led_away(state):
        return
    left = not_accepted(state.survey.left, state.effective.accept_left_behind)
    if left:
        raise SessionsError(refusal(left, state))


def require_not_empty(state: State) -> None:
    """Refuse to interrupt a running backend for which no account was found anywhere, unless the operator declares it as new."""
    params = state.effective
    if params.state == "staged" or params.back or params.allow_empty:
        return
    if state.unit is None or not state.unit.active or not state.leaves:
        return
    survey = state.survey
    if survey.accounts or survey.present or survey.left:
        return
    raise SessionsError(
        f"{state.unit.name} is running, and no account was found, neither in {params.path} nor {_looked_at(state)}; "
        "nothing was changed: set 'src' to the directory that it keeps its accounts in, or, if the backend is "
        "new and has none yet, set allow_empty=true"
    )


def needed(state: State) -> frozenset[str]:
    """Return the names of the accounts to be published that must not turn out to be damaged."""
    if not _is_led_away(state):
        return frozenset()
    coming = (LeftBehind(one.name, one.root, "") for one in state.survey.to_publish if one.present is None)
    return frozenset(one.name for one in not_accepted(coming, state.effective.accept_left_behind))


def require_sound(state: State, damaged: t.Collection[str]) -> None:
    """Refuse to continue if databases of required accounts turned out to be damaged. ``damaged``: names of accounts."""
    names = needed(state).intersection(damaged)
    left = [LeftBehind(one.name, one.root, _DATABASE) for one in state.survey.accounts if one.name in names]
    if left:
        raise SessionsError(refusal(left, state))


def require_expected(state: State, number: int) -> None:
    """Refuse to interrupt a backend for a path with fewer than ``number`` linked accounts."""
    if not (state.switch.differs or state.survey.to_publish) or state.effective.back:
        return
    seen = state.survey
    states = dict(seen.present)
    coming = (account for account in seen.accounts if account.decision.publish or account.is_inside)
    states.update((account.name, account.legacy.state) for account in coming)
    linked = sum(found in LINKED for found in states.values())
    if linked < number:
        places = ", ".join(source.given for source in state.sources) or "no other place"
        raise SessionsError(
            f"{linked} accounts would be linked at {state.effective.path}, but {number} are expected ('expected_accounts'); "
            f"the others are neither there nor in {places}, or are not linked; nothing was changed: list their directories in 'src', "
            "check the output of session_info, or lower the expected number"
        )


def _is_led_away(state: State) -> bool:
    """Whether the backend is about to be pointed away from a legacy path that it uses."""
    return state.leaves and not state.effective.back and not state.at_path


def refusal(left: t.Sequence[LeftBehind], state: State) -> str:
    """Return a sentence that says which accounts would be left behind and what to do."""
    named = "; ".join(f"{one.label!r} in {one.root}, because {one.why}" for one in left[:_NAMED_AT_MOST])
    more = f"; and {len(left) - _NAMED_AT_MOST} more" if len(left) > _NAMED_AT_MOST else ""
    backend = state.unit.name if state.unit else "the backend"
    accounts = f"{len(left)} account(s)"
    return (
        f"{accounts} would be left behind, because {backend} will not use their directories once it is pointed to {state.effective.path}: "
        f"{named}{more}; nothing was changed: repair or move them (session_info reports their problems), or, if they may be left "
        "behind, list them by the names shown in this message in 'accept_left_behind'"
    )


def _looked_at(state: State) -> str:
    if state.effective.sources:
        return f"in {', '.join(state.effective.sources)}"
    from .._usage.process_paths import working_directories

    places = ", ".join(dict.fromkeys(working_directories(state.unit))) if state.unit else ""
    return f"where its environment and its open files lead, nor in or below {places}"
