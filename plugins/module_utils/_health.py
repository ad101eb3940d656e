# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The job of session_health: looks at a backend until it is well, or until the time is over.

Of what the backend answers, only the status and the values that were asked for leave this file: the rest may be anything.
"""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ._errors import SessionsError
from ._http import Answer, Endpoint, endpoint_of, fetched
from ._job import Report
from ._reply import facts_of, is_equal, parsed, shown
from ._unit import Unit, read_unit, unit_name

_ONE_LOOK = 10.0  # seconds for one answer at most, however long the whole wait may be


@dataclasses.dataclass(frozen=True)
class Params:
    """Options of the module; times in seconds. ``expect`` has dotted keys into the JSON reply."""

    endpoint: Endpoint | None = None
    expect: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    unit: str | None = None
    timeout: float = 60.0
    interval: float = 2.0


@dataclasses.dataclass(frozen=True)
class Look:
    """What one look at the backend saw. ``started`` and ``ended`` are monotonic seconds.

    ``status``: of the answer, None without one; ``trouble``: why there is no answer or no JSON. ``found``: values of those expected
    keys that the reply has. ``unit_state``: ActiveState and SubState. ``main_process_age``: seconds, None without a main process.
    """

    started: float
    ended: float
    status: int | None = None
    trouble: str | None = None
    found: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    unit_state: str | None = None
    main_process_age: float | None = None


@dataclasses.dataclass(frozen=True)
class Wait:
    """Look again until the backend is well. Waiting changes nothing."""

    bookkeeping = True


Condition = t.Callable[[Look, Params], t.Optional[str]]


def read_params(options: t.Mapping[str, t.Any]) -> Params:
    """Make the parameters; raises SessionsError for a URL, header or time that makes no sense."""
    if options["timeout"] < 0 or options["interval"] < 0.1:
        raise SessionsError("timeout has to be 0 or more and interval at least 0.1 seconds; give such numbers")
    if options["expect"] and not options["url"]:
        raise SessionsError(
            "expect tells what the reply from url has to say, and there is no url; give it or leave expect out"
        )
    if options["headers"] and not options["url"]:
        raise SessionsError("headers are sent to url, and there is no url; give it or leave headers out")
    return Params(
        endpoint=endpoint_of(options["url"], options["headers"] or {}) if options["url"] else None,
        expect=options["expect"] or {},
        unit=unit_name(options["unit"]) if options["unit"] else None,
        timeout=options["timeout"],
        interval=options["interval"],
    )


def observe(params: Params) -> Look:
    """Look once."""
    return _look(params, min(_ONE_LOOK, params.timeout or _ONE_LOOK))


def plan(state: Look, params: Params) -> tuple[Wait, ...]:
    """Wait when anything is not as it has to be."""
    return (Wait(),) if _complaints(state, params) else ()


def diff(state: Look, steps: tuple[Wait, ...], params: Params) -> dict[str, t.Any]:
    """Looking changes nothing, so there is nothing to show."""
    return {"before": {}, "after": {}}


def apply(steps: tuple[Wait, ...], state: Look, params: Params) -> Look:
    """Look again every ``interval`` until all is well; raise SessionsError, with what was seen last, when the time is over."""
    deadline = state.started + params.timeout
    last = state
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise _gave_up(dataclasses.replace(last, started=state.started, ended=time.monotonic()), params)
        time.sleep(min(params.interval, remaining))
        last = _look(params, min(_ONE_LOOK, max(deadline - time.monotonic(), 0.1)))
        if not _complaints(last, params):
            return dataclasses.replace(last, started=state.started)


def verify(state: Look, params: Params) -> None:
    """The look that ended the wait is the proof."""


def report(params: Params, state: Look, steps: tuple[Wait, ...], evidence: Look | None) -> Report:
    """Tell what was seen: in the look that ended the wait, else in the only one."""
    return Report(_values(evidence or state, params))


def _complaints(look: Look, params: Params) -> list[str]:
    """Say everything that is not as it has to be, in the order of the table."""
    found = (condition(look, params) for condition in CONDITIONS)
    return [complaint for complaint in found if complaint]


def _unit_is_active(look: Look, params: Params) -> str | None:
    if params.unit is None or look.unit_state is None or look.unit_state.startswith("active "):
        return None
    return f"the unit {params.unit} is {look.unit_state}"


def _main_process_is_steady(look: Look, params: Params) -> str | None:
    """A unit that crashes and is restarted is active too, each time for a moment: its process has to outlive one interval."""
    if params.unit is None or look.main_process_age is None or look.main_process_age >= params.interval:
        return None
    return f"the main process of {params.unit} has been the same for less than {params.interval:g} seconds"


def _answers_well(look: Look, params: Params) -> str | None:
    if params.endpoint is None or look.status == 200:
        return None
    if look.status is None:
        return f"{params.endpoint} gave no answer ({look.trouble})"
    followed = " (redirects are not followed)" if 300 <= look.status < 400 else ""
    return f"{params.endpoint} answered {look.status} instead of 200{followed}"


def _says_what_is_expected(look: Look, params: Params) -> str | None:
    if params.endpoint is None or look.status is None:
        return None
    if params.expect and look.trouble:
        return f"{params.endpoint} gave a reply that cannot be compared ({look.trouble})"
    wrong = [key for key in params.expect if key not in look.found or not is_equal(params.expect[key], look.found[key])]
    if not wrong:
        return None
    return f"{params.endpoint} says " + ", ".join(_difference(key, look, params) for key in wrong)


# Each looks at one thing; all have to hold. Journal signals (since, require, forbid) become further lines here.
CONDITIONS: tuple[Condition, ...] = (
    _unit_is_active,
    _main_process_is_steady,
    _answers_well,
    _says_what_is_expected,
)


def _difference(key: str, look: Look, params: Params) -> str:
    seen = repr(shown(params.expect[key], look.found[key])) if key in look.found else "missing"
    return f"{key}={seen} instead of {params.expect[key]!r}"


def _look(params: Params, seconds: float) -> Look:
    """Look once; the answer may take at most ``seconds``."""
    started = time.monotonic()
    answer = fetched(params.endpoint, seconds, with_body=bool(params.expect)) if params.endpoint else Answer()
    found, trouble = _found(answer, params)
    unit = (
        read_unit(params.unit) if params.unit else None
    )  # after the answer: whoever gave it is still the same process
    ended = time.monotonic()
    return Look(
        started=started,
        ended=ended,
        status=answer.status,
        trouble=trouble,
        found=found,
        unit_state=f"{unit.properties['ActiveState']} ({unit.properties['SubState']})" if unit else None,
        main_process_age=_main_process_age(unit, ended) if unit else None,
    )


def _found(answer: Answer, params: Params) -> tuple[dict[str, t.Any], str | None]:
    """Return the values of the expected keys, and what is wrong with the answer as a whole."""
    if answer.trouble or not params.expect:
        return {}, answer.trouble
    try:
        return facts_of(parsed(answer.body), params.expect), None
    except ValueError as error:
        return {}, str(error)


def _main_process_age(unit: Unit, now: float) -> float | None:
    """Return since when (seconds) the main process runs; systemd's clock is CLOCK_MONOTONIC in microseconds, as Python's."""
    begun = unit.properties["ExecMainStartTimestampMonotonic"]
    return now - int(begun) / 1e6 if unit.main_pid and begun.isdecimal() else None


def _gave_up(look: Look, params: Params) -> SessionsError:
    waited = f"{look.ended - look.started:.1f}"
    complaints = "; ".join(_complaints(look, params))
    return SessionsError(
        f"the backend was not well after {waited} seconds: {complaints}; see its journal"
        + (f" (journalctl -u {params.unit})" if params.unit else "")
        + " on the host, or give it more time with timeout",
        **_values(look, params),
    )


def _values(look: Look, params: Params) -> dict[str, t.Any]:
    return {
        "healthy": not _complaints(look, params),
        "status": look.status,
        "facts": {key: shown(params.expect[key], value) for key, value in look.found.items()},
        "elapsed_seconds": round(look.ended - look.started, 3),
    }
