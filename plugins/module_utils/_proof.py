# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Proves after a start that the backend runs with the new configuration, and that it opens its accounts at the new path and nowhere else.

Opens are watched from before the start on (_use_watch.py): programs save keys late, so a look at the times of files comes too early.
"""

from __future__ import annotations

import contextlib
import time
import typing as t

from ._containers import container_of
from ._cutover import StartFailed
from ._errors import SessionsError
from ._in_use import ELSEWHERE, NOWHERE, USED, Use, Verdict, leads_to, use_of, verdict, verdict_of_leads
from ._layout import Layout
from ._paths import opened_directory
from ._switch import Switch, lacks_value
from ._unit import Unit, read_unit
from ._use_watch import UseWatch

# Seconds. systemd knows the main process of most services at once, of those that fork a little later.
_PROVED_WITHIN = 20.0
# Backends open their accounts within a second of their start; of those that need longer it has to be known how long.
OPENED_WITHIN = 3.0
# Seconds in which a program that opened accounts at one place may still open others at another one.
_SETTLING = 0.5
_EVERY = 0.05

Seen = t.Mapping[str, Use]


class Start(t.NamedTuple):
    """A start that has to be proved.

    ``path``: where the accounts are now. ``former``: the other places that are known. ``has_accounts``: there are linked accounts at
    ``path``, so that a backend that uses it opens them. ``timeout``: seconds for systemd to know the main process. ``use_timeout``: seconds
    within which accounts have to be opened; 0: that none is opened is only warned of.
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
    """Watch where the processes of ``unit`` open accounts: ``path`` and ``former`` are roots. None where that cannot be watched."""
    watch = None
    try:
        watch = UseWatch((unit.properties["ControlGroup"],))
        for place in dict.fromkeys((path, *former)):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened_directory(place) as root:
                watch.add_place(place, root, layout)
    except (OSError, SessionsError):  # a limit of the kernel is reached: what is proved without it still counts
        if watch is not None:
            watch.close()
        watch = None
    with watch or contextlib.nullcontext():
        yield watch


def prove(start: Start, watch: UseWatch | None) -> tuple[str, ...]:
    """Wait until the main process runs with the switch's values and accounts are opened at the new path.

    Raises StartFailed when the process does not have the values and opens no account at the new path either, when accounts are opened at
    another place, and when none is opened in time. Returns warnings about what could not be seen.
    """
    deadline = time.monotonic() + min(start.timeout, _PROVED_WITHIN)
    warnings: tuple[str, ...] = ()
    while True:
        now = read_unit(start.unit)
        lacks = bool(now.main_pid) and lacks_value(start.switch, now)
        if (now.main_pid and not lacks) or _is_seen(start, watch):
            break
        late = time.monotonic() > deadline
        if now.properties["SubState"] == "exited" or (late and now.active and not now.main_pid):
            warnings = (
                f"systemd knows no main process of {start.unit}, so see that what it started uses {start.path}",
            )
            break
        if late:
            reason = "its main process does not have the values of the switch, so something in between changes them"
            _require_nothing_elsewhere(start, _judged(start, watch, now, _SETTLING), f": {reason}")
            raise StartFailed(f"{start.unit} was started, but {reason}")
        time.sleep(_EVERY)
    seconds = start.use_timeout or OPENED_WITHIN
    found = _judged(start, watch, now, seconds)
    _require_nothing_elsewhere(start, found, "")
    unwatched: tuple[str, ...] = ()
    if watch is None and start.has_accounts:
        unwatched = (
            f"which accounts {start.unit} opens could not be watched, so what its processes lead to has to do",
        )
    if found.state == USED:
        return unwatched
    if not start.has_accounts:
        return warnings
    words = f"{start.unit} opened none of the accounts in {start.path} within {seconds:g} seconds after its start"
    if start.use_timeout:
        raise StartFailed(
            f"{words}, so nothing shows that it uses them; see which directory it works in, or give it longer ('use_timeout', role: "
            "wa_use_timeout)"
        )
    return (*warnings, *unwatched, f"{words}; see that it uses them")


def _is_seen(start: Start, watch: UseWatch | None) -> bool:
    return watch is not None and judged(watch.seen(), start.path).state == USED


def _judged(start: Start, watch: UseWatch | None, unit: Unit, seconds: float) -> Verdict:
    """Wait for opens and say where they were; where opens tell nothing, what the running processes lead to counts."""
    if (
        container_of(unit) is not None
    ):  # which starts after its engine's client, and need not be in the unit's control group
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
        # Who holds a directory open, and no file in it, uses it as well. What a process was given says less than what it opens.
        leads = leads_to(unit, start.path, start.former, start.layout)
        if start.path in leads.open_files:
            return verdict_of_leads(leads, start.path)
    return found if found.state == NOWHERE else verdict_of_leads(leads, start.path)


def _led(start: Start, unit: Unit, seconds: float) -> Verdict:
    """Ask again and again what the running processes lead to: a program opens its accounts only a while after its start."""
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
    """Return the verdict on what was seen.

    Where the openers are not known, some may have been a backup: then an open at the new place speaks for the backend. Pure.
    """
    found = verdict(seen, path)
    if found.state == ELSEWHERE and path in seen and seen[path].opens and not all(use.named for use in seen.values()):
        return Verdict(USED)
    return found


def _require_nothing_elsewhere(start: Start, found: Verdict, reason: str) -> None:
    if found.state == ELSEWHERE:
        where = ", ".join(found.where)
        raise StartFailed(f"{start.unit} went on using {where} after it was started for {start.path}{reason}")
