# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""A layout that an operator describes in the option ``custom``, for a library that is not in the table."""

from __future__ import annotations

import functools
import os
import re
import stat
import typing as t

from .._core.errors import SessionsError
from .._fs.fdopen import DirFd, opened_below, status_of
from .._fs.files import read_file_at
from .._fs.patterns import name_matcher, paths_matching
from .chromium import CACHES, LOCKS, STOP, VOLATILE, WATCHED, is_profile, judge_profile, lives, lock_of_profile
from .layout import LIVE, STALE, Judgement, Layout, StopSettings, blocking_problems, warning_problems

_DEEPEST = 5
_ORIGIN = re.compile(r"https?_[A-Za-z0-9.-]+_\d+")


def custom_layout(options: t.Mapping[str, t.Any]) -> Layout:
    """Return the layout described by the option ``custom``. Raises SessionsError for an invalid description."""
    markers = _exact_paths(options, "markers")
    origin = options.get("origin") or None
    if not markers and not origin:
        raise SessionsError(
            "custom.markers is empty; list the files or directories that every account has, or set custom.origin to a browser's origin"
        )
    if origin and not _ORIGIN.fullmatch(origin):
        raise SessionsError(
            f"custom.origin is {origin!r}; write it like the browser's folder names, for example https_web.whatsapp.com_0"
        )
    depth = options.get("depth") or 1
    if not 1 <= depth <= _DEEPEST:
        raise SessionsError(f"custom.depth is {depth}; set it to a number from 1 to {_DEEPEST}")
    locks = _names(options, "locks")
    named = options.get("companions")
    browser = origin is not None
    return Layout(
        name="custom",
        title="described by the operator",
        is_account=functools.partial(_is_account, markers, browser),
        judge=functools.partial(_judge, markers, origin),
        detect=lambda directory, path: "",
        lock_of=functools.partial(_lock_of, locks, browser),
        names=_names(options, "names") or ("*",),
        watched=(*markers, *(WATCHED if browser else ())),
        counted=tuple(marker.rpartition("/")[2] for marker in markers) or ("IndexedDB",),
        count_depth=_DEEPEST,
        depth=depth,
        folders=_names(options, "folders"),
        volatile=(*_names(options, "exclude"), *locks, *(VOLATILE if browser else ())),
        locks=(*locks, *(LOCKS if browser else ())),
        caches=(*_paths(options, "caches"), *(CACHES if browser else ())),
        databases=_names(options, "databases"),
        ignored=_paths(options, "ignored"),
        excluded=_paths(options, "ignored"),
        companions=None if named is None else _paths(options, "companions"),
        stop=STOP if browser else StopSettings(signal="SIGTERM", timeout=45),
    )


def _names(options: t.Mapping[str, t.Any], option: str) -> tuple[str, ...]:
    """Return a list of name patterns."""
    names = tuple(options.get(option) or ())
    for name in names:
        if "/" in name:
            raise SessionsError(
                f"custom.{option} contains {name!r}; use a name without directories, it applies to every directory"
            )
        _require_plain(name, option)
    return names


def _paths(options: t.Mapping[str, t.Any], option: str) -> tuple[str, ...]:
    """Return a list of path patterns without trailing slashes."""
    paths = tuple(path if path == "/" else path.rstrip("/") for path in options.get(option) or ())
    for path in paths:
        if path.startswith("/"):
            raise SessionsError(f"custom.{option} contains {path!r}; use a path relative to the account or the root")
        for part in path[3:].split("/") if path.startswith("**/") else path.split("/"):
            _require_plain(part, option)
    return paths


def _exact_paths(options: t.Mapping[str, t.Any], option: str) -> tuple[str, ...]:
    """Return a list of path patterns with a fixed depth."""
    for path in _paths(options, option):
        if path.startswith("**/"):
            raise SessionsError(
                f"custom.{option} contains {path!r}; use a path of fixed depth, because accounts are found by it"
            )
    return _paths(options, option)


def _require_plain(name: str, option: str) -> None:
    if name in ("", ".", "..") or "**" in name or any(ord(character) < 32 for character in name):
        raise SessionsError(
            f"custom.{option} contains {name!r}, which is not a valid name; '*' and '?' match anything but a slash, "
            "'**/' at the beginning of a path matches any depth"
        )


def _is_account(markers: tuple[str, ...], browser: bool, directory: DirFd) -> bool:
    if next(paths_matching(directory, markers), None) is not None:
        return True
    return browser and is_profile(directory)


def _judge(markers: tuple[str, ...], origin: str | None, directory: DirFd) -> Judgement:
    """An account is paired if all markers exist and none is empty."""
    found = Judgement("paired", (), (), 1) if origin is None else judge_profile(directory, origin)
    problems = tuple(dict.fromkeys(problem for marker in markers for problem in _marker_problems(directory, marker)))
    if any(problem.startswith("marker_") and problem not in _WEAK for problem in problems):
        return Judgement("corrupt", (*found.problems, *problems))
    return Judgement(found.state, (*found.problems, *problems), found.fingerprints, found.linked)


# Problems that will matter later do not make an account unusable now.
_WEAK = ("marker_hard_linked", "marker_foreign_owner")


def _marker_problems(directory: DirFd, marker: str) -> t.Iterator[str]:
    paths = list(paths_matching(directory, (marker,)))
    if not paths:
        yield "marker_missing"
    for path in paths:
        folder, slash, name = path.rpartition("/")
        try:
            with opened_below(directory, folder if slash else ".") as above:
                status = status_of(above, name)
                if status is None:
                    continue  # removed since it was listed
                yield from warning_problems(status, os.fstat(above), "marker")
                if stat.S_ISDIR(status.st_mode):
                    with opened_below(above, name) as below:
                        yield from () if os.listdir(below) else ("marker_empty",)
                else:
                    yield from blocking_problems(status, os.fstat(above), "marker")
        except (FileNotFoundError, NotADirectoryError):
            continue


def _lock_of(locks: tuple[str, ...], browser: bool, directory: DirFd) -> str:
    """A lock that contains a PID counts while that process exists; any other lock counts while it exists."""
    if browser and lock_of_profile(directory):
        return lock_of_profile(directory)
    fits = name_matcher(locks)
    found = {_state_of_lock(directory, name) for name in os.listdir(directory) if fits(name)}
    return next((state for state in (LIVE, STALE) if state in found), "")


def _state_of_lock(directory: DirFd, name: str) -> str:
    try:
        content = read_file_at(directory, name, at_most=64, called="a lock") or b""
    except SessionsError:
        return LIVE
    return STALE if content.strip().isdigit() and not lives(int(content)) else LIVE
