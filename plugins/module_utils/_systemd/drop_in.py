# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""One drop-in of a systemd unit: written as a whole, checked by systemd before it is installed, verified afterwards.

This job never starts, stops or restarts anything. It derives the effective values from the files and the process, never from
``NeedDaemonReload`` or ``systemctl show -p Environment`` alone: both have been observed to be wrong.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import stat
import time
import typing as t

from .._core.errors import SessionsError
from .._core.job import Report
from .._fs.fdopen import opened_directory
from .._fs.files import read_file
from .effective import Assignment, Sources, effective_settings, read_sources, shadowed
from .file_steps import Backup, Reload, Remove, RemoveDirectory, Write, install
from .load_path import Overlay, canonical_name, fragment, is_installed, name_parts
from .restart_needed import Moments, on_file_clock, outdated_options
from .unit import Unit, daemon_reload, instances_of, last_reload, read_unit, systemd_runs, unit_name
from .unit_file import Setting, parse, read_sections, render

DIRECTORIES = {"persistent": "/etc/systemd/system", "runtime": "/run/systemd/system"}
HIDDEN = "(sensitive)"

_NAME = re.compile(r"[A-Za-z0-9_:@%+=,-][A-Za-z0-9_.:@%+=,-]*")


class Params(t.NamedTuple):
    """The requested drop-in. ``path``: its file. ``settings``: its lines. ``former``: a former text to restore exactly."""

    unit: str
    name: str
    path: str
    settings: tuple[Setting, ...]
    present: bool
    scope: str
    daemon_reload: bool
    validate: bool
    on_shadowed: str
    sensitive: bool
    backup: bool
    former: str | None = None

    @property
    def text(self) -> str | None:
        """The requested text of the drop-in; None if it should be absent."""
        if self.former is not None:
            return self.former
        return render(self.settings) if self.present else None

    @property
    def mode(self) -> int:
        """Mode of the file: only root may read sensitive values."""
        return 0o600 if self.sensitive else 0o644


class File(t.NamedTuple):
    """The drop-in on disk. ``alone``: its directory contains nothing else."""

    text: str
    mode: int
    owner: tuple[int, int]
    alone: bool


class State(t.NamedTuple):
    """The current state, and what will be effective once the drop-in is as requested.

    ``drop_in``: None if there is no file. ``stale``: systemd has to reload its files even if this job changes none.
    ``unloaded``: systemd itself reports that. ``outdated_options``: options that the running process gets only by a restart.
    """

    drop_in: File | None
    effective: t.Mapping[str, t.Mapping[str, t.Any]]
    shadowed: tuple[t.Mapping[str, t.Any], ...]
    stale: bool
    unloaded: bool
    outdated_options: tuple[str, ...]
    missing_files: tuple[str, ...]


Step = t.Union[Backup, Write, Remove, RemoveDirectory, Reload]


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What applying found out: the path of the backup, and the options that the process lacked before."""

    backup_file: str | None
    outdated_options: tuple[str, ...]


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return Params for the options of the module systemd_override; missing options mean their defaults."""
    given = {name: value for name, value in options.items() if value is not None}
    unit = unit_name(str(given["unit"]))
    name = _drop_in_name(str(given.get("name", "override")))
    scope = given.get("scope", "persistent")
    present = given.get("state", "present") == "present"
    settings = read_sections(given.get("sections", {}))
    if present and not settings:
        raise SessionsError(
            "'sections' is empty, so there is nothing to write; give options, or 'state: absent' to remove the drop-in"
        )
    return Params(
        unit=unit,
        name=name,
        path=drop_in_path(unit, name, scope),
        settings=settings,
        present=present,
        scope=scope,
        daemon_reload=given.get("daemon_reload", True),
        validate=given.get("validate", True),
        on_shadowed=given.get("on_shadowed", "warn"),
        sensitive=given.get("sensitive", False),
        backup=given.get("backup", False),
    )


def drop_in_path(unit: str, name: str, scope: str = "persistent") -> str:
    """Return the path of the drop-in ``name`` (without ``.conf``) of ``unit`` (with its suffix)."""
    return f"{DIRECTORIES[scope]}/{unit}.d/{name}.conf"


def observe(params: Params, overlay: Overlay | None = None) -> State:
    """Read the drop-in, the unit's other files, systemd and the running process; validate the drop-in if it would change.

    ``overlay``: the texts of other files that will change together with the drop-in.
    """
    planned: Overlay = {**(overlay or {}), params.path: params.text}
    _require_host(params)
    drop_in = _read_drop_in(params.path)
    if not params.present and not is_installed(params.unit):
        # Even without the unit, its drop-in can be removed.
        return State(drop_in, {}, (), stale=False, unloaded=False, outdated_options=(), missing_files=())
    _require_own_name(params)
    loaded = _loaded_units(params)
    sources = read_sources(params.unit, planned)
    reloaded = on_file_clock(last_reload()) if systemd_runs() else 0.0
    stale = _is_stale(params, sources, loaded, reloaded)
    pending = stale or _needs_write(drop_in, params)
    state = State(
        drop_in=drop_in,
        effective=effective_settings(sources, params.settings),
        shadowed=_shadowed(params, sources),
        stale=stale,
        unloaded=any(_is_unloaded(unit, params.path, sources) for unit in loaded),
        outdated_options=_outdated_options(params, drop_in, loaded, planned, math.inf if pending else reloaded),
        missing_files=tuple(file.path for file in sources.environment_files if not file.found and not file.optional),
    )
    validate(params, state)
    return state


