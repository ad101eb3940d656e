# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""WAHA: one directory per session below a namespace, in the format of the namespace's engine: files, a profile or a SQLite store."""

from __future__ import annotations

from .._fs.fdopen import DirFd, exists, folders_in, opened_below
from .baileys import BAILEYS, is_baileys, judge_baileys
from .chromium import CACHES, LOCKS, STOP, VOLATILE, WATCHED, is_profile, judge_profile, lock_of_profile
from .layout import Judgement, Layout
from .whatsmeow import WHATSMEOW, judge_stores

_STORE = "gows.db"
_CONFIGURATION = ".waha.session.config.json"
_ENGINES = ("noweb", "gows", "webjs", "wpp")  # default names of namespaces


def _is_session(directory: DirFd) -> bool:
    """Return whether there is more than a configuration, which is all that a logout leaves."""
    return exists(directory, _STORE) or _profile_in(directory) is not None or is_baileys(directory)


def _profile_in(directory: DirFd) -> str | None:
    """Return the path of the profile: the session itself, or below it with the name that whatsapp-web.js uses."""
    if is_profile(directory):
        return "."
    for name in folders_in(directory):
        if name == "session" or name.startswith("session-"):
            with opened_below(directory, name) as below:
                if is_profile(below):
                    return name
    return None


def _judge(directory: DirFd) -> Judgement:
    if exists(directory, _STORE):
        return judge_stores(directory, (_STORE,))
    profile = _profile_in(directory)
    if profile is None:
        return judge_baileys(directory)
    with opened_below(directory, profile) as below:
        return judge_profile(below)


def _lock_of(directory: DirFd) -> str:
    profile = _profile_in(directory)
    if profile is None:
        return ""
    with opened_below(directory, profile) as below:
        return lock_of_profile(below)


def _detect(directory: DirFd, path: str) -> str:
    for name in (_CONFIGURATION, "waha.sqlite3", _STORE):
        if exists(directory, name):
            return f"a directory holds {name}"
    if path in _ENGINES and any(_holds_session(directory, name) for name in folders_in(directory)):
        return f"a directory {path} holds sessions"
    return ""


def _holds_session(directory: DirFd, name: str) -> bool:
    try:
        with opened_below(directory, name) as below:
            return _is_session(below)
    except (FileNotFoundError, NotADirectoryError):
        return False


WAHA = Layout(
    name="waha",
    title="WAHA (NOWEB, GOWS, WEBJS, WPP)",
    is_account=_is_session,
    judge=_judge,
    detect=_detect,
    states=WHATSMEOW.states,
    lock_of=_lock_of,
    specialises=("baileys", "evolution", "wwebjs", "wppconnect", "venom", "whatsmeow"),
    watched=("creds.json", _STORE, f"{_STORE}-wal", *WATCHED, *(f"session*/{path}" for path in WATCHED)),
    counted=("creds.json", _STORE, "IndexedDB"),
    count_depth=5,
    legacy_names=(".sessions",),
    depth=2,
    volatile=(*BAILEYS.volatile, *VOLATILE),
    locks=LOCKS,
    caches=CACHES,
    databases=(_STORE, "waha.sqlite3"),
    ignored=("lost+found", "_orphaned", "media", "statics"),
    # Some of its engines are browsers, and their needs decide.
    stop=STOP,
)
