# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job behind session_archive: archives of other tools become snapshots, and a snapshot becomes one file to keep elsewhere.

An import never touches the sessions path. What it brings is a snapshot like any other, but never counts as the newest one of its account.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import typing as t

from .._backup.store import existing_store, opened_store, snapshots, store_path
from .._core.bounded_json import parsed_json
from .._core.errors import SessionsError
from .._core.job import Diff, Report
from .._core.limits import FILE_LIST_BYTES
from .._core.masking import masked
from .._core.summary import accounts as counted
from .._fs.fdopen import DirFd, normal_path, open_directory, open_regular, opened_directory
from .._fs.files import read_file_at
from .._fs.walk_tree import files_below
from .._layouts.layout import Layout
from .._layouts.registry import chosen_layout
from .choice import LATEST, chosen, layout_for, of_path, require_whole

if t.TYPE_CHECKING:
    from .._backup.store import Snapshot

IMPORTS = "imports.json"  # digests of what was imported before, with the number of accounts
_CHUNK = 1 << 20


class Params(t.NamedTuple):
    """Options of session_archive. ``place``: the archive or folder to import, or the file to export to."""

    path: str
    imports: bool
    place: str
    account: str | None
    moment: str
    layout: Layout | None
    backup_path: str | None
    show_accounts: bool


class State(t.NamedTuple):
    """``known``: the source was imported before, or the target is the exported archive already.

    ``digest``: of the source. ``snapshot``: to export.
    """

    store: str
    known: bool
    digest: str = ""
    snapshot: Snapshot | None = None


class Step(t.NamedTuple):
    """``import`` or ``export``."""

    name: str


