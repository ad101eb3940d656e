# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job behind session_info: how many accounts there are and in what state, judged by structure on the host itself.

Nothing but metadata comes out: states, counts, sizes, times, and account names in masked form unless they are asked for.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import stat
import typing as t

from ._errors import SessionsError
from ._expected import Source, names_from, read_source
from ._identity import owner_name
from ._job import Report
from ._layout import Judgement, Layout
from ._layouts import account_names, chosen_layout, first_layout, open_account, plain_count, recognised
from ._masking import masked
from ._paths import normal_path, opened_directory
from ._tree import measure

_LAST_SECOND = 253402300799  # 9999-12-31T23:59:59Z
STATES = ("paired", "pending", "fresh", "corrupt", "unknown")
# A restart brings these back without a QR code, or at least does no harm to them; the others are not linked to a phone.
SOUND = ("paired",)


@dataclasses.dataclass(frozen=True)
class Params:
    """Options of session_info. ``expected``: account names that should be there, None when nobody said; ``source``: who says so."""

    path: str
    layout: Layout | None
    inspect: str
    expected: tuple[str, ...] | None
    show_accounts: bool
    sizes: bool
    source: Source | None = None


@dataclasses.dataclass(frozen=True)
class AccountFacts:
    """What may be told of one account. ``newest`` in nanoseconds; ``files`` and ``bytes`` None unless sizes were asked for."""

    name: str
    state: str
    problems: tuple[str, ...]
    newest: int
    owner: str
    mode: str
    lock: str = ""
    fingerprints: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    files: int | None = None
    bytes: int | None = None


