# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Directories that systemd itself makes and keeps for a unit, systemd.exec(5): at each start it gives them their mode again."""

from __future__ import annotations

import os
import typing as t

from ._unit import Unit

_BASES = {"StateDirectory": "/var/lib", "CacheDirectory": "/var/cache", "LogsDirectory": "/var/log"}


class Kept(t.NamedTuple):
    """The line of the unit that has systemd keep a directory, and the mode that it gets at each start."""

    line: str
    mode_option: str
    bits: int


def directories_of(unit: Unit) -> dict[str, Kept]:
    """Return the paths of the directories that systemd keeps for a unit, by the names and the places that they have."""
    found = {}
    for option, base in _BASES.items():
        for word in unit.properties[option].split():
            name = word.partition(":")[0]
            bits = int(unit.properties[f"{option}Mode"] or "0755", 8)
            kept = Kept(f"{option}={name}", f"{option}Mode", bits)
            found[f"{base}/{name}"] = found[f"{base}/private/{name}"] = kept
    return found


def kept_by_systemd(unit: Unit, path: str) -> Kept | None:
    """Return what has systemd keep the directory at ``path``, None where nothing has."""
    known = directories_of(unit)
    return known.get(path) or known.get(os.path.realpath(path))
