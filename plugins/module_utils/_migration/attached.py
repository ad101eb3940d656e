# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Recognise an existing attachment of a backend from its drop-in: if there is nothing left to migrate, it is kept as it is.

Whether a bind mount is safe is checked each time, because other lines of the unit and the owners of parent directories can change.
New decisions are made in attach.py, which a call that finds nothing to do need not load.
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t

from .._core.errors import SessionsError
from .._fs.ancestors import untrusted_writer, way_to
from .._fs.files import read_file
from .._systemd.bindings import read_items
from .._systemd.effective import execution_section, option_history, sources_now, winning
from .._systemd.option_types import same_value
from .._systemd.unit_file import parse, render

if t.TYPE_CHECKING:
    from .._systemd.effective import Sources
    from .._systemd.unit import Unit
    from .sources import Source
    from .switch import Switch

VARIABLE, BIND, NONE, AUTO = "variable", "bind", "none", "auto"
# Commands that run as root with the mounts of the unit although it has a user: "!", systemd.service(5). "+" uses the mounts of the host.
_PRIVILEGED = re.compile(r"[-@:|]*!")


class Attachment(t.NamedTuple):
    """A decision: ``kind``, and the switch to apply. ``points``: directories of legacy paths (real paths) that become mount points.
    ``refusal``: why nothing may be changed. ``dotenv``: a ``.env`` file that still leads to a legacy path.
    """

    kind: str
    switch: Switch
    points: tuple[str, ...] = ()
    refusal: str = ""
    dotenv: str = ""

    @property
    def hint(self) -> str:
        """Return a hint for a backend that continues to use a legacy path although its variable was set; '' for other attachments."""
        ways = (self.dotenv, "a program that reads no variable needs attach=bind")
        return "; ".join(filter(None, ways)) if self.kind == VARIABLE else ""


def attached_by_now(
    asked: Switch, unit: Unit, path: str, sources: t.Iterable[Source], *, unprivileged: bool
) -> Attachment | None:
    """Return the decision of an earlier run for the same switch if its drop-in is unchanged; else None.

    Only valid if no account is left to migrate. Also None for a bind mount that is no longer safe, so that it is decided again.
    """
    carrier = next((wanted for wanted in asked.overrides if wanted.present), None)
    if asked.attach != AUTO or carrier is None:
        return None
    try:
        content = read_file(carrier.path)
        text = (content or b"").decode()
    except (SessionsError, UnicodeDecodeError):
        return None
    if text == carrier.text:
        return None if path in unit.properties["BindPaths"] else Attachment(VARIABLE, asked)
    settings = parse(text)
    added = settings[len(carrier.settings) :]
    own = tuple(binding for setting in added if setting.option == "BindPaths" for binding in read_items(setting.value))
    if (
        not own
        or settings[: len(carrier.settings)] != parse(carrier.text or "")
        or render((*carrier.settings, *added)) != text
        or any(setting.option not in ("BindPaths", "NoNewPrivileges") for setting in added)
        or not all(f"{binding.source}/".startswith(f"{path}/") for binding in own)
        or "%" in text
    ):
        return None
    closed = any(setting.option == "NoNewPrivileges" for setting in added)
    directories = [binding.directory for binding in own]
    if (unprivileged and not closed) or why_unsafe(sources_now(unit.name), carrier.path, directories, unprivileged):
        return None
    overrides = tuple(
        wanted._replace(settings=(*wanted.settings, *(dataclasses.replace(one, line=0) for one in added)))
        if wanted is carrier
        else wanted
        for wanted in asked.overrides
    )
    roots = [source.path for source in sources]
    reals = [os.path.realpath(binding.directory) for binding in own]
    points = tuple(real for real in reals if any(f"{real}/".startswith(f"{root}/") for root in roots))
    return Attachment(BIND, asked._replace(overrides=overrides, bindings=own), points=points)


def why_unsafe(files: Sources, own_file: str, directories: t.Iterable[str], unprivileged: bool) -> str:
    """Return, as part of a sentence, why the unit must not have a mount at ``directories``; '' if it may.

    ``own_file``: the drop-in that contains the binding.
    """
    return _why_not_safe(files, own_file) if unprivileged else _why_not_trusted(directories)


def _why_not_trusted(directories: t.Iterable[str]) -> str:
    """Programs of root use these mounts, so only root may control where the mount points are."""
    for directory in directories:
        why = untrusted_writer(way_to(directory), (0, os.geteuid()))
        if why:
            return f"it starts as root, and {why}, so another user could redirect the mount of the sessions"
    return ""


def _why_not_safe(files: Sources, own_file: str) -> str:
    """The unit's user controls where the path of a mount point leads, so nothing may run as root with these mounts."""
    section = execution_section(files.name)
    for setting, file in files.settings:
        if setting.section != section or file == own_file:
            continue
        as_root = setting.option == "PermissionsStartOnly" and same_value("", setting.value, "yes")
        if as_root or (setting.option.startswith("Exec") and _PRIVILEGED.match(setting.value)):
            return (
                f"{file} line {setting.line} runs commands as root with the unit's mounts, which its user could then redirect; "
                "mark these commands with '+' instead"
            )
    last = winning([one for one in option_history(files, section, "NoNewPrivileges") if one.source != own_file])
    if last is not None and same_value("", last.value or "no", "no"):
        return (
            f"{last.source} line {last.line} sets NoNewPrivileges=no, so with a bind mount a set-user-ID program could be "
            "made to read files of the unit's user as root"
        )
    return ""
