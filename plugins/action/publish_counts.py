# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishes the counts of a run for the next step of a workflow, on the controller."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._awx import job_of, slice_of
from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._counts import Counts, checked, in_words, worked

_KEY = "whatsapp_ops"
_STAGES: dict[str, t.Callable[[str, t.Sequence[t.Mapping[str, t.Any]]], Counts]] = {
    "checked": checked,
    "worked": worked,
}


class ActionModule(ActionBase):
    """Sum up the results of hosts in one run on the controller."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(("playbook", "stage", "results_of", "counts"))
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Return the counts as statistics of the run, which AWX and ansible-runner keep as artifacts."""
        result: dict[str, t.Any] = {**super().run(tmp, task_vars), "changed": False}
        variables = task_vars or {}
        arguments = self._task.args
        playbook, hosts = (
            str(arguments["playbook"]),
            arguments.get("results_of", variables.get("ansible_play_hosts_all")),
        )
        results = [variables["hostvars"].raw_get(host) for host in hosts or ()]
        known = {name: int(count) for name, count in (arguments.get("counts") or {}).items()}
        counts = {**_STAGES[str(arguments["stage"])](playbook, results), **known}
        text = in_words(counts)
        published = {_key(variables): {**_earlier(variables), playbook: {**counts, "text": text}}}
        stats = {"data": published, "per_host": False, "aggregate": True}
        return {**result, "counts": counts, "text": text, "ansible_stats": stats}


def _key(variables: t.Mapping[str, t.Any]) -> str:
    """Return the name of the artifact. AWX keeps one artifact of each name, so each slice has its own."""
    return f"{_KEY}_{job_of(variables)}" if slice_of(variables) else _KEY


def _earlier(variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Return what earlier steps of the workflow published: AWX passes their artifacts on as variables."""
    earlier = variables.get(_KEY)
    return dict(earlier) if isinstance(earlier, t.Mapping) else {}
