# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks the fleet-wide settings of a playbook on the controller, before connecting to any host."""

from __future__ import annotations

import copy
import difflib
import functools
import pathlib
import typing as t

import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._awx import job_of, slice_of
from ansible_collections.whatsapp_ops.sessions.plugins.plugin_utils._settings import Option, complaint, is_given

_SPECS = pathlib.Path(__file__).resolve().parents[2] / "playbooks" / "argument_specs"
_PREFIX = "wa_"
# Playbooks with one of these settings change one host depending on others, so all hosts have to be in the same job.
_OF_ALL_HOSTS = ("wa_serial", "wa_move_from")
Options = t.Mapping[str, Option]


class ActionModule(ActionBase):
    """Check the settings of all hosts of the play in one run on the controller."""

    TRANSFERS_FILES = False
    _VALID_ARGS = frozenset(("playbook",))
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Fail with the first invalid setting, and warn of settings that no playbook has."""
        result: dict[str, t.Any] = {**super().run(tmp, task_vars), "changed": False}
        variables = task_vars or {}
        playbook = str(self._task.args["playbook"])
        left_out = self._left_out_by_tags(variables)
        if left_out:
            return {**result, "warnings": [f"{left_out}, so the playbook {playbook} does nothing"]}
        options = _options_of(playbook)
        self._refuse_slice(options, variables)
        _refuse_hidden(options, variables, self._loader)
        for name, option in options.items():
            self._check(name, self._value(name, variables), option)
        unknown = self._check_each_host(options, variables)
        warnings = [warning for name in sorted(unknown) for warning in _unknown(name)]
        return {**result, **({"warnings": warnings} if warnings else {})}

    def _refuse_slice(self, options: Options, variables: t.Mapping[str, t.Any]) -> None:
        """Fail in a slice of an AWX job that would change hosts in an order: slices do not wait for each other."""
        template = slice_of(variables)
        if template and not self._task.check_mode and any(name in options for name in _OF_ALL_HOSTS):
            raise AnsibleActionFail(
                f"this job is one slice of {template}, and slices do not stop when hosts of another slice fail, so nothing was"
                " changed; set its number of slices to 1 and run it again"
            )

    def _check_each_host(self, options: Options, variables: t.Mapping[str, t.Any]) -> set[str]:
        """Check the settings of each host that are not templates, which would cost as much as a task; return names not in ``options``."""
        unknown: set[str] = set()
        checked: dict[str, t.Any] = {}
        for host in variables.get("ansible_play_hosts") or ():
            raw = variables["hostvars"].raw_get(host)
            for name in (name for name in raw if isinstance(name, str) and name.startswith(_PREFIX)):
                if name not in options:
                    unknown.add(name)
                elif name not in checked or checked[name] != raw[name]:
                    checked[name] = raw[name]
                    if not self._templar.is_template(raw[name]):
                        self._check(f"{name} of {host}", raw[name], options[name])
        return unknown

    def _left_out_by_tags(self, variables: t.Mapping[str, t.Any]) -> str:
        """Return a clause if the tags of the command line leave only this task, which always runs; '' otherwise.

        If an operator's own playbook imports this one with tags, this task has them as well.
        """
        wanted = set(variables.get("ansible_run_tags") or ["all"])
        own = set(self._task.tags) - {"always"}
        if wanted & {"all", *own} or ("tagged" in wanted and own) or ("untagged" in wanted and not own):
            return ""
        return f"no task has the tag {' or '.join(sorted(wanted))}"

    def _value(self, name: str, variables: t.Mapping[str, t.Any]) -> t.Any:
        return self._templar.template(variables[name]) if name in variables else None

    @staticmethod
    def _check(name: str, value: t.Any, option: Option) -> None:
        wrong = complaint(name, value, option)
        if wrong:
            raise AnsibleActionFail(f"{wrong}; nothing was changed: correct that and run again")


def _refuse_hidden(options: Options, variables: t.Mapping[str, t.Any], loader: t.Any) -> None:
    """Fail in AWX if a question without an answer, which is passed as an empty text, hides a setting of a host."""
    empty = [name for name in options if job_of(variables) and variables.get(name) == ""]
    if not empty:
        return
    hostvars = variables["hostvars"]
    without = copy.copy(hostvars._variable_manager)
    without._loader = loader  # lost on the way to the process of a task, before ansible-core 2.19
    without._extra_vars = {name: value for name, value in without._extra_vars.items() if name not in empty}
    for host in variables.get("ansible_play_hosts") or ():
        held = without.get_vars(host=hostvars._inventory.get_host(host), include_hostvars=False)
        for name in (name for name in empty if is_given(held.get(name))):
            raise AnsibleActionFail(
                f"{name} has no answer in the survey, which hides the value that the inventory has for {host}, so nothing was"
                " changed; answer it, or remove the question from the survey"
            )


def _unknown(name: str) -> t.Iterator[str]:
    known = _all_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        yield f"there is no setting {name}, so it is ignored" + (f"; did you mean {near[0]}?" if near else "")


def _options_of(playbook: str) -> Options:
    spec = yaml.safe_load((_SPECS / f"{playbook}.yml").read_text(encoding="utf-8"))
    options: Options = spec["argument_specs"][playbook]["options"]
    return options


@functools.cache
def _all_names() -> tuple[str, ...]:
    """Return the settings of all playbooks: a setting of another playbook is not a mistake."""
    names = {name for spec in _SPECS.glob("*.yml") for name in _options_of(spec.stem)}
    return tuple(sorted(names))
