# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Where accounts were before: checks the legacy paths that were named, or finds them from the unit.

A unit's legacy path is looked for where its backend would put it: in the environment it runs with, below its working directory, and
around the files that its processes have open.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import typing as t

from ._effective import effective_in, environment_names, read_sources
from ._errors import SessionsError
from ._layout import is_folder, paths_matching
from ._layouts import AREA_INSIDE, LAYOUTS, Layout, account_names, first_layout, names_of_any, recognised
from ._paths import normal_path, open_directory, opened_directory, real_path
from ._tombstone import is_tombstone
from ._unit import Unit

# Variables that systemd and shells set, systemd.exec(5): where a user lives is not where sessions are kept.
_NOT_OF_THE_BACKEND = frozenset(("HOME", "LOGNAME", "OLDPWD", "PATH", "PWD", "SHELL", "USER"))
_DATABASE_SCHEMES = ("file", "sqlite", "sqlite3")


class Source(t.NamedTuple):
    """One legacy root: its path as it was given, and its real path, by which it is opened from then on."""

    given: str
    path: str


def named_sources(given: t.Sequence[str], path: str, friends: t.Collection[int]) -> tuple[Source, ...]:
    """Open each legacy path that was named; one that is not there is left out.

    Raises SessionsError for one that is no readable directory, or is the sessions path, lies in it, holds it, or lies in another one.
    """
    found: dict[str, Source] = {}
    for name in given:
        real = _real_directory(normal_path(name, "src"), friends)
        if real is not None:
            _require_apart(name, real, path)
            found.setdefault(real, Source(name, real))
    for inner, outer in itertools.permutations(found.values(), 2):
        if inner.path.startswith(f"{outer.path}/"):
            raise SessionsError(f"the source {inner.given} lies inside the source {outer.given}; name one of them")
    return tuple(found.values())


def found_sources(unit: Unit, path: str, layout: Layout | None, friends: t.Collection[int]) -> tuple[Source, ...]:
    """Find the legacy roots of a unit's backend: those candidates that hold an account, most trusted first."""
    layouts = tuple(LAYOUTS.values()) if layout is None else (layout,)
    found: dict[str, Source] = {}
    directories = working_directories(unit)
    releases = [os.path.realpath(directory) for directory in directories]  # units name a link: /opt/app/current
    for candidate, opened in _candidates(unit, directories, layouts):
        try:
            real = _real_directory(candidate, friends)
        except SessionsError:
            continue  # a guess of ours that leads nowhere sensible is no error of the operator
        if (
            real is not None
            # What holds the working directory is the release, however many accounts lie somewhere in it. It is meant itself only
            # where its library tells by names what is its own.
            and (
                not any(_is_within(release, real) for release in releases)
                or (candidate in directories and _is_application(real, layout))
            )
            and not any(_is_within(real, known) or _is_within(known, real) for known in found)
            and _is_apart(real, path)
            and _holds_account(real, layout, opened)
        ):
            found[real] = Source(candidate, real)
    return tuple(found.values())


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


def values_in_use(pid: int) -> frozenset[str]:
    """Return the absolute paths that stand in a process's environment, and its working directory. They are compared, never shown."""
    items = {name: value for name, value in _environment_items(pid).items() if name not in _NOT_OF_THE_BACKEND}
    values = {path for value in items.values() for path in _paths_in(value)}
    with contextlib.suppress(OSError):
        values.add(os.readlink(f"/proc/{pid}/cwd"))
    return frozenset(value.rstrip("/") for value in values if value.startswith("/"))


def is_in_use(path: str, values: t.Collection[str]) -> bool:
    """Whether one of the ``values`` of a backend names ``path`` or something below it."""
    return any(_is_within(value, path) for value in values)


def directories_of(sources: t.Sequence[Source], layout: Layout) -> list[str]:
    """Return the directories of the sources that hold accounts: only folders, or the accounts, where a source may be an application's."""
    found: list[str] = []
    for source in sources:
        with contextlib.suppress(FileNotFoundError), opened_directory(source.path) as root:
            folders = [folder for folder in layout.folders if is_folder(root, folder)]
            if not folders and layout.travels is not None:
                folders = list(account_names(root, layout))
            found += [os.path.normpath(f"{source.path}/{folder}") for folder in folders or ["."]]
    return found


