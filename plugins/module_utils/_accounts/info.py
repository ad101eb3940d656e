# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job behind session_info: the accounts and their states, judged by structure on the host itself.

Only metadata is returned: states, counts, sizes, times, and account names, which are masked unless requested.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import os
import stat
import typing as t

from .._core import progress
from .._core.errors import SessionsError
from .._core.job import LOOKS_ONLY, Report
from .._core.masking import masked
from .._fs.fdopen import DirFd, normal_path, open_below, opened_directory, status_below
from .._fs.users import owner_name
from .._layouts.account import open_account
from .._layouts.layout import DAMAGED, FOREIGN, LINKED, READABLE, WRITABLE, Judgement, Layout
from .._layouts.lookalikes import Candidate, copies_among, devices_shared
from .._layouts.registry import chosen_layout, first_layout, recognition
from .._layouts.search import Found, found_in, plain_count
from .control_directory import control_path, existing_control
from .displaced import Displaced, listed
from .expected import Application, names_from, read_source
from .work_area import can_rename

if t.TYPE_CHECKING:
    from .._fs.walk_tree import Tally

_LAST_SECOND = 253402300799  # 9999-12-31T23:59:59Z
_NAMED_AT_MOST = 5
STATES = ("paired", "pending", "fresh", "corrupt", "unknown")
# Locks that keep a browser from starting and therefore are a problem of the account.
_BLOCKING = {FOREIGN: "lock_of_another_host", DAMAGED: "lock_damaged"}


class Params(t.NamedTuple):
    """Options of session_info. ``expected``: names of accounts that should exist, None if unknown; ``source``: where to query them.

    ``expected_are_all``: whether no other accounts should exist.
    """

    path: str
    layout: Layout | None
    inspect: str
    expected: tuple[str, ...] | None
    show_accounts: bool
    sizes: bool
    source: Application | None = None
    expected_are_all: bool = True


@dataclasses.dataclass(frozen=True)
class AccountFacts:
    """The reportable facts of one account.

    ``newest`` in nanoseconds; ``files`` and ``bytes`` are None unless sizes were requested. ``linked``: number of linked devices.
    ``is_link``: its directory is reached by a symbolic link.
    """

    name: str
    state: str
    problems: tuple[str, ...]
    newest: int
    owner: str
    mode: str
    lock: str = ""
    fingerprints: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    linked: int = 0
    files: int | None = None
    bytes: int | None = None
    is_link: bool = False