@dataclasses.dataclass(frozen=True)
class State:
    """What is at the path, and which accounts should be, None when nobody said."""

    exists: bool
    layout: Layout
    count: int
    accounts: tuple[AccountFacts, ...]
    expected: tuple[str, ...] | None = None


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Make the typed parameters; raise SessionsError for a relative path or an unknown layout."""
    expected = options.get("expected")
    return Params(
        path=normal_path(options["path"], "path"),
        layout=chosen_layout(options),
        inspect=options.get("inspect") or "structure",
        expected=None if expected is None else tuple(str(name) for name in expected),
        show_accounts=bool(options.get("show_accounts")),
        sizes=bool(options.get("sizes")),
        source=read_source(options.get("expected_from")),
    )


def observe(params: Params) -> State:
    """Look at each account. A path that is not there has no accounts; one that is no directory is an error."""
    expected = names_from(params.source) if params.source else params.expected
    try:
        with opened_directory(params.path) as root:
            layout = recognised(root, params.layout)
            named = functools.cache(owner_name)  # looking into the user database costs as much as judging an account
            seen = (_facts(root, name, layout, params, named) for name in account_names(root, layout))
            accounts = tuple(account for account in seen if account is not None)
            return State(True, layout, plain_count(root, layout), accounts, expected)
    except FileNotFoundError:
        return State(False, params.layout or first_layout(), 0, (), expected)
    except NotADirectoryError as error:
        raise SessionsError(f"{params.path} is not a directory; name the directory that holds the accounts") from error
    except PermissionError as error:
        raise SessionsError(f"cannot read {params.path}: {error.strerror}; run as root (become)") from error


def plan(state: State, params: Params) -> tuple[t.Any, ...]:
    """Nothing is ever to be done: this job only looks."""
    return ()


def diff(state: State, steps: tuple[t.Any, ...], params: Params) -> t.Mapping[str, t.Any]:
    """Nothing changes."""
    return {}


def apply(steps: tuple[t.Any, ...], state: State, params: Params) -> None:
    """Never called: there are no steps."""


def verify(state: State, params: Params) -> None:
    """Never called: there are no steps."""


def report(params: Params, state: State, steps: tuple[t.Any, ...], evidence: t.Any) -> Report:
    """Describe what was seen."""
    label: t.Callable[[str], str] = str if params.show_accounts else masked
    compared = {word: sorted(map(label, names)) for word, names in _against(state).items()}
    return Report(
        {
            "path": params.path,
            "exists": state.exists,
            "layout": state.layout.name,
            "count": state.count,
            "total": len(state.accounts),
            "sound": sound_count(state),
            "states": {
                name: sum(account.state == name for account in state.accounts)
                for name in STATES
                if name != "unknown" or params.inspect == "metadata"
            },
            "accounts": [_described(account, label) for account in state.accounts],
            **compared,
            "duplicates": [[label(name) for name in group] for group in _duplicates(state.accounts)],
        },
        tuple(_warnings(compared["orphaned"])),
    )


def _against(state: State) -> dict[str, set[str]]:
    """Compare with what is expected: not on disk, on disk but not linked, on disk but not expected. Empty when nobody said."""
    if state.expected is None:
        return {"missing": set(), "unlinked": set(), "orphaned": set()}
    expected = set(state.expected)
    names = {account.name: {account.name, state.layout.called(account.name)} for account in state.accounts}
    unsound = {account.name for account in state.accounts if account.state not in (*SOUND, "unknown")}
    found = {account for account, called in names.items() if called & expected}
    return {
        "missing": expected.difference(*names.values()),
        "unlinked": found & unsound,
        "orphaned": names.keys() - found,
    }


def _warnings(orphaned: t.Sequence[str]) -> t.Iterator[str]:
    """Whoever says what is expected does not ask for what is not: it would go on unseen."""
    if orphaned:
        yield (
            f"{len(orphaned)} accounts on disk are not expected ({', '.join(orphaned)}): nobody knows of them, or the wrong place was asked"
        )


def _duplicates(accounts: t.Iterable[AccountFacts]) -> list[list[str]]:
    """Group the accounts that are one linked device: a backend that starts both gets both logged out."""
    groups: dict[str, list[str]] = {}
    for account in accounts:
        for fingerprint in account.fingerprints:
            groups.setdefault(fingerprint, []).append(account.name)
    return [group for group in groups.values() if len(group) > 1]


def sound_count(state: State) -> int:
    """Count the accounts that come back by themselves."""
    return sum(account.state in SOUND for account in state.accounts)


def _facts(root: int, name: str, layout: Layout, params: Params, named: t.Callable[[int], str]) -> AccountFacts | None:
    try:
        directory = open_account(root, name)
    except (FileNotFoundError, NotADirectoryError):
        return None  # the backend removed it since it was listed
    try:
        status = os.fstat(directory)
        judgement = layout.judge(directory) if params.inspect == "structure" else None
        sizes = measure(directory, layout.is_volatile) if params.sizes else None
        newest = max([status.st_mtime_ns, *_watched_times(directory, layout), *([sizes.newest_ns] if sizes else [])])
        return AccountFacts(
            name=name,
            state=judgement.state if judgement else "unknown",
            problems=_problems(judgement, root) if judgement else (),
            newest=newest,
            owner=named(status.st_uid),
            mode=f"{status.st_mode & 0o7777:04o}",
            lock=layout.lock_of(directory),
            fingerprints=judgement.fingerprints if judgement else (),
            files=sizes.files if sizes else None,
            bytes=sizes.bytes if sizes else None,
        )
    finally:
        os.close(directory)


def _problems(judgement: Judgement, root: int) -> tuple[str, ...]:
    """A wide mode shows nothing to anybody while the directory above is closed."""
    if os.fstat(root).st_mode & stat.S_IXOTH:
        return judgement.problems
    return tuple(problem for problem in judgement.problems if problem != "readable_by_everybody")


def _watched_times(directory: int, layout: Layout) -> t.Iterator[int]:
    for name in layout.watched_in(directory):
        try:
            yield os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime_ns
        except FileNotFoundError:
            continue


def _described(account: AccountFacts, label: t.Callable[[str], str]) -> dict[str, t.Any]:
    # Anybody may set any time; Python knows years 1 to 9999 only.
    newest = datetime.datetime.fromtimestamp(min(max(account.newest / 1e9, 0), _LAST_SECOND), datetime.timezone.utc)
    return {
        "id": label(account.name),
        "state": account.state,
        "problems": list(account.problems),
        "files": account.files,
        "bytes": account.bytes,
        "newest": newest.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "owner": account.owner,
        "mode": account.mode,
        "locked": account.lock != "",
        "lock": account.lock,
    }
