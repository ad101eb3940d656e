# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The only file in module_utils that knows Ansible: turns a job into a module run."""

from __future__ import annotations

import os
import traceback
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ._compiled_once import loaded
from ._errors import SessionsError
from ._job import Job, execute
from ._printable import printable, printable_diff

# Options that hold names of accounts, which are often phone numbers.
_ACCOUNT_NAMES = ("accounts", "expected")
# What an option holds that takes the options of another module: that module's argument spec and rules.
Nested = t.Mapping[str, tuple[t.Mapping[str, t.Any], t.Mapping[str, t.Any]]]


def run_module(
    job: Job, argument_spec: t.Mapping[str, t.Any], nested: Nested | None = None, **rules: t.Any
) -> t.NoReturn:
    """Run ``job`` as a module. ``rules`` are AnsibleModule's own (``required_if``, ``mutually_exclusive``, ...).

    ``nested``: by dotted option name, for options (dicts, or lists of dicts) that take the options of another module.
    """
    loaded()
    module = _Module(nested or {}, argument_spec=dict(argument_spec), supports_check_mode=True, **rules)
    outcome, message, facts = None, "", t.cast("dict[str, t.Any]", {})
    try:
        options = module.params
        for option, (spec, their_rules) in (nested or {}).items():
            options = _read_nested(module, options, option.split("."), spec, their_rules)
        outcome = execute(job, options, check_mode=module.check_mode)
    except SessionsError as error:
        message, facts = str(error), error.facts
    except Exception as error:
        message, facts = _unforeseen(error), {}
    if outcome is not None:
        for warning in outcome.report.warnings:
            module.warn(printable(warning))
        diff, values = printable_diff(outcome.diff), printable(outcome.report.values, kept="\t")  # values are compared
        module.exit_json(changed=outcome.changed, diff=diff, **values)
    # Only now, with no exception pending: from -vvv on Ansible adds the traceback of a pending one to the result, and the texts
    # in it (and in what caused it) name files inside accounts.
    module.fail_json(msg=printable(message), **printable(facts))


def _read_nested(
    module: AnsibleModule,
    options: t.Mapping[str, t.Any],
    way: t.Sequence[str],
    spec: t.Mapping[str, t.Any],
    rules: t.Mapping[str, t.Any],
) -> dict[str, t.Any]:
    """Check and complete the options at ``way`` as the module that they are for would."""
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
    def __init__(self, nested: Nested, **settings: t.Any) -> None:
        self._nested = nested
        super().__init__(**settings)

    def add_path_info(self, kwargs: dict[str, t.Any]) -> dict[str, t.Any]:
        """Finish a result: the options that it tells, without sensitive ones.

        AnsibleModule's own would put owner and mode of what is at ``path`` now over what a job foresees in check mode.
        """
        kwargs.setdefault("invocation", {"module_args": _shown(self.params)})
        self.no_log_values.update(self._nested_secrets())
        return kwargs

    def log(self, msg: str, log_args: dict[str, t.Any] | None = None) -> None:
        """Write to this host's log, where AnsibleModule notes each call with all its options, unless one of them is sensitive."""
        if _shown(self.params) != self.params or self._nested_secrets():
            msg, log_args = "Invoked with sensitive options", {}
        super().log(msg, log_args)

    def _nested_secrets(self) -> set[str]:
        """Collect what is ``no_log`` in the options of other modules, read or not: whatever fails first shows them all."""
        secrets: set[str] = set()
        for way, nested in self._nested.items():
            for given in _given_at(self.params, way.split(".")):
                secrets |= ArgumentSpecValidator(dict(nested[0])).validate(dict(given))._no_log_values
        return secrets


def _given_at(options: t.Any, way: t.Sequence[str]) -> t.Iterator[t.Mapping[str, t.Any]]:
    """Yield the mappings at a dotted name, through lists; nothing where something else was given, which is refused later."""
    if isinstance(options, (list, tuple)):
        for option in options:
            yield from _given_at(option, way)
    elif isinstance(options, t.Mapping) and way:
        yield from _given_at(options.get(way[0]), way[1:])
    elif isinstance(options, t.Mapping):
        yield options


def _shown(options: t.Any) -> t.Any:
    """Give options as anybody may see them, without what a ``sensitive`` drop-in is to hold and without names of accounts.

    Not by ``no_log``: an account may be called ``1``, and AnsibleModule would then replace every 1 of the results.
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


def _unforeseen(error: Exception) -> str:
    """Say what happened by kind and by place in our code; the error's own text may name files inside an account."""
    words = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
    calls = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{os.path.basename(call.filename)}:{call.lineno}" for call in reversed(calls[-4:]))
    return (
        f"stopped by an error that was not foreseen: {type(error).__name__}{words} at {places}; "
        "see whether the host lacks something, and report it to the collection's authors"
    )
