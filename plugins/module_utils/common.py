# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The only file in module_utils that knows Ansible: turns a job into a module run."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ._errors import SessionsError
from ._job import Job, execute


def run_module(job: Job, argument_spec: t.Mapping[str, t.Any], **rules: t.Any) -> t.NoReturn:
    """Run ``job`` as a module. ``rules`` are AnsibleModule's own (``required_if``, ``mutually_exclusive``, ...)."""
    module = AnsibleModule(argument_spec=dict(argument_spec), supports_check_mode=True, **rules)
    try:
        outcome = execute(job, module.params, check_mode=module.check_mode)
    except SessionsError as error:
        module.fail_json(msg=str(error), **error.facts)
    for warning in outcome.report.warnings:
        module.warn(warning)
    module.exit_json(changed=outcome.changed, diff=outcome.diff, **outcome.report.values)
