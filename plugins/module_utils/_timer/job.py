# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Installs a job of the collection on a host: its program, its options and the units that start it. Never runs the job itself.

The options may name accounts, so only root can read them, and no diff shows them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import stat
import sys
import typing as t

from .._core.errors import SessionsError
from .._core.job import Report
from .._core.limits import MIB
from .._core.names import JOB_OPTIONS
from .._fs.ancestors import untrusted_writer, way_to
from .._fs.fdopen import make_directory, normal_path, opened_directory
from .._fs.files import read_held, remove_durably, write_atomic
from .._proc.command import run_checked
from .._systemd.file_steps import Reload, Remove
from .._systemd.unit import daemon_reload, parse_show, systemd_runs, unit_name
from .bundle import program_for
from .jobs import JOBS, SYSTEM_UNITS, Needs, name_of
from .units import Names, Schedule, names_of, unit_texts

PROGRAMS = "/usr/local/lib/whatsapp-ops"
UNITS = SYSTEM_UNITS
_INTERPRETER = "/usr/bin/python3"
_LARGEST = 16 * MIB  # bytes of a program
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}")
_PROPERTIES = (
    "Id LoadState ActiveState UnitFileState FragmentPath NeedDaemonReload Result NextElapseUSecRealtime "
    "ExecMainExitTimestamp"
).split()


class Wanted(t.NamedTuple):
    """A file as it should be."""

    path: str
    content: bytes
    mode: int


class Params(t.NamedTuple):
    """The requested job. ``stem``: of the names of its units. ``files``: all of them if ``present``, else none."""

    job: str
    stem: str
    present: bool
    program: str
    options_file: str
    files: tuple[Wanted, ...]
    needs: Needs
    started: tuple[str, ...]

    @property
    def names(self) -> Names:
        """The units that this job may have."""
        return names_of(self.stem)

    @property
    def own(self) -> tuple[str, ...]:
        """The paths of all files that belong to this job alone."""
        return (self.options_file, *(f"{UNITS}/{unit}" for unit in self.names))


class Found(t.NamedTuple):
    """A file as it is."""

    content: bytes
    mode: int
    owner: tuple[int, int]


class State(t.NamedTuple):
    """The files by path, the units by name with their properties, and whether another job on this host uses the same program."""

    files: t.Mapping[str, Found]
    units: t.Mapping[str, t.Mapping[str, str]]
    shared: bool


@dataclasses.dataclass(frozen=True)
class Write:
    """Write one file."""

    file: Wanted


@dataclasses.dataclass(frozen=True)
class Disable:
    """Stop these units and do not start them at boot any longer. The service itself is not interrupted."""

    units: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Start:
    """Start these units now and at each boot, with their current settings."""

    units: tuple[str, ...]


