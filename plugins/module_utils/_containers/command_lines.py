# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Parse command lines of container engines: which container a line starts, and what it mounts. Pure; runs nothing."""

from __future__ import annotations

import os
import re
import typing as t

from .inspect import is_anonymous

DOCKER, PODMAN = "docker", "podman"
# Prefixes of systemd in front of a program, systemd.service(5).
_SIGNS = "-@:+!|"
# Options of `docker run` and `podman run` without a value. All others take the next word, unless they contain a "=".
_ALONE = frozenset(
    (
        "detach disable-content-trust env-host help http-proxy init interactive no-healthcheck no-hostname no-hosts oom-kill-disable "
        "passwd privileged publish-all quiet read-only read-only-tmpfs replace rm rmi rootfs sig-proxy tls-verify tty unsetenv-all "
        "use-api-socket"
    ).split()
)
_SHORT_ALONE = frozenset("diPqt")
# Mount options that keep writes from the source, or that mount only a part of it.
_NOT_PASSING = frozenset(("ro", "readonly", "O", "subpath", "volume-subpath"))
_VOLUME_OPTIONS = ("v", "volume", "mount")
# Options of `docker` and `podman` themselves without a value.
_ALONE_BEFORE = frozenset(("debug", "D", "tls", "tlsverify", "noout", "remote", "r", "syslog", "transient-store"))


class Mounted(t.NamedTuple):
    """A mount of a command line: ``source`` is a directory of the host, the name of a volume, or empty for an anonymous volume.

    ``passing``: whether writes reach the source itself, instead of being redirected (``O`` of Podman) or refused (``ro``).
    """

    source: str
    destination: str
    passing: bool = True

    @property
    def lasting(self) -> bool:
        """Whether its content outlives the container: an anonymous volume is deleted with its container."""
        return bool(self.source) and not is_anonymous(self.source) and self.passing


class Line(t.NamedTuple):
    """One command of an engine. ``verb``: run, create, start, attach, ...; up for Compose. ``name``: of its container, '' if unknown.
    ``tail``: the words after the options, the image or names first.
    """

    engine: str
    verb: str
    name: str
    cidfile: str
    mounts: tuple[Mounted, ...]
    tail: tuple[str, ...]

    @property
    def makes_anew(self) -> bool:
        """Whether it creates a new container with the mounts that it names."""
        return self.verb in ("run", "up")


def parse_line(words: t.Sequence[str]) -> Line | None:
    """Parse a command line; return None if it runs no container engine."""
    if not words:
        return None
    program = os.path.basename(words[0].lstrip(_SIGNS))
    if program == "docker-compose" or program == "podman-compose":
        return Line(program.partition("-")[0], "compose", "", "", (), tuple(words[1:]))
    if program not in (DOCKER, PODMAN):
        return None
    rest = _without_options(words[1:], _ALONE_BEFORE)
    if rest[:1] == ["container"]:
        rest = rest[1:]
    verb, rest = (rest[0], rest[1:]) if rest else ("", [])
    if verb in ("run", "create"):
        return _run_line(program, verb, rest)
    tail = _without_options(rest, frozenset(("a", "attach", "i", "interactive", "no-stdin", "sig-proxy")))
    named = tail[0] if verb in ("start", "attach") and tail else ""
    return Line(program, verb, named, "", (), tuple(tail))


def same_or_below(path: str, directory: str) -> bool:
    """Return whether a normalized path is ``directory`` or below it."""
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def lasting_mount_over(line: Line, path: str) -> Mounted | None:
    """Return the lasting mount that contains ``path`` in the next container: the deepest mount point counts."""
    over = [mount for mount in line.mounts if same_or_below(path, mount.destination)]
    deepest = max(over, key=lambda mount: len(mount.destination), default=None)
    return deepest if deepest and deepest.lasting else None


def _run_line(engine: str, verb: str, words: t.Sequence[str]) -> Line:
    name = cidfile = ""
    mounts: list[Mounted] = []
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        option, value = _option(word, rest)
        if option == "name":
            name = value
        elif option == "cidfile":
            cidfile = value
        elif option in _VOLUME_OPTIONS:
            mounts += [_mounted_by_mount(value) if option == "mount" else _mounted_by_volume(value)]
    return Line(engine, verb, name, cidfile, tuple(mount for mount in mounts if mount.destination), tuple(rest))


def _option(word: str, rest: list[str]) -> tuple[str, str]:
    """Return name and value of an option; a value that is a word of its own is removed from ``rest``."""
    if word.startswith("--"):
        name, mark, value = word[2:].partition("=")
        if not mark and name not in _ALONE:
            value = rest.pop(0) if rest else ""
        return name, value
    letters = word[1:]
    while letters[:1] in _SHORT_ALONE and letters:  # -it, -dv a:b
        letters = letters[1:]
    if not letters:
        return word[1:], ""
    value = letters[1:].removeprefix("=") or (rest.pop(0) if rest else "")
    return letters[0], value


def _mounted_by_volume(value: str) -> Mounted:
    source, mark, rest = value.partition(":")
    if not mark:
        return Mounted("", _normal(source))
    destination, _mark, options = rest.partition(":")
    passing = not _NOT_PASSING.intersection(option.partition("=")[0] for option in options.split(","))
    return Mounted(_normal(source) if source.startswith("/") else source, _normal(destination), passing)


def _mounted_by_mount(value: str) -> Mounted:
    pairs = dict(part.partition("=")[::2] for part in value.split(","))
    destination = pairs.get("target") or pairs.get("destination") or pairs.get("dst") or ""
    if pairs.get("type", "volume") not in ("bind", "volume"):
        return Mounted("", _normal(destination))
    source = pairs.get("source") or pairs.get("src") or ""
    refused = any(name in _NOT_PASSING and value not in ("false", "0") for name, value in pairs.items())
    refused = refused or pairs.get("rw", "true") in ("false", "0")
    return Mounted(_normal(source) if source.startswith("/") else source, _normal(destination), not refused)


def _normal(path: str) -> str:
    return re.sub("^//+", "/", os.path.normpath(path)) if path else ""


def _without_options(words: t.Sequence[str], alone: t.Collection[str]) -> list[str]:
    """Return the words without leading options."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        name, mark, _value = rest.pop(0).lstrip("-").partition("=")
        if not mark and name not in alone and rest:
            rest.pop(0)
    return rest
