# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Baileys and what was made after it: credentials in one JSON file, each key in a file of its own (facts read in their sources).

``baileys`` keeps all of it in one flat directory, ``evolution`` does so too or has the credentials in SQL, ``baileys_csharp`` has a
folder for each kind of key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
import re
import time
import typing as t

from ._bounded_json import parsed_as_dotnet, parsed_as_node
from ._errors import SessionsError
from ._layout import (
    KEYS_MISSING,
    Judgement,
    Layout,
    StopSettings,
    bounded,
    exists,
    folders_in,
    is_folder,
    names_in,
    opened_below,
    status_of,
    unfit,
    weak,
)
from ._limits import CREDENTIALS_BYTES
from ._paths import read_file_at

_TRIES, _PAUSE, _JUST_NOW = 5, 0.03, 1.0  # seconds
_KEY = re.compile(
    r"(pre-key|session|sender-key|sender-key-memory|app-state-sync-key|app-state-sync-version|lid-mapping|device-list|tctoken|identity-key)-.+\.json"
)
_IN_SQL = "credentials_in_sql"
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
        return any(_KEY.fullmatch(entry.name) for entry in bounded(entries))


def judge_baileys(directory: int) -> Judgement:
    """Say what credentials and keys amount to."""
    judgement = _judged(directory, "creds.json", _keys_of, parsed_as_node)
    if judgement.state == "corrupt" and exists(directory, "creds.json.bak"):
        # Forks keep one, and restore it themselves only where creds.json is missing.
        return Judgement("corrupt", (*judgement.problems, "backup_of_credentials_present"))
    return judgement


class _Keys(t.NamedTuple):
    """What the keys of an account are worth. ``useless``: there are some, and the library can read none."""

    useless: bool
    problems: tuple[str, ...]


_Look = t.Callable[[int, t.Mapping[str, t.Any]], _Keys]


def _keys_of(directory: int, credentials: t.Mapping[str, t.Any]) -> _Keys:
    # Asking for the newest one spares the listing of thousands; it is gone once it was used.
    newest = [(directory, f"pre-key-{_number_before(credentials.get('nextPreKeyId'))}.json")]
    found = _worth(newest)
    return found if not found.problems else _worth(itertools.chain(newest, _flat_keys(directory)))


def _flat_keys(directory: int) -> t.Iterator[tuple[int, str]]:
    return ((directory, name) for name in sorted(names_in(directory)) if _KEY.fullmatch(name))


def _worth(keys: t.Iterable[tuple[int, str]]) -> _Keys:
    """Look at key files, each given by its open directory and its name. What is empty the library takes for missing, and goes on."""
    problems: dict[str, None] = {}
    found = readable = False
    for directory, name in keys:
        status = status_of(directory, name)
        if status is None:
            continue
        found = True
        wrong = unfit(status, os.fstat(directory), "keys")
        if not wrong and not readable:  # opening all of them would take too long
            wrong = () if _has_content(directory, name) else ("keys_empty",)
        readable = readable or not wrong
        problems.update(dict.fromkeys(wrong))
    # The library logs in with the credentials alone, and uploads new pre-keys; bots that keep keys in Redis have no more on disk.
    return _Keys(not readable, tuple(problems)) if found else _Keys(False, (KEYS_MISSING,))


