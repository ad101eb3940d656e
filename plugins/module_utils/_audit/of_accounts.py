# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Findings about accounts, their backups and the audit itself, and their conditions: pure functions from the facts to evidence."""

from __future__ import annotations

import typing as t

from .._layouts.layout import DAMAGED, FOREIGN, KEYS_MISSING, LINKED, READABLE, STALE, WRITABLE
from .._layouts.problems import sentence_of
from .facts import Account, Facts
from .finding import CRITICAL, HIGH, LOW, MEDIUM, PERSIST, Evidence, Finding

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


FINDINGS: tuple[Finding, ...] = (
    Finding(
        "account_without_content", CRITICAL, "Credentials or keys have no content",
        "A crash or a full disk left an empty file. The library silently creates a new identity, or loses sessions with contacts.",
        "restore the account from a backup (playbook restore) before the backend starts it, or link it again", without_content,
    ),
    Finding(
        "account_corrupt", CRITICAL, "An account is damaged",
        "Its structure shows that it will not reconnect after the next start.",
        "restore the account from a backup (playbook restore), or link it again", corrupt,
    ),
    Finding(
        "account_twice", CRITICAL, "Two accounts hold the same linked device",
        "The backend starts both, and WhatsApp logs both out.",
        "stop the backend and move the older one out of the sessions path", same_device,
    ),
    Finding(
        "copy_in_path", HIGH, "A copy of an account is inside the sessions path",
        "The backend starts every directory that it finds, also a backup under another name.",
        "move it out of the sessions path; the playbook backup keeps copies elsewhere", copy_in_path,
    ),
    Finding(
        "account_partial", MEDIUM, "Only a part of an account is on this disk",
        "The rest is in another store (SQL, Redis), which a copy or a backup of the directory does not contain.",
        "back up that store at the same moment, and restore both together", partial,
    ),
    Finding(
        "account_foreign_owner", HIGH, "Files of an account belong to another user",
        "Reading works, and the next save fails: usually after somebody ran the program as root.",
        "run the module session_dir with recurse=true for the sessions path and the unit", foreign_owner,
    ),
    Finding(
        "account_open", HIGH, "Other users can read keys",
        "Keys are all that is needed to take over the account.",
        f"{PERSIST} (wa_mode closes the directory above, UMask=0077 new files)", open_keys,
    ),
    Finding(
        "lock_blocks_start", HIGH, "A lock keeps a browser from starting",
        "The lock of another host, or one that a copy damaged, makes every start of this account fail.",
        f"{PERSIST}, which removes locks of accounts that are not in use", lock_blocks,
    ),
    Finding(
        "lock_stale", LOW, "A lock was left behind",
        "The last browser of this account did not end cleanly, so its last changes may be lost.",
        f"check how the unit stops: {PERSIST}", lock_stale,
    ),
    Finding(
        "account_growth", MEDIUM, "An account has very many files",
        "Keys accumulate: listing, copying and backups slow down until the disk has no inodes.",
        "update the library, or link the account again; wa_audit_max_files is the threshold", many_files,
    ),
    Finding(
        "link_not_followed", MEDIUM, "A link that may be an account is not followed",
        "Neither a migration nor a backup nor this audit includes what it leads to.",
        "move the account to the sessions path, or remove the link", unfollowed_links,
    ),
    Finding(
        "backup_hard_linked", LOW, "A file of an account has several hard links",
        "This is not a backup: libraries write in place, so both names always have the same content.",
        "replace the other name by a backup (playbook backup)", hard_linked,
    ),
    Finding(
        "account_not_linked", LOW, "A directory is not a linked account",
        "The file exists, but no phone is linked: the backend shows a QR code for it.",
        "link it, or remove it", not_linked,
    ),
    Finding(
        "backup_missing", HIGH, "An account has no backup",
        "What is lost needs a QR code and somebody with the phone.",
        "run the playbook backup, and let a timer repeat it", no_backup,
    ),
    Finding(
        "backup_old", MEDIUM, "A backup is too old",
        "Restoring an old generation rolls keys back: messages are lost until chats have healed.",
        "run the playbook backup; wa_backup_max_age is the threshold", old_backup,
    ),
    Finding(
        "backup_failed", HIGH, "The last backup failed",
        "The run itself, or the unit that starts it, failed, so backups become older unnoticed.",
        "see the journal of the unit that the evidence names, then run the playbook backup", backup_failed,
    ),
    Finding(
        "exception_expired", HIGH, "An exception has expired",
        "The risk was accepted until a date that has passed.",
        "fix the finding that it names, or set a new end date in wa_audit_exceptions", expired,
    ),
    Finding(
        "not_examined", MEDIUM, "A part could not be examined",
        "What was not examined may have any of these findings.",
        "correct what the evidence names and run the audit again", unchecked,
    ),
)  # fmt: skip
