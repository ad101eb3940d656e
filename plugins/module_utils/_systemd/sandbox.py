# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Whether a unit's sandbox lets it write to a path, and the lines that would allow it. Pure: uses the output of ``systemctl show``.

Follows systemd's rules (src/core/namespace.c): each directive applies a rule to a path, the rule with the longest path
wins, and everything below an inaccessible path stays inaccessible, whatever other rules apply to it.
"""

from __future__ import annotations

import enum
import re
import shlex
import typing as t


class Kind(enum.IntEnum):
    """The effect of a directive on a path. If two directives name the same path, systemd keeps the lower one (enum MountMode)."""

    INACCESSIBLE = 0
    BOUND = 1  # the host's directory, bind-mounted: writable, and visible even if its parent is hidden
    BOUND_READ_ONLY = 2
    REPLACED = 3  # the path leads to something else: a private or empty directory, another root
    READ_ONLY = 4
    WRITABLE = 5


class Rule(t.NamedTuple):
    """The effect of one directive on a path and everything below it; ``directive`` as written in a unit file."""

    path: str
    kind: Kind
    directive: str


class Verdict(t.NamedTuple):
    """Whether a unit may write to a path.

    ``directive``: what forbids it (``ProtectSystem=strict``), None if nothing does. ``lines``: lines for [Service] in a drop-in that
    would allow it.
    """

    writable: bool
    directive: str | None = None
    lines: tuple[str, ...] = ()


def verdict(properties: t.Mapping[str, str], path: str, extra_read_write_paths: t.Collection[str] = ()) -> Verdict:
    """Judge ``path`` (absolute, without symbolic links) for a unit with ``properties``; missing ones count as unset.

    ``extra_read_write_paths``: the paths in ReadWritePaths= of a drop-in that will be written.
    """
    rules = [rule for rule in _rules(properties, extra_read_write_paths) if _covers(rule.path, path)]
    rules.sort(key=lambda rule: (-len(rule.path), rule.kind))
    closed = _first(rules, Kind.INACCESSIBLE)
    if closed:
        return Verdict(False, closed.directive, _opening_lines(closed, properties, path))
    content = _first(rules, Kind.BOUND, Kind.BOUND_READ_ONLY, Kind.REPLACED)
    if content and content.kind == Kind.REPLACED:
        return Verdict(False, content.directive, (_line("BindPaths", path),))
    access = _first(rules, Kind.BOUND, Kind.BOUND_READ_ONLY, Kind.READ_ONLY, Kind.WRITABLE)
    if access is None or access.kind in (Kind.BOUND, Kind.WRITABLE):
        return Verdict(True)
    if access.path == path:  # ReadWritePaths= has lower precedence on the same path
        return Verdict(False, access.directive, _opening_lines(access, properties, path))
    return Verdict(False, access.directive, (_line("ReadWritePaths", path),))


def _rules(properties: t.Mapping[str, str], extra_read_write_paths: t.Collection[str]) -> t.Iterator[Rule]:
    """Yield the rules of every directive that affects writing, in any order."""
    yield from _protections(properties)
    yield from _replacements(properties)
    for name, kind in (
        ("InaccessiblePaths", Kind.INACCESSIBLE),
        ("ReadOnlyPaths", Kind.READ_ONLY),
        ("ReadWritePaths", Kind.WRITABLE),
    ):
        yield from (Rule(_plain(item), kind, f"{name}={item}") for item in _items(properties, name))
    yield from _binds(properties, "BindPaths", Kind.BOUND)
    yield from _binds(properties, "BindReadOnlyPaths", Kind.BOUND_READ_ONLY)
    yield from _own_directories(properties)
    yield from (Rule(_plain(path), Kind.WRITABLE, f"ReadWritePaths={path}") for path in extra_read_write_paths)


_SYSTEM = ("/usr", "/boot", "/efi")
_HOMES = ("/home", "/root", "/run/user")
_PROTECTIONS: dict[tuple[str, str], tuple[Kind, tuple[str, ...]]] = {
    ("ProtectSystem", "yes"): (Kind.READ_ONLY, _SYSTEM),
    ("ProtectSystem", "full"): (Kind.READ_ONLY, (*_SYSTEM, "/etc")),
    ("ProtectSystem", "strict"): (Kind.READ_ONLY, ("/",)),
    ("ProtectHome", "yes"): (Kind.INACCESSIBLE, _HOMES),
    ("ProtectHome", "read-only"): (Kind.READ_ONLY, _HOMES),
    ("ProtectHome", "tmpfs"): (Kind.REPLACED, _HOMES),
}
_NOT_STRICT = ("/proc", "/sys", "/dev", *_HOMES)


def _protections(properties: t.Mapping[str, str]) -> t.Iterator[Rule]:
    for (name, value), (kind, paths) in _PROTECTIONS.items():
        if properties.get(name) == value:
            yield from (Rule(path, kind, f"{name}={value}") for path in paths)
    if properties.get("ProtectSystem") == "strict":
        yield from (Rule(path, Kind.WRITABLE, "ProtectSystem=strict") for path in _NOT_STRICT)


def _replacements(properties: t.Mapping[str, str]) -> t.Iterator[Rule]:
    """Yield the rules of directives that replace what the host has at a path."""
    for name in ("RootDirectory", "RootImage"):
        if properties.get(name, "") not in ("", "/"):
            yield Rule("/", Kind.REPLACED, f"{name}={properties[name]}")
    if properties.get("PrivateTmp", "") not in ("", "no"):
        yield from (
            Rule(path, Kind.REPLACED, f"PrivateTmp={properties['PrivateTmp']}") for path in ("/tmp", "/var/tmp")
        )
    for item in _items(properties, "TemporaryFileSystem"):
        yield Rule(_plain(item.partition(":")[0]), Kind.REPLACED, f"TemporaryFileSystem={item}")


def _binds(properties: t.Mapping[str, str], name: str, kind: Kind) -> t.Iterator[Rule]:
    """Yield the rules of bind mounts, ``source:destination``: a different source hides the host's directory."""
    for item in _items(properties, name):
        source, _mark, destination = item.partition(":")
        same = not destination or _plain(source) == _plain(destination)
        yield Rule(_plain(destination or source), kind if same else Kind.REPLACED, f"{name}={item}")


