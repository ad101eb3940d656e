# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Decide which copy of an account wins: pure decisions, like a three-way merge with the receipt as common ancestor.

Decides about whole accounts only. Nothing here reads from the host.
"""

from __future__ import annotations

import typing as t

from .._accounts.receipts import Entry, Mark

# Better credentials win over worse ones, whatever their times. 'unknown': the library keeps its credentials in another place.
_RANK = {"paired": 3, "unknown": 3, "pending": 2, "fresh": 1, "corrupt": 0}


TWO_DEVICES = "they are two different linked devices under one name, so that neither is a copy of the other"


class CopyState(t.NamedTuple):
    """One copy of an account: its state, its mark, its newest key write, and whether the running backend uses this very directory.

    ``devices``: fingerprints of the linked devices in it, empty if its library shows none. ``partial``: it has credentials but no keys.
    """

    state: str
    mark: Mark
    newest_ns: int = 0
    in_use: bool = False
    devices: tuple[str, ...] = ()
    partial: bool = False

    @property
    def rank(self) -> float:
        """The quality of its credentials. A copy without keys ranks below one with keys."""
        return _RANK[self.state] - self.partial / 2

    def is_of_another_device(self, other: CopyState) -> bool:
        """Return whether both hold linked devices and neither set contains the other: then neither is a copy of the other."""
        own, others = set(self.devices), set(other.devices)
        return bool(own and others) and not (own <= others or others <= own)


class Decision(t.NamedTuple):
    """What happens to one account. ``publish``: copy it to the sessions path. ``adopt``: record both copies in the receipt."""

    action: str
    reason: str
    publish: bool = False
    displace: bool = False
    adopt: bool = False


def decide(
    legacy: CopyState, present: CopyState | None, ancestor: Entry | None, on_conflict: str, same: t.Callable[[], bool]
) -> Decision:
    """Decide about one account that exists at a legacy path. ``same`` compares both contents and is called only if that matters."""
    if legacy.state == "corrupt" and (ancestor is None or legacy.mark.differs_from(ancestor.legacy)):
        return Decision("corrupt", "the legacy copy is damaged; it stays where it is")
    if present is None:
        return _decide_absent(legacy, ancestor, on_conflict)
    if ancestor is not None:
        return _decide_known(legacy, present, ancestor, on_conflict)
    return _decide_unknown(legacy, present, on_conflict, same)


def _decide_absent(legacy: CopyState, ancestor: Entry | None, on_conflict: str) -> Decision:
    if ancestor is None:
        return Decision("migrated", "only the legacy path has it", publish=True)
    if legacy.mark.differs_from(ancestor.legacy):
        return Decision(
            "migrated",
            "it was removed from the sessions path and has been used at the legacy path since then",
            publish=True,
        )
    if on_conflict == "replace":
        return Decision(
            "migrated",
            "it was removed from the sessions path; on_conflict=replace restores the legacy copy",
            publish=True,
        )
    # A backend removes an account's directory when the phone logs it out: restoring old keys would not log it in again.
    return Decision(
        "skipped", "it was migrated before and then removed from the sessions path; on_conflict=replace restores it"
    )


def _decide_known(legacy: CopyState, present: CopyState, ancestor: Entry, on_conflict: str) -> Decision:
    legacy_used = legacy.mark.differs_from(ancestor.legacy)
    if not legacy_used:
        if present.state == "corrupt" and legacy.state != "corrupt" and on_conflict == "replace":
            return Decision(
                "migrated",
                "the copy at the sessions path is damaged; on_conflict=replace restores the older legacy copy",
                publish=True,
                displace=True,
            )
        if present.state == "corrupt" and legacy.state != "corrupt":
            return Decision(
                "unchanged",
                "the copy at the sessions path is damaged; on_conflict=replace restores the older legacy copy",
            )
        return Decision("unchanged", "migrated before, not used at the legacy path since then")
    if on_conflict != "replace" and legacy.rank < present.rank:
        # A backend started on its old path without credentials creates new ones there that no phone is linked to.
        return Decision("kept", f"the legacy copy is only {legacy.state}", adopt=True)
    # Libraries write some keys in place, which no mark shows; copies have the times of their originals.
    if not present.mark.differs_from(ancestor.present) and present.newest_ns <= ancestor.time * 1e9:
        return Decision(
            "migrated", "only the legacy copy was used since the last migration", publish=True, displace=True
        )
    if on_conflict == "keep":
        return Decision("kept", "both copies were used since the last migration; on_conflict=keep", adopt=True)
    if on_conflict == "replace":
        return Decision(
            "migrated",
            "both copies were used since the last migration; on_conflict=replace",
            publish=True,
            displace=True,
        )
    if legacy.rank > present.rank:
        return Decision(
            "migrated", f"the copy at the sessions path is only {present.state}", publish=True, displace=True
        )
    return Decision("diverged", "both copies were used since the last migration")


def _decide_unknown(legacy: CopyState, present: CopyState, on_conflict: str, same: t.Callable[[], bool]) -> Decision:
    if same():
        return Decision("unchanged", "both copies are equal", adopt=True)
    if present.state == "corrupt":
        return Decision("migrated", "the copy at the sessions path is damaged", publish=True, displace=True)
    if on_conflict == "keep":
        return Decision("kept", "on_conflict=keep", adopt=True)
    if on_conflict == "replace":
        return Decision("migrated", "on_conflict=replace", publish=True, displace=True)
    if on_conflict == "fail":
        return Decision("diverged", "the account is at both paths; on_conflict=fail")
    if legacy.is_of_another_device(present) and not present.in_use:
        return Decision("diverged", TWO_DEVICES)
    return _newest(legacy, present)


def _newest(legacy: CopyState, present: CopyState) -> Decision:
    """Without a receipt: best credentials first, then the directory that the backend really uses, then the newest key write."""
    keep = Decision("kept", "the copy at the sessions path has better credentials", adopt=True)
    if legacy.rank != present.rank:
        if legacy.rank < present.rank:
            return keep
        return Decision(
            "migrated",
            f"the legacy copy is {legacy.state}, the copy at the sessions path {present.state}",
            publish=True,
            displace=True,
        )
    if legacy.in_use != present.in_use:
        if present.in_use:
            return Decision("kept", "the backend uses the copy at the sessions path", adopt=True)
        if legacy.newest_ns < present.newest_ns:
            # That the backend uses the legacy path is only inferred: none of its settings names the other one.
            return Decision(
                "diverged",
                "the backend seems to use the legacy copy, but the copy at the sessions path has the newer key",
            )
        return Decision("migrated", "the backend uses the legacy copy", publish=True, displace=True)
    if legacy.newest_ns > present.newest_ns:
        return Decision("migrated", "the legacy copy has the newer key", publish=True, displace=True)
    if legacy.newest_ns < present.newest_ns:
        return Decision("kept", "the copy at the sessions path has the newer key", adopt=True)
    return Decision("diverged", "both copies have the same age but different content")