class Imported(t.NamedTuple):
    """One account of the source: ``reason``: why it was not imported, '' if it was."""

    account: str
    snapshot: str = ""
    reason: str = ""


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the typed parameters. Raises SessionsError for values that are invalid on every host."""
    imports = options.get("state") == "imported"
    path = normal_path(options["path"], "path")
    place = normal_path(options["src" if imports else "dest"], "src" if imports else "dest")
    store_path(path, options.get("backup_path"))
    if f"{os.path.realpath(place)}/".startswith(f"{os.path.realpath(path)}/"):
        raise SessionsError(
            f"{place} is in the sessions path {path}, where a backend may take it for an account; name a place elsewhere"
        )
    accounts = list(map(str, options.get("accounts") or ()))
    if len(accounts) > 1 or not (accounts or imports):
        raise SessionsError(f"'accounts' names {len(accounts)} accounts, but an archive has a single name; name one")
    account = accounts[0] if accounts else None
    if account is not None and account != "." and any(part in ("", ".", "..") for part in account.split("/")):
        raise SessionsError("'accounts' has a name that is not a relative path below the sessions path; correct it")
    return Params(
        path=path,
        imports=imports,
        place=place,
        account=account,
        moment=options.get("snapshot") or LATEST,
        layout=chosen_layout(options),
        backup_path=options.get("backup_path"),
        show_accounts=bool(options.get("show_accounts")),
    )


def observe(params: Params) -> State:
    """Look whether there is anything to do."""
    store_at = store_path(params.path, params.backup_path)
    try:
        with existing_store(params.path, params.backup_path) as store:
            if params.imports:
                digest = _digest_of_source(params.place)
                return State(store_at, store is not None and digest in imports_in(store), digest)
            if store is None:
                raise SessionsError(f"there is no store of snapshots at {store_at}, so there is nothing to export")
            return _to_export(store, params, store_at)
    except OSError as error:
        raise SessionsError(
            f"cannot read {params.place}: {error.strerror}; check the path, or run as root (become)"
        ) from error


def _to_export(store: DirFd, params: Params, store_at: str) -> State:
    from .exported import digest_of_export

    account = params.account or ""
    snapshot = chosen(of_path(snapshots(store), params.path, store_at), [account], params.moment, store_at)[account]
    require_whole(store, snapshot, layout_for([snapshot], params.layout))
    present = _digest_of_file(params.place)
    if present and present != digest_of_export(store, snapshot):
        raise SessionsError(
            f"{params.place} exists and is not an archive of this snapshot; nothing was changed: move it away, or name another file"
        )
    return State(store_at, bool(present), snapshot=snapshot)


def plan(state: State, params: Params) -> tuple[Step, ...]:
    """Import or export, unless that was done before."""
    return () if state.known else (Step("import" if params.imports else "export"),)


def diff(state: State, steps: tuple[Step, ...], params: Params) -> Diff:
    """Return which file appears, or that snapshots do."""
    return {"before": {"steps_left": [step.name for step in steps]}, "after": {"steps_left": []}}


def apply(steps: tuple[Step, ...], state: State, params: Params) -> tuple[Imported, ...]:
    """Import or export."""
    try:
        if not params.imports:
            from .exported import export

            with existing_store(params.path, params.backup_path) as store:
                if store is not None and state.snapshot is not None:
                    export(store, state.snapshot, params.place)
            return ()
        from .imported import import_all

        with opened_store(params.path, params.backup_path) as store:
            return import_all(store, params, state.digest)
    except OSError as error:
        verb = "import from" if params.imports else "export to"
        raise SessionsError(
            f"cannot {verb} {params.place}: {error.strerror}; nothing was changed: check the disk"
        ) from error


def verify(state: State, params: Params) -> None:
    """Raise SessionsError if the source changed while it was imported, or the file was replaced."""
    if plan(state, params):
        raise SessionsError(f"{params.place} was changed meanwhile; run again")


def report(params: Params, state: State, steps: tuple[Step, ...], evidence: tuple[Imported, ...] | None) -> Report:
    """Report what was imported or exported; names are masked unless asked for."""
    label: t.Callable[[str], str] = str if params.show_accounts else masked
    done = evidence or ()
    saved = [one for one in done if one.snapshot]
    snapshot = state.snapshot
    warnings = [f"account {label(one.account)!r} was not imported: {one.reason}" for one in done if one.reason]
    if params.imports and not evidence:
        summary = "imported before" if state.known else "would be imported"
    elif params.imports:
        summary = f"{counted(len(saved))} imported"
    else:
        summary = (
            "exported before"
            if state.known and not steps
            else "exported"
            if evidence is not None
            else "would be exported"
        )
    return Report(
        {
            "path": params.path,
            "store": state.store,
            "summary": summary,
            "accounts": [
                {
                    "id": label(one.account),
                    "action": "imported" if one.snapshot else "skipped",
                    "reason": one.reason,
                    "snapshot": one.snapshot or None,
                }
                for one in done
            ],
            "dest": None if params.imports else params.place,
            "snapshot": snapshot.moment if snapshot else None,
        },
        tuple(warnings),
    )


def imports_in(store: DirFd) -> dict[str, t.Any]:
    """Return the digests of what was imported before; a damaged record counts as none."""
    with contextlib.suppress(SessionsError, ValueError, RecursionError):
        document = parsed_json(read_file_at(store, IMPORTS, at_most=FILE_LIST_BYTES) or b"{}")
        return document if isinstance(document, dict) else {}
    return {}


def _digest_of_source(place: str) -> str:
    """Return a digest of an archive, or of the names, sizes and times in a directory. Raises SessionsError if it is neither."""
    if os.path.isdir(place):
        with opened_directory(place) as directory:
            digest = hashlib.sha256(b"directory")
            for path, status in sorted(files_below(directory, lambda _name: None, None)):
                digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
            return digest.hexdigest()
    found = _digest_of_file(place)
    if not found:
        raise SessionsError(f"{place} does not exist; name an archive (tar.gz) or a directory of backups in 'src'")
    return found


def _digest_of_file(place: str) -> str:
    """Return the SHA-256 of a regular file; '' if it does not exist."""
    try:
        with opened_archive(place) as file:
            digest = hashlib.sha256()
            while held := file.read(_CHUNK):
                digest.update(held)
            return digest.hexdigest()
    except FileNotFoundError:
        return ""


@contextlib.contextmanager
def opened_archive(place: str) -> t.Iterator[t.BinaryIO]:
    """Open a regular file by its path, whose last part is no link."""
    folder, name = os.path.split(place)
    parent = open_directory(folder)
    try:
        descriptor = open_regular(parent, name)
    finally:
        os.close(parent)
    with open(descriptor, "rb") as file:
        yield file
