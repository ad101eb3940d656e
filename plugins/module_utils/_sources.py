# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Where accounts were before: checks the legacy paths that were named, or finds them from the unit.

A unit's legacy path is looked for where its backend would put it: in the environment it runs with, below its working directory, and
around the files that its processes have open. Whose accounts are taken is in _owners.py.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import typing as t

from ._area import area_path
from ._control_groups import processes_of
from ._effective import effective_in, environment_names, read_sources
from ._errors import SessionsError
from ._identity import owner_name
from ._layout import is_folder, paths_matching
from ._layouts import (
    AREA_INSIDE,
    LAYOUTS,
    Layout,
    account_names,
    first_layout,
    names_of_any,
    opened_account,
    recognised,
)
from ._one_look import asked_once
from ._owners import REMEDY, Owners, owners_named
from ._paths import normal_path, open_directory, opened_directory, real_path
from ._proc import NOT_OF_THE_BACKEND, environment_of, named_paths
from ._tombstone import is_tombstone
from ._unit import Unit

# A browser has dozens of processes, a process manager one or two for each program.
_PROCESSES_AT_MOST = 200
_OPEN_FILES_AT_MOST = 5000


class Source(t.NamedTuple):
    """One legacy root: its path as it was given, and its real path, by which it is opened from then on.

    ``owners``: who may own it and the accounts in it, None for anybody. ``receiver``: who is given them (a uid). ``closed``: it is root's
    because this collection closed it, see _mount_points.py; what is in it is not.
    """

    given: str
    path: str
    owners: frozenset[int] | None = None
    receiver: int | None = None
    closed: bool = False


def named_sources(given: t.Sequence[str], path: str, whose: Owners) -> tuple[Source, ...]:
    """Open each legacy path that was named; one that is not there is left out.

    Raises SessionsError for one that is no readable directory, or is the sessions path, lies in it, holds it, or lies in another one, or
    whose owner has to be allowed.
    """
    found: dict[str, Source] = {}
    for name in given:
        opened = _real_directory(normal_path(name, "src"), (whose.receiver.uid,))
        if opened is not None:
            real, status = opened
            if status.st_uid == 0 and not whose.includes(0) and not os.listdir(real):
                continue  # what systemd makes for a mount in a later release; there is nothing to take
            _require_apart(name, real, path)
            owners = owners_named(name, real, status, whose, area_path(path))
            found.setdefault(real, Source(name, real, owners, whose.receiver.uid, whose.have_closed(real, status)))
    for inner, outer in itertools.permutations(found.values(), 2):
        if inner.path.startswith(f"{outer.path}/"):
            raise SessionsError(f"the source {inner.given} lies inside the source {outer.given}; name one of them")
    return tuple(found.values())


def found_sources(unit: Unit, path: str, layout: Layout | None, whose: Owners) -> tuple[Source, ...]:
    """Find the legacy roots of a unit's backend: those candidates that hold an account, most trusted first.

    Raises SessionsError where the backend keeps accounts in a directory of somebody else: only the operator can say that it is meant.
    """
    layouts = tuple(LAYOUTS.values()) if layout is None else (layout,)
    found: dict[str, Source] = {}
    directories = working_directories(unit)
    releases = _releases(unit, directories, layouts)
    for candidate, opened in dict.fromkeys(_candidates(unit, directories, layouts)):
        try:
            given = normal_path(os.path.normpath(candidate), "src")
            opened_root = _real_directory(given, (whose.receiver.uid,))
        except SessionsError:
            continue  # a guess of ours that leads nowhere sensible is no error of the operator
        if opened_root is None:
            continue
        real, status = opened_root
        if (
            # What holds the working directory is the release, however many accounts lie somewhere in it. It is meant itself only
            # where its library tells by names what is its own.
            (
                not any(_is_within(release, real) for release in releases)
                or (candidate in directories and _is_application(real, layout))
            )
            and not any(_is_within(real, known) or _is_within(known, real) for known in found)
            and _is_apart(real, path)
            and _holds_account(real, layout, opened, whose)
        ):
            owners, closed = whose.users, whose.have_closed(real, status)
            if owners is not None and status.st_uid not in owners and not closed:
                raise SessionsError(
                    f"{unit.name} keeps accounts in {real}, which belongs to {owner_name(status.st_uid)}; nothing was changed: {REMEDY}"
                )
            found[real] = Source(given, real, owners, whose.receiver.uid, closed)
    return tuple(found.values())


