# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Whether a backend may be interrupted now: inside its maintenance window, and when no account has been written to for a while.

Reads and waits, and never interrupts anything. Sees the times of files only, and returns no names.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import time
import typing as t

from .._core.errors import SessionsError
from .._core.limits import QUIET_TIMEOUT
from .._fs.fdopen import DirFd, normal_path, opened_directory
from .._fs.walk_tree import files_below
from .._layouts.account import open_account
from .._layouts.registry import account_names, chosen_layout, recognition

if t.TYPE_CHECKING:
    from .._layouts.layout import Layout

_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)(?: ([A-Za-z0-9_+/-]+))?")
_DAY = 24 * 60
_BETWEEN = 0.1  # seconds: the shortest time between two looks
_SECOND = 10**9  # in ns


class Window(t.NamedTuple):
    """When interruptions may begin, in minutes since midnight. If ``end`` is before ``start``, it is on the next day."""

    text: str
    start: int
    end: int
    zone: datetime.tzinfo | None

    def contains(self, now: datetime.datetime) -> bool:
        """Whether a moment is inside."""
        minute = now.hour * 60 + now.minute
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end


class Params(t.NamedTuple):
    """Suboptions of ``moment``. ``quiet_seconds``: 0 if it does not matter when accounts were written to."""

    window: Window | None
    paths: tuple[str, ...]
    layout: Layout | None
    quiet_seconds: float
    quiet_timeout: float
    quiet_required: bool


class Seen(t.NamedTuple):
    """The time in the zone of the window, and for how many seconds no account was written to; None if there is no account."""

    now: datetime.datetime
    quiet_for: float | None = None


class Await(t.NamedTuple):
    """Wait for a quiet moment inside the window."""

    bookkeeping: bool = True  # it changes nothing


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the typed parameters. Raises SessionsError for a window or a number that is not one."""
    quiet, timeout = float(options.get("quiet_seconds") or 0), float(options.get("quiet_timeout") or 0)
    if not 0 <= quiet <= timeout <= QUIET_TIMEOUT:
        raise SessionsError(
            f"quiet_seconds is {quiet:g} and quiet_timeout is {timeout:g}, but they must be from 0 to {QUIET_TIMEOUT:g}, and the timeout "
            "not the shorter one; correct them"
        )
    return Params(
        window=_read_window(options["window"]) if options.get("window") else None,
        paths=tuple(normal_path(path, "paths") for path in options.get("paths") or ()),
        layout=chosen_layout(options),
        quiet_seconds=quiet,
        quiet_timeout=timeout,
        quiet_required=options.get("quiet_required") is not False,
    )


def _read_window(text: str) -> Window:
    found = _WINDOW.fullmatch(text.strip())
    start = int(found[1]) * 60 + int(found[2]) if found else 0
    end = (int(found[3]) * 60 + int(found[4]) if found[3] else _DAY) if found else 0
    if not found or start == end:
        raise SessionsError(
            "window is not a time of day such as '22:00-05:00', with the name of a time zone after it if that is not the host's, "
            "as in '22:00-05:00 Europe/Berlin'; correct it"
        )
    return Window(text.strip(), start, end, _zone(found[5]) if found[5] else None)


def _zone(name: str) -> datetime.tzinfo:
    import zoneinfo  # only hosts with such a window need it

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise SessionsError(
            f"window names the time zone {name}, which this host does not know; correct the name, or install tzdata on the host"
        ) from error


def observe(params: Params) -> Seen:
    """Read the clock, and if a quiet moment is needed, the times of all files of the accounts."""
    now = datetime.datetime.now(datetime.timezone.utc)
    local = now.astimezone(params.window.zone if params.window else None)
    return Seen(local, _quiet_for(params) if params.quiet_seconds else None)


def problem(params: Params, seen: Seen) -> str:
    """Return why the backend may not be interrupted now, '' if it may be. Pure."""
    if params.window is None or params.window.contains(seen.now):
        return ""
    return f"it is {_shown(seen)} on this host, outside of the maintenance window {params.window.text}"


def plan(params: Params, seen: Seen) -> tuple[Await, ...]:
    """Return the step to wait, if this is not the moment. Pure."""
    return (Await(),) if problem(params, seen) or _is_busy(params, seen) else ()


def apply(params: Params) -> None:
    """Wait for a quiet moment. Raises SessionsError if it does not come in time, and at once outside of the window."""
    deadline = time.monotonic() + params.quiet_timeout
    _require_window(params, seen := observe(params))
    while _is_busy(params, seen):
        left = deadline - time.monotonic()
        if left <= 0:
            if params.quiet_required:
                raise SessionsError(
                    f"accounts were written to all the time, never {params.quiet_seconds:g} s apart within {params.quiet_timeout:g} s, so "
                    "nothing was changed; run again later, raise 'quiet_timeout', or continue nevertheless with quiet_required=false"
                )
            break
        # Nothing that was written since can make the moment come sooner.
        time.sleep(min(max(params.quiet_seconds - (seen.quiet_for or 0), _BETWEEN), left))
        seen = observe(params)
    _require_window(params, seen)


def report(params: Params, seen: Seen) -> dict[str, t.Any]:
    """Return the moment as the module returns it."""
    return {"time": _shown(seen), "problem": problem(params, seen), "quiet_for_seconds": seen.quiet_for}


def _require_window(params: Params, seen: Seen) -> None:
    wrong = problem(params, seen)
    if wrong:
        raise SessionsError(f"{wrong}, so nothing was changed; run again inside of it, or without 'window'")


def _is_busy(params: Params, seen: Seen) -> bool:
    return seen.quiet_for is not None and seen.quiet_for < params.quiet_seconds


def _shown(seen: Seen) -> str:
    return seen.now.strftime("%H:%M %Z")


def _quiet_for(params: Params) -> float | None:
    """Return the seconds since a file of an account was last changed; None without accounts.

    By the time of change of the inode, which the user of the backend cannot set. One in the future counts as now.
    """
    newest = max((moment for path in params.paths for moment in _changes(path, params.layout)), default=None)
    return None if newest is None else max(0.0, (time.time_ns() - newest) / _SECOND)


def _changes(path: str, chosen: Layout | None) -> t.Iterator[int]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened_directory(path) as root:
        layout = recognition(root, chosen).layout
        for account in account_names(root, layout):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                yield from _changes_in(root, account, layout)


def _changes_in(root: DirFd, account: str, layout: Layout) -> t.Iterator[int]:
    directory = open_account(root, account)
    try:
        yield os.fstat(directory).st_ctime_ns
        for _name, status in files_below(directory, layout.volatile_matcher, layout.cache_matcher):
            yield status.st_ctime_ns
    finally:
        os.close(directory)