@dataclasses.dataclass(frozen=True)
class State:
    """What exists at the path, and which accounts should, None if unknown. ``reason``: why it has that layout.

    ``same_mount``: whether rename(2) works between the path and its control directory. ``left``: symbolic links that may be accounts but
    are not followed. ``miscount``: why the plain count differs, '' if it does not. ``deeper``: a message about accounts nested too deep.
    ``progress``: of the run that is working on the path, None if there is none.
    """

    exists: bool
    layout: Layout
    count: int
    accounts: tuple[AccountFacts, ...]
    expected: tuple[str, ...] | None = None
    reason: str = ""
    displaced: tuple[Displaced, ...] = ()
    same_mount: bool = False
    left: tuple[Found, ...] = ()
    miscount: str = ""
    deeper: str = ""
    progress: t.Mapping[str, t.Any] | None = None


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the typed parameters; raise SessionsError for a relative path or an unknown layout."""
    expected = options.get("expected")
    return Params(
        path=normal_path(options["path"], "path"),
        layout=chosen_layout(options),
        inspect=options.get("inspect") or "structure",
        expected=None if expected is None else tuple(str(name) for name in expected),
        show_accounts=bool(options.get("show_accounts")),
        sizes=bool(options.get("sizes")),
        source=read_source(options.get("expected_from")),
        expected_are_all=options.get("expected_are_all") is not False,
    )


def observe(params: Params) -> State:
    """Judge each account. A path that does not exist has no accounts; one that is not a directory is an error."""
    expected = names_from(params.source) if params.source else params.expected
    try:
        with opened_directory(params.path) as root:
            layout, reason = recognition(root, params.layout)
            named = functools.cache(owner_name)  # a lookup of a user takes as long as judging an account
            found = list(found_in(root, layout))
            seen = (_facts(root, one, layout, params, named) for one in found if not one.left)
            accounts = tuple(account for account in seen if account is not None)
            count = plain_count(root, layout)
            return State(
                True,
                layout,
                count,
                accounts,
                expected,
                reason,
                displaced=listed(params.path),
                same_mount=can_rename(params.path, f"{control_path(params.path)}/outbox"),
                left=tuple(one for one in found if one.left),
                miscount=_miscount(root, layout, params, count, found, accounts),
                deeper=_deeper(root, layout, params, bool(found)),
                progress=progress_of(params.path),
            )
    except FileNotFoundError:
        return State(False, params.layout or first_layout(), 0, (), expected, "there is no such directory")
    except NotADirectoryError as error:
        raise SessionsError(
            f"{params.path} is not a directory; set path to the directory that holds the accounts"
        ) from error
    except PermissionError as error:
        raise SessionsError(f"cannot read {params.path}: {error.strerror}; run as root (become)") from error


plan, diff, apply, verify = LOOKS_ONLY


def report(params: Params, state: State, steps: tuple[t.Any, ...], evidence: t.Any) -> Report:
    """Return what was observed."""
    label: t.Callable[[str], str] = str if params.show_accounts else masked
    compared = {word: sorted(map(label, names)) for word, names in _against(state, params).items()}
    return Report(
        {
            "path": params.path,
            "exists": state.exists,
            "layout": state.layout.name,
            "layout_reason": state.reason,
            "count": state.count,
            "total": len(state.accounts),
            "linked_accounts": sound_count(state),
            "linked": sum(account.linked for account in state.accounts),
            "states": _counted(state, params),
            "accounts": [_described(account, label) for account in state.accounts],
            **compared,
            **_doubles(state, label),
            "displaced": [
                {"id": label(found.account), "since": found.moment, "path": found.path} for found in state.displaced
            ],
            "control": {"path": control_path(params.path), "same_mount": state.same_mount},
            "progress": state.progress,
        },
        tuple(_warnings(compared["orphaned"], state, label)),
    )


def _miscount(
    root: DirFd,
    layout: Layout,
    params: Params,
    count: int,
    found: t.Sequence[Found],
    accounts: t.Sequence[AccountFacts],
) -> str:
    if count == sum(not one.left for one in found):
        return ""
    from .miscount import why_counts_differ

    states = {account.name: account.state for account in accounts}
    return why_counts_differ(root, layout, params.path, count, found, states) or ""


def _deeper(root: DirFd, layout: Layout, params: Params, any_found: bool) -> str:
    from .miscount import why_too_deep

    return why_too_deep(root, layout, params.path, any_layout=not any_found and params.layout is None)


def progress_of(path: str) -> dict[str, t.Any] | None:
    """Return what a run that is working on the sessions path ``path`` has done so far; None if there is none or only root may know."""
    with contextlib.suppress(SessionsError, OSError), existing_control(path) as control:
        return None if control is None else progress.read(control)
    return None


def _counted(state: State, params: Params) -> dict[str, int]:
    """Return the number of accounts per state; 'unknown' only if it can occur."""
    counts = {name: sum(account.state == name for account in state.accounts) for name in STATES}
    if not counts["unknown"] and params.inspect != "metadata":
        del counts["unknown"]
    return counts


def _against(state: State, params: Params) -> dict[str, set[str]]:
    """Compare with the expected accounts: not on disk, on disk but not linked, on disk but not expected. Empty sets if unknown."""
    if state.expected is None:
        return {"missing": set(), "unlinked": set(), "orphaned": set()}
    expected = set(state.expected)
    called = {account.name: state.layout.called(account.name) for account in state.accounts}
    unsound = {account.name for account in state.accounts if account.state not in (*LINKED, "unknown")}
    exact = called.keys() & expected
    loose = expected - exact  # a complete relative path matches only that account
    found = exact | {account for account, names in called.items() if names & loose}
    return {
        "missing": loose.difference(*called.values()),
        "unlinked": found & unsound,
        "orphaned": called.keys() - found if params.expected_are_all else set(),
    }


def _warnings(orphaned: t.Sequence[str], state: State, label: t.Callable[[str], str]) -> t.Iterator[str]:
    """Yield warnings about what the caller did not ask for: unexpected accounts, and links that cannot be examined."""
    if state.left:
        named = "; ".join(f"{label(one.name)}: {one.left}" for one in state.left[:_NAMED_AT_MOST])
        yield f"{len(state.left)} symbolic links may be accounts, but are not followed ({named})"
    if state.miscount:
        yield state.miscount
    if state.deeper:
        yield state.deeper
    if orphaned:
        yield (
            f"{len(orphaned)} accounts on disk are not expected ({', '.join(orphaned)}): no application knows them, or the path is wrong"
        )


def _doubles(state: State, label: t.Callable[[str], str]) -> dict[str, t.Any]:
    """Return accounts with the same linked device, and likely copies: WhatsApp logs both out if a backend starts both."""
    candidates = [Candidate(account.name, account.fingerprints, account.newest) for account in state.accounts]
    shared = {tuple(account.name for account in group) for group in devices_shared(candidates)}
    copies = copies_among(candidates)
    return {
        "duplicates": [[label(name) for name in group] for group in sorted(shared)],
        "copies": [{"id": label(name), "of": label(original)} for name, original in copies.items()],
    }


def sound_count(state: State) -> int:
    """Return the number of accounts that reconnect without a new link."""
    return sum(account.state in LINKED for account in state.accounts)


def _facts(
    root: DirFd, found: Found, layout: Layout, params: Params, named: t.Callable[[int], str]
) -> AccountFacts | None:
    name = found.name
    try:
        directory = open_account(root, name) if found.linked else open_below(root, name)
    except (FileNotFoundError, NotADirectoryError):
        return None  # removed since it was listed
    try:
        if found.linked and not layout.is_account(directory):
            return None  # the link was changed since it was listed
        status = os.fstat(directory)
        judgement = layout.judged(directory) if params.inspect == "structure" else None
        sizes = _sizes(directory, layout) if params.sizes else None
        newest = max([status.st_mtime_ns, *_watched_times(directory, layout), *([sizes.newest_ns] if sizes else [])])
        lock = layout.lock_of(directory)
        return AccountFacts(
            name=name,
            state=judgement.state if judgement else "unknown",
            problems=_problems(judgement, lock, root),
            newest=newest,
            owner=named(status.st_uid),
            mode=f"{status.st_mode & 0o7777:04o}",
            lock=lock,
            is_link=found.linked,
            linked=judgement.linked if judgement else 0,
            fingerprints=judgement.fingerprints if judgement else (),
            files=sizes.files if sizes else None,
            bytes=sizes.bytes if sizes else None,
        )
    finally:
        os.close(directory)


def _sizes(directory: DirFd, layout: Layout) -> Tally:
    from .._fs.walk_tree import measure

    return measure(directory, layout.is_volatile)


def _problems(judgement: Judgement | None, lock: str, root: DirFd) -> tuple[str, ...]:
    """Return the problems. A wide mode is none while the directory above keeps other users out."""
    found = judgement.problems if judgement else ()
    if not os.fstat(root).st_mode & stat.S_IXOTH:
        found = tuple(problem for problem in found if problem not in (READABLE, WRITABLE))
    return (*found, _BLOCKING[lock]) if lock in _BLOCKING else found


def _watched_times(directory: DirFd, layout: Layout) -> t.Iterator[int]:
    for path in layout.watched_in(directory):
        status = status_below(directory, path)
        if status is not None:
            yield status.st_mtime_ns


def _described(account: AccountFacts, label: t.Callable[[str], str]) -> dict[str, t.Any]:
    # File times are arbitrary, but Python supports only years 1 to 9999.
    newest = datetime.datetime.fromtimestamp(min(max(account.newest / 1e9, 0), _LAST_SECOND), datetime.timezone.utc)
    return {
        "id": label(account.name),
        "state": account.state,
        "problems": list(account.problems),
        "linked": account.linked,
        "files": account.files,
        "bytes": account.bytes,
        "newest": newest.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "owner": account.owner,
        "mode": account.mode,
        "locked": account.lock != "",
        "lock": account.lock,
        "is_link": account.is_link,
    }
