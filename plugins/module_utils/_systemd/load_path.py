# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Finds the files of a unit on disk by systemd's own rules (systemd.unit(5), "Unit File Load Path"). Reads only.

Reads the disk instead of querying systemd: loaded settings may be older than the files, and in an image nothing is loaded. What systemd
will do at the next start, after a reload, depends on the files only.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import typing as t

from .._core.errors import SessionsError
from .._core.query_cache import cached_query
from .._fs.fdopen import DirFd, opened_directory
from .._fs.files import read_file_at

# The order of the system manager of systemd 252 and 257, `systemctl show -p UnitPath`; the first directory with a name wins.
SEARCH_PATH = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
)

_LINKS_AT_MOST = 40  # as many as the kernel follows, path_resolution(7)
_NAME = re.compile(r"(?P<prefix>[^@]+)(?P<at>@(?P<instance>.*))?\.(?P<type>[a-z]+)", re.DOTALL)


class UnitFile(t.NamedTuple):
    """One file of a unit. The text is empty for a masked name (a link to /dev/null)."""

    path: str
    text: str


class UnitName(t.NamedTuple):
    """The parts of a unit name: ``wa@1.service`` has the prefix ``wa``, the instance ``1`` and the type ``service``.

    ``instance``: empty for a template, None for a unit that is neither template nor instance.
    """

    full: str
    prefix: str
    instance: str | None
    type: str

    @property
    def is_template(self) -> bool:
        """Whether this is a template; only its instances can run."""
        return self.instance == ""

    @property
    def template(self) -> str:
        """Name of the template of an instance, or of the template itself."""
        return f"{self.prefix}@.{self.type}"


def name_parts(name: str) -> UnitName:
    """Split the name of a unit, suffix included, into its parts."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise SessionsError(f"{name!r} is not a valid unit name; give the name as systemctl shows it")
    return UnitName(name, match["prefix"], match["instance"] if match["at"] else None, match["type"])


# Future texts of files, by path; None for a file that will be removed.
Overlay = t.Mapping[str, t.Optional[str]]


def unit_files(name: str, overlay: Overlay | None = None) -> tuple[UnitFile, ...]:
    """Return the files of the unit ``name`` in the order in which systemd reads them: its own file, then its drop-ins.

    With ``overlay``, as they would be after a change. Raises SessionsError if there is no such unit on disk.
    """
    return (fragment(name), *drop_ins(name, overlay))


def fragment(name: str) -> UnitFile:
    """Return the unit's own file. Raises SessionsError if it has none or is masked."""
    for path in _fragment_paths(name):
        text = read_linked(path)
        if text == "" and _is_masked(path):
            raise SessionsError(
                f"the unit {name} is masked on this host ({path}); unmask it first (systemctl unmask {name})"
            )
        if text is not None:
            return UnitFile(path, text)
    raise SessionsError(
        f"the unit {name} does not exist on this host (no file in systemd's search path); "
        "check the name in 'unit' or install the backend first"
    )


def is_installed(name: str) -> bool:
    """Whether the unit ``name`` has its own file on disk, even if it is masked."""
    return any(os.path.lexists(path) for path in _fragment_paths(name))


def canonical_name(name: str) -> str:
    """Return the unit's own name; ``name`` may be an alias, a link to a unit file of another name."""
    path = fragment(name).path
    target = os.path.realpath(path)
    if os.path.basename(target) == os.path.basename(path) or not _is_searched(os.path.dirname(target)):
        return name
    return os.path.basename(target)


def drop_ins(name: str, overlay: Overlay | None = None) -> tuple[UnitFile, ...]:
    """Return the unit's drop-ins from all directories, sorted by file name only; later ones take precedence."""
    changes = overlay or {}
    found: dict[str, str] = {}
    for directory in _drop_in_directories(name):
        for file in _configuration_files(directory, changes):
            found.setdefault(file, f"{directory}/{file}")
    in_order = [found[file] for file in sorted(found, key=os.fsencode)]
    # A dangling link still hides files of the same name, so it counts as an empty file.
    return tuple(UnitFile(path, read_linked(path, changes) or "") for path in in_order)


