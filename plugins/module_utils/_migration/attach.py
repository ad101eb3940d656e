# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Decide how a backend is attached to its sessions path: by a variable that it reads, or by a bind mount where it looks for its accounts.

The requested switch names a variable and sets ``attach``. What it becomes depends on the current state of the unit:

=============  =================================================================================================
``variable``   the named variable
``none``       neither: the program uses the sessions path already
``bind``       ``BindPaths=`` in the first drop-in of the switch
``auto``       what the drop-in has already; else the variable that leads to the accounts, whatever its name; else,
               if there are accounts to migrate, a bind mount plus the variable in case the program reads it
=============  =================================================================================================

Only observes and decides, changes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from .._core.printable import is_plain
from .._fs.fdopen import is_folder, opened_directory
from .._layouts.layout import Layout
from .._layouts.search import account_names
from .._systemd.bindings import Binding, Placed, can_be_written, placed_bindings, written
from .._systemd.effective import environment_names, execution_section, sources_now, variable_history, winning
from .._systemd.option_types import same_value
from .._systemd.specifiers import expand
from .._systemd.unit import Unit
from .._systemd.unit_file import Setting, environment_items, quoted
from .._usage.dotenv import dotenv_in
from .._usage.process_paths import environment_of_process, processes_to_ask, working_directories
from .attached import AUTO, BIND, NONE, VARIABLE, Attachment, why_unsafe
from .sources import Source
from .survey import Survey
from .switch import Switch

_VALUE_AT_MOST = 4096  # bytes: PATH_MAX


class Scene(t.NamedTuple):
    """The input of the decision. ``named``: the legacy paths given by the operator. ``unprivileged``: no part of the backend starts as
    root. ``elsewhere``: the backend is known not to use the sessions path.
    """

    unit: Unit
    path: str
    sources: tuple[Source, ...]
    seen: Survey
    named: tuple[str, ...]
    unprivileged: bool
    elsewhere: bool = False


def attached(asked: Switch, scene: Scene) -> Attachment:
    """Decide how the backend is attached and return the resulting switch."""
    if asked.attach == NONE:
        return Attachment(NONE, _with_variables(asked, scene.path, ()))
    if asked.attach == VARIABLE:
        return Attachment(VARIABLE, asked, dotenv=_dotenv(scene) if scene.seen.to_publish else "")
    return _Decision(asked, scene).made()


