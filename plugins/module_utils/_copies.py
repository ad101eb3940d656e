# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Which accounts in a sessions path are copies of others: a backend starts each directory that it finds, and logs both out.

Pure decisions over names, fingerprints and times. An account called ``x-2`` is no copy of ``x``: people number accounts like that.
"""

from __future__ import annotations

import re
import typing as t

_WORD = r"(?:backup|back|bak|bkp|copy|copia|kopie|old|orig|original|prev|previous|save|saved|before)"
_DATE = (
    r"(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])(?:[-_.T ]?\d\d[-_.:]?\d\d(?:[-_.:]?\d\d)?Z?)?"
)
_MARK = r"[-_. ~]"
# After a name: a word or a date, and whatever numbers and further words follow; or what file managers add.
_AFTER = re.compile(
    rf"(?P<of>.+?)(?:{_MARK}+\(?(?:{_WORD}|{_DATE})\)?(?:{_MARK}*\(?(?:{_WORD}|{_DATE}|\d+)\)?)*|~+| \(\d+\))",
    re.IGNORECASE,
)
# Before a name: a word, and perhaps a time behind it, as programs call their backups.
_BEFORE = re.compile(rf"{_WORD}(?:{_MARK}+of)?{_MARK}+(?P<of>.+?)(?:{_MARK}+(?:{_DATE}|\d{{8,}}))?", re.IGNORECASE)


class Candidate(t.NamedTuple):
    """What a copy is told by. ``newest``: when the account was last used, in nanoseconds."""

    name: str
    fingerprints: tuple[str, ...]
    newest: int


def copies_among(accounts: t.Sequence[Candidate]) -> dict[str, str]:
    """Return the accounts that look like a copy, each with the account that it is one of.

    A name says so, or one linked device in several places; then the one used last is taken for the original.
    """
    names = {account.name for account in accounts}
    told = {name: original for name in names for original in _originals(name) if original in names}
    for group in devices_shared(accounts):
        original = max((account for account in group if account.name not in told), key=_last_used, default=group[0])
        for account in group:
            if account.name != original.name:
                told.setdefault(account.name, original.name)
    return dict(sorted(told.items()))


def devices_shared(accounts: t.Iterable[Candidate]) -> list[list[Candidate]]:
    """Group the accounts that hold one linked device."""
    groups: dict[str, list[Candidate]] = {}
    for account in accounts:
        for fingerprint in account.fingerprints:
            groups.setdefault(fingerprint, []).append(account)
    return [group for group in groups.values() if len(group) > 1]


def _last_used(account: Candidate) -> tuple[int, str]:
    return account.newest, account.name


def _originals(name: str) -> t.Iterator[str]:
    """Yield the names that this name could be the name of a copy of, in the same directory."""
    folder, slash, last = name.rpartition("/")
    for pattern in (_AFTER, _BEFORE):
        found = pattern.fullmatch(last)
        if found:
            yield f"{folder}{slash}{found['of']}"
