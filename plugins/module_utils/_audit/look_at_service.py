# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Observe the unit of a backend: how it is stopped and restarted, what its files and processes contradict, who else uses its accounts."""

from __future__ import annotations

import dataclasses
import signal
import typing as t

from .._layouts.layout import Layout
from .._plan import graceful_stop
from .._proc.open_files import holders, named
from .._systemd import journal
from .._systemd.option_types import same_value, seconds
from .._systemd.unit import Unit
from .facts import Service

# A drop-in that no host has: what every existing file of the unit sets was chosen by somebody.
_NO_DROP_IN = "whatsapp-ops-audit"
_JOURNAL_SECONDS = 10.0
_NO_RESTART = ("", "no")
_UNLIMITED = "infinity"


def stop_differences(unit: Unit, layout: Layout) -> dict[str, tuple[str, str]]:
    """Return the options by which the unit is stopped otherwise than the layout needs: the value in effect, and the one it needs."""
    wanted = graceful_stop.sections_for(graceful_stop.Params(unit.name, _NO_DROP_IN, None, None, None), layout)[
        "Service"
    ]
    properties, found = unit.properties, {}
    kill_signal, mode = properties["KillSignal"], properties["KillMode"]
    needed = wanted.get("KillSignal", layout.stop.signal if same_value("KillSignal", kill_signal, "SIGKILL") else "")
    if needed and not same_value("KillSignal", kill_signal, needed):
        found["KillSignal"] = (_signal_name(kill_signal), needed)
    needed = wanted.get("KillMode") or ("control-group" if mode in ("none", "process") else "")
    if needed and mode != needed:
        found["KillMode"] = (mode, needed)
    has, needed = properties["TimeoutStopUSec"], wanted["TimeoutStopSec"]
    if has != _UNLIMITED and (needed == _UNLIMITED or seconds(has) < seconds(needed)) and seconds(has) > 0:
        found["TimeoutStopSec"] = (has, f"{needed} s" if needed != _UNLIMITED else needed)
    return found


def service_of(unit: Unit, uid: int | None) -> Service:
    """Return what systemd itself knows about the unit."""
    properties = unit.properties
    return Service(
        unit.name,
        active=unit.active,
        uid=uid,
        umask_open=_open_umask(properties["UMask"]),
        limited=_is_limited(properties),
        restart=properties["Restart"],
        restarts=int(properties["NRestarts"] or 0),
        properties=properties,
    )


def other_users(places: t.Sequence[str], group: str, main_pid: int) -> str:
    """Return as text which processes outside the control group ``group`` use accounts in ``places``; '' if none.

    A shell whose working directory is there does no harm.
    """
    found = [holder for holder in holders(places, group, main_pid) if holder.how != "inside" or holder.unit]
    return named(found)


def key_lines(unit: Unit) -> tuple[int, bool]:
    """Return how many lines of the unit's journal since its last start look like key material, and whether all of it was read.

    Raises SessionsError if there is no readable journal.
    """
    query = journal.read_query(None, {})
    query = dataclasses.replace(query, signals={journal.KEY_MATERIAL: query.signals[journal.KEY_MATERIAL]})
    reading = journal.read_on(unit, query, None, _JOURNAL_SECONDS)
    return reading.key_material, reading.complete


def _signal_name(value: str) -> str:
    try:
        return signal.Signals(int(value)).name
    except ValueError:
        return value


def _open_umask(value: str) -> str:
    try:
        return value if int(value, 8) & 0o004 == 0 else ""
    except ValueError:
        return ""  # of a container, whose program has its own


def _is_limited(properties: t.Mapping[str, str]) -> bool:
    """Return whether systemd gives up on a program that ends at once again and again, systemd.unit(5), StartLimitIntervalSec=."""
    if properties["Restart"] != "always":
        return True  # only then a program that ends because WhatsApp refuses it, with exit code 0, is started again
    interval, pause = _span(properties["StartLimitIntervalUSec"]), _span(properties["RestartUSec"])
    burst = int(properties["StartLimitBurst"] or 0)
    return interval > 0 and burst > 0 and pause * burst < interval


def _span(value: str) -> float:
    if value == _UNLIMITED:
        return float("inf")
    try:
        return seconds(value) if value else 0.0
    except ValueError:
        return 0.0