def _has_content(directory: int, name: str) -> bool:
    """Whether a file begins with anything but the zeros that a crash or a full disk leaves: JSON never does."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return False  # it was used since it was listed
    try:
        return os.read(descriptor, 1) not in (b"", b"\0")
    finally:
        os.close(descriptor)


def _judged(directory: int, name: str, keys_of: _Look, parsed: t.Callable[[bytes], t.Any]) -> Judgement:
    """Judge by the credentials file ``name``; ``keys_of`` is asked where they are those of a linked device.

    The library truncates the file and writes it again: what was seen in that moment is no state of the account.
    """
    judgement = _judged_once(directory, name, keys_of, parsed)
    for _attempt in range(_TRIES):
        if judgement.state != "corrupt" or not _is_being_written(directory, name):
            break
        time.sleep(_PAUSE)
        judgement = _judged_once(directory, name, keys_of, parsed)
    return judgement


def _is_being_written(directory: int, name: str) -> bool:
    status = status_of(directory, name)
    return status is not None and abs(time.time() - status.st_mtime) < _JUST_NOW


def _judged_once(directory: int, name: str, keys_of: _Look, parsed: t.Callable[[bytes], t.Any]) -> Judgement:
    status = status_of(directory, name)
    if status is None:
        return Judgement("corrupt", ("credentials_missing",))
    broken = unfit(status, os.fstat(directory), "credentials")
    if broken:
        return Judgement("corrupt", broken)
    try:
        content = read_file_at(directory, name, at_most=CREDENTIALS_BYTES, called="the credentials")
        credentials = parsed(content or b"")
    except SessionsError:
        return Judgement("corrupt", ("credentials_unreadable",))
    except (ValueError, RecursionError):
        return Judgement("corrupt", ("credentials_not_json",))
    if not isinstance(credentials, dict):
        return Judgement("corrupt", ("credentials_not_json",))
    state, problems = _state_of(credentials)
    if state == "paired":
        keys = keys_of(directory, credentials)
        state, problems = "corrupt" if keys.useless else state, keys.problems
    problems += weak(status, os.fstat(directory), "credentials")
    return (
        Judgement(state, problems, (_fingerprint(credentials),), 1) if state == "paired" else Judgement(state, problems)
    )


def _state_of(credentials: t.Mapping[str, t.Any]) -> tuple[str, tuple[str, ...]]:
    # `registered` stays false after a QR login, so it says nothing; `me` alone is set as soon as a pairing code is asked for.
    me = credentials.get("me")
    if not _is_set(me):
        return "fresh", ()
    if not _is_set(credentials.get("account")) and not _is_phone(credentials):
        return "pending", ()
    if not isinstance(me, dict) or not me.get("id") or any(credentials.get(part) in (None, "", {}) for part in _PARTS):
        return "corrupt", ("credentials_incomplete",)
    return "paired", ()


def _is_set(value: t.Any) -> bool:
    """Whether a value counts as true to the library: an empty object does."""
    return bool(value) or isinstance(value, (dict, list))


def _is_phone(credentials: t.Mapping[str, t.Any]) -> bool:
    """Whether the account is no linked device but the phone itself, as Baileys before 6.7 could register one (``mobile``)."""
    registration = credentials.get("registration")
    return (
        credentials.get("registered") is True
        and isinstance(registration, dict)
        and bool(registration.get("phoneNumberNationalNumber"))
    )


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
    keys = _worth(_flat_keys(directory))
    return Judgement("corrupt", keys.problems) if keys.useless else Judgement("unknown", (_IN_SQL, *keys.problems))


def _claims_evolution(directory: int, path: str) -> str:
    """Recognise version 2, with what version 1 left or without; an account of version 1 alone is one of Baileys.

    A program of another kind that calls its accounts by UUIDs has credentials in some of them.
    """
    if path != ".":
        return ""
    names = [name for name in folders_in(directory) if _UUID.fullmatch(name)]
    if any(_asked_below(directory, name, _has_credentials) for name in names):
        return ""
    if any(_asked_below(directory, name, has_baileys_key) for name in names):
        return "directories called by UUIDs hold Baileys keys, and none of them holds creds.json"
    return ""


def _has_credentials(directory: int) -> bool:
    return exists(directory, "creds.json")


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
    return any(name.endswith("_creds.json") for name in names_in(directory))


def _judge_csharp(directory: int) -> Judgement:
    names = sorted(name for name in names_in(directory) if name.endswith("_creds.json")) or ["creds.json"]
    judgements = [_judged(directory, name, _csharp_keys_of, parsed_as_dotnet) for name in names]
    best = next((each for each in judgements if each.state == "paired"), judgements[0])
    if len(names) > 1:  # each is an account to the program, and all of them would work on the same keys
        return dataclasses.replace(best, problems=(*best.problems, "credentials_twice"))
    return best


def _csharp_keys_of(directory: int, credentials: t.Mapping[str, t.Any]) -> _Keys:
    return _worth(_csharp_keys(directory))


def _csharp_keys(directory: int) -> t.Iterator[tuple[int, str]]:
    """Yield the keys: in a folder, or beside it where the program joined the path with a backslash."""
    with os.scandir(directory) as entries:
        found = {entry.name: entry.is_dir(follow_symlinks=False) for entry in bounded(entries)}
    for name, folder in found.items():
        if name.partition("\\")[0] in _KEY_FOLDERS and "\\" in name and not folder:
            yield directory, name
    for name in _KEY_FOLDERS:
        if found.get(name):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened_below(directory, name) as below:
                yield from ((below, key) for key in names_in(below))


def _claims_csharp(directory: int, path: str) -> str:
    if exists(directory, f"{os.path.basename(path)}_creds.json"):
        return "a directory holds <its name>_creds.json"
    if exists(directory, "creds.json") and any(is_folder(directory, name) for name in _PRE_KEY_FOLDERS):
        return "a directory holds creds.json and a folder of pre-keys"
    return ""


def _csharp_sidecars(account: str) -> tuple[str, ...]:
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
    ignored=("lost+found", "_orphaned", "media", "statics"),
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
    ignored=BAILEYS.ignored,
    stop=_STOP,
)

BAILEYS_CSHARP = Layout(
    name="baileys_csharp",
    title="BaileysCSharp",
    is_account=_is_csharp,
    judge=_judge_csharp,
    claims=_claims_csharp,
    sidecars_of=_csharp_sidecars,
    refines=("baileys",),
    watched=("creds.json", "*_creds.json"),
    counted=("creds.json", "*_creds.json"),
    legacy_names=("sessions",),
    volatile=("*.tmp",),
    ignored=BAILEYS.ignored,
    # Accounts used to lie among the files of the program itself.
    companions=(),
    stop=_STOP,
)
