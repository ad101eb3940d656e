# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The legacy paths: checks those that were named, or finds them from the unit.

A unit's legacy path is searched for where its backend would put it: in its environment, below its working directory, and above the
files that its processes have open. owners.py decides which owners are accepted.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import typing as t

from .._accounts.tombstone import is_tombstone
from .._accounts.work_area import area_path
from .._core.errors import SessionsError
from .._core.names import AREA_INSIDE
from .._fs.fdopen import DirFd, is_folder, normal_path, open_directory, opened_directory, real_path
from .._fs.patterns import paths_matching
from .._fs.users import owner_name
from .._layouts.account import opened_account
from .._layouts.layout import Layout
from .._layouts.registry import LAYOUTS, first_layout, names_of_any, recognised
from .._layouts.search import account_names
from .._systemd.unit import Unit
from .._usage.process_paths import (
    _environment_of,
    _main_directories,
    _values_of,
    _working_directory,
    environment_of_process,
    processes_to_ask,
    working_directories,
)
from .owners import REMEDY, Owners, owners_named

_OPEN_FILES_AT_MOST = 5000


class Source(t.NamedTuple):
    """One legacy root: its path as given, and its real path, which it is opened by.

    ``owners``: the uids that may own it and its accounts, None for any. ``receiver``: the uid that the accounts are given to. ``closed``:
    it belongs to root because this collection closed it, see mount_points.py; its content does not.
    """

    given: str
    path: str
    owners: frozenset[int] | None = None
    receiver: int | None = None
    closed: bool = False


def named_sources(given: t.Sequence[str], path: str, whose: Owners) -> tuple[Source, ...]:
    """Return the named legacy paths that exist.

    Raises SessionsError for a path that is not a readable directory, that is, contains or lies inside the sessions path, that lies inside
    another legacy path, or that has an owner who must be allowed first.
    """
    found: dict[str, Source] = {}
    for name in given:
        opened = _real_directory(normal_path(name, "src"), (whose.receiver.uid,))
        if opened is not None:
            real, status = opened
            if status.st_uid == 0 and not whose.includes(0) and not os.listdir(real):
                continue  # an empty mount point that systemd creates in a later release; it has no accounts
            _require_apart(name, real, path)
            owners = owners_named(name, real, status, whose, area_path(path))
            found.setdefault(real, Source(name, real, owners, whose.receiver.uid, whose.have_closed(real, status)))
    for inner, outer in itertools.permutations(found.values(), 2):
        if inner.path.startswith(f"{outer.path}/"):
            raise SessionsError(f"the source {inner.given} lies inside the source {outer.given}; name only one of them")
    return tuple(found.values())


def found_sources(unit: Unit, path: str, layout: Layout | None, whose: Owners) -> tuple[Source, ...]:
    """Return the legacy roots of a unit's backend: the candidates that contain an account, most trusted first.

    Raises SessionsError if the backend keeps accounts in a directory of another user: only the operator can confirm that.
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
            continue  # a bad candidate is not the operator's error
        if opened_root is None:
            continue
        real, status = opened_root
        if (
            # A directory that contains the working directory is the release, not a root, even if it contains accounts. It counts as a
            # root only if its library has distinctive names for its own files.
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
    """Return the real paths of releases; units may name a link such as /opt/app/current.

    The working directory of a helper process does not count if the main process uses it for accounts.
    """
    main = [directory for directory in directories if directory in _main_directories(unit)]
    meant = {
        os.path.realpath(root) for directory in main for layout in layouts for root in _default_roots(directory, layout)
    }
    meant |= {os.path.realpath(os.path.join(directory, value)) for directory in main for value in _environment_of(unit)}
    reals = {directory: os.path.realpath(directory) for directory in directories}
    return [real for directory, real in reals.items() if directory in main or real not in meant]


def layout_of(sources: t.Sequence[Source], path: str, layout: Layout | None) -> Layout:
    """Return the layout of the accounts in the sources and the sessions path."""
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
    """Return the directories of the sources that contain accounts; for an application's directory, only its folders or the accounts."""
    found: list[str] = []
    for source in sources:
        with contextlib.suppress(FileNotFoundError), opened_directory(source.path) as root:
            folders = [folder for folder in layout.folders if is_folder(root, folder)]
            if layout.direct if folders else layout.companions is not None:
                inside = tuple(f"{folder}/" for folder in folders)
                folders += [name for name in account_names(root, layout) if not name.startswith(inside)]
            found += [os.path.normpath(f"{source.path}/{folder}") for folder in folders or ["."]]
    return found


