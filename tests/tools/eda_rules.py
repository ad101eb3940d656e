# SPDX-License-Identifier: GPL-3.0-or-later
"""Derives the rulebooks of extensions/eda from the playbooks that exist. Nothing is written here."""

from __future__ import annotations

import typing as t

from awx_definitions import ORGANIZATION, PREFIX, Playbook, Spec

# For each event: the playbook that handles it, and how often at most for one host.
EVENTS = {
    "unhealthy": ("verify", "5 minutes"),
    "disconnected": ("restart", "30 minutes"),
    "accounts_missing": ("recover", "30 minutes"),
    "backup_failed": ("backup", "60 minutes"),
}
# One plain host name: a pattern would reach other hosts.
FROM_ONE_HOST = (
    'event.payload.host is match("^[A-Za-z0-9][A-Za-z0-9_.-]*$") and event.payload.host not in ["all", "ungrouped"]'
)
SOURCE = {
    "name": "Reports of hosts and monitoring",
    "eda.builtin.webhook": {
        "host": "{{ listen_address | default('127.0.0.1') }}",
        "port": "{{ listen_port | default(5000) }}",
        "token": "{{ webhook_token }}",
    },
}


def by_job_template(playbook: Playbook) -> Spec:
    arguments = {"limit": "{{ event.payload.host }}"}
    return {"run_job_template": {"name": PREFIX + playbook.name, "organization": ORGANIZATION, "job_args": arguments}}


def by_playbook(playbook: Playbook) -> Spec:
    name = f"whatsapp_ops.sessions.{playbook.name}"
    return {"run_playbook": {"name": name, "extra_vars": {"wa_hosts": "{{ event.payload.host }}"}}}


def rulebook(known: dict[str, Playbook], action: t.Callable[[Playbook], Spec]) -> list[Spec]:
    """Return a rulebook with one rule for each event whose playbook exists."""
    rules = [rule(event, action(known[name]), within) for event, (name, within) in EVENTS.items() if name in known]
    return [{"name": "Handle reports about WhatsApp backends", "hosts": "all", "sources": [SOURCE], "rules": rules}]


def rule(event: str, action: Spec, within: str) -> Spec:
    return {
        "name": f"Handle {event.replace('_', ' ')}",
        "condition": f'event.payload.event == "{event}" and {FROM_ONE_HOST}',
        "throttle": {"once_within": within, "group_by_attributes": ["event.payload.host", "event.payload.event"]},
        "action": action,
    }
