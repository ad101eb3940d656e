# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Match names and relative paths against patterns, compiled once: they are tried for every file of an account."""

from __future__ import annotations

import contextlib
import functools
import re
import typing as t

from .fdopen import DirFd, exists, folders_in, names_in, opened_below


@functools.cache
def name_matcher(patterns: tuple[str, ...]) -> t.Callable[[str], t.Any]:
    """Compile name patterns into one matcher: it is called for every file of an account while the backend is down."""
    return re.compile("|".join(rf"{_part_expression(pattern)}\Z" for pattern in patterns) or r"(?!)", re.DOTALL).match


@functools.cache
def path_matcher(patterns: tuple[str, ...]) -> t.Callable[[str], t.Any]:
    """Compile path patterns into one matcher, which also matches everything below a matching path."""
    return re.compile("|".join(map(_path_expression, patterns)) or r"(?!)", re.DOTALL).match


def _path_expression(pattern: str) -> str:
    anywhere = pattern.startswith("**/")
    parts = pattern[3:].split("/") if anywhere else pattern.split("/")
    return rf"(?:{'(?:.*/)?' if anywhere else ''}{'/'.join(map(_part_expression, parts))}(?:/.*)?)\Z"


def _part_expression(part: str) -> str:
    wild = {"*": "[^/]*", "?": "[^/]"}
    return "".join(wild.get(character, re.escape(character)) for character in part)


def paths_matching(directory: DirFd, patterns: t.Iterable[str]) -> t.Iterator[str]:
    """Yield the relative paths below an open directory that match a pattern, sorted per pattern; no symbolic link is followed."""
    for pattern in patterns:
        yield from _expanded(directory, pattern.split("/"), "")


def _expanded(directory: DirFd, parts: t.Sequence[str], above: str) -> t.Iterator[str]:
    first, rest = parts[0], parts[1:]
    if not any(character in first for character in "*?"):
        found = [first] if exists(directory, first) else []
    else:
        fits = name_matcher((first,))
        found = sorted(filter(fits, folders_in(directory) if rest else names_in(directory)))
    for name in found:
        if not rest:
            yield above + name
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened_below(directory, name) as below:
            yield from _expanded(below, rest, f"{above}{name}/")
