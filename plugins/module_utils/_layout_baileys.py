# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Baileys and what was made after it: credentials in one JSON file, each key in a file of its own (facts read in their sources).

``baileys`` keeps all of it in one flat directory, ``evolution`` does so too or has the credentials in SQL, ``baileys_csharp`` has a
folder for each kind of key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import time
import typing as t

from ._errors import SessionsError
from ._layout import (
    Judgement,
    Layout,
    StopSettings,
    exists,
    folders_in,
    is_folder,
    opened_below,
    status_of,
    unfit,
    weak,
)
from ._paths import read_file_at, real_path

_TRIES, _PAUSE, _JUST_NOW = 5, 0.03, 1.0  # seconds
_CREDENTIALS_AT_MOST = 16 << 20  # bytes; real ones are 1 to 50 kB
_KEY = re.compile(
    r"(pre-key|session|sender-key|sender-key-memory|app-state-sync-key|app-state-sync-version|lid-mapping|device-list|tctoken|identity-key)-.+\.json"
)
_PRE_KEYS_AT_MOST = 1 << 24  # their numbers have three bytes in the Signal protocol
_PARTS = ("noiseKey", "signedIdentityKey", "signedPreKey", "registrationId", "advSecretKey")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

# The library itself says pre-key, the guide of seed 002 says pre-keys; programs of both kinds are about.
_PRE_KEY_FOLDERS = ("pre-key", "pre-keys")
_KEY_FOLDERS = (
    *_PRE_KEY_FOLDERS,
    *("session", "sessions", "session-key", "session-keys"),
    *("sender-key", "sender-keys", "app-state-sync-key", "app-state-sync-keys"),
)

# seed 000: the backend flushes on SIGINT, which itself takes up to 30 s, so 30 s would cut it off.
_STOP = StopSettings(signal="SIGINT", timeout=45)


def is_baileys(directory: int) -> bool:
    """Whether an open directory holds credentials or keys of Baileys."""
    return exists(directory, "creds.json") or has_baileys_key(directory)


def has_baileys_key(directory: int) -> bool:
    """Whether an open directory holds a key of Baileys."""
    with os.scandir(directory) as entries:
        return any(_KEY.fullmatch(entry.name) for entry in entries)


def judge_baileys(directory: int) -> Judgement:
    """Say what credentials and keys amount to."""
    judgement = _judged(directory, "creds.json", _has_keys_of)
    if judgement.state == "corrupt" and exists(directory, "creds.json.bak"):
        # Forks keep one, and restore it themselves only where creds.json is missing.
        return Judgement("corrupt", (*judgement.problems, "backup_of_credentials_present"))
    return judgement


def _has_keys_of(directory: int, credentials: t.Mapping[str, t.Any]) -> bool:
    # Asking for the newest one spares the listing of thousands; it is gone once it was used.
    newest = f"pre-key-{_number_before(credentials.get('nextPreKeyId'))}.json"
    return exists(directory, newest) or has_baileys_key(directory)


def _judged(directory: int, name: str, has_keys: t.Callable[[int, t.Mapping[str, t.Any]], bool]) -> Judgement:
    """Judge by the credentials file ``name``; ``has_keys`` is asked where they are those of a linked device.

    The library truncates the file and writes it again: what was seen in that moment is no state of the account.
    """
    judgement = _judged_once(directory, name, has_keys)
    for _attempt in range(_TRIES):
        if judgement.state != "corrupt" or not _is_being_written(directory, name):
            break
        time.sleep(_PAUSE)
        judgement = _judged_once(directory, name, has_keys)
    return judgement


def _is_being_written(directory: int, name: str) -> bool:
    status = status_of(directory, name)
    return status is not None and abs(time.time() - status.st_mtime) < _JUST_NOW


def _judged_once(directory: int, name: str, has_keys: t.Callable[[int, t.Mapping[str, t.Any]], bool]) -> Judgement:
    status = status_of(directory, name)
    if status is None:
        return Judgement("corrupt", ("credentials_missing",))
    broken = unfit(status, os.fstat(directory), "credentials")
    if broken:
        return Judgement("corrupt", broken)
    try:
        content = read_file_at(directory, name, at_most=_CREDENTIALS_AT_MOST, called="the credentials")
        credentials = json.loads(content or b"")
    except SessionsError:
        return Judgement("corrupt", ("credentials_unreadable",))
    except (ValueError, RecursionError):
        return Judgement("corrupt", ("credentials_not_json",))
    if not isinstance(credentials, dict):
        return Judgement("corrupt", ("credentials_not_json",))
    state, problems = _state_of(credentials)
    if state == "paired" and not has_keys(directory, credentials):
        state, problems = "corrupt", ("keys_missing",)
    problems += weak(status, os.fstat(directory), "credentials")
    return (
        Judgement(state, problems, (_fingerprint(credentials),), 1) if state == "paired" else Judgement(state, problems)
    )


def _state_of(credentials: t.Mapping[str, t.Any]) -> tuple[str, tuple[str, ...]]:
    # `registered` stays false after a QR login, so it says nothing; `me` alone is set as soon as a pairing code is asked for.
    me = credentials.get("me")
    if not me:
        return "fresh", ()
    if not credentials.get("account"):
        return "pending", ()
    if not isinstance(me, dict) or not me.get("id") or any(credentials.get(part) in (None, "", {}) for part in _PARTS):
        return "corrupt", ("credentials_incomplete",)
    return "paired", ()


def device_fingerprint(jid: str) -> str:
    """Give what a linked device is compared by, from its name in the network."""
    return hashlib.sha256(jid.encode("utf-8", "surrogatepass")).hexdigest()


