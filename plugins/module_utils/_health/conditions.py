# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""The observations of one check of a backend, and which conditions fail. Pure.

Failures are shown: they contain the requested values and counts, nothing else.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .._proc.http import Endpoint
from .._proc.json_query import is_equal, shown
from .._systemd.unit import Unit

if t.TYPE_CHECKING:
    from .._systemd.journal import Query, Reading

_VARIABLE = "$"  # prefix of a variable of the unit's main process, in place of a key


@dataclasses.dataclass(frozen=True)
class Params:
    """Options of the module; times in seconds. Keys are dotted paths into the JSON reply.

    ``equal_keys``: key -> another key, or ``$VARIABLE``. ``query``: None if the journal is not needed.
    """

    endpoint: Endpoint | None = None
    expect: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    at_least: t.Mapping[str, float] = dataclasses.field(default_factory=dict)
    equal_keys: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    return_keys: tuple[str, ...] = ()
    unit: str | None = None
    query: Query | None = None
    require: t.Mapping[str, int] = dataclasses.field(default_factory=dict)
    forbid: t.Mapping[str, int] = dataclasses.field(default_factory=dict)
    timeout: float = 60.0
    interval: float = 2.0

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys that are used, without duplicates."""
        others = (other for other in self.equal_keys.values() if not other.startswith(_VARIABLE))
        return tuple(dict.fromkeys((*self.expect, *self.at_least, *self.equal_keys, *others, *self.return_keys)))

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables of the main process that are compared with the reply."""
        return tuple(other[1:] for other in self.equal_keys.values() if other.startswith(_VARIABLE))


@dataclasses.dataclass(frozen=True)
class Observation:
    """The observations of one check. ``started`` and ``ended`` are monotonic seconds.

    ``status``: of the answer, None without one; ``trouble``: why there is no answer or no JSON. ``found``: values of the requested keys
    that the reply has. ``main_process_age``: seconds, None without a main process. ``environment``: its requested variables.
    ``journal``: all counts so far.
    """

    started: float
    ended: float
    status: int | None = None
    trouble: str | None = None
    found: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    unit: Unit | None = None
    main_process_age: float | None = None
    environment: t.Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    journal: Reading | None = None


Condition = t.Callable[[Observation, Params], t.Optional[str]]


def failures(look: Observation, params: Params) -> list[str]:
    """Return all failures, in the order of the table."""
    found = (condition(look, params) for condition in CONDITIONS)
    return [complaint for complaint in found if complaint]


def _unit_is_active(look: Observation, params: Params) -> str | None:
    if look.unit is None or look.unit.properties["ActiveState"] == "active":
        return None
    return f"the unit {look.unit.name} is {unit_state(look.unit)}"


def _main_process_is_steady(look: Observation, params: Params) -> str | None:
    """A unit that crashes and restarts is active, too, but only briefly: its process must outlive one interval."""
    if look.unit is None or look.main_process_age is None or look.main_process_age >= params.interval:
        return None
    return f"the main process of {look.unit.name} is younger than {params.interval:g} seconds"


def _answers_well(look: Observation, params: Params) -> str | None:
    if params.endpoint is None or look.status == 200:
        return None
    if look.status is None:
        return f"{params.endpoint} gave no answer ({look.trouble})"
    followed = " (redirects are not followed)" if 300 <= look.status < 400 else ""
    return f"{params.endpoint} answered {look.status} instead of 200{followed}"


def _says_what_is_expected(look: Observation, params: Params) -> str | None:
    if params.endpoint is None or look.status is None:
        return None
    if look.trouble and (params.expect or params.at_least or params.equal_keys):
        return f"{params.endpoint} gave a reply that cannot be compared ({look.trouble})"
    wrong = [*_other_values(look, params), *_too_small(look, params), *_not_the_same(look, params)]
    return f"{params.endpoint} says {', '.join(wrong)}" if wrong else None


def _other_values(look: Observation, params: Params) -> t.Iterator[str]:
    for key, expected in params.expect.items():
        if key not in look.found or not is_equal(expected, look.found[key]):
            yield f"{key}={_seen(key, look, params)} instead of {expected!r}"


def _too_small(look: Observation, params: Params) -> t.Iterator[str]:
    for key, number in params.at_least.items():
        value = look.found.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < number:
            yield f"{key}={_seen(key, look, params)} instead of at least {number:g}"


def _not_the_same(look: Observation, params: Params) -> t.Iterator[str]:
    for key, other in params.equal_keys.items():
        value, wanted = _value(key, look), _value(other, look)
        if value is None or wanted is None or not is_equal(wanted[0], value[0]):
            yield f"{key}={_seen(key, look, params)} instead of {_other(other, look, params)}"


def _value(name: str, look: Observation) -> tuple[t.Any] | None:
    """Return the value of a key or ``$VARIABLE`` as a tuple of one, or None if it has none."""
    where, key = (look.environment, name[1:]) if name.startswith(_VARIABLE) else (look.found, name)
    return (where[key],) if key in where else None


def _other(name: str, look: Observation, params: Params) -> str:
    """Describe the value to compare with. A variable may contain anything, so its value is not shown."""
    if not name.startswith(_VARIABLE):
        return f"{name}={_seen(name, look, params)}"
    return f"{name[1:]} of its process" + ("" if name[1:] in look.environment else ", which is not set")


def _journal_says_enough(look: Observation, params: Params) -> str | None:
    if look.journal is None:
        return None
    counts = look.journal.counts
    wrong = [
        f"{name} {counts[name]} times instead of {wanted}"
        for name, holds, wanted in (
            *((name, counts[name] >= least, f"at least {least}") for name, least in params.require.items()),
            *((name, counts[name] <= most, f"at most {most}") for name, most in params.forbid.items()),
        )
        if not holds
    ]
    return f"the journal has {', '.join(wrong)}" if wrong else None


def _journal_was_read(look: Observation, params: Params) -> str | None:
    if look.journal is None or look.journal.complete:
        return None
    return "the journal could not be read to its end in time; set since to a later time"


# Each checks one condition; all must hold.
CONDITIONS: tuple[Condition, ...] = (
    _unit_is_active,
    _main_process_is_steady,
    _answers_well,
    _says_what_is_expected,
    _journal_says_enough,
    _journal_was_read,
)


def _seen(key: str, look: Observation, params: Params) -> str:
    return repr(shown_value(key, look, params)) if key in look.found else "missing"


def shown_value(key: str, look: Observation, params: Params) -> t.Any:
    """Return the part of a value in the reply that may be shown."""
    return shown(params.expect[key] if key in params.expect else object(), look.found[key])


def unit_state(unit: Unit) -> str:
    """Return the state of a unit and its type-specific substate."""
    return f"{unit.properties['ActiveState']} ({unit.properties['SubState']})"
