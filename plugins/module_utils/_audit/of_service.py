# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Conditions of findings about the unit or the container that runs the backend. Pure."""

from __future__ import annotations

import typing as t

from .evidence import Evidence
from .facts import Facts, Service


def _if(facts: Facts, clause: t.Callable[[Service], str]) -> t.Iterator[Evidence]:
    what = clause(facts.service) if facts.service else ""
    if facts.service and what:
        yield Evidence(facts.service.name, what)


def _stop_option(option: str) -> t.Callable[[Facts], t.Iterator[Evidence]]:
    def differs(facts: Facts) -> t.Iterator[Evidence]:
        def clause(service: Service) -> str:
            if option not in service.stop:
                return ""
            has, wanted = service.stop[option]
            return f"{option} is {has}, but {wanted} lets this library save its state"

        return _if(facts, clause)

    return differs


stop_signal = _stop_option("KillSignal")
stop_mode = _stop_option("KillMode")


def stop_timeout(facts: Facts) -> t.Iterator[Evidence]:
    """The backend is killed before it has saved."""
    yield from _stop_option("TimeoutStopSec")(facts)
    if facts.box and facts.box.grace < facts.stop.timeout:
        yield Evidence(
            facts.box.called,
            f"it is killed after {facts.box.grace:g} s, but needs up to {facts.stop.timeout} s to save",
        )


def runs_as_root(facts: Facts) -> t.Iterator[Evidence]:
    """A fault of the backend has the whole host."""
    return _if(facts, lambda service: "its processes run as root" if service.uid == 0 and not facts.box else "")


def umask_open(facts: Facts) -> t.Iterator[Evidence]:
    """New key files can be read by other users."""
    return _if(facts, lambda service: service.umask_open and f"UMask is {service.umask_open}")


def restart_unlimited(facts: Facts) -> t.Iterator[Evidence]:
    """A revoked account becomes a login storm."""
    return _if(
        facts,
        lambda service: "" if service.limited else f"Restart={service.restart}, and no limit ever stops the restarts",
    )


def restarts(facts: Facts) -> t.Iterator[Evidence]:
    """It crashes again and again."""
    return _if(
        facts,
        lambda service: (
            f"systemd restarted it {service.restarts} times" if service.restarts >= facts.limits.restarts else ""
        ),
    )


def overridden(facts: Facts) -> t.Iterator[Evidence]:
    """The next start uses another directory than one file of the unit says."""
    for found in facts.service.overridden if facts.service else ():
        yield Evidence(
            f"{found.file} line {found.line}",
            f"{found.variable} is not {facts.path} there, and that definition takes effect",
        )


def outdated(facts: Facts) -> t.Iterator[Evidence]:
    """The running process does not have the settings of its unit."""
    return _if(
        facts,
        lambda service: (
            f"its process was started without the current value of {', '.join(service.outdated)}"
            if service.outdated
            else ""
        ),
    )


def dotenv(facts: Facts) -> t.Iterator[Evidence]:
    """A file of the program leads elsewhere."""
    for file, variable in facts.service.dotenv if facts.service else ():
        yield Evidence(file, f"it sets {variable}, which does not lead to {facts.path}")


def others(facts: Facts) -> t.Iterator[Evidence]:
    """Two processes on the same keys log each other out."""
    return _if(facts, lambda service: service.others and f"the same directory is also used by {service.others}")


def key_lines(facts: Facts) -> t.Iterator[Evidence]:
    """Private keys are printed."""
    return _if(
        facts,
        lambda service: (
            f"{service.key_lines} lines of its journal look like key material, since its last start"
            if service.key_lines
            else ""
        ),
    )


def no_volume(facts: Facts) -> t.Iterator[Evidence]:
    """The accounts are deleted with the container."""
    for inside, kind in facts.box.kinds if facts.box else ():
        yield Evidence(facts.box.called if facts.box else "", f"{inside} in the container is {kind}")


def box_unknown(facts: Facts) -> t.Iterator[Evidence]:
    """Nobody knows what a restart of the container deletes."""
    if facts.box and facts.box.trouble:
        yield Evidence(facts.box.called, f"it is unknown where it keeps accounts: {facts.box.trouble}")


def unfinished(facts: Facts) -> t.Iterator[Evidence]:
    """A run was interrupted."""
    if facts.unfinished:
        yield Evidence(facts.path, "the intent of an interrupted cutover is still recorded")
