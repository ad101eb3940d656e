# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Where only the operator can decide, and what session_migrate says then. Loaded where there is anything to decide; nothing is written."""

from __future__ import annotations

import time
import typing as t

from ._behind import require_none_left, require_not_empty, require_one_device_each
from ._errors import SessionsError
from ._migrate_steps import described

if t.TYPE_CHECKING:
    from ._migrate_state import Params, State
    from ._receipts import Mark


def require_decided(state: State, params: Params) -> None:
    """Raise SessionsError where only the operator can decide."""
    if state.refusal:  # of a unit that runs several programs, whose accounts may well have one name
        raise SessionsError(state.refusal)
    require_one_device_each(state.survey)
    if state.survey.to_publish:
        _require_room_for_a_whole_root(state, params)
        if state.elsewhere:
            raise SessionsError(
                f"the engine 'rename' works within one filesystem, and {state.elsewhere[0]} is on another one than {params.path}; "
                "nothing was changed, use the engine 'native'"
            )
    linked = next((account for account in state.survey.to_publish if account.linked), None)
    if linked and params.engine == "rename":
        raise SessionsError(
            f"account {linked.label!r} in {linked.root} is a link, and the engine 'rename' would move the link alone; nothing was "
            "changed, use the engine 'native'"
        )
    if state.container and state.container.root:
        root = state.container.root
        _require_all_to_leave(state, params, root.there)
    if state.astray:
        raise SessionsError(
            f"{state.astray.number} account(s), first {state.astray.label!r}, lie in {state.astray.directory} and would be left "
            f"behind, for nothing says that {params.unit} keeps them there; nothing was changed: name in 'src' (role: "
            "wa_legacy_paths) the directory that it uses, which for a backend of a single account may be the account's own"
        )
    idle = {source.path: source.given for source in state.idle}
    old = next((account for account in state.survey.to_publish if account.root in idle), None)
    if old:
        used = ", ".join(source.given for source in state.sources if source.path not in idle)
        raise SessionsError(
            f"accounts lie in {used} and in {idle[old.root]}, and {params.unit} wrote only to the former since it was started, so "
            f"account {old.label!r} in the latter may be an old copy; nothing was changed: name in 'src' (role: wa_legacy_paths) "
            "the directories that it uses"
        )
    diverged = state.survey.with_action("diverged")
    if diverged:
        first = diverged[0]
        other = _age(first.present.mark) if first.present else "?"
        ages = f"the legacy copy was last written {_age(first.legacy.mark)} ago, the other one {other} ago"
        raise SessionsError(
            f"{len(diverged)} account(s), first {first.label!r}, differ between the legacy path "
            f"and {params.path} ({first.decision.reason}; {ages}); "
            "nothing was changed: decide with on_conflict=keep or on_conflict=replace",
            accounts=[described(account) for account in state.survey.accounts],
        )
    if params.state != "staged":
        require_none_left(state, params)
        require_not_empty(state, params)
    gone = state.survey.with_action("skipped")
    wiped = state.receipt_inode not in (0, state.survey.path_inode)
    if gone and wiped and not state.survey.present and not state.survey.to_publish:
        raise SessionsError(
            f"{params.path} was emptied or made anew since {len(gone)} account(s) were migrated to it, "
            "and the legacy path has older copies; nothing was changed: "
            "restore a backup, or bring the older copies back with on_conflict=replace"
        )


def _require_all_to_leave(state: State, params: Params, inside: str) -> None:
    """Refuse to leave an account in a container, which is thrown away with it."""
    if params.accounts:
        raise SessionsError(
            f"'accounts' names some accounts, and the others would go with the container of {params.unit}; nothing was changed: "
            "leave it out"
        )
    for account in state.survey.accounts:
        if not account.decision.publish and account.decision.action != "unchanged":
            raise SessionsError(
                f"account {account.label!r} (in the container of {params.unit}: {inside}) would go with the container: "
                f"{account.decision.reason}; nothing was changed: move the copy at {params.path} away, decide with on_conflict=replace, or "
                "remove the one in the container if it is of no use"
            )
    if state.not_copied:
        raise SessionsError(
            f"{state.not_copied} entries of {inside} in the container of {params.unit} are no accounts and do not travel with them, or are "
            f"links, or are at {params.path} already, so they would go with the container; nothing was changed: "
            "copy out what is needed of them, remove them there, and run again"
        )


def _require_room_for_a_whole_root(state: State, params: Params) -> None:
    """Refuse an account that is its root itself (``.``) where it would take the place of others, or cannot take it in one step."""
    whole = next((account for account in state.survey.to_publish if account.name == "."), None)
    if whole is None:
        return
    others = [account for account in state.survey.accounts if account.name != "." and not account.is_inside]
    why = ""
    if others:
        why = (
            f"the legacy path {whole.root} is one account itself, and {len(others)} other account(s), first {others[0].label!r} in "
            f"{others[0].root}, cannot travel in it ({others[0].decision.reason})"
        )
    elif set(state.survey.present) - {account.name for account in state.survey.accounts}:
        why = f"the legacy path {whole.root} is one account itself, and {params.path} holds other accounts"
    elif state.area.startswith(f"{params.path}/"):
        why = (
            f"the legacy path {whole.root} is one account itself, and {params.path} is a mount of its own, "
            "which cannot be replaced in one step"
        )
    if why:
        raise SessionsError(
            f"{why}; nothing was changed: migrate that account alone with accounts=['.'], to a sessions path of its own, one level "
            "further down"
        )


def _age(mark: Mark) -> str:
    newest = max([mark.folder[1], *(look[2] for look in mark.files.values())])
    seconds = max(0, int(time.time() - newest / 1e9))
    return (
        f"{seconds // 3600} h {seconds % 3600 // 60} min"
        if seconds >= 3600
        else f"{seconds // 60} min {seconds % 60} s"
    )