_OWN_DIRECTORIES = {"StateDirectory": "/var/lib", "CacheDirectory": "/var/cache", "LogsDirectory": "/var/log"}


def _own_directories(properties: t.Mapping[str, str]) -> t.Iterator[Rule]:
    """Yield the rules of directories that systemd creates for the unit, which are writable."""
    for name, above in _OWN_DIRECTORIES.items():
        for directory in _items(properties, name):
            yield Rule(f"{above}/{directory}", Kind.WRITABLE, f"{name}={directory}")


def _opening_lines(rule: Rule, properties: t.Mapping[str, str], path: str) -> tuple[str, ...]:
    """Return the lines that undo ``rule``: another value of the option, or its list without the item that forbids writing."""
    name, _mark, value = rule.directive.partition("=")
    if name.startswith("Protect"):
        return (f"{name}=tmpfs", _line("BindPaths", path)) if name == "ProtectHome" else (f"{name}=no",)
    others = [item for item in _items(properties, name) if item != value]
    return (f"{name}=", *(_line(name, item) for item in others))


def _first(rules: t.Iterable[Rule], *kinds: Kind) -> Rule | None:
    return next((rule for rule in rules if rule.kind in kinds), None)


def _covers(above: str, path: str) -> bool:
    return above in ("/", path) or path.startswith(f"{above}/")


def _items(properties: t.Mapping[str, str], name: str) -> list[str]:
    """Split a list in the format of ``systemctl show`` of systemd 252 to 257."""
    shown = properties.get(name, "")
    if name in _UNQUOTED:
        return [_short(item) for item in _NEXT_PATH.split(shown) if item]
    try:
        return shlex.split(shown)
    except ValueError:  # another version of systemd may quote differently
        return shown.split()


# Mounts are printed without quotes, so only the slash of the next path shows where a path with a space ends.
_UNQUOTED = ("BindPaths", "BindReadOnlyPaths", "TemporaryFileSystem")
_NEXT_PATH = re.compile(r"[ \n](?=-?/)")


def _short(item: str) -> str:
    """Return a mount in its short form: ``/a`` for ``/a:/a:rbind``."""
    parts = item.split(":")
    if len(parts) == 3 and parts[2] == "rbind":
        parts.pop()
    return ":".join(parts[:1] if len(parts) == 2 and _plain(parts[0]) == _plain(parts[1]) else parts)


def _plain(item: str) -> str:
    """Return a path without its prefixes ``-`` (may be missing) and ``+`` (below RootDirectory=), and without a trailing slash."""
    return "/" + item.lstrip("-+").strip("/")


def _line(name: str, path: str) -> str:
    """Return a line for a unit file, with ``%`` (specifiers) and spaces (item separators) escaped, systemd.syntax(7)."""
    escaped = path.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'{name}="{escaped}"' if any(mark in path for mark in " \"'\\") else f"{name}={escaped}"
