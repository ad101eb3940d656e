# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The store of snapshots of one sessions path: where it is, what is in it, and which snapshots count.

A snapshot is a directory with a manifest. It appears by one rename after it is durable, so what has a manifest under its final name is
complete. A store may come from another host, so manifests are read within limits and validated. Nothing here opens a file of an account.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import typing as t

from .._accounts.control_directory import control_path, existing_trusted, open_trusted
from .._accounts.copy_index import write_unsynced
from .._accounts.receipts import Mark, mark_in
from .._core.bounded_json import is_integer, parsed_json
from .._core.errors import SessionsError
from .._core.limits import MANIFEST_BYTES
from .._core.masking import account_key
from .._fs.fdopen import OPEN_DIRECTORY, DirFd, is_private, names_in, normal_path
from .._fs.files import read_held_at, write_atomic_at
from .._layouts.layout import LINKED

MANIFEST, ROOT, FILES = "snapshot.json", "root", "files.json"
PREFIX, PARTIAL = "backup-", ".partial-"
LOCK, CONFIRMED, LAST_RUN, GONE = "lock", "confirmed.json", "last_run.json", "gone.json"
SAVED_STATES = (*LINKED, "unknown")  # 'unknown': the credentials are not on this disk, but the keys are
_VERSION = 1
_READABLE = re.compile(r"[A-Za-z0-9._-]{1,80}")
_MOMENT = re.compile(r"\d{8}T\d{6}\.\d{6}Z")
_WORD = re.compile(r"[a-z0-9_-]{1,80}")
_LATEST = 1 << 63  # ns since the epoch
_MALFORMED = (AttributeError, KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError, SessionsError)


class Snapshot(t.NamedTuple):
    """One complete snapshot of one account.

    ``name``: its directory in the store. ``account``: its relative path below the sessions path, ``.`` for the path itself.
    ``taken``: when the account was in this state, ``confirmed``: the last run that found it unchanged (>= ``taken``), ``newest``: the
    newest key write in it; all in ns since the epoch, by the clock of that time. ``state``: as judged after writing. ``mark``: of the
    account when it was taken. ``path``: the sessions path. ``sequence``: increases with each snapshot of an account, so that a clock that
    was wrong does not change which one is the newest.
    """

    name: str
    account: str
    layout: str
    taken: int
    confirmed: int
    newest: int
    state: str
    files: int
    bytes: int
    mark: Mark
    path: str
    sequence: int = 0

    @property
    def order(self) -> tuple[int, int, str]:
        """The key that sorts snapshots of one account from oldest to newest."""
        return (self.sequence, self.taken, self.name)

    @property
    def is_sound(self) -> bool:
        """Whether a backend that starts with it needs no QR code."""
        return self.state in LINKED

    @property
    def moment(self) -> str:
        """The time in its name, which identifies it among the snapshots of its account."""
        return self.name.rpartition("-")[2]


class LastRun(t.NamedTuple):
    """The outcome of the last run that wrote to the store: its time (ns since the epoch) and how many accounts were saved or not."""

    time: int
    saved: int
    unchanged: int
    skipped: int
    failed: int


def store_path(path: str, backup_path: str | None = None) -> str:
    """Return where the store of the sessions path ``path`` is or would be.

    Raises SessionsError for a ``backup_path`` that is relative, or that is at, in or above the sessions path.
    """
    if not backup_path:
        return f"{control_path(path)}/backups"
    place = normal_path(backup_path, "backup_path")
    real, sessions = os.path.realpath(place), os.path.realpath(path)
    if f"{real}/".startswith(f"{sessions.rstrip('/')}/") or f"{sessions}/".startswith(f"{real.rstrip('/')}/"):
        raise SessionsError(
            f"backup_path is {place}, which is at, in or above the sessions path {path}: a backend would take a copy for an account, "
            "and both would be lost together; name a directory elsewhere"
        )
    return place