class _Decision:
    """One decision between a variable and a bind mount."""

    def __init__(self, asked: Switch, scene: Scene) -> None:
        self.asked, self.scene = asked, scene
        self.unit, self.path = scene.unit, scene.path
        self.files = sources_now(scene.unit.name)
        self.carrier = next((wanted for wanted in asked.overrides if wanted.present), None)
        self.own_file = self.carrier.path if self.carrier else ""
        self.roots = tuple(source for source in scene.sources if _has_account(source, scene.seen.layout))
        placed = placed_bindings(self.files)
        self.ours = tuple(one.binding for one in placed if one.file == self.own_file and self._is_ours(one.binding))
        self.others = tuple(one for one in placed if one.file != self.own_file)

    def made(self) -> Attachment:
        if self.asked.attach == AUTO:
            names = self._leading()
            if not self._is_bound_already() and (names or not self._needs_binding()):
                return self._by_variable(names or self._names_by_now())
        why = self._why_not()
        if why and self.asked.attach == AUTO and not self._is_bound_already():
            return self._by_variable(())
        return self._refused(why) if why else self._by_binding()

    def _refused(self, why: str) -> Attachment:
        words = f"{self.unit.name} cannot be given a bind mount, and nothing was changed: {why}"
        return Attachment(BIND, self.asked, refusal=words)

    def _by_variable(self, names: t.Collection[str]) -> Attachment:
        if any(name in names for name, _value in _variables_for(self.asked, self.path)):
            names = ()  # the named variables lead to the accounts already
        dotenv = _dotenv(self.scene) if self.scene.seen.to_publish else ""
        switch = _with_variables(self.asked, self.path, names) if names else self.asked
        return Attachment(VARIABLE, switch, dotenv=dotenv)

    def _by_binding(self) -> Attachment:
        wanted, points = self._wanted()
        if len({self._root_of(point) for point in points}) > 1:
            return Attachment(BIND, self.asked, refusal=self._several_roots())
        taken = self._taken(points)
        if taken:
            return Attachment(BIND, self.asked, refusal=taken)
        there = tuple(one.binding for one in self.others if self._is_respected(one))
        known = {os.path.realpath(one.directory) for one in there}
        own = tuple(binding for binding in wanted if os.path.realpath(binding.directory) not in known)
        if own and self.carrier is None:
            return self._refused("'switch' has no drop-in in 'overrides' to put the bind mount into")
        switch = self._with_bindings(self.asked, own) if own else self.asked
        if self.asked.attach == BIND:
            switch = _with_variables(switch, self.path, ())
        return Attachment(BIND, switch._replace(bindings=(*there, *own)), points=points)

    def _wanted(self) -> tuple[tuple[Binding, ...], tuple[str, ...]]:
        """Return the required bindings, existing ones first, and the mount points at the legacy paths."""
        by_now = {os.path.realpath(binding.directory) for binding in self.ours}
        to_bring = {account.root for account in self.scene.seen.to_publish}
        points: list[str] = []
        added: list[Binding] = []
        for root in self.roots:
            spots = {os.path.normpath(f"{root.path}/{spot}"): spot for spot in _spots(root, self.scene)}
            if self.ours and not by_now & set(spots) and root.path not in to_bring:
                continue  # an old copy that is not in use
            points += spots
            added += [
                Binding(os.path.normpath(f"{self.path}/{spot}"), self._as_called(real))
                for real, spot in spots.items()
                if real not in by_now
            ]
        if not (self.roots or self.ours or self.others) and self.scene.named:
            # On a new host the program has not created that directory yet.
            added.append(Binding(self.path, self.scene.named[0]))
        kept = [binding for binding in self.ours if not added or os.path.isdir(binding.directory)]
        return (*kept, *added), tuple(points)

    def _as_called(self, real: str) -> str:
        """Return the unresolved path below the unit's working directory, so that it is valid in each release."""
        home = self.unit.working_directory
        leads_to = os.path.realpath(home)
        above = [(home, leads_to)] if home.startswith("/") else []
        for pid in self._pids():
            calls = environment_of_process(pid).get("PWD", "")
            with contextlib.suppress(OSError):
                here = os.readlink(f"/proc/{pid}/cwd")
                beside = leads_to != home and os.path.dirname(here) == os.path.dirname(leads_to)
                # The unit may have been started in a release that has been replaced since.
                if pid == self.unit.main_pid and beside:
                    above.append((home, here))
                if is_plain(calls) and os.path.normpath(calls) == calls and os.path.realpath(calls) == here:
                    above.append((calls, here))
        for called, here in above:
            if real.startswith(f"{here.rstrip('/')}/") and here != "/":
                return os.path.normpath(f"{called}/{real[len(here) :]}")
        return real

    def _with_bindings(self, switch: Switch, bindings: t.Iterable[Binding]) -> Switch:
        section = execution_section(self.files.name)
        added = [Setting(section, "BindPaths", written(binding)) for binding in bindings]
        if self.scene.unprivileged or (self.ours and self._has_no_new_privileges()):
            added.append(Setting(section, "NoNewPrivileges", "yes"))
        overrides = tuple(
            wanted._replace(settings=(*wanted.settings, *added)) if wanted.path == self.own_file else wanted
            for wanted in switch.overrides
        )
        return switch._replace(overrides=overrides)

    def _has_no_new_privileges(self) -> bool:
        return any(
            setting.option == "NoNewPrivileges" and same_value(setting.option, setting.value, "yes")
            for setting, file in self.files.settings
            if file == self.own_file
        )

    def _is_ours(self, binding: Binding) -> bool:
        return binding.source == self.path or binding.source.startswith(f"{self.path}/")

    def _is_respected(self, placed: Placed) -> bool:
        """Return whether a binding of the operator mounts the sessions path where the backend looks for its accounts."""
        source, directory = placed.binding
        return placed.writable and directory != source and os.path.realpath(source) == os.path.realpath(self.path)

    def _is_bound_already(self) -> bool:
        return bool(self.ours) or any(map(self._is_respected, self.others))

    def _needs_binding(self) -> bool:
        """Return whether a bind mount is needed: there are accounts that no variable leads to, and none leads to the sessions path yet."""
        if not self.roots or (self.scene.named and len(self.roots) > 1):
            return False
        wrong = self.scene.elsewhere or bool(self.scene.seen.to_publish)
        return wrong or not (self._names_by_now() or self._leads_to_path())

    def _names_by_now(self) -> tuple[str, ...]:
        """Return the variables that the drop-in already sets to the sessions path."""
        items = (
            (name, expand(value, self.files.name))
            for setting, file in self.files.settings
            if file == self.own_file and setting.option == "Environment"
            for name, value in environment_items(setting.value)
        )
        return tuple(dict.fromkeys(name for name, value in items if value == self.path))

    def _leads_to_path(self) -> bool:
        return any(
            value.rstrip("/") == self.path for pid in self._pids() for value in environment_of_process(pid).values()
        )

    def _pids(self) -> tuple[int, ...]:
        return processes_to_ask(self.unit)

    def _leading(self) -> tuple[str, ...]:
        """Return the variables, set in the unit's files, that lead to a legacy path; only the requested ones if they are among them."""
        roots = {root.path for root in self.roots}
        found: dict[str, None] = {}
        for name, value, directory in self._variables() if roots else ():
            set_to = winning(variable_history(self.files, name))
            if set_to is not None and set_to.value == value and _real(value, directory) in roots:
                found[name] = None
        wanted = [name for name, _value in _variables_for(self.asked, self.path) if name in found]
        return tuple(wanted or sorted(found))

    def _variables(self) -> t.Iterator[tuple[str, str, str]]:
        """Yield each variable with its value and the working directory: of the running processes, else of the next start."""
        pids = self._pids()
        for pid in pids:
            with contextlib.suppress(OSError):
                here = os.readlink(f"/proc/{pid}/cwd")
                yield from ((name, value, here) for name, value in environment_of_process(pid).items())
        if not pids:
            here = next(iter(working_directories(self.unit)), "/")
            for name in environment_names(self.files, [placed.setting for placed in self.files.settings]):
                last = winning(variable_history(self.files, name))
                if last is not None and last.value is not None:
                    yield name, last.value, here

    def _why_not(self) -> str:
        """Return, as part of a sentence, why the unit cannot be given a bind mount; '' if it can."""
        for name in ("RootDirectory", "RootImage"):
            if self.unit.properties[name] not in ("", "/"):
                return f"it has {name}={self.unit.properties[name]}, so its paths are not paths of the host"
        if not (self.roots or self.scene.named or self._is_bound_already()):
            return "no setting shows where its program looks for accounts; set 'src' to that directory"
        root = next((root for root in self.roots if not _spots(root, self.scene)), None)
        if root is not None:
            return f"{root.path} also holds the program, which a bind mount would hide"
        called = [Binding(self.path, self._as_called(root.path)) for root in self.roots]
        odd = next((binding for binding in called if not can_be_written(binding)), None)
        if odd is not None:
            return f"systemd cannot mount {odd.source} at {odd.directory}: a name in them has a quotation mark or a control character"
        directories = (binding.directory for binding in called)
        return why_unsafe(self.files, self.own_file, directories, self.scene.unprivileged)

    def _taken(self, points: t.Collection[str]) -> str:
        """Return a refusal if the unit has something else mounted at or above a mount point; else ''."""
        for one in self.others:
            source, directory = one.binding
            real, is_same = os.path.realpath(directory), source == directory
            at = next((point for point in points if point == real or point.startswith(f"{real.rstrip('/')}/")), None)
            if at is None or (is_same and (one.writable or at != real)) or self._is_respected(one):
                continue
            return (
                f"{one.file} line {one.line} mounts {source} at {directory}, where {self.unit.name} keeps its accounts ({at}); "
                "nothing was changed: set 'src' to the directory that it really uses, or remove that line"
            )
        return ""

    def _root_of(self, point: str) -> str:
        return next(root.path for root in self.roots if point == root.path or point.startswith(f"{root.path}/"))

    def _several_roots(self) -> str:
        roots = ", ".join(sorted(root.given for root in self.roots))
        return (
            f"{self.unit.name} keeps accounts in {len(self.roots)} directories ({roots}), like a unit that runs several programs, "
            "and one bind mount would merge them; nothing was changed: run once per directory, each time with its own 'src', "
            "'path' and drop-in in 'switch' and with attach=bind, or, if one variable sets the directory of all programs, run once with "
            "all of them in 'src' and attach=variable"
        )