@cached_query
def aliases(name: str) -> tuple[str, ...]:
    """Return the other names of the unit: links in systemd's search path that lead to a file of its name."""
    links = (link for directory in SEARCH_PATH for link in _links(directory))
    return tuple(sorted({entry for entry, target in links if os.path.basename(target) == name and entry != name}))


def read_linked(path: str, overlay: Overlay | None = None) -> str | None:
    """Read a text file as systemd does, following links; None if it does not exist. The text may contain invalid UTF-8.

    Only links that belong to root are followed, because other users must not choose which files root reads.
    """
    if overlay and path in overlay:
        return overlay[path]
    for _link in range(_LINKS_AT_MOST):
        try:
            with opened_directory(os.path.dirname(path)) as parent:
                target = _link_target(parent, path)
                if target is None:
                    content = read_file_at(parent, os.path.basename(path), called=path)
                    return None if content is None else content.decode("utf-8", "surrogateescape")
        except (FileNotFoundError, NotADirectoryError):
            return None
        if target == "/dev/null":
            return ""
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return None


def _link_target(parent: DirFd, path: str) -> str | None:
    status = os.stat(os.path.basename(path), dir_fd=parent, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        return None
    if status.st_uid != 0:
        raise SessionsError(f"{path} is a symbolic link of an unprivileged user; replace it with a regular file")
    return os.readlink(os.path.basename(path), dir_fd=parent)


def _fragment_paths(name: str) -> t.Iterator[str]:
    parts = name_parts(name)
    for candidate in (name, parts.template) if parts.instance else (name,):
        for directory in SEARCH_PATH:
            yield f"{directory}/{candidate}"


def _is_searched(directory: str) -> bool:
    return any(os.path.realpath(searched) == directory for searched in SEARCH_PATH)


def _is_masked(path: str) -> bool:
    return os.path.realpath(path) == "/dev/null" or os.path.getsize(path) == 0


def _drop_in_directories(name: str) -> t.Iterator[str]:
    """Yield the directories of drop-ins by precedence among equal file names (unit_file_find_dropin_paths() in systemd's dropin.c)."""
    for called in (name, *aliases(name)):
        for directory in SEARCH_PATH:
            for less_specific in dict.fromkeys(_specific_names(name_parts(called))):
                yield f"{directory}/{less_specific}.d"
    for directory in SEARCH_PATH:
        yield f"{directory}/{name_parts(name).type}.d"


def _specific_names(parts: UnitName) -> t.Iterator[str]:
    """Yield the unit's name, its template, and the prefixes that end in a dash (``foo-.service`` for ``foo-bar.service``)."""
    yield parts.full
    if parts.instance:
        yield from _specific_names(name_parts(parts.template))
    shorter = _shorter_prefix(parts.prefix)
    if shorter:
        middle = f"@{parts.instance}" if parts.instance else ""
        yield from _specific_names(name_parts(f"{shorter}{middle}.{parts.type}"))


def _shorter_prefix(prefix: str) -> str:
    head, dash, _tail = prefix.removesuffix("-").rpartition("-")
    return f"{head}-" if dash and head else ""


def _configuration_files(directory: str, changes: Overlay) -> set[str]:
    changed = {os.path.basename(path) for path in changes if os.path.dirname(path) == directory}
    return {
        name
        for name in changed.union(_entries(directory))
        if name.endswith(".conf") and not name.startswith(".") and changes.get(f"{directory}/{name}", "") is not None
    }


@cached_query
def _entries(directory: str) -> tuple[str, ...]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened_directory(directory) as descriptor:
        return tuple(os.listdir(descriptor))
    return ()


def _links(directory: str) -> t.Iterator[tuple[str, str]]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), opened_directory(directory) as descriptor:
        with os.scandir(descriptor) as entries:
            links = [entry.name for entry in entries if entry.is_symlink()]
        for name in links:
            yield name, os.readlink(name, dir_fd=descriptor)
