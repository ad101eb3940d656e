# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Decide whether the snapshot of an account replaces the account at the sessions path: a migration whose source is the backup store.

The keys of an account change with every message, so an older copy of a linked account is worse than none: it replaces one only if the
operator confirms exactly that. Pure, except for the clock in the sentence of a refusal.
"""

from __future__ import annotations

import time
import typing as t

from .._core.errors import SessionsError
from .._core.masking import account_key
from .._layouts.layout import LINKED
from .conflicts import Decision

if t.TYPE_CHECKING:
    from .conflicts import CopyState
    from .pair import Account
    from .survey import Survey

RESTORE, FORCE, RECOVER = "restore", "force", "recover"
# Values of on_conflict that session_migrate does not offer: the sources are snapshots, and the other rules of this file apply.
WAYS = (RESTORE, FORCE, RECOVER)
# The records of what was restored, in the control directory. A receipt of its own, because receipt.json says where accounts came from.
RESTORES = "restores.json"

ROLLED_BACK_KEYS = (
    "messages that were sent or received since then cannot be decrypted with these keys until the chats have renegotiated them, some of "
    "them are lost, and one-time keys that contacts have used since exist no longer"
)


class Facts(t.NamedTuple):
    """What the decision about one account needs besides its two copies.

    ``again``: it was restored from this very snapshot before. ``occupied``: the sessions path has an entry of its name, account or not.
    ``lost``: it may be recovered although it is missing or no longer linked, because nothing shows that its program removed it.
    """

    again: bool = False
    occupied: bool = False
    lost: bool = False


def decide_restored(
    snapshot: CopyState, present: CopyState | None, way: str, facts: Facts, same: t.Callable[[], bool]
) -> Decision:
    """Decide about one account of a snapshot. ``same`` compares both contents and is called only if that matters."""
    if snapshot.state not in LINKED:
        return Decision("refused", f"the copy in the snapshot is {snapshot.state}")
    if way == RECOVER:
        return _decide_recovered(present, facts)
    if present is None:
        return Decision("restored", "the sessions path does not have it", publish=True, displace=facts.occupied)
    if facts.again and present.state in LINKED and not present.is_of_another_device(snapshot):
        return Decision("unchanged", "it was restored from this snapshot before")
    if same():
        return Decision("unchanged", "it is equal to the snapshot")
    if present.state not in LINKED:
        return Decision("restored", f"the account was {present.state}", publish=True, displace=True)
    if way == FORCE:
        return Decision("restored", "force=true", publish=True, displace=True)
    if present.newest_ns >= snapshot.newest_ns:
        return Decision("refused", "the account is linked and has the newer keys")
    return Decision("restored", "the snapshot has the newer keys", publish=True, displace=True)


def _decide_recovered(present: CopyState | None, facts: Facts) -> Decision:
    """Decide about an account that nobody named: it is restored only in the state that was judged before."""
    state = present.state if present else "missing"
    if state in LINKED:
        return Decision("kept", "it is linked")
    if state == "corrupt" or (state in ("missing", "fresh") and facts.lost):
        return Decision("restored", f"the account was {state}", publish=True, displace=facts.occupied)
    return Decision("kept", f"it is {state} now")


def receipt_source(snapshot: str) -> str:
    """Return what a receipt says about the path of a snapshot: a digest, because the path contains the name of the account."""
    return account_key(snapshot)


def require_restorable(survey: Survey, path: str) -> None:
    """Raise SessionsError if a snapshot must not replace its account: it is unsound, older than a linked one, or of one that was moved."""
    refused = survey.with_action("refused", "skipped")
    if refused:
        raise SessionsError(f"{_why_not(refused[0], path)}{_and_more(len(refused) - 1)}")


def _why_not(account: Account, path: str) -> str:
    if account.decision.action == "skipped":
        return f"account {account.label!r} is not restored: {account.decision.reason}; nothing was changed"
    if account.legacy.state not in LINKED or account.present is None:
        return (
            f"account {account.label!r} cannot be restored, because {account.decision.reason}; nothing was changed: "
            "name an older snapshot in 'snapshot'"
        )
    return (
        f"account {account.label!r} at {path} is linked, and its newest key is {age(account.present.newest_ns)} old, but that of the "
        f"snapshot is {age(account.legacy.newest_ns)} old, so restoring it would turn its keys back: {ROLLED_BACK_KEYS}; nothing was "
        "changed: leave the account as it is, or confirm with force=true"
    )


def _and_more(number: int) -> str:
    return f" (the same applies to {number} more account(s))" if number else ""


def age(moment_ns: int) -> str:
    """Return how long ago a moment (ns since the epoch) was, in words."""
    return span(max(0, int(time.time() - moment_ns / 1e9)))


def span(seconds: int) -> str:
    """Return a length of time in words."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
