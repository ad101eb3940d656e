# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Findings about the unit or the container that runs the backend, and their conditions: pure functions from the facts to evidence."""

from __future__ import annotations

import typing as t

from .facts import Facts, Service
from .finding import CRITICAL, HIGH, MEDIUM, PERSIST, Evidence, Finding


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


FINDINGS: tuple[Finding, ...] = (
    Finding(
        "cutover_unfinished", CRITICAL, "A migration was interrupted",
        "Its intent is still recorded, so accounts may be in a directory of this collection instead of where the backend looks.",
        f"{PERSIST}, which undoes or completes it first", unfinished,
    ),
    Finding(
        "container_without_volume", CRITICAL, "The container keeps its accounts in storage that is deleted with it",
        "The layer of a container and anonymous volumes end with the container, at an update or at each restart.",
        f"{PERSIST}, which copies the accounts out and mounts the sessions path, or reports the option to add", no_volume,
    ),
    Finding(
        "container_unknown", HIGH, "It is unknown what the container keeps",
        "The container of the unit could not be identified or examined.",
        "give the container a name (--name) and mount the sessions path, then run the playbook verify", box_unknown,
    ),
    Finding(
        "two_writers", CRITICAL, "A second process uses the accounts",
        "Two clients with the same keys log each other out, and each overwrites the keys of the other.",
        "stop the other process, or give each of both units its own sessions path (wa_sessions_path)", others,
    ),
    Finding(
        "variable_overridden", CRITICAL, "Another definition overrides the sessions path",
        "One file of the unit sets a variable to the sessions path, a later one or an environment file to something else: the next start "
        "uses the other directory.",
        f"remove the line that the evidence names, or {PERSIST}, which also edits the environment file", overridden,
    ),
    Finding(
        "restart_pending", MEDIUM, "The running process lacks settings of its unit",
        "It was started before they were changed, so the next restart, whenever it happens, changes the directory.",
        "run the playbook restart", outdated,
    ),
    Finding(
        "dotenv_contradicts", MEDIUM, "A .env file of the program leads elsewhere",
        "A program that lets its .env override the environment, or that is started by hand, uses the other directory.",
        "set the variable in that file to the sessions path, or remove it there", dotenv,
    ),
    Finding(
        "stop_signal", HIGH, "The backend is not asked to stop by the signal that it handles",
        "With another signal it ends without saving, and the last keys are lost or torn.",
        f"{PERSIST}, whose drop-in 10-graceful-stop sets it (wa_stop_signal overrides it)", stop_signal,
    ),
    Finding(
        "stop_mode", HIGH, "The kill mode does not suit the library",
        "Processes of a browser are killed before the program can close it, or survive and keep the profile locked.",
        f"{PERSIST} (wa_stop_mode overrides what it sets)", stop_mode,
    ),
    Finding(
        "stop_timeout", HIGH, "The backend is killed before it has saved",
        "The time to stop is shorter than this library needs. SIGKILL then truncates what is being written.",
        f"{PERSIST} (wa_stop_timeout); of a container, raise StopTimeout=, --stop-timeout or stop_grace_period", stop_timeout,
    ),
    Finding(
        "unit_root", MEDIUM, "The backend runs as root",
        "A fault of the program, or of a browser in it, has the whole host.",
        f"set User= in the unit, then {PERSIST}, which gives the accounts to that user", runs_as_root,
    ),
    Finding(
        "umask_open", MEDIUM, "New key files can be read by other users",
        "The library creates files all the time with the mode that UMask= leaves.",
        f"{PERSIST}, whose drop-in sets UMask=0077", umask_open,
    ),
    Finding(
        "restart_unlimited", MEDIUM, "No limit ends a restart storm",
        "A revoked account ends the program at once. Unlimited restarts make a storm of logins of that, and WhatsApp then refuses new "
        "links for hours.",
        "set Restart=on-failure, and StartLimitIntervalSec= longer than StartLimitBurst= times RestartSec=, in the unit",
        restart_unlimited,
    ),
    Finding(
        "restarts_repeated", HIGH, "The backend was restarted repeatedly",
        "systemd has restarted it more often since it was started than a healthy backend needs.",
        "find the cause in the journal of the unit, then run the playbook restart; wa_audit_max_restarts is the threshold",
        restarts,
    ),
    Finding(
        "keys_in_journal", HIGH, "The journal contains key material",
        "Some libraries print keys when they close a session. Everybody who can read the journal, or a copy of it, can use them.",
        "set the log level of the program, then remove the journal (journalctl --rotate --vacuum-time=1s); link the accounts again if "
        "others could read it", key_lines,
    ),
)  # fmt: skip
