# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Which side of an account wins: pure decisions over what was seen, like a three-way merge with the receipt as common ancestor.

Only whole accounts are decided about. Nothing here looks at the host.
"""

from __future__ import annotations

import typing as t

from ._receipts import Entry, Mark

# Better known credentials win over worse ones, whatever the clock says. 'unknown' are those that a library keeps in another place.
_RANK = {"paired": 3, "unknown": 3, "pending": 2, "fresh": 1, "corrupt": 0}


TWO_DEVICES = "they are two different linked devices under one name, so that neither is a copy of the other"


class Side(t.NamedTuple):
    """One copy of an account: its state, its mark, its newest key write, and whether the running backend uses this very place.

    ``devices``: fingerprints of the linked devices in it, empty where its library shows none. ``partial``: its credentials are there and
    its keys are not.
    """

    state: str
    mark: Mark
    newest_ns: int = 0
    in_use: bool = False
    devices: tuple[str, ...] = ()
    partial: bool = False

    @property
    def rank(self) -> float:
        """How good its credentials are. Those without keys lose against those with keys."""
        return _RANK[self.state] - self.partial / 2

    def is_of_another_device(self, other: Side) -> bool:
        """Whether both hold linked devices, and neither all that the other one holds: then none is a copy of the other."""
        own, others = set(self.devices), set(other.devices)
        return bool(own and others) and not (own <= others or others <= own)


class Decision(t.NamedTuple):
    """What happens to one account. ``publish``: the legacy copy goes to the sessions path. ``adopt``: remember that both were seen."""

    action: str
    reason: str
    publish: bool = False
    displace: bool = False
    adopt: bool = False


def decide(
    legacy: Side, present: Side | None, ancestor: Entry | None, on_conflict: str, same: t.Callable[[], bool]
) -> Decision:
    """Decide about one account that exists at a legacy path. ``same`` compares the two contents and is asked only where it matters."""
    if legacy.state == "corrupt" and (ancestor is None or legacy.mark.differs_from(ancestor.legacy)):
        return Decision("corrupt", "the legacy copy is damaged; it stays where it is")
    if present is None:
        return _decide_absent(legacy, ancestor, on_conflict)
    if ancestor is not None:
        return _decide_known(legacy, present, ancestor, on_conflict)
    return _decide_unknown(legacy, present, on_conflict, same)


def _decide_absent(legacy: Side, ancestor: Entry | None, on_conflict: str) -> Decision:
    if ancestor is None:
        return Decision("migrated", "only the legacy path has it", publish=True)
    if legacy.mark.differs_from(ancestor.legacy):
        return Decision(
            "migrated", "it was removed from the sessions path and used at the legacy path since", publish=True
        )
    if on_conflict == "replace":
        return Decision(
            "migrated",
            "it was removed from the sessions path; on_conflict=replace brings the legacy copy back",
            publish=True,
        )
    # A backend removes an account's directory when the phone logs it out: bringing old keys back would not log it in again.
    return Decision(
        "skipped", "it was migrated before and removed from the sessions path since; on_conflict=replace brings it back"
    )


def _decide_known(legacy: Side, present: Side, ancestor: Entry, on_conflict: str) -> Decision:
    legacy_used = legacy.mark.differs_from(ancestor.legacy)
    if not legacy_used:
        if present.state == "corrupt" and legacy.state != "corrupt" and on_conflict == "replace":
            return Decision(
                "migrated",
                "the copy at the sessions path is damaged; on_conflict=replace asked for the older one",
                publish=True,
                displace=True,
            )
        if present.state == "corrupt" and legacy.state != "corrupt":
            return Decision(
                "unchanged",
                "the copy at the sessions path is damaged; on_conflict=replace brings the older legacy copy back",
            )
        return Decision("unchanged", "migrated before and not used at the legacy path since")
    if on_conflict != "replace" and legacy.rank < present.rank:
        # A backend that was started on its old path without credentials makes new ones there, for which nobody scanned a code.
        return Decision("kept", f"the legacy copy is only {legacy.state}", adopt=True)
    # Libraries write some keys in place, which no mark shows; copies keep the times of their originals.
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


def _decide_unknown(legacy: Side, present: Side, on_conflict: str, same: t.Callable[[], bool]) -> Decision:
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


def _newest(legacy: Side, present: Side) -> Decision:
    """Without a receipt: credentials first, then the place that the backend really uses, then the newest key write."""
    keep = Decision("kept", "the copy at the sessions path is the better one", adopt=True)
    if legacy.rank != present.rank:
        if legacy.rank < present.rank:
            return keep
        return Decision(
            "migrated", f"the legacy copy is {legacy.state}, the other one {present.state}", publish=True, displace=True
        )
    if legacy.in_use != present.in_use:
        if present.in_use:
            return Decision("kept", "the backend uses the copy at the sessions path", adopt=True)
        if legacy.newest_ns < present.newest_ns:
            # That the backend uses the legacy path is only concluded from its not naming the other one.
            return Decision("diverged", "the backend seems to use the legacy copy, but the other one has the newer key")
        return Decision("migrated", "the backend uses the legacy copy", publish=True, displace=True)
    if legacy.newest_ns > present.newest_ns:
        return Decision("migrated", "the legacy copy has the newer key", publish=True, displace=True)
    if legacy.newest_ns < present.newest_ns:
        return Decision("kept", "the copy at the sessions path has the newer key", adopt=True)
    return Decision("diverged", "both copies are equally new and differ")
