# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Reads what AWX states about the job in which a playbook runs."""

from __future__ import annotations

import typing as t

Variables = t.Mapping[str, t.Any]


def slice_of(variables: Variables) -> str:
    """Return the name of the job template of which this job is one slice; '' if the job is whole, or not a job of AWX.

    AWX runs slices as a workflow with the name of the job template, and gives a job no other hint.
    """
    workflow, template = (_stated(variables, f"{kind}_name") for kind in ("workflow_job", "job_template"))
    return template if template == workflow else ""


def job_of(variables: Variables) -> str:
    """Return the number of the job as text; '' without AWX."""
    return _stated(variables, "job_id")


def _stated(variables: Variables, name: str) -> str:
    """Return a variable of the job. Older releases give both prefixes, newer ones may be set up to omit ``awx``."""
    return str(variables.get(f"tower_{name}") or variables.get(f"awx_{name}") or "")
