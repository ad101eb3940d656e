# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Conditions of findings about accounts, their backups, and the audit itself. Pure."""

from __future__ import annotations

import typing as t

from .._layouts.layout import DAMAGED, FOREIGN, KEYS_MISSING, LINKED, READABLE, STALE, WRITABLE
from .._layouts.problems import sentence_of
from .evidence import Evidence
from .facts import Account, Facts

_EMPTY = "_empty"
_HOUR = 3600


def _each(facts: Facts, clause: t.Callable[[Account], str]) -> t.Iterator[Evidence]:
    for account in facts.accounts:
        what = clause(account)
        if what:
            yield Evidence(account.label, what)


def _is_empty(account: Account) -> bool:
    return account.state == "corrupt" and any(problem.endswith(_EMPTY) for problem in account.problems)


def without_content(facts: Facts) -> t.Iterator[Evidence]:
    """The library silently creates a new identity over empty credentials."""

    def clause(account: Account) -> str:
        if _is_empty(account):
            return "; ".join(sentence_of(word) for word in account.problems if word.endswith(_EMPTY))
        return f"{account.scan.empty} key files have no content" if account.scan.empty else ""

    return _each(facts, clause)


def corrupt(facts: Facts) -> t.Iterator[Evidence]:
    """The account needs a QR code at the next start."""

    def clause(account: Account) -> str:
        if account.state != "corrupt" or _is_empty(account):
            return ""
        return "; ".join(map(sentence_of, account.problems)) or "its structure is damaged"

    return _each(facts, clause)


def not_linked(facts: Facts) -> t.Iterator[Evidence]:
    """The directory is no proof of an account."""
    return _each(
        facts, lambda account: f"its state is {account.state}" if account.state in ("pending", "fresh") else ""
    )


def partial(facts: Facts) -> t.Iterator[Evidence]:
    """Only a part of the account is on this disk."""
    return _each(
        facts,
        lambda account: "; ".join(
            sentence_of(word) for word in account.problems if word in (KEYS_MISSING, "credentials_in_sql")
        ),
    )


def hard_linked(facts: Facts) -> t.Iterator[Evidence]:
    """A hard link looks like a backup."""
    return _each(
        facts,
        lambda account: "; ".join(sentence_of(word) for word in account.problems if word.endswith("_hard_linked")),
    )


def same_device(facts: Facts) -> t.Iterator[Evidence]:
    """WhatsApp logs out both clients of one device."""
    return _each(
        facts,
        lambda account: f"it holds the same linked device as {', '.join(account.twins)}" if account.twins else "",
    )


def copy_in_path(facts: Facts) -> t.Iterator[Evidence]:
    """The backend starts a copy like any account."""
    return _each(
        facts,
        lambda account: (
            f"its name is that of a copy of {account.copy_of}" if account.copy_of and not account.twins else ""
        ),
    )


def open_keys(facts: Facts) -> t.Iterator[Evidence]:
    """Other users can take over the account."""

    def clause(account: Account) -> str:
        words = [sentence_of(word) for word in account.problems if word in (READABLE, WRITABLE)]
        if account.scan.open:
            words.append(f"{account.scan.open} of {account.scan.looked_at} examined files can be read by all users")
        return "; ".join(words)

    return _each(facts, clause)


def foreign_owner(facts: Facts) -> t.Iterator[Evidence]:
    """The next save fails."""

    def clause(account: Account) -> str:
        words = [f"its directory belongs to {account.wrong_owner}"] if account.wrong_owner else []
        words += [sentence_of(word) for word in account.problems if word.endswith("_foreign_owner")]
        if account.scan.foreign:
            words.append(
                f"{account.scan.foreign} of {account.scan.looked_at} examined files belong to another user than its directory"
            )
        return "; ".join(words)

    return _each(facts, clause)


def lock_blocks(facts: Facts) -> t.Iterator[Evidence]:
    """The browser refuses to start."""
    return _each(facts, lambda account: f"its lock is {account.lock}" if account.lock in (FOREIGN, DAMAGED) else "")


def lock_stale(facts: Facts) -> t.Iterator[Evidence]:
    """The last browser did not end cleanly."""
    return _each(facts, lambda account: "the process of its lock no longer exists" if account.lock == STALE else "")


def many_files(facts: Facts) -> t.Iterator[Evidence]:
    """Keys accumulate until the disk has no inodes."""
    return _each(
        facts,
        lambda account: (
            f"it has at least {account.scan.files} files" if account.scan.files >= facts.limits.files else ""
        ),
    )


def unfollowed_links(facts: Facts) -> t.Iterator[Evidence]:
    """The account is not where it seems to be."""
    for label, reason in facts.links:
        yield Evidence(label, reason)


# --- Backups ---------------------------------------------------------------------------------------------


def no_backup(facts: Facts) -> t.Iterator[Evidence]:
    """What is lost cannot be restored."""
    if facts.backups is None or not any(account.state in LINKED for account in facts.accounts):
        return
    if not facts.backups.exists:
        yield Evidence(facts.backups.store, "there is no store of backups")
        return
    for label in facts.backups.missing:
        yield Evidence(label, "it is linked and has no sound backup")


def old_backup(facts: Facts) -> t.Iterator[Evidence]:
    """A restored old generation no longer fits to what the phone knows."""
    for label, age in facts.backups.old if facts.backups else ():
        yield Evidence(label, f"its newest sound backup was last found current {age // _HOUR} hours ago")


def backup_failed(facts: Facts) -> t.Iterator[Evidence]:
    """The last run of the backup, or what starts it, failed."""
    if facts.backups is None:
        return
    if facts.backups.failed_accounts:
        yield Evidence(facts.backups.store, f"the last run failed for {facts.backups.failed_accounts} accounts")
    for unit, state in facts.backups.timers:
        yield Evidence(unit, f"it is {state}")


# --- The audit itself ------------------------------------------------------------------------------------


def expired(facts: Facts) -> t.Iterator[Evidence]:
    """An accepted risk has to be decided again."""
    for one in facts.exempted:
        if not one.is_valid(facts.today):
            yield Evidence(one.id, f"its exception ended on {one.until.isoformat()} ({one.reason})")


def unchecked(facts: Facts) -> t.Iterator[Evidence]:
    """What was not examined is not clean."""
    for part, why in facts.unchecked:
        yield Evidence(part, why)
