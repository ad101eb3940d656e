# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job of session_health: check a backend until it is healthy or the timeout is reached.

Of the backend's answer, only the status and the requested values leave this file: the rest may be anything. Of its journal, only counts do,
see journal.py.
"""

from __future__ import annotations

import dataclasses
import math
import time
import typing as t

from .._containers.service import compose_of, read_service
from .._core.errors import SessionsError
from .._core.job import Report
from .._proc.http import Answer, endpoint_of, fetched
from .._proc.json_query import facts_of, parsed
from .._systemd.unit import Unit, process_environment, unit_name
from .conditions import Observation, Params, failures, shown_value, unit_state

if t.TYPE_CHECKING:
    from .._systemd.journal import Query, Reading

_ONE_LOOK = 10.0  # seconds: maximum for one answer, whatever the timeout
_ONE_READING = 1.0  # seconds: minimum for the journal, even if the answer took all the time


@dataclasses.dataclass(frozen=True)
class Wait:
    """Check again until the backend is healthy. Waiting changes nothing."""

    bookkeeping = True


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Return the parameters; raises SessionsError for an invalid URL, header, time, pattern or number."""
    if options["timeout"] < 0 or options["interval"] < 0.1:
        raise SessionsError("timeout must be 0 or more and interval at least 0.1 seconds; correct these options")
    for option in ("expect", "at_least", "equal_keys", "return_keys", "headers"):
        if options[option] and not options["url"]:
            raise SessionsError(f"{option} requires url; set url or remove {option}")
    query = _read_query(options)
    params = Params(
        endpoint=endpoint_of(options["url"], options["headers"] or {}) if options["url"] else None,
        expect=options["expect"] or {},
        at_least=_numbers(options["at_least"] or {}, "at_least", float),
        equal_keys={str(key): str(other) for key, other in (options["equal_keys"] or {}).items()},
        return_keys=tuple(options["return_keys"] or ()),
        unit=unit_name(options["unit"]) if options["unit"] else None,
        query=query,
        require=_numbers(options["require"] or {}, "require", int),
        forbid=_numbers(options["forbid"] or {}, "forbid", int),
        timeout=options["timeout"],
        interval=options["interval"],
    )
    known = query.names if query else []
    for signal in (*params.require, *params.forbid):
        if signal not in known:
            raise SessionsError(
                f"there is no signal {signal!r}; define it in signals, or use one of {', '.join(known)}"
            )
    if params.variables and params.unit is None:
        raise SessionsError(
            "equal_keys refers to a variable of the unit's process and requires unit; set unit or use a key instead"
        )
    return params


def _read_query(options: t.Mapping[str, t.Any]) -> Query | None:
    """Return the query if any option needs the journal: reading it takes long on a host that logs a lot."""
    if options["signals"] is None and not (options["since"] or options["require"] or options["forbid"]):
        return None
    if not options["unit"]:
        raise SessionsError("since, signals, require and forbid read the journal of unit; set unit or remove them")
    from .._systemd.journal import read_query

    return read_query(options["since"] or None, options["signals"] or {})


_Number = t.TypeVar("_Number", int, float)


def _numbers(given: t.Mapping[str, t.Any], option: str, kind: type[_Number]) -> dict[str, _Number]:
    """Convert numbers, also from text, as templates and command lines pass them."""
    numbers = {}
    for name, value in given.items():
        try:
            number = kind(str(value))
        except ValueError:
            number = kind(-1)
        if not (0 <= number < math.inf):
            raise SessionsError(
                f"{option} must contain numbers of 0 or more, but {name!r} has {value!r}; correct that number"
            )
        numbers[str(name)] = number
    return numbers


def observe(params: Params) -> Observation:
    """Check the backend once."""
    return _look(params, min(_ONE_LOOK, params.timeout or _ONE_LOOK))


def plan(state: Observation, params: Params) -> tuple[Wait, ...]:
    """Wait if anything is wrong."""
    return (Wait(),) if failures(state, params) else ()


def diff(state: Observation, steps: tuple[Wait, ...], params: Params) -> dict[str, t.Any]:
    """Return empty values: checking changes nothing."""
    return {"before": {}, "after": {}}


def apply(steps: tuple[Wait, ...], state: Observation, params: Params) -> Observation:
    """Check every ``interval`` until the backend is healthy; raise SessionsError with the last observation at the timeout."""
    deadline = state.started + params.timeout
    last = state
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise _gave_up(dataclasses.replace(last, started=state.started, ended=time.monotonic()), params)
        time.sleep(min(_pause(last, params), remaining))
        last = _look(params, min(_ONE_LOOK, max(deadline - time.monotonic(), 0.1)), last.journal)
        if not failures(last, params):
            return dataclasses.replace(last, started=state.started)


