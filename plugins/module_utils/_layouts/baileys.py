# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Baileys and its derivatives: credentials in one JSON file, each key in a file of its own (taken from their source code).

``baileys`` has one flat directory, so has ``evolution`` unless it keeps the credentials in SQL, and ``baileys_csharp`` has a folder per
kind of key.
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

from .._core.bounded_json import parsed_as_dotnet, parsed_as_node
from .._core.errors import SessionsError
from .._core.limits import CREDENTIALS_BYTES
from .._fs.fdopen import DirFd, bounded, exists, folders_in, is_folder, names_in, opened_below, status_of
from .._fs.files import read_file_at
from .layout import KEYS_MISSING, Judgement, Layout, StopSettings, blocking_problems, warning_problems

_TRIES, _PAUSE, _JUST_NOW = 5, 0.03, 1.0  # seconds
_KEY = re.compile(
    r"(pre-key|session|sender-key|sender-key-memory|app-state-sync-key|app-state-sync-version|lid-mapping|device-list|tctoken|identity-key)-.+\.json"
)
_IN_SQL = "credentials_in_sql"
_PRE_KEYS_AT_MOST = 1 << 24  # pre-key numbers have three bytes in the Signal protocol
_PARTS = ("noiseKey", "signedIdentityKey", "signedPreKey", "registrationId", "advSecretKey")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

# The library itself uses pre-key, a common guide uses pre-keys; both kinds of programs exist.
_PRE_KEY_FOLDERS = ("pre-key", "pre-keys")
_KEY_FOLDERS = (
    *_PRE_KEY_FOLDERS,
    *("session", "sessions", "session-key", "session-keys"),
    *("sender-key", "sender-keys", "app-state-sync-key", "app-state-sync-keys"),
)

# Backends flush on SIGINT, which may take 30 s by itself, so a timeout of 30 s would interrupt it.
_STOP = StopSettings(signal="SIGINT", timeout=45)


def is_baileys(directory: DirFd) -> bool:
    """Return whether an open directory holds credentials or keys of Baileys."""
    return exists(directory, "creds.json") or has_baileys_key(directory)


def has_baileys_key(directory: DirFd) -> bool:
    """Return whether an open directory holds a key of Baileys."""
    with os.scandir(directory) as entries:
        return any(_KEY.fullmatch(entry.name) for entry in bounded(entries))


def judge_baileys(directory: DirFd) -> Judgement:
    """Judge an account by its credentials and keys."""
    judgement = _judged(directory, "creds.json", _keys_of, parsed_as_node)
    if judgement.state == "corrupt" and exists(directory, "creds.json.bak"):
        # Some forks keep a backup, but restore it automatically only if creds.json is missing.
        return Judgement("corrupt", (*judgement.problems, "backup_of_credentials_present"))
    return judgement


class _Keys(t.NamedTuple):
    """The condition of an account's keys. ``useless``: there are keys, but the library can read none of them."""

    useless: bool
    problems: tuple[str, ...]


_Look = t.Callable[[DirFd, t.Mapping[str, t.Any]], _Keys]


def _keys_of(directory: DirFd, credentials: t.Mapping[str, t.Any]) -> _Keys:
    # Checking the newest key first avoids listing thousands; it is deleted once it has been used.
    newest = [(directory, f"pre-key-{_number_before(credentials.get('nextPreKeyId'))}.json")]
    found = _worth(newest)
    return found if not found.problems else _worth(itertools.chain(newest, _flat_keys(directory)))


def _flat_keys(directory: DirFd) -> t.Iterator[tuple[DirFd, str]]:
    return ((directory, name) for name in sorted(names_in(directory)) if _KEY.fullmatch(name))


def _worth(keys: t.Iterable[tuple[DirFd, str]]) -> _Keys:
    """Check key files, each given by its open directory and name. The library treats an empty one as missing and continues."""
    problems: dict[str, None] = {}
    found = readable = False
    for directory, name in keys:
        status = status_of(directory, name)
        if status is None:
            continue
        found = True
        wrong = blocking_problems(status, os.fstat(directory), "keys")
        if not wrong and not readable:  # opening all files would take too long
            wrong = () if _has_content(directory, name) else ("keys_empty",)
        readable = readable or not wrong
        problems.update(dict.fromkeys(wrong))
    # The library logs in with the credentials alone and uploads new pre-keys; bots with keys in Redis have no others on disk.
    return _Keys(not readable, tuple(problems)) if found else _Keys(False, (KEYS_MISSING,))