def validate(params: Params, state: State) -> None:
    """Raise SessionsError if systemd would reject the drop-in. Installs nothing."""
    if not params.validate or params.text is None or (state.drop_in is not None and state.drop_in.text == params.text):
        return
    from .verify import verify_drop_in

    verify_drop_in(params.unit, fragment(params.unit), params.name, params.text, reveal=_revealer(params))


def plan(state: State, params: Params) -> tuple[Step, ...]:
    """Return the steps to do. Raises SessionsError if the drop-in is shadowed and ``on_shadowed`` is ``fail``."""
    if params.on_shadowed == "fail" and state.shadowed:
        raise SessionsError(
            f"{_shadow_message(params, state.shadowed[0])}; nothing was changed", shadowed=list(state.shadowed)
        )
    steps = _file_steps(state, params)
    if params.daemon_reload and (steps or state.stale):
        steps.append(Reload())
    return tuple(steps)


def diff(state: State, steps: tuple[Step, ...], params: Params) -> t.Mapping[str, t.Any]:
    """Return the drop-in's text before and after, unless it is sensitive."""
    before = "" if state.drop_in is None else state.drop_in.text
    # A drop-in that only root may read presumably contains sensitive values.
    hide = params.sensitive or (state.drop_in is not None and not state.drop_in.mode & stat.S_IROTH)
    changed = any(isinstance(step, (Write, Remove)) for step in steps)
    after = (params.text or "") if changed else before
    return {
        "before_header": params.path,
        "after_header": params.path,
        "before": _shown_text(before, hide),
        "after": _shown_text(after, params.sensitive or (hide and not changed)),
    }


def apply(steps: tuple[Step, ...], state: State, params: Params) -> Evidence:
    """Carry out the steps, the reload last."""
    backup_file = install(steps)
    if any(isinstance(step, Reload) for step in steps):
        daemon_reload()
    return Evidence(backup_file, state.outdated_options)


def verify(state: State, params: Params) -> None:
    """Raise SessionsError if the drop-in is not as requested, or systemd did not load it."""
    if _needs_write(state.drop_in, params):
        raise SessionsError(
            f"{params.path} was changed right after it was written; find out which other program writes it"
        )
    if params.daemon_reload and state.unloaded:
        raise SessionsError(
            f"systemd still uses older settings of {params.unit} after the reload; see 'systemctl status {params.unit}'"
        )


def report(params: Params, state: State, steps: tuple[Step, ...], evidence: Evidence | None) -> Report:
    """Report effective and shadowed options, and whether a restart is needed."""
    missing = evidence.outdated_options if evidence else ()
    values: dict[str, t.Any] = {
        "path": params.path,
        "unit": params.unit,
        "scope": params.scope,
        "effective": {section: _shown_options(options, params) for section, options in state.effective.items()},
        "shadowed": list(state.shadowed),
        "needs_restart": bool(missing or state.outdated_options),
    }
    if evidence and evidence.backup_file:
        values["backup_file"] = evidence.backup_file
    warnings = [_shadow_message(params, shadow) for shadow in state.shadowed if params.on_shadowed == "warn"]
    warnings += [
        f"the environment file {path} of {params.unit} does not exist, so its next start fails; create it"
        for path in state.missing_files
    ]
    return Report(values, tuple(warnings))


def _drop_in_name(name: str) -> str:
    bare = name.removesuffix(".conf")
    if not _NAME.fullmatch(bare) or len(bare) > 200:
        raise SessionsError(
            f"'name' is {name!r}, which is not a valid name of a drop-in; use letters, digits and _.:@%+=,- without a leading dot, "
            "such as '20-sessions'"
        )
    return bare


def _require_host(params: Params) -> None:
    if not systemd_runs() and params.daemon_reload:
        raise SessionsError(
            "systemd does not run on this host, so it cannot reload its unit files; set 'daemon_reload: false' for an image or a chroot"
        )
    if not systemd_runs() and params.scope == "runtime":
        raise SessionsError(
            "systemd does not run on this host, and an image does not keep /run; use 'scope: persistent'"
        )


def _require_own_name(params: Params) -> None:
    canonical = canonical_name(params.unit)
    if canonical != params.unit:
        raise SessionsError(
            f"{params.unit} is an alias of {canonical}; name {canonical} in 'unit', so that its drop-ins are in one directory"
        )


def _loaded_units(params: Params) -> tuple[Unit, ...]:
    """Return the loaded unit; for a template, its loaded instances."""
    if not systemd_runs():
        return ()
    if name_parts(params.unit).is_template:
        return tuple(read_unit(instance) for instance in instances_of(params.unit))
    return (read_unit(params.unit),)