def _fingerprint(credentials: t.Mapping[str, t.Any]) -> str:
    return device_fingerprint(str(credentials["me"]["id"]))


def _number_before(number: t.Any) -> int:
    return number - 1 if isinstance(number, int) and 0 < number < _PRE_KEYS_AT_MOST else 0


def _claims_baileys(directory: int, path: str) -> str:
    return "a directory holds creds.json" if exists(directory, "creds.json") else ""


# --- Evolution API ----------------------------------------------------------------------------------------------


def _judge_evolution(directory: int) -> Judgement:
    if exists(directory, "creds.json"):
        return judge_baileys(directory)
    keys = (status_of(directory, name) for name in os.listdir(directory) if _KEY.fullmatch(name))
    if any(status is not None and status.st_size == 0 for status in keys):
        return Judgement("corrupt", ("keys_empty",))
    return Judgement("unknown", ("credentials_in_sql",))


def _claims_evolution(directory: int, path: str) -> str:
    if path != ".":
        return ""
    names = [name for name in folders_in(directory) if not name.startswith(".") and name not in BAILEYS.beside]
    if os.path.basename(real_path(directory)) == "instances":
        found = any(_asked_below(directory, name, is_baileys) for name in names)
        return "a directory called instances holds Baileys keys" if found else ""
    if names and all(_UUID.fullmatch(name) and _asked_below(directory, name, _has_keys_alone) for name in names):
        return "directories called by UUIDs hold Baileys keys, and none holds creds.json"
    return ""


def _has_keys_alone(directory: int) -> bool:
    return not exists(directory, "creds.json") and has_baileys_key(directory)


def _asked_below(directory: int, name: str, question: t.Callable[[int], bool]) -> bool:
    try:
        with opened_below(directory, name) as below:
            return question(below)
    except (FileNotFoundError, NotADirectoryError):
        return False


# --- BaileysCSharp ----------------------------------------------------------------------------------------------


def _is_csharp(directory: int) -> bool:
    if any(is_folder(directory, name) for name in _PRE_KEY_FOLDERS):
        return True
    return any(name.endswith("_creds.json") for name in os.listdir(directory))


def _judge_csharp(directory: int) -> Judgement:
    names = sorted(name for name in os.listdir(directory) if name.endswith("_creds.json")) or ["creds.json"]
    judgements = [_judged(directory, name, lambda below, dummy: _has_csharp_key(below)) for name in names]
    best = next((each for each in judgements if each.state == "paired"), judgements[0])
    if len(names) > 1:  # each is an account to the program, and all of them would work on the same keys
        return dataclasses.replace(best, problems=(*best.problems, "credentials_twice"))
    return best


def _has_csharp_key(directory: int) -> bool:
    """Whether there is a key: in a folder, or beside it where the program joined the path with a backslash."""
    with os.scandir(directory) as entries:
        found = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    if any(name.partition("\\")[0] in _KEY_FOLDERS and "\\" in name and not folder for name, folder in found.items()):
        return True
    return any(_asked_below(directory, name, _has_entries) for name in _KEY_FOLDERS if found.get(name))


def _has_entries(directory: int) -> bool:
    with os.scandir(directory) as entries:
        return next(entries, None) is not None


def _claims_csharp(directory: int, path: str) -> str:
    if exists(directory, f"{os.path.basename(path)}_creds.json"):
        return "a directory holds <its name>_creds.json"
    if exists(directory, "creds.json") and any(is_folder(directory, name) for name in _PRE_KEY_FOLDERS):
        return "a directory holds creds.json and a folder of pre-keys"
    return ""


def _csharp_parts(account: str) -> tuple[str, ...]:
    """The chat store, which a path joined with a backslash puts beside the account, with its log."""
    return (f"{account}\\store.db", f"{account}\\store-log.db")


BAILEYS = Layout(
    name="baileys",
    title="Baileys (useMultiFileAuthState)",
    is_account=is_baileys,
    judge=judge_baileys,
    claims=_claims_baileys,
    watched=("creds.json",),
    counted=("creds.json",),
    legacy_names=(
        ".baileys_auth",
        "auth_info_baileys",
        "baileys_auth_info",
        "auth_info",
        "sessions",
        "store/auth",
        "*_sessions",
    ),
    volatile=("*.tmp", ".write-test", "*.lock"),
    beside=("lost+found", "_orphaned", "media", "statics"),
    depth=2,
    stop=_STOP,
)

EVOLUTION = Layout(
    name="evolution",
    title="Evolution API (of version 2 only the keys: its credentials are in SQL)",
    is_account=is_baileys,
    judge=_judge_evolution,
    claims=_claims_evolution,
    states=("paired", "pending", "fresh", "corrupt", "unknown"),
    refines=("baileys",),
    watched=("creds.json",),
    counted=("creds.json",),
    legacy_names=("instances",),
    volatile=BAILEYS.volatile,
    beside=BAILEYS.beside,
    stop=_STOP,
)

BAILEYS_CSHARP = Layout(
    name="baileys_csharp",
    title="BaileysCSharp",
    is_account=_is_csharp,
    judge=_judge_csharp,
    claims=_claims_csharp,
    parts_of=_csharp_parts,
    refines=("baileys",),
    watched=("creds.json", "*_creds.json"),
    counted=("creds.json", "*_creds.json"),
    legacy_names=("sessions",),
    volatile=("*.tmp",),
    beside=BAILEYS.beside,
    # Accounts used to lie among the files of the program itself.
    travels=(),
    stop=_STOP,
)