def _has_content(directory: DirFd, name: str) -> bool:
    """Return whether a file starts with something other than the zeros that a crash or full disk leaves, which JSON never does."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return False  # the key was used since it was listed
    try:
        return os.read(descriptor, 1) not in (b"", b"\0")
    finally:
        os.close(descriptor)


def _judged(directory: DirFd, name: str, keys_of: _Look, parsed: t.Callable[[bytes], t.Any]) -> Judgement:
    """Judge by the credentials file ``name``; ``keys_of`` is called if the credentials are those of a linked device.

    The library truncates the file and writes it again, so a corrupt file that was just modified is read again.
    """
    judgement = _judged_once(directory, name, keys_of, parsed)
    for _attempt in range(_TRIES):
        if judgement.state != "corrupt" or not _is_being_written(directory, name):
            break
        time.sleep(_PAUSE)
        judgement = _judged_once(directory, name, keys_of, parsed)
    return judgement


def _is_being_written(directory: DirFd, name: str) -> bool:
    status = status_of(directory, name)
    return status is not None and abs(time.time() - status.st_mtime) < _JUST_NOW


def _judged_once(directory: DirFd, name: str, keys_of: _Look, parsed: t.Callable[[bytes], t.Any]) -> Judgement:
    status = status_of(directory, name)
    if status is None:
        return Judgement("corrupt", ("credentials_missing",))
    broken = blocking_problems(status, os.fstat(directory), "credentials")
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
    problems += warning_problems(status, os.fstat(directory), "credentials")
    return (
        Judgement(state, problems, (_fingerprint(credentials),), 1) if state == "paired" else Judgement(state, problems)
    )


def _state_of(credentials: t.Mapping[str, t.Any]) -> tuple[str, tuple[str, ...]]:
    # `registered` stays false after a QR login, so it is no evidence; `me` alone is set as soon as a pairing code is requested.
    me = credentials.get("me")
    if not _is_set(me):
        return "fresh", ()
    if not _is_set(credentials.get("account")) and not _is_phone(credentials):
        return "pending", ()
    if not isinstance(me, dict) or not me.get("id") or any(credentials.get(part) in (None, "", {}) for part in _PARTS):
        return "corrupt", ("credentials_incomplete",)
    return "paired", ()


def _is_set(value: t.Any) -> bool:
    """Return whether the library treats a value as true: an empty object is true in JavaScript."""
    return bool(value) or isinstance(value, (dict, list))


def _is_phone(credentials: t.Mapping[str, t.Any]) -> bool:
    """Return whether the account is the phone itself instead of a linked device, which Baileys before 6.7 supported (``mobile``)."""
    registration = credentials.get("registration")
    return (
        credentials.get("registered") is True
        and isinstance(registration, dict)
        and bool(registration.get("phoneNumberNationalNumber"))
    )


def device_fingerprint(jid: str) -> str:
    """Return the fingerprint of a linked device from its ID in the network."""
    return hashlib.sha256(jid.encode("utf-8", "surrogatepass")).hexdigest()


def _fingerprint(credentials: t.Mapping[str, t.Any]) -> str:
    return device_fingerprint(str(credentials["me"]["id"]))


def _number_before(number: t.Any) -> int:
    return number - 1 if isinstance(number, int) and 0 < number < _PRE_KEYS_AT_MOST else 0


def _detect_baileys(directory: DirFd, path: str) -> str:
    return "a directory holds creds.json" if exists(directory, "creds.json") else ""


# --- Evolution API ----------------------------------------------------------------------------------------------


def _judge_evolution(directory: DirFd) -> Judgement:
    if exists(directory, "creds.json"):
        return judge_baileys(directory)
    keys = _worth(_flat_keys(directory))
    return Judgement("corrupt", keys.problems) if keys.useless else Judgement("unknown", (_IN_SQL, *keys.problems))


def _detect_evolution(directory: DirFd, path: str) -> str:
    """Recognise version 2, also next to remains of version 1; an account of version 1 alone is one of Baileys.

    Other programs that name accounts by UUIDs have credentials in some of the directories.
    """
    if path != ".":
        return ""
    names = [name for name in folders_in(directory) if _UUID.fullmatch(name)]
    if any(_asked_below(directory, name, _has_credentials) for name in names):
        return ""
    if any(_asked_below(directory, name, has_baileys_key) for name in names):
        return "directories named by UUIDs hold Baileys keys, and none of them holds creds.json"
    return ""


def _has_credentials(directory: DirFd) -> bool:
    return exists(directory, "creds.json")


def _asked_below(directory: DirFd, name: str, question: t.Callable[[DirFd], bool]) -> bool:
    try:
        with opened_below(directory, name) as below:
            return question(below)
    except (FileNotFoundError, NotADirectoryError):
        return False


# --- BaileysCSharp ----------------------------------------------------------------------------------------------


def _is_csharp(directory: DirFd) -> bool:
    if any(is_folder(directory, name) for name in _PRE_KEY_FOLDERS):
        return True
    return any(name.endswith("_creds.json") for name in names_in(directory))


def _judge_csharp(directory: DirFd) -> Judgement:
    names = sorted(name for name in names_in(directory) if name.endswith("_creds.json")) or ["creds.json"]
    judgements = [_judged(directory, name, _csharp_keys_of, parsed_as_dotnet) for name in names]
    best = next((each for each in judgements if each.state == "paired"), judgements[0])
    if len(names) > 1:  # the program treats each as an account, and all of them would use the same keys
        return dataclasses.replace(best, problems=(*best.problems, "credentials_twice"))
    return best


def _csharp_keys_of(directory: DirFd, credentials: t.Mapping[str, t.Any]) -> _Keys:
    return _worth(_csharp_keys(directory))


def _csharp_keys(directory: DirFd) -> t.Iterator[tuple[DirFd, str]]:
    """Yield the keys: in folders, or next to them where the program joined the path with a backslash."""
    with os.scandir(directory) as entries:
        found = {entry.name: entry.is_dir(follow_symlinks=False) for entry in bounded(entries)}
    for name, folder in found.items():
        if name.partition("\\")[0] in _KEY_FOLDERS and "\\" in name and not folder:
            yield directory, name
    for name in _KEY_FOLDERS:
        if found.get(name):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened_below(directory, name) as below:
                yield from ((below, key) for key in names_in(below))


def _detect_csharp(directory: DirFd, path: str) -> str:
    if exists(directory, f"{os.path.basename(path)}_creds.json"):
        return "a directory holds <its name>_creds.json"
    if exists(directory, "creds.json") and any(is_folder(directory, name) for name in _PRE_KEY_FOLDERS):
        return "a directory holds creds.json and a folder of pre-keys"
    return ""


def _csharp_sidecars(account: str) -> tuple[str, ...]:
    """The chat store with its log, which a path joined with a backslash puts next to the account."""
    return (f"{account}\\store.db", f"{account}\\store-log.db")


BAILEYS = Layout(
    name="baileys",
    title="Baileys (useMultiFileAuthState)",
    is_account=is_baileys,
    judge=judge_baileys,
    detect=_detect_baileys,
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
    title="Evolution API (version 2: keys only, its credentials are in SQL)",
    is_account=is_baileys,
    judge=_judge_evolution,
    detect=_detect_evolution,
    states=("paired", "pending", "fresh", "corrupt", "unknown"),
    specialises=("baileys",),
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
    detect=_detect_csharp,
    sidecars_of=_csharp_sidecars,
    specialises=("baileys",),
    watched=("creds.json", "*_creds.json"),
    counted=("creds.json", "*_creds.json"),
    legacy_names=("sessions",),
    volatile=("*.tmp",),
    ignored=BAILEYS.ignored,
    # Accounts are usually among the files of the program itself.
    companions=(),
    stop=_STOP,
)
