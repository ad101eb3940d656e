# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists running hosts in the format of an Ansible inventory script."""

from __future__ import annotations

import shlex

from . import host
from .layout import Lab


def as_script(lab: Lab) -> dict[str, object]:
    hosts = [host.load(lab, name) for name in host.names(lab)]
    suites = sorted({item.suite for item in hosts})
    return {
        "_meta": {
            "hostvars": {item.name: {"ansible_host": item.address, "lab_root": str(item.root(lab))} for item in hosts}
        },
        "lab": {"children": suites, "vars": _connection(lab)},
        **{suite: {"hosts": [item.name for item in hosts if item.suite == suite]} for suite in suites},
    }


def _connection(lab: Lab) -> dict[str, str]:
    return {
        "ansible_user": "ansible",
        "ansible_ssh_private_key_file": str(lab.key),
        "ansible_ssh_common_args": shlex.join(["-F", "none", *host.ssh_options(lab)]),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
