# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Where accounts were before: checks the legacy paths that were named, or finds them from the unit.

A unit's legacy path is looked for where its backend would put it: in the environment it runs with, below its working directory, and
around the files that its processes have open.
"""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ._errors import SessionsError
from ._layouts import LAYOUTS, Layout, account_names, recognised
from ._paths import normal_path, open_directory, opened_directory, read_file, real_path
from ._unit import Unit

# How the file begins that _retire.py leaves in the place of a legacy path.
TOMBSTONE = "whatsapp_ops.sessions moved what was here.\n"


@dataclasses.dataclass(frozen=True)
class Source:
    """One legacy root: its path as it was given, and its real path, by which it is opened from then on."""

    given: str
    path: str


def named_sources(given: t.Sequence[str], path: str, friends: t.Collection[int]) -> tuple[Source, ...]:
    """Open each legacy path that was named; one that is not there is left out.

    Raises SessionsError for one that is no readable directory, or is the sessions path, lies in it, or holds it.
    """
    found: dict[str, Source] = {}
    for name in given:
        real = _real_directory(normal_path(name, "src"), friends)
        if real is not None:
            _require_apart(name, real, path)
            found.setdefault(real, Source(name, real))
    return tuple(found.values())


def found_sources(unit: Unit, path: str, layout: str, friends: t.Collection[int]) -> tuple[Source, ...]:
    """Find the legacy roots of a unit's backend: those candidates that hold an account, most trusted first."""
    layouts = tuple(LAYOUTS.values()) if layout == "auto" else (LAYOUTS[layout],)
    found: dict[str, Source] = {}
    for candidate in _candidates(unit, layouts):
        try:
            real = _real_directory(candidate, friends)
        except SessionsError:
            continue  # a guess of ours that leads nowhere sensible is no error of the operator
        if real is not None and real not in found and _is_apart(real, path) and _holds_account(real, layout):
            found[real] = Source(candidate, real)
    return tuple(found.values())


def layout_of(sources: t.Sequence[Source], path: str, layout: str) -> Layout:
    """Return the layout that the accounts of all sources and of the sessions path are kept in."""
    for place in [source.path for source in sources] + [path]:
        try:
            with opened_directory(place) as root:
                fitting = recognised(root, layout)
                if layout != "auto" or next(account_names(root, fitting), None) is not None:
                    return fitting
        except FileNotFoundError:
            continue
    return next(iter(LAYOUTS.values())) if layout == "auto" else LAYOUTS[layout]


def values_in_use(pid: int) -> frozenset[str]:
    """Return the absolute paths that stand in a process's environment. They are compared, never shown."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            items = os.fsdecode(file.read()).split("\0")
    except OSError:
        return frozenset()
    return frozenset(
        value.rstrip("/")
        for _name, mark, value in (item.partition("=") for item in items)
        if mark and value.startswith("/")
    )


def _real_directory(path: str, friends: t.Collection[int]) -> str | None:
    try:
        descriptor = open_directory(path, friends=friends)
    except FileNotFoundError:
        return None
    except NotADirectoryError as error:
        if _is_tombstone(path):
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


def _is_tombstone(path: str) -> bool:
    try:
        content = read_file(path, at_most=4096)
    except SessionsError:
        return False
    return content is not None and content.startswith(TOMBSTONE.encode())


def _require_apart(given: str, real: str, path: str) -> None:
    if real == path:
        raise SessionsError(
            f"the source {given} is the sessions path itself; name the path where the accounts were before"
        )
    if real.startswith(f"{path}/"):
        raise SessionsError(
            f"the source {given} lies inside the sessions path {path}; move it out first, a backend would start what is in there"
        )
    if path.startswith(f"{real}/"):
        raise SessionsError(
            f"the sessions path {path} lies inside the source {given}; choose a sessions path outside of it"
        )


def _is_apart(real: str, path: str) -> bool:
    return real != path and not real.startswith(f"{path}/") and not path.startswith(f"{real}/")


def _holds_account(real: str, layout: str) -> bool:
    try:
        with opened_directory(real) as root:
            return next(account_names(root, recognised(root, layout)), None) is not None
    except OSError:
        return False


def _candidates(unit: Unit, layouts: t.Sequence[Layout]) -> t.Iterator[str]:
    yield from sorted(values_in_use(unit.main_pid)) if unit.main_pid else ()
    bases = [unit.working_directory]
    if unit.main_pid:
        # What the process really stands in: its release may have been replaced since, and the unit file with it.
        bases.insert(0, os.path.realpath(f"/proc/{unit.main_pid}/cwd"))
    for base in bases:
        for layout in layouts:
            for name in layout.legacy_names:
                yield f"{base.rstrip('/')}/{name}" if base.startswith("/") else f"/{name}"
    yield from _around_open_files(unit.main_pid)


def _around_open_files(pid: int) -> t.Iterator[str]:
    """Yield the directories one and two levels above each open file: an account's root is one of them."""
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
            yield from (above, os.path.dirname(above))