def _read_drop_in(path: str) -> File | None:
    content = read_file(path)
    if content is None:
        return None
    with opened_directory(os.path.dirname(path)) as directory:
        status = os.stat(os.path.basename(path), dir_fd=directory, follow_symlinks=False)
        alone = len(os.listdir(directory)) == 1
    return File(
        content.decode("utf-8", "surrogateescape"), stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid), alone
    )


def _needs_write(drop_in: File | None, params: Params) -> bool:
    if params.text is None or drop_in is None:
        return (params.text is None) != (drop_in is None)
    return (drop_in.text, drop_in.mode, drop_in.owner) != (params.text, params.mode, (0, 0))


def _file_steps(state: State, params: Params) -> list[Step]:
    if not _needs_write(state.drop_in, params):
        return []
    steps: list[Step] = []
    if params.backup and state.drop_in is not None and state.drop_in.text != params.text:
        steps.append(Backup(params.path, state.drop_in.mode))
    if params.text is not None:
        return [*steps, Write(params.path, params.text, params.mode)]
    steps.append(Remove(params.path))
    if state.drop_in is not None and state.drop_in.alone and not params.backup:
        steps.append(RemoveDirectory(os.path.dirname(params.path)))
    return steps


def _shadowed(params: Params, sources: Sources) -> tuple[t.Mapping[str, t.Any], ...]:
    if not params.present:
        return ()
    found = shadowed(sources, params.path, params.settings)
    return tuple(_describe(params, setting, variable, winner) for setting, variable, winner in found)


def _describe(params: Params, setting: Setting, variable: str, winner: Assignment) -> t.Mapping[str, t.Any]:
    described: dict[str, t.Any] = {
        "section": setting.section,
        "option": setting.option,
        "file": winner.source,
        "line": winner.line,
    }
    if variable:
        described["variable"] = variable
    if not params.sensitive:
        described["value"] = winner.value
    return described


def _shadow_message(params: Params, shadow: t.Mapping[str, t.Any]) -> str:
    what = f"the variable {shadow['variable']}" if "variable" in shadow else f"the option {shadow['option']}"
    where = (
        f"line {shadow['line']} of {shadow['file']}"
        if shadow["line"]
        else f"{shadow['file']}, which systemd reads instead,"
    )
    remedy = "correct it in that file, or choose a 'name' that sorts later"
    if "variable" in shadow and shadow["line"] and not str(shadow["file"]).endswith((".conf", ".service")):
        # An environment file overrides every drop-in, whatever its name.
        remedy = "correct it in that file, or set the variable there ('switch.environment_file')"
    return f"{what} of {params.path} does not take effect: {where} overrides it; {remedy}"


def _is_stale(params: Params, sources: Sources, loaded: t.Sequence[Unit], reloaded: float) -> bool:
    """Whether systemd uses older settings than the files: it reports so itself, or a file changed since the last reload."""
    if not systemd_runs():
        return False
    if any(_is_unloaded(unit, params.path, sources) for unit in loaded):
        return True
    # NeedDaemonReload compares mtimes, which rsync -a and cp -p set back; ctimes cannot be set.
    return any(reloaded < changed <= time.time() for changed in map(_changed_at, sources.files))


def _is_unloaded(unit: Unit, path: str, sources: Sources) -> bool:
    if unit.properties["NeedDaemonReload"] == "yes":
        return True
    known = {os.path.realpath(loaded) for loaded in unit.drop_in_paths}
    if not os.path.lexists(path):
        return path in known
    return path in sources.files and os.path.realpath(path) not in known


def _outdated_options(
    params: Params, drop_in: File | None, loaded: t.Sequence[Unit], planned: Overlay, reloaded: float
) -> tuple[str, ...]:
    """Return the options, of the requested and the former settings, that are outdated in the running processes."""
    former = () if drop_in is None else parse(drop_in.text)
    settings = tuple(dict.fromkeys((*params.settings, *former)))
    found: dict[str, None] = {}
    for unit in loaded:
        sources = read_sources(unit.name, planned)
        written = max(map(_written_at, (*sources.files, *(file.path for file in sources.environment_files))))
        own = math.inf if math.isinf(reloaded) else _written_at(params.path)
        found.update(dict.fromkeys(outdated_options(unit, sources, settings, Moments(own, written, reloaded))))
    return tuple(found)


def _changed_at(path: str) -> float:
    try:
        return os.stat(path).st_ctime
    except OSError:
        return 0.0


def _written_at(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _revealer(params: Params) -> t.Callable[[str], str]:
    return (
        (lambda _words: "its message is hidden because it may contain a value")
        if params.sensitive
        else (lambda words: words)
    )


def _shown_options(options: t.Mapping[str, t.Any], params: Params) -> dict[str, t.Any]:
    if not params.sensitive:
        return dict(options)
    return {
        option: dict.fromkeys(value, HIDDEN) if isinstance(value, dict) else HIDDEN for option, value in options.items()
    }


def _shown_text(text: str, hide: bool) -> str:
    return f"{HIDDEN}\n" if text and hide else text