def _releases(unit: Unit, directories: t.Sequence[str], layouts: t.Sequence[Layout]) -> list[str]:
    """Return where programs are (units name a link: /opt/app/current). A helper may stand in what its main process has for accounts."""
    main = [directory for directory in directories if directory in _main_directories(unit)]
    meant = {
        os.path.realpath(root) for directory in main for layout in layouts for root in _default_roots(directory, layout)
    }
    meant |= {os.path.realpath(os.path.join(directory, value)) for directory in main for value in _environment_of(unit)}
    reals = {directory: os.path.realpath(directory) for directory in directories}
    return [real for directory, real in reals.items() if directory in main or real not in meant]


def layout_of(sources: t.Sequence[Source], path: str, layout: Layout | None) -> Layout:
    """Return the layout that the accounts of all sources and of the sessions path are kept in."""
    for place in [source.path for source in sources] + [path]:
        try:
            with opened_directory(place) as root:
                fitting = recognised(root, layout)
                if layout is not None or next(account_names(root, fitting), None) is not None:
                    return fitting
        except (FileNotFoundError, NotADirectoryError):
            continue
    return layout or first_layout()


def is_in_use(path: str, values: t.Collection[str]) -> bool:
    """Whether one of the ``values`` of a backend names ``path`` or something below it."""
    return any(_is_within(value, path) for value in values)


def directories_of(sources: t.Sequence[Source], layout: Layout) -> list[str]:
    """Return the directories of the sources that hold accounts: only folders, or the accounts, where a source may be an application's."""
    found: list[str] = []
    for source in sources:
        with contextlib.suppress(FileNotFoundError), opened_directory(source.path) as root:
            folders = [folder for folder in layout.folders if is_folder(root, folder)]
            if layout.direct if folders else layout.companions is not None:
                inside = tuple(f"{folder}/" for folder in folders)
                folders += [name for name in account_names(root, layout) if not name.startswith(inside)]
            found += [os.path.normpath(f"{source.path}/{folder}") for folder in folders or ["."]]
    return found


def working_directories(unit: Unit) -> list[str]:
    """Give the directories that a relative path may mean, likely ones first."""
    # A process manager has each of its programs in a directory of its own.
    found = [*_main_directories(unit), *map(_working_directory, processes_to_ask(unit)[1:])]
    return [directory for directory in dict.fromkeys(found) if directory.startswith("/")]


def _main_directories(unit: Unit) -> list[str]:
    """Give where the main process really stands, for its release may have been replaced since, and where the next one will."""
    home = unit.working_directory
    if not home.startswith("/"):  # '~': the home of the unit's user
        home = os.path.expanduser(f"~{unit.properties['User'] or 'root'}")
    return [*map(_working_directory, processes_to_ask(unit)[:1]), home]


def processes_to_ask(unit: Unit) -> tuple[int, ...]:
    """Return the processes of a unit, the main one first, as far as a limit allows."""
    return _processes(unit.main_pid, unit.properties["ControlGroup"])


@asked_once
def _processes(main_pid: int, group: str) -> tuple[int, ...]:
    pids = processes_of((group,)).pids
    return tuple(dict.fromkeys((main_pid, *pids) if main_pid else pids))[:_PROCESSES_AT_MOST]


