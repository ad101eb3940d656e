# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Conditions of findings about the directories that hold the accounts. Pure."""

from __future__ import annotations

import typing as t

from .evidence import Evidence
from .facts import Facts, Place

_DEFAULT = "default"


def _each(facts: Facts, clause: t.Callable[[Place], str]) -> t.Iterator[Evidence]:
    """Yield the places for which ``clause`` returns words."""
    for place in facts.places:
        what = clause(place)
        if what:
            yield Evidence(place.path, what)


def nothing_found(facts: Facts) -> t.Iterator[Evidence]:
    """There is nothing to lose here, or the audit looks at the wrong path."""
    if not facts.accounts and not (facts.box and (facts.box.kinds or facts.box.trouble)):
        yield Evidence(facts.path, "it holds no account, and no other directory of the backend was found to hold one")


def elsewhere(facts: Facts) -> t.Iterator[Evidence]:
    """The backend keeps its accounts in another directory than the configured one."""
    for path in facts.elsewhere:
        yield Evidence(path, f"the accounts of the backend are there instead of in {facts.path}")


def unproved(facts: Facts) -> t.Iterator[Evidence]:
    """Nothing shows which directory the running backend uses."""
    if facts.unproved and not facts.elsewhere:
        yield Evidence(facts.path, "no open file, mount or variable of the running backend leads there")


def former_newer(facts: Facts) -> t.Iterator[Evidence]:
    """Something still writes at a former path."""
    for path in facts.newer:
        yield Evidence(path, f"accounts in it have newer keys than in {facts.path}")


def relative(facts: Facts) -> t.Iterator[Evidence]:
    """The place depends on the working directory."""

    def clause(place: Place) -> str:
        if place.named_by in ("", "absolute"):
            return ""
        if place.named_by == _DEFAULT:
            return "no setting names it, the program finds it below its working directory"
        return f"{place.named_by} names it by a path relative to the working directory"

    return _each(facts, clause)


def ephemeral(facts: Facts) -> t.Iterator[Evidence]:
    """The content is gone after a restart of the host or the container."""
    return _each(facts, lambda place: place.lost)


def private_view(facts: Facts) -> t.Iterator[Evidence]:
    """The unit has something of its own at the path, which ends with it or is empty."""
    return _each(
        facts,
        lambda place: place.replaced and f"{place.replaced} shows the unit another directory there{_lines(place)}",
    )


def unwritable(facts: Facts) -> t.Iterator[Evidence]:
    """The unit's sandbox forbids writing."""
    return _each(
        facts, lambda place: place.read_only and f"{place.read_only} keeps the unit from writing there{_lines(place)}"
    )


def _lines(place: Place) -> str:
    return f"; {' and '.join(place.opening)} would allow it" if place.opening else ""


def mounted_read_only(facts: Facts) -> t.Iterator[Evidence]:
    """The filesystem takes no writes."""
    return _each(facts, lambda place: "its filesystem is mounted read-only" if place.mounted_read_only else "")


def in_release(facts: Facts) -> t.Iterator[Evidence]:
    """The next deployment replaces the directory above."""
    return _each(
        facts,
        lambda place: (
            place.program.release and f"it is inside {place.program.release}, a program ({place.program.marker})"
        ),
    )


def in_git_tree(facts: Facts) -> t.Iterator[Evidence]:
    """A clean checkout deletes untracked directories."""
    return _each(facts, lambda place: place.program.git and f"it is inside the git work tree {place.program.git}")


def wiped_by_script(facts: Facts) -> t.Iterator[Evidence]:
    """A script of the program deletes the directory."""
    for place in facts.places:
        for file, script in place.program.wipers:
            yield Evidence(place.path, f"the script {script} of {file} deletes it")


def is_link(facts: Facts) -> t.Iterator[Evidence]:
    """The path itself can be redirected."""
    return _each(facts, lambda place: "it is a symbolic link" if place.is_link else "")


def swappable(facts: Facts) -> t.Iterator[Evidence]:
    """A third user controls a directory above."""
    return _each(facts, lambda place: place.swappable)


def owner_can_swap(facts: Facts) -> t.Iterator[Evidence]:
    """The backend's user controls a directory above."""
    return _each(facts, lambda place: "" if place.swappable else place.owner_can_swap)


def open_to_others(facts: Facts) -> t.Iterator[Evidence]:
    """Other users can list or enter the directory, whose names are phone numbers."""
    return _each(facts, lambda place: f"its mode is {place.mode:04o}" if place.open_to_others else "")


def wrong_owner(facts: Facts) -> t.Iterator[Evidence]:
    """The backend's user does not own the directory, or cannot reach it."""

    def clause(place: Place) -> str:
        if place.closed:
            return f"the backend's user may not enter {place.closed}"
        return place.wrong_owner and f"it belongs to {place.wrong_owner} instead of the backend's user"

    return _each(facts, clause)


def few_bytes(facts: Facts) -> t.Iterator[Evidence]:
    """A full disk truncates credentials at the next save."""
    return _each(
        facts,
        lambda place: f"{place.free_bytes >> 20} MiB are free" if place.free_bytes < facts.limits.free_bytes else "",
    )


def few_inodes(facts: Facts) -> t.Iterator[Evidence]:
    """A disk without inodes takes no new key."""
    return _each(
        facts,
        lambda place: (
            f"{place.free_inodes} more files fit"
            if place.free_inodes is not None and place.free_inodes < facts.limits.free_inodes
            else ""
        ),
    )


def mount_not_required(facts: Facts) -> t.Iterator[Evidence]:
    """Without its volume the backend starts on the empty mount point."""
    return _each(
        facts,
        lambda place: (
            f"it is on the volume {place.mount}, and the unit starts without it"
            if place.mount and not place.mount_required
            else ""
        ),
    )
