# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Baileys and its forks: one flat directory of JSON files per account, useMultiFileAuthState (facts read in its sources)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import typing as t

from ._errors import SessionsError
from ._layout import Judgement, Layout, StopSettings, exists
from ._paths import read_file_at

_CREDENTIALS_AT_MOST = 16 << 20  # bytes; real ones are 1 to 50 kB
_BAILEYS_KEY = re.compile(
    r"(pre-key|session|sender-key|sender-key-memory|app-state-sync-key|app-state-sync-version|lid-mapping|device-list|tctoken|identity-key)-.+\.json"
)
_PRE_KEYS_AT_MOST = 1 << 24  # their numbers have three bytes in the Signal protocol
_BAILEYS_PARTS = ("noiseKey", "signedIdentityKey", "signedPreKey", "registrationId", "advSecretKey")


def is_baileys(directory: int) -> bool:
    return exists(directory, "creds.json") or _has_baileys_key(directory)


def _has_baileys_key(directory: int) -> bool:
    with os.scandir(directory) as entries:
        return any(_BAILEYS_KEY.fullmatch(entry.name) for entry in entries)


def judge_baileys(directory: int) -> Judgement:
    try:
        status = os.stat("creds.json", dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return Judgement("corrupt", ("credentials_missing",))
    broken = _unfit(status, os.fstat(directory))
    if broken:
        return Judgement("corrupt", broken)
    try:
        content = read_file_at(directory, "creds.json", at_most=_CREDENTIALS_AT_MOST, called="the credentials")
        credentials = json.loads(content or b"")
    except SessionsError:
        return Judgement("corrupt", ("credentials_unreadable",))
    except (ValueError, RecursionError):
        return Judgement("corrupt", ("credentials_not_json",))
    if not isinstance(credentials, dict):
        return Judgement("corrupt", ("credentials_not_json",))
    return _judge_baileys_credentials(credentials, directory, _weak(status, os.fstat(directory)))


def _judge_baileys_credentials(
    credentials: t.Mapping[str, t.Any], directory: int, weaknesses: tuple[str, ...]
) -> Judgement:
    # `registered` stays false after a QR login, so it says nothing; `me` alone is set as soon as a pairing code is asked for.
    me = credentials.get("me")
    if not me:
        return Judgement("fresh", weaknesses)
    if not credentials.get("account"):
        return Judgement("pending", weaknesses)
    if (
        not isinstance(me, dict)
        or not me.get("id")
        or any(credentials.get(part) in (None, "", {}) for part in _BAILEYS_PARTS)
    ):
        return Judgement("corrupt", ("credentials_incomplete", *weaknesses))
    if not exists(
        directory, f"pre-key-{_number_before(credentials.get('nextPreKeyId'))}.json"
    ) and not _has_baileys_key(directory):
        return Judgement("corrupt", ("keys_missing", *weaknesses))
    fingerprint = hashlib.sha256(str(me["id"]).encode("utf-8", "surrogatepass")).hexdigest()
    return Judgement("paired", weaknesses, (fingerprint,), 1)


def _number_before(number: t.Any) -> int:
    return number - 1 if isinstance(number, int) and 0 < number < _PRE_KEYS_AT_MOST else 0


def _unfit(status: os.stat_result, directory: os.stat_result) -> tuple[str, ...]:
    """Name what makes a credentials file useless before it is opened."""
    if not stat.S_ISREG(status.st_mode):
        return ("credentials_not_a_file",)
    if status.st_size == 0:
        return ("credentials_empty",)
    if not _owner_may_read(status, directory):
        return ("credentials_unreadable_by_owner",)
    return ()


def _owner_may_read(status: os.stat_result, directory: os.stat_result) -> bool:
    """Whether the owner of the account's directory, who is taken for the backend's user, may read the file."""
    if directory.st_uid == 0:
        return True
    if status.st_uid == directory.st_uid:
        return bool(status.st_mode & stat.S_IRUSR)
    if status.st_gid == directory.st_gid and status.st_mode & stat.S_IRGRP:
        return True
    return bool(status.st_mode & stat.S_IROTH)


def _weak(status: os.stat_result, directory: os.stat_result) -> tuple[str, ...]:
    """Name what will go wrong later.

    A foreign owner makes each save fail, a wide mode shows the keys to everybody, and a second name is no backup: libraries write in place.
    """
    found = []
    if status.st_nlink > 1:
        found.append("credentials_hard_linked")
    if status.st_uid != directory.st_uid:
        found.append("credentials_foreign_owner")
    if status.st_mode & stat.S_IROTH and directory.st_mode & stat.S_IXOTH:
        found.append("readable_by_everybody")
    return tuple(found)


def claims_baileys(directory: int, path: str) -> str:
    return "a directory holds creds.json" if exists(directory, "creds.json") else ""


BAILEYS = Layout(
    name="baileys",
    title="Baileys (useMultiFileAuthState)",
    is_account=is_baileys,
    judge=judge_baileys,
    claims=claims_baileys,
    watched=("creds.json",),
    counted=("creds.json",),
    legacy_names=(
        ".baileys_auth",
        "auth_info_baileys",
        "baileys_auth_info",
        "auth_info",
        "sessions",
        "store/auth",
    ),
    volatile=("*.tmp", ".write-test", "*.lock"),
    beside=("lost+found", "_orphaned", "media", "statics"),
    depth=2,
    # seed 000: the backend flushes on SIGINT, which itself takes up to 30 s, so 30 s would cut it off.
    stop=StopSettings(signal="SIGINT", timeout=45),
)
