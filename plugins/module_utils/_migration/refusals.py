# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The refusals of session_migrate: cases that only the operator can decide. Loaded only if there is something to decide; reads only."""

from __future__ import annotations

import time
import typing as t

from .._core.errors import SessionsError
from .restoring import require_restorable
from .steps import described
from .switch_refusals import require_none_left, require_not_empty, require_one_device_each

if t.TYPE_CHECKING:
    from .._accounts.receipts import Mark
    from .observe import State


def require_decided(state: State) -> None:
    """Raise SessionsError for a case that only the operator can decide."""
    for require in _IN_ORDER:
        require(state)


def _require_a_way(state: State) -> None:
    if state.refusal:
        raise SessionsError(state.refusal)


def _require_restorable(state: State) -> None:
    if state.effective.restores:
        require_restorable(state.survey, state.effective.path)


def _require_one_filesystem(state: State) -> None:
    if state.survey.to_publish and state.elsewhere:
        raise SessionsError(
            f"the engine 'rename' works within one filesystem, but {state.elsewhere[0]} is on another filesystem than "
            f"{state.effective.path}; nothing was changed: use the engine 'native'"
        )


def _require_directories(state: State) -> None:
    """Raise SessionsError if the engine 'rename' would move a symbolic link instead of an account."""
    linked = next((account for account in state.survey.to_publish if account.linked), None)
    if linked and state.effective.engine == "rename":
        raise SessionsError(
            f"account {linked.label!r} in {linked.root} is a symbolic link, and the engine 'rename' would move only the link; nothing was "
            "changed: use the engine 'native'"
        )


def _require_all_to_leave(state: State) -> None:
    """Raise SessionsError if an account would stay in a container and be deleted with it."""
    if not (state.container and state.container.root):
        return
    params, inside = state.effective, state.container.root.there
    if params.accounts:
        raise SessionsError(
            f"'accounts' names some accounts, but the others would be deleted with the container of {params.unit}; nothing was changed: "
            "leave out 'accounts'"
        )
    for account in state.survey.accounts:
        if not account.decision.publish and account.decision.action != "unchanged":
            raise SessionsError(
                f"account {account.label!r} (in the container of {params.unit}: {inside}) would be deleted with the container: "
                f"{account.decision.reason}; nothing was changed: move the copy at {params.path} away, decide with on_conflict=replace, or "
                "remove the account in the container if it is not needed"
            )
    if state.not_copied:
        raise SessionsError(
            f"{state.not_copied} entries of {inside} in the container of {params.unit} are neither accounts nor copied with them, or are "
            f"symbolic links, or exist at {params.path} already, so they would be deleted with the container; nothing was changed: "
            "copy those that are needed, remove them from the container, and run again"
        )


def _require_none_astray(state: State) -> None:
    if state.astray:
        raise SessionsError(
            f"{state.astray.number} account(s), first {state.astray.label!r}, in {state.astray.directory} would be left behind, because "
            f"no setting of {state.effective.unit} refers to that directory; nothing was changed: name in 'src' the directory that it "
            "uses, which for a backend with a single account may be the account's directory itself"
        )


def _require_used_sources(state: State) -> None:
    """Raise SessionsError for an account of a legacy path that the backend does not use, which may be an old copy."""
    idle = {source.path: source.given for source in state.idle}
    old = next((account for account in state.survey.to_publish if account.root in idle), None)
    if old:
        used = ", ".join(source.given for source in state.sources if source.path not in idle)
        raise SessionsError(
            f"there are accounts in {used} and in {idle[old.root]}, but {state.effective.unit} has written only to the former since it "
            f"was started, so account {old.label!r} in the latter may be an old copy; nothing was changed: name in 'src' the directories "
            "that it uses"
        )


def _require_none_diverged(state: State) -> None:
    diverged = state.survey.with_action("diverged")
    if diverged:
        first = diverged[0]
        other = _age(first.present.mark) if first.present else "?"
        ages = f"the legacy copy was last written {_age(first.legacy.mark)} ago, the other one {other} ago"
        raise SessionsError(
            f"{len(diverged)} account(s), first {first.label!r}, differ between the legacy path "
            f"and {state.effective.path} ({first.decision.reason}; {ages}); "
            "nothing was changed: decide with on_conflict=keep or on_conflict=replace",
            accounts=[described(account) for account in state.survey.accounts],
        )


def _require_none_wiped(state: State) -> None:
    gone = state.survey.with_action("skipped")
    wiped = state.receipt_inode not in (0, state.survey.path_inode)
    if gone and wiped and not state.survey.present and not state.survey.to_publish:
        raise SessionsError(
            f"{state.effective.path} was emptied or recreated since {len(gone)} account(s) were migrated to it, "
            "and the legacy path has older copies; nothing was changed: "
            "restore a backup, or migrate the older copies again with on_conflict=replace"
        )


def _require_room_for_a_whole_root(state: State) -> None:
    """Raise SessionsError if an account that is its root itself (``.``) would replace others, or cannot be published in one step."""
    params = state.effective
    whole = next((account for account in state.survey.to_publish if account.name == "."), None)
    if whole is None:
        return
    others = [account for account in state.survey.accounts if account.name != "." and not account.is_inside]
    why = ""
    if others:
        why = (
            f"the legacy path {whole.root} is one account itself, and {len(others)} other account(s), first {others[0].label!r} in "
            f"{others[0].root}, cannot be moved with it ({others[0].decision.reason})"
        )
    elif set(state.survey.present) - {account.name for account in state.survey.accounts}:
        why = f"the legacy path {whole.root} is one account itself, and {params.path} contains other accounts"
    elif state.area.startswith(f"{params.path}/"):
        why = (
            f"the legacy path {whole.root} is one account itself, and {params.path} is a mount point, "
            "which cannot be replaced in one step"
        )
    if why:
        raise SessionsError(
            f"{why}; nothing was changed: migrate only that account with accounts=['.'], to a separate sessions path one level "
            "further down"
        )


def _age(mark: Mark) -> str:
    newest = max([mark.folder.mtime_ns, *(file.mtime_ns for file in mark.files.values())])
    seconds = max(0, int(time.time() - newest / 1e9))
    return (
        f"{seconds // 3600} h {seconds % 3600 // 60} min"
        if seconds >= 3600
        else f"{seconds // 60} min {seconds % 60} s"
    )


# What concerns the backend as a whole comes first: a unit that runs several programs may have accounts of the same name.
_IN_ORDER: tuple[t.Callable[[State], None], ...] = (
    _require_a_way,
    _require_restorable,
    require_one_device_each,
    _require_room_for_a_whole_root,
    _require_one_filesystem,
    _require_directories,
    _require_all_to_leave,
    _require_none_astray,
    _require_used_sources,
    _require_none_diverged,
    require_none_left,
    require_not_empty,
    _require_none_wiped,
)
