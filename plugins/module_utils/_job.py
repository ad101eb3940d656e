# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The one way in which every module works: read params, observe, plan, apply, verify, report.

A job is a Python module (``_dir``, ``_override``, ...) that has the functions of ``Job``. ``plan`` is pure, so check mode,
diff mode and idempotence are the same code path. Nothing here may know what a job is about.

What only carrying out needs is imported there and not at the top of a file. A host compiles what it imports anew in each call of a
module: without this a call that finds nothing to do would take a quarter more of its CPU.
"""

from __future__ import annotations

import typing as t


class Report(t.NamedTuple):
    """What a job tells: return values of the module (metadata only) and warnings, one sentence each."""

    values: t.Mapping[str, t.Any]
    warnings: tuple[str, ...] = ()


# One difference, or several: each has the keys ``before`` and ``after``.
Diff = t.Union[t.Mapping[str, t.Any], t.Sequence[t.Mapping[str, t.Any]]]


class Outcome(t.NamedTuple):
    """A finished job."""

    changed: bool
    diff: Diff
    report: Report


class Job(t.Protocol):
    """What a job's module has to define. ``Any`` stands for the job's own Params, State and Step types."""

    def read_params(self, options: t.Mapping[str, t.Any]) -> t.Any:
        """Make the typed parameters from a module's options; raise SessionsError for what no host could accept."""

    def observe(self, params: t.Any) -> t.Any:
        """Look at the host. Reads only."""

    def plan(self, state: t.Any, params: t.Any) -> tuple[t.Any, ...]:
        """Say what has to be done. Pure: no look at the host, nothing written.

        A step may have an attribute ``bookkeeping``, true when it only writes down what was seen: it does not count as a change.
        """

    def diff(self, state: t.Any, steps: tuple[t.Any, ...], params: t.Any) -> Diff:
        """Give ``before`` and ``after`` as the steps would make it. Pure, metadata only."""

    def apply(self, steps: tuple[t.Any, ...], state: t.Any, params: t.Any) -> t.Any:
        """Carry the steps out; return whatever evidence ``report`` needs (timings, say)."""

    def verify(self, state: t.Any, params: t.Any) -> None:
        """Raise SessionsError when the state read back is not what was promised."""

    def report(self, params: t.Any, state: t.Any, steps: tuple[t.Any, ...], evidence: t.Any) -> Report:
        """Describe the state (after the steps, or before them in check mode); ``evidence`` is None when nothing was applied."""


def execute(job: Job, options: t.Mapping[str, t.Any], *, check_mode: bool) -> Outcome:
    """Run one job from options to outcome. In check mode nothing is applied and nothing verified.

    A job may have a function ``rehearse``: it takes State and Params, looks in check mode at what the real run sees only on its way,
    and returns the State by which it would go on, or raises what that would raise.
    """
    params = job.read_params(options)
    before = job.observe(params)
    steps = job.plan(before, params)
    rehearse = getattr(job, "rehearse", None)
    if check_mode and steps and rehearse is not None:
        before = rehearse(before, params)
        steps = job.plan(before, params)
    difference = job.diff(before, steps, params)
    changed = any(not getattr(step, "bookkeeping", False) for step in steps)
    if check_mode or not steps:
        return Outcome(changed, difference, job.report(params, before, steps, None))
    evidence = job.apply(steps, before, params)
    after = job.observe(params)
    job.verify(after, params)
    return Outcome(changed, difference, job.report(params, after, steps, evidence))
