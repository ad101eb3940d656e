# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks of the collection, run against the test host as an operator runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t

from hostkit import REPOSITORY, Host

HEALTH = "http://127.0.0.1:8080/health"


class Play(t.NamedTuple):
    """A finished run of ansible-playbook."""

    rc: int
    output: str

    @property
    def changed(self) -> int:
        """How many tasks changed something."""
        return int(self.output.rsplit("changed=", 1)[1].split()[0])


def play(host: Host, name: str, *options: str, **settings: t.Any) -> Play:
    """Run a playbook of the collection with ``settings`` as extra variables."""
    command = [
        *(os.path.join(os.path.dirname(sys.executable), "ansible-playbook"), f"whatsapp_ops.sessions.{name}"),
        *("--inventory", str(REPOSITORY / "tests" / "lab" / "inventory.py")),
        *("--extra-vars", json.dumps({"wa_health_url": HEALTH, **settings})),
        *options,
    ]
    environment = {
        **host.environment,
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "playbooks" / "collections"),
        "ANSIBLE_NOCOLOR": "1",
    }
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Play(done.returncode, done.stdout + done.stderr)


def module_calls(host: Host) -> int:
    """Count the modules that Ansible ever ran on the host, by what each writes to the journal there."""
    entries = host.sh("journalctl --sync; journalctl --output=json --output-fields=SYSLOG_IDENTIFIER --no-pager")
    return entries.count('"SYSLOG_IDENTIFIER":"ansible-')
