# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""What can be known about accounts that may have been lost: their state now, whether their volume is mounted, what the backend logged.

Reads only. No line of the journal leaves _systemd/journal.py, only counts.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import typing as t

from .._accounts.receipts import Mark, mark_with_parts
from .._accounts.tombstone import is_tombstone_at
from .._containers.detect import container_of
from .._containers.service import compose_of
from .._core.errors import SessionsError
from .._fs.fdopen import opened_directory
from .._layouts.account import AccountRef, open_account
from .._layouts.layout import Layout
from .._proc.command import run
from .._systemd.journal import Query, reaches_back, read_on
from .._systemd.unit import parse_show

if t.TYPE_CHECKING:
    from .._systemd.unit import Unit

MISSING, MOVED = "missing", "moved"
# Seconds between two looks at a damaged account: a program may just be writing it.
_BETWEEN_LOOKS = 1.0
_JOURNAL_SECONDS = 60.0
_LOGGED_OUT = "logged_out"
# Broad on purpose: a line that only looks like a logout leaves an account to the operator, who can restore it.
LOGOUT_PATTERNS = (
    r"(?i)\blogg?ed[ _-]?out\b|\blog[ _-]?out\b|\bdevice[ _-]removed\b|\bun(?:paired|linked)\b",
    r"""(?i)\bstatus(?:_?code)?\\?["']?\s*[:=]?\s*401\b|\b401\b[^\n]{0,80}\b(?:conflict|unauthorized|failure|connection)""",
)


class Live(t.NamedTuple):
    """One account at the sessions path: paired, pending, fresh, corrupt, unknown, ``missing``, or ``moved`` to another host.

    ``mark``: None if there is none. ``settled``: it did not change between two looks. ``readable``: its files could be read.
    """

    state: str
    mark: Mark | None = None
    settled: bool = True
    readable: bool = True


class Log(t.NamedTuple):
    """What the journal shows since a moment: the number of lines about a logout, or why that is unknown."""

    logouts: int = 0
    unknown: str = ""


def look_at(path: str, names: t.Collection[str], layout: Layout, *, running: bool) -> dict[str, Live]:
    """Return the states of the accounts ``names`` at the sessions path. Damaged ones of a running backend are looked at twice."""
    first = _states(path, names, layout)
    unsure = [name for name, live in first.items() if live.state == "corrupt"]
    if not (running and unsure):
        return first
    time.sleep(_BETWEEN_LOOKS)
    second = _states(path, unsure, layout)
    changed = {name: live for name, live in second.items() if live != first[name]}
    return {**first, **{name: live._replace(settled=False) for name, live in changed.items()}}


def _states(path: str, names: t.Collection[str], layout: Layout) -> dict[str, Live]:
    try:
        with opened_directory(path) as root:
            return {name: _state(AccountRef(root, name, layout)) for name in names}
    except (FileNotFoundError, NotADirectoryError):
        return dict.fromkeys(names, Live(MISSING))


def _state(account: AccountRef) -> Live:
    root, name, layout = account
    if is_tombstone_at(root, name):
        return Live(MOVED)
    try:
        directory = open_account(root, name)
    except (FileNotFoundError, NotADirectoryError):
        return Live(MISSING)
    try:
        if not layout.is_account(directory):
            return Live(MISSING)
        judgement = layout.judged(directory)
        mark = mark_with_parts(account, directory)
        return Live(judgement.state, mark, readable="account_unreadable" not in judgement.problems)
    finally:
        os.close(directory)


def unmounted_volume(path: str) -> str:
    """Return the mount point at or above ``path`` that systemd has a mount for that is not mounted; '' if none.

    Behind an unmounted volume, all accounts seem to be lost.
    """
    parts = os.path.realpath(path).strip("/").split("/")
    places = ["/" + "/".join(parts[:number]) for number in range(1, len(parts) + 1)]
    units = [f"{_escaped(place)}.mount" for place in places]
    with contextlib.suppress(SessionsError, OSError):
        done = run(["systemctl", "show", "--property=LoadState,ActiveState,Where", "--", *units])
        shown = [parse_show(text) for text in done.stdout.split("\n\n")] if done.rc == 0 else []
        for unit in shown:
            if unit.get("LoadState") == "loaded" and unit.get("ActiveState") != "active":
                return unit.get("Where", "")
    return ""


def _escaped(path: str) -> str:
    """Return a path as systemd writes it in names of units, systemd-escape(1)."""
    name = re.sub(rb"[^A-Za-z0-9:_./]", lambda match: b"\\x%02x" % match[0][0], os.fsencode(path.strip("/")))
    name = b"\\x2e" + name[1:] if name.startswith(b".") else name
    return os.fsdecode(name.replace(b"/", b"-"))


def log_since(unit: Unit | None, since_ns: int, patterns: t.Sequence[t.Pattern[str]]) -> Log:
    """Count the lines about a logout that the backend logged since a moment (ns since the epoch)."""
    if unit is None:
        return Log(unknown="no unit was given whose log could show that WhatsApp or its program removed the account")
    if compose_of(unit) or container_of(unit) is not None:
        return Log(unknown="its program runs in a container, whose log is not read")
    since = f"@{since_ns // 1_000_000_000}"
    try:
        if not reaches_back(unit, since):
            return Log(unknown="the journal does not reach back to the snapshot")
        reading = read_on(unit, Query(since, {_LOGGED_OUT: tuple(patterns)}), None, _JOURNAL_SECONDS)
    except SessionsError as error:
        return Log(unknown=f"the log of the backend cannot be read ({error})")
    if not reading.complete:
        return Log(unknown="the log of the backend is too long to be read")
    return Log(logouts=reading.counts[_LOGGED_OUT])


def compiled(patterns: t.Iterable[str]) -> tuple[t.Pattern[str], ...]:
    """Return the patterns of a logout, with the ``patterns`` of the operator. Raises SessionsError for an invalid one."""
    try:
        return tuple(re.compile(pattern) for pattern in (*LOGOUT_PATTERNS, *patterns))
    except (re.error, OverflowError, RecursionError) as error:
        raise SessionsError(
            f"'logout_patterns' has an invalid regular expression ({error or type(error).__name__}); correct it"
        ) from error