def working_directories(unit: Unit) -> list[str]:
    """Give the directories that a relative path may mean, likely ones first."""
    found = [unit.working_directory]
    if not found[0].startswith("/"):  # '~': the home of the unit's user
        found = [os.path.expanduser(f"~{unit.properties['User'] or 'root'}")]
    if unit.main_pid:
        # What the process really stands in: its release may have been replaced since, and the unit file with it.
        found.insert(0, os.path.realpath(f"/proc/{unit.main_pid}/cwd"))
    return [directory for directory in found if directory.startswith("/")]


def _real_directory(path: str, friends: t.Collection[int]) -> str | None:
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
            f"cannot read the source {path}: {error.strerror}; run as a user who may, or mend the directory"
        ) from error
    try:
        os.listdir(descriptor)
        return real_path(descriptor)
    except OSError as error:
        raise SessionsError(
            f"cannot read the source {path}: {error.strerror}; run as a user who may, or mend the directory"
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


def _holds_account(real: str, layout: Layout | None, opened: str) -> bool:
    """Whether there is an account in a root. Of one that only an open file led to, that file has to lie in an account."""
    try:
        with opened_directory(real) as root:
            places = (os.path.normpath(f"{real}/{name}") for name in names_of_any(root, layout))
            return any(not opened or _is_within(opened, place) for place in places)
    except OSError:
        return False


def _is_application(real: str, layout: Layout | None) -> bool:
    """Whether a directory has accounts in folders of their library, or by names that only their library gives, and in nothing else."""
    try:
        with opened_directory(real) as root:
            fitting = recognised(root, layout)
            told = fitting.travels is not None and "*" not in fitting.names
            told = told or any(is_folder(root, folder) for folder in fitting.folders)
            return told and next(account_names(root, fitting), None) is not None
    except (OSError, SessionsError):
        return False


def _candidates(unit: Unit, directories: t.Sequence[str], layouts: t.Sequence[Layout]) -> t.Iterator[tuple[str, str]]:
    """Yield places where accounts may be, each with the open file that led there, if it was one."""
    values = sorted(_environment_of(unit))
    for directory in directories:
        yield from ((os.path.normpath(os.path.join(directory, value)), "") for value in values)
    yield from ((directory, "") for directory in directories)
    for directory in directories:
        for layout in layouts:
            yield from ((root, "") for root in _default_roots(directory, layout))
    yield from _around_open_files(unit.main_pid)


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
    if unit.main_pid:
        items = _environment_items(unit.main_pid)
    else:
        sources = read_sources(unit.name)
        names = environment_names(sources, [placed.setting for placed in sources.settings])
        items = {name: effective_in(sources, name).value or "" for name in names}
    named = (value for name, value in items.items() if value and name not in _NOT_OF_THE_BACKEND)
    return {path for value in named for path in _paths_in(value)}


def _paths_in(value: str) -> t.Iterator[str]:
    """Yield the paths that a value may mean: itself, and the directory of the database that a data source name names."""
    yield value
    scheme, colon, rest = value.partition(":")
    if colon and scheme in _DATABASE_SCHEMES:
        database = re.sub("^//+", "/", rest.partition("?")[0])
        yield os.path.dirname(database) or "."


def _environment_items(pid: int) -> dict[str, str]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            items = (item.partition("=") for item in os.fsdecode(file.read()).split("\0"))
            return {name: value for name, mark, value in items if mark}
    except OSError:
        return {}


def _around_open_files(pid: int) -> t.Iterator[tuple[str, str]]:
    """Yield the directories one and two levels above each open file, with the file: an account's root is one of them."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd") if pid else []
    except OSError:
        return
    for number in numbers:
        try:
            opened = os.readlink(f"/proc/{pid}/fd/{number}")
        except OSError:
            continue
        above = os.path.dirname(opened)
        if opened.startswith("/") and not opened.startswith(("/dev", "/proc", "/sys")):
            yield from ((os.path.dirname(above), opened), (above, opened))
