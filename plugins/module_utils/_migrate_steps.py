# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What session_migrate has to do, decided from what it saw. Nothing is looked at from here, nothing written."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ._errors import SessionsError
from ._migrate_state import Params, State
from ._receipts import Mark
from ._survey import Account


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing to do: recover, unlock, before_stop, stage, publish, companions, switch, restart, reload, remember, tidy or retire."""

    name: str
    count: int = 1

    @property
    def bookkeeping(self) -> bool:
        """Whether the step only writes down what was seen, or removes what a killed run left lying about."""
        return self.name in ("remember", "tidy")


def planned(state: State, params: Params) -> tuple[Step, ...]:
    """Say what has to be done. Raises SessionsError where only the operator can decide."""
    if not state.interrupted:  # else what is seen is half of something, and it is decided once that is taken back
        require_decided(state, params)
    steps = [Step("recover")] if state.interrupted else []
    if params.state == "staged":
        return (*steps, *_staging_steps(state, params))
    return (*steps, *(step for step in _migrating_steps(state) if step.count))


def _staging_steps(state: State, params: Params) -> t.Iterator[Step]:
    left = sum(account.name not in state.staged for account in state.survey.to_publish)
    if left and params.engine != "rename":  # that one moves accounts, which cannot be done ahead
        yield Step("stage", left)


def _migrating_steps(state: State) -> t.Iterator[Step]:
    """Yield the steps in their order; those that have nothing to do have the count 0."""
    publish, switch = len(state.survey.to_publish), state.switch
    yield Step("unlock", len(state.locked))
    yield Step("before_stop", int(switch.early_differs))
    yield Step("stage", publish)
    yield Step("publish", publish)
    yield Step("companions", len(state.survey.companions) if publish else 0)  # alone no reason to interrupt a backend
    yield Step("switch", int(switch.differs))
    yield Step("restart", int(bool(switch.lacking) and not switch.differs))
    yield Step("reload", int(switch.stale and not switch.lacking and not switch.differs))
    yield Step("remember", sum(account.decision.adopt for account in state.survey.accounts))
    yield Step("tidy", int(state.untidy and not publish))
    yield Step("retire", len(state.retirable))


def require_decided(state: State, params: Params) -> None:
    """Raise SessionsError where only the operator can decide."""
    if state.survey.to_publish:
        _require_room_for_a_whole_root(state, params)
        if state.elsewhere:
            raise SessionsError(
                f"the engine 'rename' works within one filesystem, and {state.elsewhere[0]} is on another one than {params.path}; "
                "nothing was changed, use the engine 'native'"
            )
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
    gone = state.survey.with_action("skipped")
    wiped = state.receipt_inode not in (0, state.survey.path_inode)
    if gone and wiped and not state.survey.present and not state.survey.to_publish:
        raise SessionsError(
            f"{params.path} was emptied or made anew since {len(gone)} account(s) were migrated to it, "
            "and the legacy path has older copies; nothing was changed: "
            "restore a backup, or bring the older copies back with on_conflict=replace"
        )


def _require_room_for_a_whole_root(state: State, params: Params) -> None:
    """Refuse an account that is its root itself (``.``) where it would take the place of others, or cannot take it in one step."""
    whole = next((account for account in state.survey.to_publish if account.name == "."), None)
    if whole is None:
        return
    why = ""
    if len(state.survey.accounts) > 1:
        why = f"the legacy path {whole.root} is one account itself and holds others (or another legacy path does)"
    elif set(state.survey.present) - {"."}:
        why = f"the legacy path {whole.root} is one account itself, and {params.path} holds other accounts"
    elif state.area.startswith(f"{params.path}/"):
        why = (
            f"the legacy path {whole.root} is one account itself, and {params.path} is a mount of its own, "
            "which cannot be replaced in one step"
        )
    if why:
        raise SessionsError(
            f"{why}; nothing was changed: give that account a sessions path of its own, one level further down"
        )


def described(account: Account) -> dict[str, str]:
    """Give what may be told of an account and what was decided about it."""
    return {"id": account.label, "action": account.decision.action, "reason": account.decision.reason}


def _age(mark: Mark) -> str:
    newest = max([mark.folder[1], *(look[2] for look in mark.files.values())])
    seconds = max(0, int(time.time() - newest / 1e9))
    return (
        f"{seconds // 3600} h {seconds % 3600 // 60} min"
        if seconds >= 3600
        else f"{seconds // 60} min {seconds % 60} s"
    )
