# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Bind mounts of the sessions path to where a program looks for its accounts (``BindPaths=``, systemd.exec(5)). Reads only.

The owner of a program's directory controls where the path of a mount point leads at each start. Therefore a unit with a binding gets no new
privileges (see attach.py): otherwise its user could have the sessions mounted over /etc and become root by a set-user-ID program.
"""

from __future__ import annotations

import os
import typing as t

from .._core.errors import SessionsError
from .._core.printable import is_plain
from .._fs.fdopen import opened_directory
from .._proc.control_groups import processes_of
from .specifiers import expand
from .unit import Unit

if t.TYPE_CHECKING:
    from .effective import Sources

_BLANKS, _QUOTES = " \t\n\r", "\"'"
_PROCESSES_AT_MOST = 200
_MOUNTS_AT_MOST = 2000


class Binding(t.NamedTuple):
    """``source`` is mounted at ``directory``, both as written in the unit: symbolic links are resolved at each start."""

    source: str
    directory: str


class Placed(t.NamedTuple):
    """A binding, and the file and line that define it. ``writable``: it is not read-only for the unit."""

    binding: Binding
    file: str
    line: int
    writable: bool


def can_be_written(binding: Binding) -> bool:
    """Return whether a unit can have the binding: systemd 257 does not start a unit with a quotation mark in such a path (tested)."""
    return all(is_plain(path) and not set(path) & set(_QUOTES) for path in binding)


def written(binding: Binding) -> str:
    """Return a binding as an item of ``BindPaths=``. Raises SessionsError for a path that cannot be written in a unit."""
    if not can_be_written(binding):
        raise SessionsError(
            f"{binding.source} cannot be mounted at {binding.directory}: systemd accepts no path with a quotation mark or a control "
            "character; nothing was changed, rename the directories and run again"
        )
    return ":".join(map(_escaped, binding))


def read_items(value: str) -> tuple[Binding, ...]:
    """Parse the value of one ``BindPaths=`` line (config_parse_bind_paths() in systemd's load-fragment.c). Specifiers are kept."""
    found: list[Binding] = []
    position = 0
    while position < len(value):
        source, position, mark = _next_word(value, position)
        directory = source
        if mark == ":":
            directory, position, mark = _next_word(value, position)
        if mark == ":":  # mount options such as rbind follow
            _options, position, mark = _next_word(value, position)
        if source:
            found.append(Binding(source, directory or source))
    return tuple(found)


def placed_bindings(sources: Sources) -> tuple[Placed, ...]:
    """Return all bindings in a unit's files in systemd's order, with specifiers expanded."""
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
    """Return whether the running unit has all ``bindings``, by device and inode, and as mounts of its own.

    Checks its main process, or if there is none, each of its processes: helpers of a browser have their own mounts and roots.
    """
    pids = (unit.main_pid,) if unit.main_pid else processes_of((unit.properties["ControlGroup"],)).pids
    return any(all(_is_bound(pid, binding) for binding in bindings) for pid in pids[:_PROCESSES_AT_MOST])


def _is_bound(pid: int, binding: Binding) -> bool:
    from .._proc.process_view import View, binding_of, inode_of

    try:
        with opened_directory(binding.source) as place:
            found = binding_of(pid, binding.directory, place)
            if found.reached:
                return found.mount is not None
            # The release was replaced since the start: the path leads to the new one, but the process still has its mount.
            name, wanted = os.path.basename(binding.directory), inode_of(place)
            with View(pid) as view:
                points = [mount.mount_point for mount in view.mounts().values()][:_MOUNTS_AT_MOST]
                return any(
                    os.path.basename(point) == name and point != binding.source and view.inode(point) == wanted
                    for point in points
                )
    except (OSError, SessionsError):
        return False  # the process ended, or the sessions path does not exist


def _escaped(path: str) -> str:
    text = path.replace("%", "%%")
    if not any(mark in text for mark in _BLANKS + "\\:"):
        return text
    return '"' + text.replace("\\", "\\\\") + '"'


def _next_word(value: str, position: int) -> tuple[str, int, str]:
    """Read one word like extract_first_word() with unquoting; return it, the next position, and the separator that ended it."""
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
