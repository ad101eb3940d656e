# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks of the collection, run against the test host as an operator runs them."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import typing as t

from hostkit import REPOSITORY, SECONDS, Host

HEALTH = "http://127.0.0.1:8080/health"
# How the backend's accounts are kept, told as for a library that the collection does not know.
DESCRIBED: t.Final = {"wa_layout": "custom", "wa_layout_custom": {"markers": ["creds.json"]}}


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
    done = subprocess.run(
        command(name, *options, **settings),
        env=environment(host),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return Play(done.returncode, done.stdout + done.stderr)


def play_at_terminal(host: Host, name: str, *, question: str, answer: str, **settings: t.Any) -> Play:
    """The same at a terminal, where ``answer`` is typed when ``question`` is asked."""
    terminal, its_side = os.openpty()
    argv = ["setsid", "--ctty", *command(name, **settings)]
    running = subprocess.Popen(argv, env=environment(host), stdin=its_side, stdout=its_side, stderr=its_side)
    os.close(its_side)
    try:
        output = _typed(terminal, question.encode(), answer.encode() + b"\r")
        return Play(running.wait(SECONDS), output.decode())
    finally:
        running.kill()
        running.wait()
        os.close(terminal)


def _typed(terminal: int, question: bytes, answer: bytes) -> bytes:
    output = b""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if not select.select([terminal], [], [], 0.5)[0]:
            if question in output:  # what is typed too early is thrown away, so it is typed until it is taken
                os.write(terminal, answer)
            continue
        try:
            output += os.read(terminal, 4096)
        except OSError:  # how a terminal says that the last one has left it
            break
    return output


def command(name: str, *options: str, **settings: t.Any) -> list[str]:
    """The command that runs a playbook of the collection."""
    return [
        *(os.path.join(os.path.dirname(sys.executable), "ansible-playbook"), f"whatsapp_ops.sessions.{name}"),
        *("--inventory", str(REPOSITORY / "tests" / "lab" / "inventory.py")),
        *("--extra-vars", json.dumps({"wa_health_url": HEALTH, **settings})),
        *options,
    ]


def environment(host: Host) -> dict[str, str]:
    return {
        **host.environment,
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "playbooks" / "collections"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACK_PLUGINS": str(REPOSITORY / "tests" / "tools" / "callbacks"),
        "ANSIBLE_CALLBACKS_ENABLED": "kept_payloads",
        "KEPT_PAYLOADS": str(REPOSITORY / ".work" / "cache" / "payloads"),
    }


def module_calls(host: Host) -> int:
    """Count the modules that Ansible ever ran on the host, by what each writes to the journal there."""
    entries = host.sh("journalctl --sync; journalctl --output=json --output-fields=SYSLOG_IDENTIFIER --no-pager")
    return entries.count('"SYSLOG_IDENTIFIER":"ansible-')