def _working_directory(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""  # it ended


def _real_directory(path: str, friends: t.Collection[int]) -> tuple[str, os.stat_result] | None:
    """Return the real path and the status of the directory at ``path``; None where nothing is there, or a tombstone.

    The real path has to be one that could be given, so that accounts can be brought back there.
    """
    try:
        descriptor = open_directory(path, friends=friends)
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        if is_tombstone(path):
            return None
        raise SessionsError(
            f"the source {path} is not a directory; name the directory that holds the accounts"
        ) from error
    except OSError as error:
        raise SessionsError(
            f"cannot read the source {path}: {error.strerror}; run as a user who may, or fix the directory"
        ) from error
    try:
        os.listdir(descriptor)
        return normal_path(real_path(descriptor), f"where the source {path} leads to"), os.fstat(descriptor)
    except OSError as error:
        raise SessionsError(
            f"cannot read the source {path}: {error.strerror}; run as a user who may, or fix the directory"
        ) from error
    finally:
        os.close(descriptor)


def _require_apart(given: str, real: str, path: str) -> None:
    path = os.path.realpath(path)
    if real == path or _is_same(real, path):
        raise SessionsError(
            f"the source {given} is the sessions path itself; name the path where the accounts were before"
        )
    if _is_below(real, path):
        raise SessionsError(
            f"the source {given} lies inside the sessions path {path}; move it out first, a backend would start what is in there"
        )
    if _is_below(path, real):
        raise SessionsError(
            f"the sessions path {path} lies inside the source {given}; choose a sessions path outside of it"
        )


def _is_below(path: str, directory: str) -> bool:
    """Whether one lies in the other, where a backend could find it: nothing is found in our own area."""
    return path.startswith(f"{directory}/") and not path.startswith(f"{directory}/{AREA_INSIDE}/")


def _is_apart(real: str, path: str) -> bool:
    try:
        _require_apart(real, real, path)
    except SessionsError:
        return False
    return True


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def _is_same(real: str, path: str) -> bool:
    """Whether both are one directory, by a bind mount for example."""
    try:
        return os.path.samefile(real, path)
    except OSError:
        return False


def _holds_account(real: str, layout: Layout | None, opened: str, whose: Owners) -> bool:
    """Whether there is an account in a root. Of one that only an open file led to, that file has to lie in an account.

    In a root of somebody else only an account that the backend could use counts: others may lay theirs there as well.
    """
    try:
        with opened_directory(real) as root:
            own = whose.includes(os.fstat(root).st_uid)
            return any(
                (not opened or _is_within(opened, os.path.normpath(f"{real}/{name}")))
                and (own or _is_usable(root, name, whose))
                for name in names_of_any(root, layout)
            )
    except OSError:
        return False


def _is_usable(root: int, name: str, whose: Owners) -> bool:
    try:
        with opened_account(root, name) as account:
            return whose.may_write(os.fstat(account))
    except OSError:
        return False  # it was removed since it was listed


def _is_application(real: str, layout: Layout | None) -> bool:
    """Whether a directory has accounts in folders of their library, or by names that only their library gives, and in nothing else."""
    try:
        with opened_directory(real) as root:
            fitting = recognised(root, layout)
            told = fitting.companions is not None and "*" not in fitting.names
            told = told or any(is_folder(root, folder) for folder in fitting.folders)
            return told and next(account_names(root, fitting), None) is not None
    except (OSError, SessionsError):
        return False


def _candidates(unit: Unit, directories: t.Sequence[str], layouts: t.Sequence[Layout]) -> t.Iterator[tuple[str, str]]:
    """Yield places where accounts may be, each with the open file that led there, if it was one."""
    values = sorted(_environment_of(unit))
    for directory in directories:
        yield from ((os.path.normpath(os.path.join(directory, value)), "") for value in values)
    for pid in processes_to_ask(unit)[1:]:
        directory, paths = _working_directory(pid), sorted(_values_of(environment_of_process(pid)))
        yield from ((os.path.normpath(os.path.join(directory, path)), "") for path in paths if directory)
    yield from ((directory, "") for directory in directories)
    for directory in directories:
        for layout in layouts:
            yield from ((root, "") for root in _default_roots(directory, layout))
    left = iter(range(_OPEN_FILES_AT_MOST))
    for pid in processes_to_ask(unit):
        yield from _around_open_files(pid, left)


def _default_roots(directory: str, layout: Layout) -> t.Iterator[str]:
    """Yield where programs put the root by default; a name with a wildcard gives what is there."""
    for name in layout.legacy_names:
        if "*" not in name:
            yield os.path.join(directory, name)
            continue
        with contextlib.suppress(OSError, SessionsError), opened_directory(directory) as opened:
            yield from (os.path.join(directory, found) for found in paths_matching(opened, (name,)))


def _environment_of(unit: Unit) -> set[str]:
    """Give the values, absolute or relative, that the backend runs with or would be started with. They are tried, never shown."""
    pids = processes_to_ask(unit)
    if pids:
        items = environment_of_process(pids[0])
    else:
        sources = read_sources(unit.name)
        names = environment_names(sources, [placed.setting for placed in sources.settings])
        items = {name: effective_in(sources, name).value or "" for name in names}
    return _values_of(items)


def _values_of(items: t.Mapping[str, str]) -> set[str]:
    named = (value for name, value in items.items() if value and name not in NOT_OF_THE_BACKEND)
    return {path for value in named for path in named_paths(value)}


@asked_once
def environment_of_process(pid: int) -> t.Mapping[str, str]:
    """Return what a process was started with; nothing where it ended. Values may be secrets: they are tried, never shown."""
    try:
        return dict(environment_of(pid))
    except OSError:
        return {}


def _around_open_files(pid: int, left: t.Iterator[int]) -> t.Iterator[tuple[str, str]]:
    """Yield the directories one and two levels above each open file, with the file: an account's root is one of them."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd") if pid else []
    except OSError:
        return
    for number, _allowed in zip(numbers, left):
        try:
            opened = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            continue
        above = os.path.dirname(opened)
        if opened.startswith("/") and not opened.startswith(("/dev", "/proc", "/sys")):
            yield from ((os.path.dirname(above), opened), (above, opened))
