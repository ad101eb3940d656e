# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job behind session_metrics: writes the metrics of this host for node_exporter.

Other users read the file, so it contains masked IDs only. It is rewritten in each run, because its age shows whether the job still runs.
"""

from __future__ import annotations

import dataclasses
import os
import typing as t

from .._accounts.control_directory import control_path
from .._core.errors import SessionsError
from .._core.job import Report
from .._core.limits import MIB
from .._core.printable import printable
from .._fs.fdopen import normal_path
from .._fs.files import read_held, write_atomic
from . import job as report_job
from .metrics import text_of_metrics

_LARGEST = 64 * MIB  # bytes: a thousand accounts have about a million
_MODE = 0o644


class Params(t.NamedTuple):
    """The options: what is reported, and the file that is written."""

    report: report_job.Params
    file: str


class State(t.NamedTuple):
    """The metrics as they are and as they were written last, None if they were not."""

    text: str
    written: str | None


@dataclasses.dataclass(frozen=True)
class Write:
    """Write the file. ``bookkeeping``: nothing in it changes but its time."""

    text: str = dataclasses.field(repr=False)
    bookkeeping: bool


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the typed parameters; raise SessionsError for invalid ones."""
    directory = normal_path(options["directory"], "directory")
    report = report_job.read_params({**options, "show_accounts": False, "history_days": 0})
    return Params(report, f"{directory}/{file_name(report.info.path)}")


def file_name(path: str) -> str:
    """Return the name of the file for the sessions path ``path``; several paths of a host have different ones."""
    return f"whatsapp-sessions-{os.path.basename(control_path(path)).strip('.')}.prom"


def observe(params: Params) -> State:
    """Look at the host. Raises SessionsError if the directory does not exist.

    The directory may belong to the user of node_exporter, so what is in it is shown only if root wrote it.
    """
    directory = os.path.dirname(params.file)
    if not os.path.isdir(directory):
        raise SessionsError(
            f"the directory {directory} does not exist; install node_exporter, or set directory to the one of its textfile collector"
        )
    held = read_held(params.file, at_most=_LARGEST)
    own = held is not None and held.status.st_uid == os.geteuid() and held.status.st_nlink == 1
    made = report_job.report(params.report, report_job.observe(params.report), (), None).values["record"]
    return State(text_of_metrics(printable(made)), held.content.decode("utf-8", "replace") if held and own else None)


def plan(state: State, params: Params) -> tuple[Write, ...]:
    """Return the one step of each run."""
    return (Write(state.text, bookkeeping=state.text == state.written),)


def diff(state: State, steps: tuple[Write, ...], params: Params) -> t.Mapping[str, t.Any]:
    """Return the metrics before and after, which contain masked IDs only."""
    return {
        "before": state.written or "",
        "after": state.text,
        "before_header": params.file,
        "after_header": params.file,
    }


def apply(steps: tuple[Write, ...], state: State, params: Params) -> None:
    """Write the file atomically, readable by everybody."""
    for step in steps:
        write_atomic(params.file, step.text.encode(), _MODE, uid=os.geteuid(), gid=os.getegid())


def verify(state: State, params: Params) -> None:
    """Check nothing: a failed write raises."""


def report(params: Params, state: State, steps: tuple[Write, ...], evidence: t.Any) -> Report:
    """Return where the metrics are and how many there are."""
    samples = sum(not line.startswith("#") for line in state.text.splitlines())
    return Report({"file": params.file, "samples": samples})
