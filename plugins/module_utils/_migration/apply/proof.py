# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Verifies after a start that the backend runs with the new configuration and opens its accounts only at the new path.

Opens are watched from before the start (open_watch.py): programs save keys late, so file times would show their use too late.
"""

from __future__ import annotations

import contextlib
import time
import typing as t

from ..._containers.detect import container_of
from ..._containers.service import read_service
from ..._core.errors import SessionsError, StartFailed
from ..._fs.fdopen import opened_directory
from ..._layouts.layout import Layout
from ..._systemd.unit import Unit
from ..._usage.in_use import ELSEWHERE, NOWHERE, USED, Use, Verdict, leads_to, use_of, verdict, verdict_of_leads
from ..._usage.open_watch import UseWatch
from ..switch import Switch, needs_restart

# Seconds. systemd knows the main process of most services at once, that of forking services a little later.
_PROVED_WITHIN = 20.0
# Seconds. Backends open their accounts within a second of their start; slower ones need 'use_timeout'.
OPENED_WITHIN = 3.0
# Seconds in which a program that has opened accounts at one path may still open others at another path.
_SETTLING = 0.5
_EVERY = 0.05

Seen = t.Mapping[str, Use]


class Start(t.NamedTuple):
    """A start to verify.

    ``path``: where the accounts are now. ``former``: the other known paths. ``has_accounts``: there are linked accounts at ``path``, so a
    backend that uses it opens them. ``timeout``: seconds until systemd must know the main process. ``use_timeout``: seconds within which
    accounts must be opened; 0 to only warn if none is opened.
    """

    unit: str
    path: str
    former: tuple[str, ...]
    layout: Layout
    switch: Switch
    has_accounts: bool
    timeout: float
    use_timeout: float


@contextlib.contextmanager
def watched_use(unit: Unit, path: str, former: t.Iterable[str], layout: Layout) -> t.Iterator[UseWatch | None]:
    """Watch which accounts of the roots ``path`` and ``former`` the processes of ``unit`` open. Yields None if that cannot be watched."""
    watch = None
    try:
        watch = UseWatch((unit.properties["ControlGroup"],))
        for place in dict.fromkeys((path, *former)):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened_directory(place) as root:
                watch.add_place(place, root, layout)
    except (OSError, SessionsError):  # a limit of the kernel is reached; the other checks still count
        if watch is not None:
            watch.close()
        watch = None
    with watch or contextlib.nullcontext():
        yield watch


def prove(start: Start, watch: UseWatch | None) -> tuple[str, ...]:
    """Wait until the main process runs with the switch's values and accounts are opened at the new path.

    Raises StartFailed if the process neither has the values nor opens an account at the new path, if accounts are opened at another path,
    or if none is opened in time. Returns warnings about what could not be verified.
    """
    now, warnings = _started(start, watch)
    seconds = start.use_timeout or OPENED_WITHIN
    found = _judged(start, watch, now, seconds)
    _require_nothing_elsewhere(start, found, "")
    unwatched: tuple[str, ...] = ()
    if watch is None and start.has_accounts:
        unwatched = (
            f"which accounts {start.unit} opens could not be watched, so only its environment, directories and open files were checked",
        )
    if found.state == USED:
        return unwatched
    if not start.has_accounts:
        return warnings
    words = f"{start.unit} opened none of the accounts in {start.path} within {seconds:g} seconds after its start"
    if start.use_timeout:
        raise StartFailed(
            f"{words}, so nothing shows that it uses them; check which directory it uses, or give it more time "
            "('use_timeout')"
        )
    return (*warnings, *unwatched, f"{words}; make sure that it uses them")


def _started(start: Start, watch: UseWatch | None) -> tuple[Unit, tuple[str, ...]]:
    """Wait until the main process has the values of the switch, or opens an account; return the unit then, and a warning if it has none."""
    deadline = time.monotonic() + min(start.timeout, _PROVED_WITHIN)
    while True:
        now = read_service(start.unit)
        lacks = bool(now.main_pid) and needs_restart(start.switch, now)
        if (now.main_pid and not lacks) or _is_seen(start, watch):
            return now, ()
        late = time.monotonic() > deadline
        if now.properties["SubState"] == "exited" or (late and now.active and not now.main_pid):
            return now, (
                f"systemd knows no main process of {start.unit}; make sure that the processes it started use {start.path}",
            )
        if late:
            reason = "its main process does not have the values of the switch, so a program between systemd and it changes them"
            _require_nothing_elsewhere(start, _judged(start, watch, now, _SETTLING), f": {reason}")
            raise StartFailed(f"{start.unit} was started, but {reason}")
        time.sleep(_EVERY)


def _is_seen(start: Start, watch: UseWatch | None) -> bool:
    return watch is not None and judged(watch.seen(), start.path).state == USED


def _judged(start: Start, watch: UseWatch | None, unit: Unit, seconds: float) -> Verdict:
    """Wait for opens and return where they were. Without conclusive opens, the state of the running processes counts."""
    # A container starts after its engine's client, and need not be in the unit's control group.
    if container_of(unit) is not None:
        return _mounted(start, unit, seconds)
    if watch is None and start.has_accounts:
        return _led(start, unit, seconds)
    if watch is None or not start.has_accounts:
        return use_of(unit, start.path, start.former, start.layout)
    soon = min(seconds, OPENED_WITHIN)
    for wait in (soon, seconds - soon):
        if watch.wait_for(lambda seen: any(use.opens for use in seen.values()), wait):
            watch.wait_for(lambda seen: judged(seen, start.path).state == ELSEWHERE, _SETTLING)
        found = judged(watch.seen(), start.path)
        if found.state in (USED, ELSEWHERE):
            return found
        # A process that holds only the directory open uses it as well. Its environment counts less than what it opens.
        leads = leads_to(unit, start.path, start.former, start.layout)
        if start.path in leads.open_files:
            return verdict_of_leads(leads, start.path)
    return found if found.state == NOWHERE else verdict_of_leads(leads, start.path)


def _led(start: Start, unit: Unit, seconds: float) -> Verdict:
    """Poll the state of the running processes: a program opens its accounts only some time after its start."""
    deadline = time.monotonic() + seconds
    while True:
        found = use_of(unit, start.path, start.former, start.layout)
        if found.state in (USED, ELSEWHERE) or time.monotonic() > deadline:
            return found
        time.sleep(_SETTLING)


def _mounted(start: Start, unit: Unit, seconds: float) -> Verdict:
    deadline = time.monotonic() + max(seconds, _PROVED_WITHIN)
    while True:
        found = use_of(unit, start.path, start.former, start.layout)
        if found.state == USED or time.monotonic() > deadline:
            return found
        time.sleep(_SETTLING)


def judged(seen: Seen, path: str) -> Verdict:
    """Return the verdict on the observed opens. Pure.

    If the processes are unknown, some may have been a backup: then an open at the new path counts for the backend.
    """
    found = verdict(seen, path)
    if found.state == ELSEWHERE and path in seen and seen[path].opens and not all(use.named for use in seen.values()):
        return Verdict(USED)
    return found


def _require_nothing_elsewhere(start: Start, found: Verdict, reason: str) -> None:
    if found.state == ELSEWHERE:
        where = ", ".join(found.where)
        raise StartFailed(f"{start.unit} keeps using {where} although it was started for {start.path}{reason}")
