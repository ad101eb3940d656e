# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Directories that systemd creates and manages for a unit, systemd.exec(5): it sets their mode at each start."""

from __future__ import annotations

import os
import typing as t

from .unit import Unit

_BASES = {"StateDirectory": "/var/lib", "CacheDirectory": "/var/cache", "LogsDirectory": "/var/log"}


class Kept(t.NamedTuple):
    """The line of the unit that makes systemd manage a directory, and the mode that it sets at each start."""

    line: str
    mode_option: str
    bits: int


def directories_of(unit: Unit) -> dict[str, Kept]:
    """Return the directories that systemd manages for a unit, by path; each also by its path below ``private``."""
    found = {}
    for option, base in _BASES.items():
        for word in unit.properties[option].split():
            name = word.partition(":")[0]
            bits = int(unit.properties[f"{option}Mode"] or "0755", 8)
            kept = Kept(f"{option}={name}", f"{option}Mode", bits)
            found[f"{base}/{name}"] = found[f"{base}/private/{name}"] = kept
    return found


def kept_by_systemd(unit: Unit, path: str) -> Kept | None:
    """Return the line and mode for the directory at ``path``, None if systemd does not manage it."""
    known = directories_of(unit)
    return known.get(path) or known.get(os.path.realpath(path))
