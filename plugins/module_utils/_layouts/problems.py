# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The vocabulary of the ``problems`` of accounts: what each word means, in one sentence. Contains nothing else.

docs/layouts.md lists the words; a unit test compares them with those that the layouts use.
"""

from __future__ import annotations

import typing as t

# What a word begins with, and what it is about.
PARTS: t.Mapping[str, str] = {
    "credentials": "the file of credentials",
    "keys": "at least one key file (of a corrupt account: every one)",
    "store": "a database of the account",
    "marker": "a file that identifies the account",
    "profile": "the directory of the browser's profile",
}
# How the word continues, and the parts that are judged so.
_OF_FILES, _OF_LASTING = ("credentials", "keys", "store", "marker"), ("credentials", "store", "marker", "profile")
OF_ANY_PART: t.Mapping[str, tuple[tuple[str, ...], str]] = {
    "empty": (_OF_FILES, "has no content, as after a crash or on a full disk"),
    "not_a_file": (_OF_FILES, "is not a regular file"),
    "unreadable_by_owner": (_OF_FILES, "cannot be read by the owner of the account's directory"),
    "foreign_owner": (
        _OF_LASTING,
        "belongs to another user than the account's directory: it works until the library saves",
    ),
    "hard_linked": (_OF_LASTING[:-1], "has several hard links, which are no backup, because libraries write in place"),
}
# The databases of a browser's page, and what is wrong with them.
DATABASES: t.Mapping[str, str] = {"indexeddb": "IndexedDB", "local_storage": "Local Storage"}
OF_A_DATABASE: t.Mapping[str, str] = {
    "missing": "does not exist",
    "current_invalid": "has no valid CURRENT, so the browser deletes it and shows a QR code",
    "manifest_missing": "has no manifest, so the browser deletes it and shows a QR code",
    "data_missing": "has no data, so the browser shows a QR code",
    "table_empty": "has a table without content, as after a crash",
}
SECOND = "second_database"
_OF_A_STORE = {
    "store_damaged": "SQLite reports that the database is damaged",
    "wal_missing": "the database was copied without its -wal, which held the data",
    "store_in_motion": "its program never paused writing, so the database has no valid state to judge",
    "store_not_judged": "the check of the database did not end in time",
    "store_too_large": "the database is too large to be copied and judged",
    "store_not_copied": "the database could not be copied to be judged",
    "sqlite_missing": "this host's Python has no SQLite, so the database could not be judged",
}

PROBLEMS: t.Mapping[str, str] = {
    **{f"{part}_{kind}": f"{PARTS[part]} {how}" for kind, (parts, how) in OF_ANY_PART.items() for part in parts},
    **{
        f"{word}_{kind}": f"the page's {name} {how}"
        for kind, how in OF_A_DATABASE.items()
        for word, name in DATABASES.items()
    },
    **_OF_A_STORE,
    **{
        f"{SECOND}_{word[len('store_') :] if word.startswith('store_') else word}": f"a database that the program does not open: {how}"
        for word, how in (
            *_OF_A_STORE.items(),
            *((f"store_{kind}", f"it {how}") for kind, (parts, how) in OF_ANY_PART.items() if "store" in parts),
        )
    },
    "credentials_missing": "there are keys, but no credentials",
    "credentials_unreadable": "root cannot read the credentials, or they are larger than any library writes",
    "credentials_not_json": "the credentials are not the JSON that the library reads, as after a crash while they were written",
    "credentials_incomplete": "the credentials of a linked device lack a part that the library needs to log in",
    "credentials_twice": "several files of credentials are in one directory, and the program starts each of them",
    "credentials_in_sql": "the credentials are in a SQL database, the directory contains only keys",
    "backup_of_credentials_present": "the credentials are unusable, and creds.json.bak exists",
    "keys_missing": "there are only credentials, as with programs that store keys in Redis; a copy with keys is preferred",
    "marker_missing": "a file or directory that identifies the account does not exist",
    "readable_by_everybody": "the mode lets all users read it, and no directory above denies that",
    "writable_by_everybody": "the mode lets all users write to it, and no directory above denies that",
    "store_of_another_program": "the database has the tables of another program",
    "account_unreadable": "root cannot read it because of the disk or the filesystem, or it contains endless data",
    "lock_of_another_host": "a browser will not start, because the lock was created on another host or under another host name",
    "lock_damaged": "a browser will not start, because the lock is not one that a browser creates",
}


def sentence_of(word: str) -> str:
    """Return what a problem means. Raises KeyError for a word that no layout uses."""
    return PROBLEMS[word]