def _pause(look: Observation, params: Params) -> float:
    """Return the seconds until the next check: if only the process is too young, until it is old enough."""
    age = look.main_process_age
    if age is None or age >= params.interval or len(failures(look, params)) > 1:
        return params.interval
    return params.interval - age


def verify(state: Observation, params: Params) -> None:
    """Nothing to verify: the last check is the proof."""


def report(params: Params, state: Observation, steps: tuple[Wait, ...], evidence: Observation | None) -> Report:
    """Return the observations of the check that ended the wait, else of the only check."""
    look = evidence or state
    return Report(_values(look, params), tuple(_findings(look, params)))


def _findings(look: Observation, params: Params) -> t.Iterator[str]:
    """Yield problems of the host that do not make the backend unhealthy."""
    lines = look.journal.key_material if look.journal else 0
    if lines:
        yield (
            f"the journal of {params.unit} has {lines} lines that look like private keys, printed by the backend: anyone who can read the "
            "journal may take over its accounts. Keep the backend from printing them, and remove them from the journal "
            "(journalctl --rotate, then journalctl --vacuum-time=1s)"
        )


def _look(params: Params, seconds: float, before: Reading | None = None) -> Observation:
    """Check once, for about ``seconds`` at most. ``before``: the journal counts so far."""
    started = time.monotonic()
    answer = fetched(params.endpoint, seconds, with_body=bool(params.keys)) if params.endpoint else Answer()
    found, trouble = _found(answer, params)
    # After the answer, so that this process is the one that gave it.
    unit = read_service(params.unit) if params.unit else None
    ended = time.monotonic()
    left = max(seconds - (ended - started), _ONE_READING)
    return Observation(
        started=started,
        ended=ended,
        status=answer.status,
        trouble=trouble,
        found=found,
        unit=unit,
        main_process_age=_main_process_age(unit, ended) if unit else None,
        environment=process_environment(unit.main_pid, params.variables) if unit and params.variables else {},
        journal=_read_on(unit, params.query, before, left) if unit and params.query else None,
    )


def _read_on(unit: Unit, query: Query, before: Reading | None, seconds: float) -> Reading:
    from .._systemd.journal import read_on

    return read_on(unit, query, before, seconds)


def _main_process_age(unit: Unit, now: float) -> float | None:
    """Return the age of the main process in seconds; systemd uses CLOCK_MONOTONIC in microseconds, like Python."""
    begun = unit.properties["ExecMainStartTimestampMonotonic"]
    return now - int(begun) / 1e6 if unit.main_pid and begun.isdecimal() else None


def _found(answer: Answer, params: Params) -> tuple[dict[str, t.Any], str | None]:
    """Return the values of the requested keys, and what is wrong with the answer as a whole."""
    if answer.trouble or not params.keys:
        return {}, answer.trouble
    try:
        return facts_of(parsed(answer.body), params.keys), None
    except ValueError as error:
        return {}, str(error)


def _gave_up(look: Observation, params: Params) -> SessionsError:
    waited = f"{look.ended - look.started:.1f}"
    return SessionsError(
        f"the backend was not healthy after {waited} seconds: {'; '.join(failures(look, params))}; see its journal"
        + (f" (journalctl -u {params.unit})" if params.unit else "")
        + " on the host, or increase timeout",
        **_values(look, params),
    )


def _values(look: Observation, params: Params) -> dict[str, t.Any]:
    journal = look.journal
    return {
        "healthy": not failures(look, params),
        "status": look.status,
        "facts": {key: shown_value(key, look, params) for key in look.found},
        "unit": _described(look.unit) if look.unit else None,
        "signals": dict(journal.counts) if journal else {},
        "signal_accounts": {signal: sorted(names) for signal, names in journal.accounts.items()} if journal else {},
        "cursor": journal.cursor if journal else None,
        "elapsed_seconds": round(look.ended - look.started, 3),
    }


def _described(unit: Unit) -> dict[str, t.Any]:
    compose = compose_of(unit)
    return {
        "name": unit.name,
        "active": unit.active,
        "state": unit_state(unit),
        "main_pid": unit.main_pid,
        "invocation": unit.properties["InvocationID"],
        "container": compose.box.name if compose else "",
        "needs_reload": unit.properties["NeedDaemonReload"] == "yes",
    }