def _has_account(source: Source, layout: Layout) -> bool:
    try:
        with opened_directory(source.path) as root:
            return next(account_names(root, layout), None) is not None
    except (FileNotFoundError, NotADirectoryError):
        return False


def _spots(source: Source, scene: Scene) -> tuple[str, ...]:
    """Return what is bound below a legacy path: all of it, or only folders of the layout if it is the directory of the program itself."""
    homes = {os.path.realpath(directory) for directory in working_directories(scene.unit)}
    if not any(home == source.path or home.startswith(f"{source.path}/") for home in homes):
        return (".",)
    layout = scene.seen.layout
    with opened_directory(source.path) as root:
        used = {name.partition("/")[0] for name in account_names(root, layout)}
        return tuple(folder for folder in layout.folders if folder in used and is_folder(root, folder))


def _variables_for(switch: Switch, path: str) -> list[tuple[str, str]]:
    """Return the variables that the switch sets to the sessions path."""
    found = dict(switch.environment_file.values) if switch.environment_file else {}
    for wanted in switch.overrides:
        for setting in wanted.settings:
            if setting.option == "Environment" and setting.value:
                found.update((name, value.replace("%%", "%")) for name, value in environment_items(setting.value))
    return [(name, value) for name, value in found.items() if value == path]


def _with_variables(switch: Switch, path: str, names: t.Collection[str]) -> Switch:
    """Return the switch with ``names`` in place of the variables that it sets to ``path``."""
    gone = {name for name, _value in _variables_for(switch, path)}
    overrides = []
    for wanted in switch.overrides:
        settings: list[Setting] = []
        for setting in wanted.settings:
            items = environment_items(setting.value) if setting.option == "Environment" else ()
            if not any(name in gone for name, _value in items):
                settings.append(setting)
                continue
            kept = [(name, value) for name, value in items if name not in gone]
            kept += [(name, path.replace("%", "%%")) for name in names]
            value = " ".join(quoted(*item) for item in kept)
            settings += [dataclasses.replace(setting, value=value)] if kept else []
        if settings or not wanted.present:
            overrides.append(wanted._replace(settings=tuple(settings)))
    file = switch.environment_file
    if file is not None:
        values = {name: value for name, value in file.values.items() if name not in gone}
        values.update((name, path) for name in names)
        file = file._replace(values=values) if values else None
    return switch._replace(overrides=tuple(overrides), environment_file=file)


def _real(value: str, directory: str) -> str:
    if not value or len(value) > _VALUE_AT_MOST or "\0" in value:
        return ""
    return os.path.realpath(os.path.join(directory, value))


def _dotenv(scene: Scene) -> str:
    """Describe a ``.env`` file in a working directory that sets a variable to a legacy path; '' if there is none."""
    roots = {source.path for source in scene.sources}
    for directory in working_directories(scene.unit):
        for name, value in dotenv_in(directory):
            if _real(value, os.path.realpath(directory)) in roots:
                return f"{directory}/.env sets {name}, which leads to the legacy path"
    return ""