@contextlib.contextmanager
def opened_store(path: str, backup_path: str | None = None) -> t.Iterator[DirFd]:
    """Open the store of ``path``, creating it if necessary. Raises SessionsError if another user than root could replace it."""
    place = store_path(path, backup_path)
    try:
        descriptor = open_trusted(place, make=True)
    except OSError as error:
        raise SessionsError(
            f"cannot open the directory of backups {place}: {error.strerror}; it must be a directory of root"
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def existing_store(path: str, backup_path: str | None = None) -> t.ContextManager[DirFd | None]:
    """Open the store of ``path`` for reading; yield None if there is none or this user has no access."""
    return existing_trusted(store_path(path, backup_path))


def snapshots(store: DirFd, read_before: t.Iterable[Snapshot] = ()) -> tuple[Snapshot, ...]:
    """Return the complete snapshots in an open store, those of each account newest first. What is not one is not listed.

    The manifests of those that were ``read_before`` are not read again: they never change.
    """
    confirmed, before = confirmations(store), {one.name: one for one in read_before}
    named = sorted(name for name in names_in(store) if name.startswith(PREFIX))
    found = (_confirmed(before.get(name) or snapshot_at(store, name), confirmed.get(name, 0)) for name in named)
    return tuple(sorted(filter(None, found), key=lambda one: one.order, reverse=True))


def newest_sound(found: t.Iterable[Snapshot]) -> dict[str, Snapshot]:
    """Return the newest sound snapshot of each account that has one."""
    newest: dict[str, Snapshot] = {}
    for one in found:
        if one.is_sound and (one.account not in newest or newest[one.account].order < one.order):
            newest[one.account] = one
    return newest


def name_of(account: str, moment: str) -> str:
    """Return the directory of a snapshot of ``account``, see ``work_area.moment``."""
    return f"{PREFIX}{account if _READABLE.fullmatch(account) else account_key(account)}-{moment}"


@contextlib.contextmanager
def opened_snapshot(store: DirFd, name: str) -> t.Iterator[DirFd]:
    """Open the directory of a snapshot. Raises SessionsError if it is not a private directory of root, OSError if there is none."""
    descriptor = DirFd(os.open(name, OPEN_DIRECTORY, dir_fd=store))
    try:
        if not is_private(os.fstat(descriptor)):
            raise SessionsError(
                "a snapshot is not private to root; move it out of the directory of backups and run again"
            )
        yield descriptor
    finally:
        os.close(descriptor)


def write_manifest(directory: DirFd, snapshot: Snapshot) -> None:
    """Write the manifest of the open directory of a snapshot. It is not durable yet, like the rest of the snapshot.

    The name of the directory and the last confirmation are recorded elsewhere.
    """
    kept = {"version": _VERSION, **snapshot._asdict(), "mark": dataclasses.asdict(snapshot.mark)}
    del kept["name"], kept["confirmed"]
    write_unsynced(directory, MANIFEST, json.dumps(kept, separators=(",", ":")).encode())


def write_confirmed(store: DirFd, moments: t.Mapping[str, int]) -> None:
    """Record for each snapshot (by name) when its account was last found unchanged, in ns since the epoch. Others are forgotten.

    One document for all of them, so that a run that finds nothing changed writes one file, and complete snapshots are never written to.
    """
    write_document(store, CONFIRMED, dict(sorted(moments.items())))


def confirmations(store: DirFd) -> dict[str, int]:
    """Return by snapshot when its account was last found unchanged (ns). One that is missing or malformed only makes it look older."""
    document = read_document(store, CONFIRMED)
    return {name: when for name, when in document.items() if is_integer(when) and 0 <= when < _LATEST}


def last_run(store: DirFd) -> LastRun | None:
    """Return the outcome of the last run; None if there was none or its record is damaged."""
    document = read_document(store, LAST_RUN)
    try:
        return LastRun(*(_count(document, field) for field in LastRun._fields))
    except _MALFORMED:
        return None


def write_last_run(store: DirFd, outcome: LastRun) -> None:
    """Record the outcome of a run."""
    write_document(store, LAST_RUN, outcome._asdict())


def gone_accounts(store: DirFd) -> frozenset[str]:
    """Return the accounts that have snapshots, but were gone or not linked in the last run: removed, logged out, moved away, or lost."""
    names = read_document(store, GONE).get("accounts")
    return frozenset(filter(lambda name: isinstance(name, str), names)) if isinstance(names, list) else frozenset()


def write_gone(store: DirFd, accounts: t.Iterable[str]) -> None:
    """Record the accounts that a run did not find."""
    write_document(store, GONE, {"accounts": sorted(accounts)})


def write_document(directory: DirFd, name: str, document: t.Mapping[str, t.Any]) -> None:
    """Write a JSON document atomically and durably, readable by root only."""
    content = json.dumps(document, separators=(",", ":")).encode()
    write_atomic_at(directory, name, content, 0o600, uid=os.geteuid(), gid=os.getegid())


def _confirmed(snapshot: Snapshot | None, confirmed: int) -> Snapshot | None:
    return snapshot._replace(confirmed=max(snapshot.taken, confirmed)) if snapshot else None


def snapshot_at(store: DirFd, name: str) -> Snapshot | None:
    """Return the snapshot ``name`` of an open store, as if it was never confirmed; None if it is none."""
    try:
        with opened_snapshot(store, name) as directory:
            return _validated(name, read_document(directory, MANIFEST))
    except (*_MALFORMED, OSError):
        return None


def _validated(name: str, kept: t.Mapping[str, t.Any]) -> Snapshot:
    """Return the snapshot that a manifest describes. Raises one of _MALFORMED for what this collection does not write."""
    taken = _count(kept, "taken")
    found = Snapshot(
        name=name,
        account=_account(kept["account"]),
        layout=_word(kept["layout"]),
        taken=taken,
        confirmed=taken,
        newest=_count(kept, "newest"),
        state=_word(kept["state"]),
        files=_count(kept, "files"),
        bytes=_count(kept, "bytes"),
        mark=mark_in(kept["mark"]),
        path=normal_path(kept["path"], "path"),
        sequence=_count(kept, "sequence"),
    )
    if (
        kept["version"] != _VERSION
        or not _MOMENT.fullmatch(found.moment)
        or name != name_of(found.account, found.moment)
    ):
        raise ValueError("not a snapshot of this account, or of a later release")
    return found


def _account(account: str) -> str:
    parts = account.split("/")
    if account != "." and any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise ValueError("not a relative path below the sessions path")
    return account


def _word(word: str) -> str:
    if not _WORD.fullmatch(word):
        raise ValueError("not a word")
    return word


def _count(document: t.Mapping[str, t.Any], field: str) -> int:
    value: int = document[field]
    if not is_integer(value) or not 0 <= value < _LATEST:
        raise ValueError("not a count")
    return value


def read_document(directory: DirFd, name: str) -> dict[str, t.Any]:
    """Return the JSON document ``name`` of root in an open directory; empty if there is none or it is none."""
    with contextlib.suppress(SessionsError, ValueError, RecursionError):
        held = read_held_at(directory, name, at_most=MANIFEST_BYTES)
        if held is not None and held.status.st_uid == os.geteuid() and not held.status.st_mode & 0o022:
            document = parsed_json(held.content)
            return document if isinstance(document, dict) else {}
    return {}
