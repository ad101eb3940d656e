# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Bindings: the sessions path, mounted where a program looks for its accounts (``BindPaths=``, systemd.exec(5)). Reads only.

Who owns the directory of a program decides where the path of a mount point leads at each start. So a unit with a binding gets no new
privileges (see _attach.py): else its user could have the sessions mounted over /etc and become root with a set-user-ID program.
"""

from __future__ import annotations

import os
import typing as t

from ._control_groups import processes_of
from ._errors import SessionsError
from ._paths import opened_directory
from ._printable import is_plain
from ._specifiers import expand
from ._unit import Unit

if t.TYPE_CHECKING:
    from ._effective import Sources

_BLANKS, _QUOTES = " \t\n\r", "\"'"
_PROCESSES_AT_MOST = 200
_MOUNTS_AT_MOST = 2000


class Binding(t.NamedTuple):
    """``source`` is mounted at ``directory``, a path as the unit calls it: links on the way are followed at each start."""

    source: str
    directory: str


class Placed(t.NamedTuple):
    """A binding, and the line that it stands in. ``writable``: the unit may write there."""

    binding: Binding
    file: str
    line: int
    writable: bool


def can_be_written(binding: Binding) -> bool:
    """Whether a unit can have the binding: systemd 257 starts nothing where a path of it has a quotation mark, seen."""
    return all(is_plain(path) and not set(path) & set(_QUOTES) for path in binding)


def written(binding: Binding) -> str:
    """Write a binding as one item of ``BindPaths=``. Raises SessionsError for a path that no unit can have."""
    if not can_be_written(binding):
        raise SessionsError(
            f"{binding.source} cannot be mounted at {binding.directory}: systemd takes no path with a quotation mark or a control "
            "character; nothing was changed, give both plain names and run again"
        )
    return ":".join(map(_escaped, binding))


def read_items(value: str) -> tuple[Binding, ...]:
    """Read the value of one ``BindPaths=`` line (config_parse_bind_paths() in systemd's load-fragment.c). Specifiers stay. Pure."""
    found: list[Binding] = []
    position = 0
    while position < len(value):
        source, position, mark = _next_word(value, position)
        directory = source
        if mark == ":":
            directory, position, mark = _next_word(value, position)
        if mark == ":":  # options follow, which say how deep is mounted
            _options, position, mark = _next_word(value, position)
        if source:
            found.append(Binding(source, directory or source))
    return tuple(found)


def placed_bindings(sources: Sources) -> tuple[Placed, ...]:
    """Return all bindings of a unit's files, in systemd's order, specifiers expanded."""
    found: dict[str, list[Placed]] = {"BindPaths": [], "BindReadOnlyPaths": []}
    for setting, file in sources.settings:
        if setting.section != sources.name.type.capitalize() or setting.option not in found:
            continue
        if not setting.value:
            found[setting.option].clear()
        for source, directory in read_items(setting.value):
            names = (os.path.normpath(expand(part, sources.name).lstrip("-+")) for part in (source, directory))
            found[setting.option].append(Placed(Binding(*names), file, setting.line, setting.option == "BindPaths"))
    return (*found["BindPaths"], *found["BindReadOnlyPaths"])


def are_bound(unit: Unit, bindings: t.Iterable[Binding]) -> bool:
    """Whether the running unit has all ``bindings``: by device and inode, and as mounts of its own.

    Its main process is asked, else each of its processes: a browser's helpers have mounts and roots of their own.
    """
    pids = (unit.main_pid,) if unit.main_pid else processes_of((unit.properties["ControlGroup"],)).pids
    return any(all(_is_bound(pid, binding) for binding in bindings) for pid in pids[:_PROCESSES_AT_MOST])


def _is_bound(pid: int, binding: Binding) -> bool:
    from ._process_view import View, binding_of, inode_of

    try:
        with opened_directory(binding.source) as place:
            found = binding_of(pid, binding.directory, place)
            if found.reached:
                return found.mount is not None
            # The release was replaced since the start: its path leads to another one, and the process still has its mount.
            name, wanted = os.path.basename(binding.directory), inode_of(place)
            with View(pid) as view:
                points = [mount.mount_point for mount in view.mounts().values()][:_MOUNTS_AT_MOST]
                return any(
                    os.path.basename(point) == name and point != binding.source and view.inode(point) == wanted
                    for point in points
                )
    except (OSError, SessionsError):
        return False  # the process ended, or the sessions path is not there


def _escaped(path: str) -> str:
    text = path.replace("%", "%%")
    if not any(mark in text for mark in _BLANKS + "\\:"):
        return text
    return '"' + text.replace("\\", "\\\\") + '"'


def _next_word(value: str, position: int) -> tuple[str, int, str]:
    """Read a word by the rules of extract_first_word() with unquoting; return it, where reading goes on, and what ended it."""
    while position < len(value) and value[position] in _BLANKS:
        position += 1
    word, quote = "", ""
    while position < len(value):
        character = value[position]
        position += 1
        if character == "\\" and position < len(value):
            word += value[position]
            position += 1
        elif quote:
            quote = "" if character == quote else quote
            word += character if quote else ""
        elif character in _QUOTES:
            quote = character
        elif character == ":" or character in _BLANKS:
            return word, position, ":" if character == ":" else " "
        else:
            word += character
    return word, position, ""
