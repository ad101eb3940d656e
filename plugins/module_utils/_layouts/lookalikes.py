# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Detect accounts in a sessions path that are copies of others: a backend starts every directory it finds, and WhatsApp logs both out.

Pure decisions based on names, fingerprints and times. An account named ``x-2`` is not a copy of ``x``: such numbering is common.
"""

from __future__ import annotations

import re
import typing as t

_WORD = r"(?:backup|back|bak|bkp|copy|copia|kopie|old|orig|original|prev|previous|save|saved|before)"
_DATE = (
    r"(?:19|20)\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:0[1-9]|[12]\d|3[01])(?:[-_.T ]?\d\d[-_.:]?\d\d(?:[-_.:]?\d\d)?Z?)?"
)
_MARK = r"[-_. ~]"
# After a name: a word or a date, followed by further words and numbers; or the suffixes of file managers.
_AFTER = re.compile(
    rf"(?P<of>.+?)(?:{_MARK}+\(?(?:{_WORD}|{_DATE})\)?(?:{_MARK}*\(?(?:{_WORD}|{_DATE}|\d+)\)?)*|~+| \(\d+\))",
    re.IGNORECASE,
)
# Before a name: a word, and optionally a time at the end, as programs name their backups.
_BEFORE = re.compile(rf"{_WORD}(?:{_MARK}+of)?{_MARK}+(?P<of>.+?)(?:{_MARK}+(?:{_DATE}|\d{{8,}}))?", re.IGNORECASE)


class Candidate(t.NamedTuple):
    """An account with the properties that reveal copies. ``newest``: when it was last used, in nanoseconds."""

    name: str
    fingerprints: tuple[str, ...]
    newest: int


def copies_among(accounts: t.Sequence[Candidate]) -> dict[str, str]:
    """Return the accounts that look like copies, each mapped to its original.

    Either the name indicates a copy, or several accounts hold the same linked device; then the last used one is the original.
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
    """Return groups of accounts that hold the same linked device."""
    groups: dict[str, list[Candidate]] = {}
    for account in accounts:
        for fingerprint in account.fingerprints:
            groups.setdefault(fingerprint, []).append(account)
    return [group for group in groups.values() if len(group) > 1]


def _last_used(account: Candidate) -> tuple[int, str]:
    return account.newest, account.name


def _originals(name: str) -> t.Iterator[str]:
    """Yield the possible originals in the same directory that this name could be a copy of."""
    folder, slash, last = name.rpartition("/")
    for pattern in (_AFTER, _BEFORE):
        found = pattern.fullmatch(last)
        if found:
            yield f"{folder}{slash}{found['of']}"
