# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""How a backend is attached to its sessions path, as its drop-in says by now: where nothing is left to bring, that stays as it is.

That a binding is safe is asked each time, since other lines of the unit, and who rules the way to the directory, can change.
What has to be decided anew is decided in _attach.py, which a call that finds nothing to do need not load.
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t

from ._bindings import read_items
from ._effective import execution_section, option_history, sources_now, winning
from ._errors import SessionsError
from ._parents import way_to, who_else_can_swap
from ._paths import read_file
from ._unitfile import parse, render
from ._values import same_value

if t.TYPE_CHECKING:
    from ._effective import Sources
    from ._sources import Source
    from ._switch import Switch
    from ._unit import Unit

VARIABLE, BIND, NONE, AUTO = "variable", "bind", "none", "auto"
# What runs as root although the unit has a user, and with the unit's mounts: systemd.service(5), "!". What has "+" has the host's mounts.
_PRIVILEGED = re.compile(r"[-@:|]*!")


class Attachment(t.NamedTuple):
    """What was decided: ``kind``, and the switch as it is carried out. ``points``: the directories of legacy paths (real paths) that become
    mount points. ``refusal``: why nothing may be changed. ``hint``: what to say where the backend goes on using a legacy path.
    """

    kind: str
    switch: Switch
    points: tuple[str, ...] = ()
    refusal: str = ""
    dotenv: str = ""

    @property
    def hint(self) -> str:
        """What to say where the backend goes on using a legacy path although it was given a variable."""
        ways = (self.dotenv, "a program that reads no variable needs attach=bind (role: wa_attach)")
        return "; ".join(filter(None, ways)) if self.kind == VARIABLE else ""


def attached_by_now(
    asked: Switch, unit: Unit, path: str, sources: t.Iterable[Source], *, unprivileged: bool
) -> Attachment | None:
    """Return what an earlier run decided for the same switch, if its drop-in is still there as it was written; else None.

    To be asked where no account is left to be brought. None also for a binding that is not safe any more: to be decided anew.
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
    """Say, in the middle of a sentence, why the unit must not have a mount at ``directories``; '' where it may.

    ``own_file``: the drop-in that has the binding.
    """
    return _why_not_safe(files, own_file) if unprivileged else _why_not_trusted(directories)


def _why_not_trusted(directories: t.Iterable[str]) -> str:
    """Root's own programs look at what is mounted, so nobody else may rule where that is."""
    for directory in directories:
        why = who_else_can_swap(way_to(directory), (0, os.geteuid()))
        if why:
            return f"it starts as root, and {why}, who could have the sessions mounted anywhere"
    return ""


def _why_not_safe(files: Sources, own_file: str) -> str:
    """Its user rules what the path of a mount point leads to, so nothing may run as root among its mounts."""
    section = execution_section(files.name)
    for setting, file in files.settings:
        if setting.section != section or file == own_file:
            continue
        as_root = setting.option == "PermissionsStartOnly" and same_value("", setting.value, "yes")
        if as_root or (setting.option.startswith("Exec") and _PRIVILEGED.match(setting.value)):
            return (
                f"{file} line {setting.line} has commands run as root among its mounts, which its user could choose then; "
                "mark them with '+' instead"
            )
    last = winning([one for one in option_history(files, section, "NoNewPrivileges") if one.source != own_file])
    if last is not None and same_value("", last.value or "no", "no"):
        return (
            f"{last.source} line {last.line} has NoNewPrivileges=no, and with a binding programs that give root's rights could be "
            "made to read files of its user"
        )
    return ""
