# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Everything that an audit observes on a host, as plain values: what the conditions of findings decide from. Nothing here reads.

Account names are labels that may be shown: masked, unless the operator asked for them. No value is from inside a session.
"""

from __future__ import annotations

import datetime
import typing as t

from .._layouts.layout import StopSettings


class Thresholds(t.NamedTuple):
    """From when on a number is a finding. ``backup_age`` in seconds; ``files``: of one account."""

    free_bytes: int
    free_inodes: int
    files: int
    restarts: int
    backup_age: int


class Program(t.NamedTuple):
    """What is at or above a directory and shows that it belongs to a program.

    ``release``: a directory above that holds a program, and what shows that, both '' if none does. ``git``: the root of a git work tree
    above. ``wipers``: scripts of a package.json that delete the directory, each as file and name.
    """

    release: str = ""
    marker: str = ""
    git: str = ""
    wipers: tuple[tuple[str, str], ...] = ()


class Place(t.NamedTuple):
    """A directory that holds the accounts of the backend now.

    ``named_by``: how the backend finds it: '' if unknown, ``absolute``, the name of a variable with a relative path, or ``default`` if no
    setting names it and it is below the working directory. ``lost``: why it does not survive a restart.
    ``replaced``, ``read_only``: the directive of the unit's sandbox that shows the unit another directory at this path, or forbids
    writing; ``opening``: the lines that would allow it.
    ``swappable``: how a user other than root and the backend's could replace it; ``owner_can_swap``: how the backend's user could.
    ``open_to_others``: whether other users may list or enter it. ``wrong_owner``: its owner, if that is not the backend's user.
    ``closed``: a directory above that the backend's user may not enter. ``free_inodes``: None if the filesystem has no limit.
    ``mount``: its mount point if that is a volume, else ''; ``mount_required``: whether the unit waits for it.
    """

    path: str
    named_by: str = ""
    lost: str = ""
    replaced: str = ""
    read_only: str = ""
    opening: tuple[str, ...] = ()
    swappable: str = ""
    owner_can_swap: str = ""
    is_link: bool = False
    mode: int = 0o750
    open_to_others: bool = False
    wrong_owner: str = ""
    closed: str = ""
    mounted_read_only: bool = False
    free_bytes: int = 1 << 40
    free_inodes: int | None = None
    mount: str = ""
    mount_required: bool = True
    program: Program = Program()


class Scan(t.NamedTuple):
    """A bounded look at the names in an account. ``files``: how many; ``looked_at``: of how many the status was read.

    ``open``: how many files other users can read, on an account that they can enter; ``foreign``: how many belong to another user than the
    account's directory; ``empty``: how many key files have no content.
    """

    files: int = 0
    looked_at: int = 0
    open: int = 0
    foreign: int = 0
    empty: int = 0


class Account(t.NamedTuple):
    """One account. ``label``: its name as it may be shown. ``twins``: labels of accounts with the same device. ``copy_of``: the label of
    its original, '' if it is none. ``wrong_owner``: the owner of its directory, if that is not the backend's user.
    """

    label: str
    state: str = "paired"
    problems: tuple[str, ...] = ()
    lock: str = ""
    twins: tuple[str, ...] = ()
    copy_of: str = ""
    wrong_owner: str = ""
    scan: Scan = Scan()


class Overridden(t.NamedTuple):
    """A variable that one file of the unit sets to the sessions path, and another file to something else."""

    variable: str
    file: str
    line: int


class Service(t.NamedTuple):
    """The backend's unit. ``uid``: of its processes, None if unknown. ``properties``: all that _systemd/unit.py reads of it.

    ``stop``: per option (KillSignal, ...) the value in effect and the one that the layout needs, only where they differ.
    ``umask_open``: its UMask= if that lets other users read new files. ``limited``: whether a storm of restarts ends by itself.
    ``outdated``: variables whose value the running process does not have. ``dotenv``: file and variable that lead elsewhere.
    ``others``: further processes or units that use the accounts. ``key_lines``: journal lines with key material.
    """

    name: str
    active: bool = True
    uid: int | None = 1500
    stop: t.Mapping[str, tuple[str, str]] = {}
    umask_open: str = ""
    limited: bool = True
    restart: str = "on-failure"
    restarts: int = 0
    overridden: tuple[Overridden, ...] = ()
    outdated: tuple[str, ...] = ()
    dotenv: tuple[tuple[str, str], ...] = ()
    others: str = ""
    key_lines: int = 0
    properties: t.Mapping[str, str] = {}


class Box(t.NamedTuple):
    """The backend's container. ``kinds``: path in the container and kind of storage of each directory with accounts that is deleted with
    the container. ``trouble``: why it could not be examined. ``grace``: seconds until it is killed.
    """

    called: str
    kinds: tuple[tuple[str, str], ...] = ()
    trouble: str = ""
    grace: float = 60.0


class Backups(t.NamedTuple):
    """The store of snapshots. ``missing``: labels of linked accounts without a sound snapshot; ``old``: label and age in seconds of those
    whose newest sound snapshot was not confirmed in time. ``timers``: failed or inactive units that run backups, each with its state.
    """

    store: str
    exists: bool = True
    missing: tuple[str, ...] = ()
    old: tuple[tuple[str, int], ...] = ()
    failed_accounts: int = 0
    timers: tuple[tuple[str, str], ...] = ()


class Exempted(t.NamedTuple):
    """A finding that the operator accepts, why, and until which day (included)."""

    id: str
    reason: str
    until: datetime.date

    def is_valid(self, today: datetime.date) -> bool:
        """Whether it still counts."""
        return today <= self.until


class Facts(t.NamedTuple):
    """The whole observation.

    ``path``: the sessions path as configured. ``places``: where accounts in use are; ``elsewhere``: those that the backend uses instead
    of the sessions path; ``unproved``: whether nothing shows which one it uses. ``newer``: former paths with newer keys. ``links``:
    labels and reasons of links that are not followed. ``unfinished``: whether a cutover was interrupted. ``unchecked``: what could not
    be examined, each with the reason.
    """

    path: str
    limits: Thresholds
    today: datetime.date
    stop: StopSettings
    places: tuple[Place, ...] = ()
    elsewhere: tuple[str, ...] = ()
    unproved: bool = False
    newer: tuple[str, ...] = ()
    accounts: tuple[Account, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    service: Service | None = None
    box: Box | None = None
    backups: Backups | None = None
    unfinished: bool = False
    exempted: tuple[Exempted, ...] = ()
    unchecked: tuple[tuple[str, str], ...] = ()