Step = t.Union[Write, Remove, Disable, Reload, Start]


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return Params for the options of the module session_timer. If present, ``options`` of the job are complete and validated."""
    job, given = str(options["job"]), dict(options.get("options") or {})
    present = options.get("state", "present") == "present"
    label = _label(job, options.get("name") or _default_name(given))
    stem, options_file = f"whatsapp-ops-{label}", f"{JOB_OPTIONS}/{label}.json"
    program = f"{PROGRAMS}/{job}.pyz"
    if not present:
        return Params(job, stem, False, program, options_file, (), Needs("", ()), ())
    entry = JOBS[job]
    module = entry.load()
    module.read_params(given)
    needs = entry.needs(given)
    command = (interpreter(), "-I", "-B", program, options_file)
    texts = unit_texts(stem, f"WhatsApp sessions: {job} of {needs.name}", command, needs, _schedule(options))
    code = program_for(".".join(t.cast("t.Any", module).__name__.rsplit(".", 2)[1:]))
    files = (
        Wanted(program, code, 0o755),
        Wanted(options_file, _document(given), 0o600),
        *(Wanted(f"{UNITS}/{unit}", text.encode(), 0o644) for unit, text in texts.items()),
    )
    names = names_of(stem)
    started = tuple(unit for unit in (names.timer, names.path) if unit in texts)
    return Params(job, stem, True, program, options_file, files, needs, started)


def _default_name(options: t.Mapping[str, t.Any]) -> str:
    """Return the name of the sessions path in ``options``."""
    path = options.get("path")
    if not path:
        raise SessionsError(
            "neither 'name' nor the option 'path' of the job is given, so it is unknown which job is meant"
        )
    return name_of(normal_path(str(path), "path"))


def interpreter() -> str:
    """Return the Python that runs the program: by its general name if it is the same, because that survives an upgrade."""
    with contextlib.suppress(OSError):
        if os.path.samefile(_INTERPRETER, sys.executable):
            return _INTERPRETER
    return sys.executable


def observe(params: Params) -> State:
    """Read the files and what systemd knows about the units; let systemd check the units if they would change."""
    if not systemd_runs():
        raise SessionsError("systemd does not run on this host, so it cannot run jobs; run on the booted host")
    files = {path: found for path in (params.program, *params.own) if (found := _read(path)) is not None}
    state = State(files, _read_units(params.names), _is_shared(params))
    if params.present:
        _require_trusted(params)
        _require_accepted(params, state)
    return state


def plan(state: State, params: Params) -> tuple[Step, ...]:
    """Return what has to be written, removed and started."""
    writes = [Write(file) for file in params.files if not _is_as(state.files.get(file.path), file)]
    kept = {file.path for file in params.files} | ({params.program} if state.shared else set())
    removed = [path for path in (params.program, *params.own) if path in state.files and path not in kept]
    units = _changed_units([*(step.file.path for step in writes), *removed])
    stopped = tuple(
        unit
        for unit in (params.names.path, params.names.settled, params.names.timer)
        if f"{UNITS}/{unit}" in removed or (unit not in params.started and _runs(state, unit) and not params.present)
    )
    started = tuple(
        unit
        for unit in params.started
        if unit in units or not _runs(state, unit) or state.units[unit]["UnitFileState"] != "enabled"
    )
    stale = any(unit["NeedDaemonReload"] == "yes" for unit in state.units.values())
    return (
        *((Disable(stopped),) if stopped else ()),
        *map(Remove, removed),
        *writes,
        *((Reload(),) if units or stale else ()),
        *((Start(started),) if started else ()),
    )


def diff(state: State, steps: tuple[Step, ...], params: Params) -> t.Sequence[t.Mapping[str, t.Any]]:
    """Return each file before and after: units as texts, the program and the options as digests."""
    shown = []
    for step in steps:
        if isinstance(step, Write):
            path, after = step.file.path, _shown(step.file.path, step.file.content)
        elif isinstance(step, Remove):
            path, after = step.path, ""
        else:
            continue
        found = state.files.get(path)
        before = "" if found is None else _shown(path, found.content)
        shown.append({"before_header": path, "after_header": path, "before": before, "after": after})
    return shown


def apply(steps: tuple[Step, ...], state: State, params: Params) -> None:
    """Carry out the steps."""
    for step in steps:
        if isinstance(step, Write):
            private = step.file.path == params.options_file
            make_directory(os.path.dirname(step.file.path), 0o700 if private else 0o755, uid=0, gid=0)
            write_atomic(step.file.path, step.file.content, step.file.mode)
        elif isinstance(step, Remove):
            remove_durably(step.path)
        elif isinstance(step, Disable):
            run_checked(["systemctl", "disable", "--now", "--", *step.units], purpose="stop the timer of the job")
        elif isinstance(step, Reload):
            _make_places(params)
            daemon_reload()
        else:
            run_checked(["systemctl", "enable", "--", *step.units], purpose="start the timer of the job at boot")
            run_checked(["systemctl", "restart", "--", *step.units], purpose="start the timer of the job")
    if not params.present and steps:
        _forget(params)


def verify(state: State, params: Params) -> None:
    """Raise SessionsError if systemd does not use the units as they were written."""
    for path, unit in ((f"{UNITS}/{name}", state.units[name]) for name in params.names):
        wanted = any(file.path == path for file in params.files)
        if wanted and unit["FragmentPath"] != path:
            raise SessionsError(
                f"systemd does not use {path}, but {unit['FragmentPath'] or 'no file'}; remove the other file and run again"
            )
    for name in params.started:
        if not _runs(state, name):
            raise SessionsError(f"{name} does not run although it was started; see 'systemctl status {name}'")
    if params.names.timer in params.started and not state.units[params.names.timer]["NextElapseUSecRealtime"]:
        raise SessionsError(f"{params.names.timer} will never elapse; give an 'on_calendar' that is in the future")


def report(params: Params, state: State, steps: tuple[Step, ...], evidence: None) -> Report:
    """Report the units and the outcome of the last run, as systemd knows them."""
    service, timer = state.units[params.names.service], state.units[params.names.timer]
    failed = params.present and service["ActiveState"] == "failed"
    values = {
        "unit": params.names.service,
        "program": params.program,
        "options_file": params.options_file,
        "started": list(params.started),
        "next_run": timer["NextElapseUSecRealtime"],
        "last_run": service["ExecMainExitTimestamp"],
        "last_result": service["Result"] if service["ExecMainExitTimestamp"] else "",
        "failed": failed,
    }
    sentence = (
        f"the last run of {params.names.service} failed ({service['Result']}); see 'systemctl status' of that unit"
    )
    return Report(values, (sentence,) if failed else ())


def _label(job: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise SessionsError(
            f"'name' is {name!r}, which cannot be part of the name of a unit; use at most 120 letters, digits and ._-"
        )
    return f"{job}-{name}"


def _schedule(options: t.Mapping[str, t.Any]) -> Schedule:
    given = {name: str(options.get(name) or "") for name in ("on_calendar", "randomized_delay", "settle")}
    hooks = {name: unit_name(str(options[name])) for name in ("on_success", "on_failure") if options.get(name)}
    watch = tuple(normal_path(str(path), "watch") for path in options.get("watch") or ())
    return Schedule(watch=watch, **given, **hooks)


def _document(options: t.Mapping[str, t.Any]) -> bytes:
    return json.dumps(options, sort_keys=True, indent=1).encode() + b"\n"


def _read(path: str) -> Found | None:
    held = read_held(path, at_most=_LARGEST)
    if held is None:
        return None
    status = held.status
    return Found(held.content, stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid))


def _read_units(names: Names) -> dict[str, dict[str, str]]:
    shown = run_checked(
        ["systemctl", "show", f"--property={','.join(_PROPERTIES)}", "--", *names], purpose="query the units of the job"
    )
    blocks = map(parse_show, shown.stdout.split("\n\n"))
    empty = dict.fromkeys(_PROPERTIES, "")
    return {name: {**empty, **block} for name, block in zip(names, blocks)}


def _is_shared(params: Params) -> bool:
    """Whether the options of the same job for another path are on this host."""
    try:
        with opened_directory(JOB_OPTIONS) as directory:
            names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return False
    own = os.path.basename(params.options_file)
    return any(name.startswith(f"{params.job}-") and name.endswith(".json") and name != own for name in names)


def _require_trusted(params: Params) -> None:
    """Raise SessionsError if a user other than root could replace what root is going to run."""
    for path in (sys.executable, params.program, params.options_file):
        who = untrusted_writer(way_to(os.path.realpath(path)), (0,))
        if who:
            raise SessionsError(
                f"root would run {path} regularly, but another user could replace it: {who}; remove that permission "
                "(chown root, chmod go-w), or set ansible_python_interpreter if it is about Python, and run again"
            )


def _require_accepted(params: Params, state: State) -> None:
    """Raise SessionsError if systemd would reject a unit that differs from what is installed."""
    units = {os.path.basename(file.path): file for file in params.files if os.path.basename(file.path) in params.names}
    if all(_is_as(state.files.get(file.path), file) for file in units.values()):
        return
    from .._systemd.verify import verify_units

    verify_units({name: file.content.decode() for name, file in units.items()})


def _is_as(found: Found | None, wanted: Wanted) -> bool:
    return found == Found(wanted.content, wanted.mode, (0, 0))


def _changed_units(paths: t.Iterable[str]) -> set[str]:
    return {os.path.basename(path) for path in paths if path.startswith(f"{UNITS}/")}


def _runs(state: State, unit: str) -> bool:
    return state.units[unit]["ActiveState"] == "active"


def _shown(path: str, content: bytes) -> str:
    if path.startswith(f"{UNITS}/"):
        return content.decode("utf-8", "replace")
    return f"{len(content)} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}\n"


def _make_places(params: Params) -> None:
    """Create the directories that the service may write to: without them, systemd could not start it."""
    for path in params.needs.writes if params.present else ():
        make_directory(path, 0o700, uid=0, gid=0)


def _forget(params: Params) -> None:
    """Make systemd forget a failure of the removed service, and remove the directories if nothing else is in them."""
    from .._proc.command import run

    run(["systemctl", "reset-failed", "--", params.names.service])
    for directory in (PROGRAMS, JOB_OPTIONS):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