def _real_directory(path: str, trusted_uids: t.Collection[int]) -> tuple[str, os.stat_result] | None:
    """Return the real path and the status of the directory at ``path``; None if it does not exist or is a tombstone.

    Raises SessionsError for a real path that would not be accepted as an option, because a rollback needs it as one.
    """
    try:
        descriptor = open_directory(path, trusted_uids=trusted_uids)
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        if is_tombstone(path):
            return None
        raise SessionsError(
            f"the source {path} is not a directory; name the directory that contains the accounts"
        ) from error
    except OSError as error:
        raise SessionsError(
            f"cannot read the source {path}: {error.strerror}; run as a user with access, or fix the directory"
        ) from error
    try:
        os.listdir(descriptor)
        return normal_path(real_path(descriptor), f"the real path of the source {path}"), os.fstat(descriptor)
    except OSError as error:
        raise SessionsError(
            f"cannot read the source {path}: {error.strerror}; run as a user with access, or fix the directory"
        ) from error
    finally:
        os.close(descriptor)


def _require_apart(given: str, real: str, path: str) -> None:
    path = os.path.realpath(path)
    if real == path or _is_same(real, path):
        raise SessionsError(f"the source {given} is the sessions path itself; name the former path of the accounts")
    if _is_below(real, path):
        raise SessionsError(
            f"the source {given} lies inside the sessions path {path}; move it out first, because a backend would start its accounts"
        )
    if _is_below(path, real):
        raise SessionsError(
            f"the sessions path {path} lies inside the source {given}; choose a sessions path outside it"
        )


def _is_below(path: str, directory: str) -> bool:
    """Whether ``path`` lies inside ``directory``, but not in this collection's area, where no backend finds accounts."""
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
    """Whether both are the same directory, for example through a bind mount."""
    try:
        return os.path.samefile(real, path)
    except OSError:
        return False


def _holds_account(real: str, layout: Layout | None, opened: str, whose: Owners) -> bool:
    """Whether a root contains an account. A root that was found from the open file ``opened`` must have that file in an account.

    In a root of another user, only an account that the backend could use counts, because other users may keep theirs there as well.
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


def _is_usable(root: DirFd, name: str, whose: Owners) -> bool:
    try:
        with opened_account(root, name) as account:
            return whose.may_write(os.fstat(account))
    except OSError:
        return False  # it was removed meanwhile


def _is_application(real: str, layout: Layout | None) -> bool:
    """Whether a directory's accounts can be distinguished from other files: by their library's folders, or by names that only it uses."""
    try:
        with opened_directory(real) as root:
            fitting = recognised(root, layout)
            told = fitting.companions is not None and "*" not in fitting.names
            told = told or any(is_folder(root, folder) for folder in fitting.folders)
            return told and next(account_names(root, fitting), None) is not None
    except (OSError, SessionsError):
        return False


def _candidates(unit: Unit, directories: t.Sequence[str], layouts: t.Sequence[Layout]) -> t.Iterator[tuple[str, str]]:
    """Yield paths that may contain accounts, each with the open file that led to it, '' if none did."""
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
    """Yield the default roots of a layout below a directory; a name with a wildcard yields the existing entries."""
    for name in layout.legacy_names:
        if "*" not in name:
            yield os.path.join(directory, name)
            continue
        with contextlib.suppress(OSError, SessionsError), opened_directory(directory) as opened:
            yield from (os.path.join(directory, found) for found in paths_matching(opened, (name,)))


def _around_open_files(pid: int, left: t.Iterator[int]) -> t.Iterator[tuple[str, str]]:
    """Yield the directories one and two levels above each open file, with the file: one of them may be an account's root."""
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
