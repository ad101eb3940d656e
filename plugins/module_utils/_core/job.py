# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The common sequence of every module: read params, observe, plan, apply, verify, report.

A job is a Python module (``_directory.job``, ``_systemd.drop_in``, ...) with the functions of ``Job``. ``plan`` is pure, so that check
mode, diff mode and idempotence share one code path. Nothing here depends on a particular job.

Imports that only ``apply`` needs are made there and not at the top of a file, because a host compiles them again in each call of a module:
otherwise a call that finds nothing to do would take a quarter more CPU time.
"""

from __future__ import annotations

import typing as t


class Report(t.NamedTuple):
    """The result of a job: return values of the module (metadata only) and warnings, one sentence each."""

    values: t.Mapping[str, t.Any]
    warnings: tuple[str, ...] = ()


# One or several differences, each with the keys ``before`` and ``after``.
Diff = t.Union[t.Mapping[str, t.Any], t.Sequence[t.Mapping[str, t.Any]]]


class Outcome(t.NamedTuple):
    """A finished job."""

    changed: bool
    diff: Diff
    report: Report


class Job(t.Protocol):
    """The functions that a job's module defines. ``Any`` stands for the job's own Params, State and Step types."""

    def read_params(self, options: t.Mapping[str, t.Any]) -> t.Any:
        """Return the typed parameters from a module's options; raise SessionsError for values that are invalid on any host."""

    def observe(self, params: t.Any) -> t.Any:
        """Return the state of the host. Reads only."""

    def plan(self, state: t.Any, params: t.Any) -> tuple[t.Any, ...]:
        """Return the steps to take. Pure: no access to the host.

        A step may have a true attribute ``bookkeeping`` if it only records observations: then it does not count as a change.
        """

    def diff(self, state: t.Any, steps: tuple[t.Any, ...], params: t.Any) -> Diff:
        """Return ``before``, and ``after`` as it will be after the steps. Pure, metadata only."""

    def apply(self, steps: tuple[t.Any, ...], state: t.Any, params: t.Any) -> t.Any:
        """Carry out the steps; return the evidence that ``report`` needs (for example timings)."""

    def verify(self, state: t.Any, params: t.Any) -> None:
        """Raise SessionsError if the state read back is not the intended one."""

    def report(self, params: t.Any, state: t.Any, steps: tuple[t.Any, ...], evidence: t.Any) -> Report:
        """Return the state (after the steps, or before them in check mode); ``evidence`` is None if nothing was applied."""


def _no_steps(state: t.Any, params: t.Any) -> tuple[t.Any, ...]:
    return ()


def _no_diff(state: t.Any, steps: tuple[t.Any, ...], params: t.Any) -> Diff:
    return {}


def _no_apply(steps: tuple[t.Any, ...], state: t.Any, params: t.Any) -> None:
    """Never called: there are no steps."""


def _no_verify(state: t.Any, params: t.Any) -> None:
    """Never called: there are no steps."""


# ``plan``, ``diff``, ``apply`` and ``verify`` of a job that changes nothing.
LOOKS_ONLY = _no_steps, _no_diff, _no_apply, _no_verify


def execute(job: Job, options: t.Mapping[str, t.Any], *, check_mode: bool) -> Outcome:
    """Run one job from options to outcome. In check mode nothing is applied or verified.

    A job may have a function ``rehearse``, which takes State and Params: in check mode it examines what the real run sees only later, and
    returns the resulting State, or raises the same errors as the real run. It may also have ``observe_again``, which takes both and
    returns the State after the steps: for a job that changes little of what it observes.
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
    observe_again = getattr(job, "observe_again", None)
    after = observe_again(before, params) if observe_again is not None else job.observe(params)
    job.verify(after, params)
    return Outcome(changed, difference, job.report(params, after, steps, evidence))
