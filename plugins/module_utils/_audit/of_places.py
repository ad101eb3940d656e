# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Findings about the directories that hold the accounts, and their conditions: pure functions from the facts to evidence."""

from __future__ import annotations

import typing as t

from .facts import Facts, Place
from .finding import CRITICAL, HIGH, LOW, MEDIUM, PERSIST, Evidence, Finding

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


FINDINGS: tuple[Finding, ...] = (
    Finding(
        "path_elsewhere", CRITICAL, "The backend uses another directory than the sessions path",
        "Open files, mounts or variables of its processes lead to another directory. Backups and checks of the sessions path miss "
        "the accounts, and the directory that is used is usually one that a deployment replaces.",
        f"{PERSIST}; if the directory in use is the right one, set wa_sessions_path to it", elsewhere,
    ),
    Finding(
        "path_relative", CRITICAL, "The directory depends on the working directory",
        "A relative path, or a directory name written into the program, leads to another directory after each deployment and with "
        "each other way to start the program.",
        f"{PERSIST} (wa_variable names the variable, wa_attach=bind mounts the sessions path for a program without one)",
        relative,
    ),
    Finding(
        "path_ephemeral", CRITICAL, "The directory does not survive a restart",
        "It is on a filesystem in memory, on the layer of a container, or below a directory that is emptied at boot or by age.",
        f"set wa_sessions_path to a directory on a disk, then {PERSIST}", ephemeral,
    ),
    Finding(
        "path_in_release", CRITICAL, "The directory is inside a deployed program",
        "A deployment that replaces the program deletes the accounts with it.", PERSIST, in_release,
    ),
    Finding(
        "path_in_git", HIGH, "The directory is inside a git work tree",
        "git clean -fdx, or a fresh clone in its place, deletes the accounts.", PERSIST, in_git_tree,
    ),
    Finding(
        "path_wiped_by_script", HIGH, "A script of the program deletes the directory",
        "A script in a package.json removes a directory of this name, and is one command or one pipeline away from running.",
        f"{PERSIST}, which moves the accounts out of the reach of the script, or remove the script", wiped_by_script,
    ),
    Finding(
        "path_private_view", CRITICAL, "The unit sees another directory at the path",
        "A directive of its sandbox (PrivateTmp=, TemporaryFileSystem=, ProtectHome=tmpfs, ...) hides the directory of the host: what the "
        "backend writes there ends with the unit.",
        f"{PERSIST} with wa_sessions_path below /var/lib, or add the line that the evidence names to a drop-in of the unit",
        private_view,
    ),
    Finding(
        "path_sandboxed", CRITICAL, "The sandbox of the unit forbids writing to the directory",
        "Each save of a key fails, and the next restart continues with old keys.",
        f"{PERSIST}, whose drop-in sets ReadWritePaths=, or add the line that the evidence names", unwritable,
    ),
    Finding(
        "path_mounted_read_only", CRITICAL, "The filesystem is mounted read-only",
        "The kernel does that after disk errors. Each save of a key fails.",
        "check the disk, mount the filesystem writable, then restore or relink what is damaged", mounted_read_only,
    ),
    Finding(
        "path_owner", CRITICAL, "The backend's user does not own the directory, or cannot reach it",
        "Its library cannot save keys, or cannot create the directory of a new account.",
        f"{PERSIST}, which gives the directory to the user of the unit", wrong_owner,
    ),
    Finding(
        "path_is_link", MEDIUM, "The sessions path is a symbolic link",
        "The user who may replace the link decides which accounts the backend starts, and modules refuse to change such a path.",
        "set wa_sessions_path to the target of the link", is_link,
    ),
    Finding(
        "parent_of_others", HIGH, "Another user can replace the directory",
        "A directory above belongs to, or is writable for, a user other than root and the backend's: that user can exchange all accounts.",
        "remove that permission (chown, chmod go-w), or set wa_sessions_path below directories of root", swappable,
    ),
    Finding(
        "parent_of_backend", LOW, "The backend's user can replace the directory",
        "A directory above belongs to the backend's user, so that a fault of the program can remove the sessions path as a whole.",
        "set wa_sessions_path below directories of root, such as /var/lib/SERVICE, and run the playbook persist",
        owner_can_swap,
    ),
    Finding(
        "path_open", MEDIUM, "Other users can list or enter the directory",
        "Its entries are named after phone numbers, and any key file with a wide mode is open to all users.",
        f"{PERSIST} (wa_mode, by default 0750)", open_to_others,
    ),
    Finding(
        "mount_not_required", HIGH, "The unit starts without the volume of its accounts",
        "If the volume is not mounted in time, the backend starts on the empty mount point and shows QR codes, or pairs again.",
        f"{PERSIST}, whose drop-in sets RequiresMountsFor=", mount_not_required,
    ),
    Finding(
        "disk_space", HIGH, "The disk is almost full",
        "Libraries truncate the file of credentials before they write it: on a full disk it stays empty.",
        "free space, or move the sessions path to a larger disk (wa_sessions_path); wa_audit_min_free_bytes is the threshold",
        few_bytes,
    ),
    Finding(
        "disk_inodes", HIGH, "The disk has almost no inodes left",
        "Each key is a file. Without inodes no new key can be saved.",
        "remove files that are not needed; wa_audit_min_free_inodes is the threshold", few_inodes,
    ),
    Finding(
        "path_unproved", MEDIUM, "Nothing shows that the backend uses the sessions path",
        "Neither open files nor mounts nor variables of its processes lead there.",
        "check which directory its program uses, then run the playbook persist", unproved,
    ),
    Finding(
        "former_path_newer", CRITICAL, "A former path has newer keys",
        "The backend, or another program, has continued to write to the directory from which the accounts were moved.",
        f"find out which program writes to it, then {PERSIST}, which takes the newer copy", former_newer,
    ),
    Finding(
        "nothing_found", MEDIUM, "No account was found",
        "There is nothing to lose, or the audit examined the wrong directory.",
        "check wa_sessions_path, wa_service and wa_layout", nothing_found,
    ),
)  # fmt: skip
