# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Reads the command lines of container engines: which container a line starts, and what it mounts. Pure; runs nothing."""

from __future__ import annotations

import os
import re
import typing as t

from ._container_inspect import is_anonymous

DOCKER, PODMAN = "docker", "podman"
# systemd's own signs in front of a program, systemd.service(5).
_SIGNS = "-@:+!|"
# Options of `docker run` and `podman run` that stand alone. Every other one takes the next word, unless it has a "=".
_ALONE = frozenset(
    (
        "detach disable-content-trust env-host help http-proxy init interactive no-healthcheck no-hostname no-hosts oom-kill-disable "
        "passwd privileged publish-all quiet read-only read-only-tmpfs replace rm rmi rootfs sig-proxy tls-verify tty unsetenv-all "
        "use-api-socket"
    ).split()
)
_SHORT_ALONE = frozenset("diPqt")
# Options of a mount that keep what is written from its source, or that bring only a part of that there.
_NOT_PASSING = frozenset(("ro", "readonly", "O", "subpath", "volume-subpath"))
_VOLUME_OPTIONS = ("v", "volume", "mount")
# Options of `docker` and `podman` themselves that stand alone.
_ALONE_BEFORE = frozenset(("debug", "D", "tls", "tlsverify", "noout", "remote", "r", "syslog", "transient-store"))


class Mounted(t.NamedTuple):
    """A mount that a line asks for: ``source`` is a directory of the host, or the name of a volume, or empty for one without a name.

    ``passing``: whether what is written there is written to all of that source, and not kept aside (``O`` of Podman) or refused (``ro``).
    """

    source: str
    destination: str
    passing: bool = True

    @property
    def lasting(self) -> bool:
        """Whether what is written there is there again in the next container: a volume without a name goes with its container."""
        return bool(self.source) and not is_anonymous(self.source) and self.passing


class Line(t.NamedTuple):
    """One command of an engine. ``verb``: run, create, start, attach or another one; up: what Compose makes. ``name``: as what it knows its
    container, '' where nothing says so. ``tail``: the words behind the options, image or names first.
    """

    engine: str
    verb: str
    name: str
    cidfile: str
    mounts: tuple[Mounted, ...]
    tail: tuple[str, ...]

    @property
    def makes_anew(self) -> bool:
        """Whether it makes the container anew, with the mounts that it names."""
        return self.verb in ("run", "up")


def parse_line(words: t.Sequence[str]) -> Line | None:
    """Parse a command line; None where it runs no container engine."""
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
    """Whether a normal path is ``directory`` or lies in it."""
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def lasting_mount_over(line: Line, path: str) -> Mounted | None:
    """Return the mount that ``path`` of the next container lies in, if it lasts: the one that is mounted deepest counts."""
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
    """Return name and value of an option; its value is taken from ``rest`` where it is a word of its own."""
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
    """Leave out the options in front."""
    rest = list(words)
    while rest and rest[0].startswith("-"):
        name, mark, _value = rest.pop(0).lstrip("-").partition("=")
        if not mark and name not in alone and rest:
            rest.pop(0)
    return rest
