# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Libraries that control a browser. Each account is a Chromium profile (see chromium.py); they differ in the location of profiles
and in their additional files."""

from __future__ import annotations

import dataclasses
import os
import stat

from .._fs.fdopen import DirFd, exists, folders_in, is_folder, opened_below
from .._fs.patterns import name_matcher
from .chromium import CACHES, LOCKS, STOP, VOLATILE, WATCHED, is_profile, judge_profile, lock_of_profile
from .layout import Layout

# Cached pages and media: recreated, or not part of the session.
_IGNORED = ("lost+found", "_orphaned", ".wwebjs_cache", "WhatsAppImages", "media", "statics", "message_log.txt")
# whatsapp-web.js RemoteAuth recreates these at each start from a remote store.
_REMOTE = ("RemoteAuth-*", "wwebjs_temp_session_*")
_TOKENS = "*.data.json"
# wppconnect-server appends the session's name directly to the configured directory, so without a trailing slash both form one name.
_WITHOUT_SLASH = "userDataDir?*"


def _detect_wwebjs(directory: DirFd, path: str) -> str:
    name = path.rpartition("/")[2]
    if (name == "session" or name.startswith("session-")) and is_profile(directory):
        return "a directory session or session-* is a browser's profile"
    return ""


def _detect_session_manager(directory: DirFd, path: str) -> str:
    if path != "." or not is_folder(directory, "sessions"):
        return ""
    found = [name for name in SESSION_MANAGER.companions or () if exists(directory, name)]
    return f"{found[0]} exists next to the directory sessions" if found else ""


def _detect_wppconnect(directory: DirFd, path: str) -> str:
    if path != ".":
        return "" if _is_open_to_all(directory) else _detect_free_profile(directory, path)
    if is_folder(directory, "userDataDir"):
        return "there is a directory userDataDir"
    if any(_has_token_beside_profile(directory, place) for place in (".", "tokens")):
        return "a profile has a token file next to it"
    return ""


def _detect_venom(directory: DirFd, path: str) -> str:
    if path != "." and _is_open_to_all(directory) and _detect_free_profile(directory, path):
        return "a browser's profile is writable by everyone, as this library creates them"
    return ""


def _detect_free_profile(directory: DirFd, path: str) -> str:
    """Claim a profile for a library with arbitrary names of profiles, unless its name is that of another library."""
    folder, slash, name = path.rpartition("/")
    if (slash and folder not in WPPCONNECT.folders) or name.startswith(("session-", "_IGNORE_")) or name == "session":
        return ""
    return "a directory of any name is a browser's profile" if is_profile(directory) else ""


def _is_open_to_all(directory: DirFd) -> bool:
    return bool(os.fstat(directory).st_mode & stat.S_IWOTH)


def _has_token_beside_profile(directory: DirFd, place: str) -> bool:
    try:
        with opened_below(directory, place) as folder:
            profiles = (name for name in folders_in(folder) if not name.startswith("_IGNORE_"))
            return any(exists(folder, f"{name}.data.json") for name in profiles)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _token_of(account: str) -> tuple[str, ...]:
    """Return the token file of a session: in the directory of tokens if profiles have a separate one, else next to the profile."""
    folder, slash, name = account.rpartition("/")
    if not slash and name_matcher((_WITHOUT_SLASH,))(name):
        return (f"tokens/{name[len('userDataDir') :]}.data.json",)
    return (f"{'tokens' if folder == 'userDataDir' else folder}{slash}{name}.data.json",)


def _detect_openwa(directory: DirFd, path: str) -> str:
    named = path.rpartition("/")[2].startswith("_IGNORE_")
    return "a directory _IGNORE_* is a browser's profile" if named and is_profile(directory) else ""


def _openwa_token_of(account: str) -> tuple[str, ...]:
    return (f"{account[len('_IGNORE_') :] if account.startswith('_IGNORE_') else account}.data.json",)


_BROWSER = Layout(
    name="",
    title="",
    is_account=is_profile,
    judge=judge_profile,
    detect=_detect_wwebjs,
    lock_of=lock_of_profile,
    watched=WATCHED,
    counted=("IndexedDB",),
    volatile=VOLATILE,
    locks=LOCKS,
    caches=CACHES,
    ignored=_IGNORED,
    stop=STOP,
)

WWEBJS = dataclasses.replace(
    _BROWSER,
    name="wwebjs",
    title="whatsapp-web.js (LocalAuth) and the gateways around it",
    names=("session", "session-*"),
    prefix="session-",
    legacy_names=(".wwebjs_auth", "sessions", "*_sessions"),
    ignored=(*_IGNORED, *_REMOTE),
)

SESSION_MANAGER = dataclasses.replace(
    _BROWSER,
    name="session_manager",
    title="whatsapp-web.js below a SessionManager with files of its own",
    detect=_detect_session_manager,
    specialises=("wwebjs",),
    names=WWEBJS.names,
    prefix=WWEBJS.prefix,
    folders=("sessions",),
    count_depth=4,
    companions=("session-state.json", "session-index.json", ".session-cache"),
)

WPPCONNECT = dataclasses.replace(
    _BROWSER,
    name="wppconnect",
    title="wppconnect and wppconnect-server",
    detect=_detect_wppconnect,
    sidecars_of=_token_of,
    folders=("userDataDir", "tokens"),
    direct=(_WITHOUT_SLASH,),
    prefix="userDataDir",
    count_depth=4,
    legacy_names=("tokens", "userDataDir"),
    companions=(_TOKENS, f"tokens/{_TOKENS}"),
)

VENOM = dataclasses.replace(
    _BROWSER,
    name="venom",
    title="venom",
    detect=_detect_venom,
    sidecars_of=_token_of,
    folders=("tokens",),
    count_depth=4,
    legacy_names=("tokens",),
    companions=(_TOKENS, f"tokens/{_TOKENS}"),
)

OPENWA = dataclasses.replace(
    _BROWSER,
    name="openwa",
    title="open-wa wa-automate",
    detect=_detect_openwa,
    sidecars_of=_openwa_token_of,
    names=("_IGNORE_*",),
    prefix="_IGNORE_",
    legacy_names=("sessions",),
    companions=(_TOKENS,),  # profiles are usually among the files of the program itself
)
