# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""How to stop a unit so that its backend can save its state: as the layout requires, but never with less time than configured."""

from __future__ import annotations

import os
import typing as t

from .._layouts.layout import Layout
from .._systemd.drop_in import drop_in_path
from .._systemd.effective import Sources, option_history, read_sources, winning
from .._systemd.load_path import Overlay
from .._systemd.option_types import seconds
from .._systemd.unit import default_stop_timeout, unit_name
from .._systemd.unit_file import words

# They start the backend and wait for it, but do not forward signals: npm's issue 4603; shells were measured (docs/stopping-browsers.md).
_WRAPPERS = ("sh", "bash", "dash", "zsh", "npm", "npx", "yarn", "pnpm")


class Params(t.NamedTuple):
    """The unit, the name of this collection's drop-in, and the operator's values (None: use those of the layout)."""

    unit: str
    name: str
    signal: str | None
    mode: str | None
    timeout: int | None


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the typed parameters. Empty texts, as from a survey, count as omitted."""
    return Params(
        unit=unit_name(options["unit"]),
        name=options["name"],
        signal=options.get("signal") or None,
        mode=options.get("mode") or None,
        timeout=options.get("timeout") or None,
    )


def sections_for(params: Params, layout: Layout, overlay: Overlay | None = None) -> dict[str, dict[str, str]]:
    """Return the sections of the drop-in. ``overlay``: the texts of other files that will change together with it.

    Values in the unit or in other drop-ins are kept: a signal or kill mode was chosen for a reason, and a long timeout from experience.
    A timeout that is too short ends in SIGKILL and corrupts what is being written, so the longest one is used.
    """
    sources = read_sources(params.unit, {**(overlay or {}), drop_in_path(params.unit, params.name): None})
    service: dict[str, str] = {}
    for option, wanted, ordered in (
        ("KillSignal", layout.stop.signal, params.signal),
        ("KillMode", _wanted_mode(layout, sources), params.mode),
    ):
        chosen = winning(option_history(sources, "Service", option))
        value = ordered or (None if chosen and chosen.value else wanted)
        if value:
            service[option] = value
    set_by_others = [place.value for place in option_history(sources, "Service", "TimeoutStopSec") if place.value]
    there = set_by_others[-1] if set_by_others else default_stop_timeout()
    service["TimeoutStopSec"] = str(params.timeout) if params.timeout else _longer(there, layout.stop.timeout)
    return {"Service": service}


def _wanted_mode(layout: Layout, sources: Sources) -> str | None:
    """Return the layout's mode, unless a wrapper in ExecStart= would keep the signal from the backend until systemd kills it."""
    return "control-group" if layout.stop.mode == "mixed" and _is_wrapped(sources) else layout.stop.mode


def _is_wrapped(sources: Sources) -> bool:
    command = winning(option_history(sources, "Service", "ExecStart"))
    program = words(command.value)[:1] if command and command.value else ()
    name = os.path.basename(program[0].lstrip("-@:+!|")) if program else ""
    return name in _WRAPPERS or name.endswith(".sh")


def _longer(there: str, wanted: int) -> str:
    if there.strip() == "infinity" or seconds(there) == 0:  # 0 disables the timeout as well, systemd.service(5)
        return "infinity"
    return f"{max(seconds(there), float(wanted)):g}"
