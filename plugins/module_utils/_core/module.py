# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Runs a job as an Ansible module; the only file in module_utils that imports Ansible."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .errors import SessionsError
from .job import Job, execute
from .printable import printable, printable_diff
from .unforeseen import unforeseen
from .zip_imports import loaded

# Options with names of accounts, which are often phone numbers.
_ACCOUNT_NAMES = ("accounts", "expected")
# Options that contain the options of another module, with that module's argument spec and rules.
Nested = t.Mapping[str, tuple[t.Mapping[str, t.Any], t.Mapping[str, t.Any]]]
# The same if the options of the module select which other module that is.
Selected = t.Callable[[t.Mapping[str, t.Any]], Nested]


def run_module(
    job: Job, argument_spec: t.Mapping[str, t.Any], nested: Nested | Selected | None = None, **rules: t.Any
) -> t.NoReturn:
    """Run ``job`` as a module. ``rules``: those of AnsibleModule (``required_if``, ``mutually_exclusive``, ...).

    ``nested``: by dotted option name, for options (dicts, or lists of dicts) that contain the options of another module.
    """
    loaded()
    select = nested if callable(nested) else lambda options: nested or {}
    module = _Module(select, argument_spec=dict(argument_spec), supports_check_mode=True, **rules)
    outcome, message, facts = None, "", t.cast("dict[str, t.Any]", {})
    try:
        options = module.params
        for option, (spec, their_rules) in select(module.params).items():
            options = _read_nested(module, options, option.split("."), spec, their_rules)
        outcome = execute(job, options, check_mode=module.check_mode)
    except SessionsError as error:
        message, facts = str(error), error.facts
    except Exception as error:
        message, facts = unforeseen(error), {}
    if outcome is not None:
        for warning in outcome.report.warnings:
            module.warn(printable(warning))
        # Values keep tabs, because callers compare them.
        diff, values = printable_diff(outcome.diff), printable(outcome.report.values, kept="\t")
        module.exit_json(changed=outcome.changed, diff=diff, **values)
    # Fail only here, with no exception pending: with -vvv Ansible adds the traceback of a pending exception to the result, and its
    # messages (and those of its causes) contain file names from inside accounts.
    module.fail_json(msg=printable(message), **printable(facts))


def _read_nested(
    module: AnsibleModule,
    options: t.Mapping[str, t.Any],
    way: t.Sequence[str],
    spec: t.Mapping[str, t.Any],
    rules: t.Mapping[str, t.Any],
) -> dict[str, t.Any]:
    """Validate and complete the options at ``way`` like the module that they belong to."""
    given = options.get(way[0])
    if given is None:
        return dict(options)
    if len(way) > 1:
        return {**options, way[0]: _read_nested(module, given, way[1:], spec, rules)}
    if isinstance(given, list):
        return {**options, way[0]: [_validated(module, item, way[0], spec, rules) for item in given]}
    return {**options, way[0]: _validated(module, given, way[0], spec, rules)}


def _validated(
    module: AnsibleModule,
    given: t.Mapping[str, t.Any],
    option: str,
    spec: t.Mapping[str, t.Any],
    rules: t.Mapping[str, t.Any],
) -> dict[str, t.Any]:
    result = ArgumentSpecValidator(dict(spec), **rules).validate(dict(given))
    if result.error_messages:
        raise SessionsError(f"in option {option!r}: {result.error_messages[0]}; nothing was changed")
    validated: dict[str, t.Any] = result.validated_parameters
    return validated


class _Module(AnsibleModule):
    def __init__(self, select: Selected, **settings: t.Any) -> None:
        self._select = select
        super().__init__(**settings)

    def add_path_info(self, kwargs: dict[str, t.Any]) -> dict[str, t.Any]:
        """Finish a result: at -vvv, add the options that may be shown, without sensitive ones.

        Otherwise they would be half of the result of a host in the events that AWX stores, where no one sees them.
        AnsibleModule's own method would overwrite the predicted owner and mode of ``path`` with the current ones in check mode.
        """
        is_shown = getattr(self, "_verbosity", 0) > 2
        kwargs.setdefault("invocation", {"module_args": _shown(self.params)} if is_shown else {})
        self.no_log_values.update(self._nested_secrets())
        return kwargs

    def log(self, msg: str, log_args: dict[str, t.Any] | None = None) -> None:
        """Write to the log of this host, where AnsibleModule records each call with its options, without sensitive options."""
        if _shown(self.params) != self.params or self._nested_secrets():
            msg, log_args = "Invoked with sensitive options", {}
        super().log(msg, log_args)

    def _nested_secrets(self) -> set[str]:
        """Return the ``no_log`` values in the options of other modules, read or not: an early failure shows all options."""
        secrets: set[str] = set()
        for way, nested in self._select(self.params).items():
            for given in _given_at(self.params, way.split(".")):
                secrets |= ArgumentSpecValidator(dict(nested[0])).validate(dict(given))._no_log_values
        return secrets


def _given_at(options: t.Any, way: t.Sequence[str]) -> t.Iterator[t.Mapping[str, t.Any]]:
    """Yield the mappings at a dotted name, through lists; nothing for a value of another type, which is refused later."""
    if isinstance(options, (list, tuple)):
        for option in options:
            yield from _given_at(option, way)
    elif isinstance(options, t.Mapping) and way:
        yield from _given_at(options.get(way[0]), way[1:])
    elif isinstance(options, t.Mapping):
        yield options


def _shown(options: t.Any) -> t.Any:
    """Return the options as they may be shown, without the content of a ``sensitive`` drop-in and without names of accounts.

    Not by ``no_log``: an account may be named ``1``, and AnsibleModule would then replace every 1 in the results.
    """
    if isinstance(options, (list, tuple)):
        return [_shown(option) for option in options]
    if not isinstance(options, t.Mapping):
        return options
    hidden: dict[str, t.Any] = {}
    if options.get("sensitive") and "sections" in options:
        hidden["sections"] = "(sensitive)"
    for option in _ACCOUNT_NAMES:
        if options.get(option) and isinstance(options[option], list):
            hidden[option] = f"({len(options[option])} names)"
    return {**{name: _shown(option) for name, option in options.items()}, **hidden}
