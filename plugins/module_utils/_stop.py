# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""How a unit should be stopped so that its backend can write what it holds: the layout's wishes, never less than what is there."""

from __future__ import annotations

import os
import typing as t

from ._effective import Sources, option_history, read_sources, winning
from ._layouts import Layout
from ._override import drop_in_path
from ._unit import default_stop_timeout, unit_name
from ._unit_path import Overlay
from ._unitfile import words
from ._values import seconds

# They start the backend and wait for it, and pass no signal on: npm's issue 4603; shells were measured (docs/stopping-browsers.md).
_WRAPPERS = ("sh", "bash", "dash", "zsh", "npm", "npx", "yarn", "pnpm")


class Params(t.NamedTuple):
    """The unit, the name of the drop-in that is ours, and what the operator wants other than the layout does (None: nothing)."""

    unit: str
    name: str
    signal: str | None
    mode: str | None
    timeout: int | None


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Make the typed parameters. Empty texts, as a survey gives them, count as left out."""
    return Params(
        unit=unit_name(options["unit"]),
        name=options["name"],
        signal=options.get("signal") or None,
        mode=options.get("mode") or None,
        timeout=options.get("timeout") or None,
    )


def sections_for(params: Params, layout: Layout, overlay: Overlay | None = None) -> dict[str, dict[str, str]]:
    """Give the sections of the drop-in. ``overlay`` has the texts of other files that are going to change together with it.

    What somebody else set in the unit or in another drop-in stays: a signal or kill mode was chosen for a reason, and a longer timeout
    is somebody's experience. A timeout that is cut short tears what is being written (SIGKILL), so the longest one counts.
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
    """Give the layout's mode, unless it would leave a backend behind a wrapper without a signal until systemd kills it."""
    return "control-group" if layout.stop.mode == "mixed" and _is_wrapped(sources) else layout.stop.mode


def _is_wrapped(sources: Sources) -> bool:
    command = winning(option_history(sources, "Service", "ExecStart"))
    program = words(command.value)[:1] if command and command.value else ()
    name = os.path.basename(program[0].lstrip("-@:+!|")) if program else ""
    return name in _WRAPPERS or name.endswith(".sh")


def _longer(there: str, wanted: int) -> str:
    if there.strip() == "infinity" or seconds(there) == 0:  # 0 disables the time-out, too (systemd.service(5))
        return "infinity"
    return f"{max(seconds(there), float(wanted)):g}"
