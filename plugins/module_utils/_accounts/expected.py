# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Ask the web application behind a backend which accounts should exist, to compare them with those on disk.

Only the names at one place of its reply are read. They leave the host only masked, and no message contains one.
"""

from __future__ import annotations

import typing as t

from .._core.errors import SessionsError
from .._proc.http import Endpoint, endpoint_of, fetched
from .._proc.json_query import all_at, parsed


class Application(t.NamedTuple):
    """The endpoint to query. ``names``: the path of the account names in the JSON reply; ``timeout`` in seconds."""

    endpoint: Endpoint
    names: str
    timeout: float


def read_source(options: t.Mapping[str, t.Any] | None) -> Application | None:
    """Return the source, or None if the option is not set; raises SessionsError for an invalid URL, header or timeout."""
    if options is None:
        return None
    if options["timeout"] <= 0:
        raise SessionsError("timeout in expected_from must be greater than 0; set it to a number of seconds")
    return Application(endpoint_of(options["url"], options["headers"] or {}), options["names"], options["timeout"])


def names_from(source: Application) -> tuple[str, ...]:
    """Query the account names once. Raises SessionsError without a valid answer: a failed query must not count as no accounts."""
    answer = fetched(source.endpoint, source.timeout, with_body=True)
    if answer.status is None:
        raise _unknown(source, f"gave no answer ({answer.trouble})", "check that the web application is running")
    if answer.status != 200:
        raise _unknown(source, f"answered {answer.status} instead of 200", "check the URL and the key in headers")
    if answer.trouble:
        raise _unknown(source, f"gave a reply that cannot be read ({answer.trouble})", "check the URL")
    return _names_in(answer.body, source)


def _names_in(body: bytes, source: Application) -> tuple[str, ...]:
    """Return the names from a reply: strings, or numbers if the application numbers its accounts."""
    trouble = ""
    try:
        names = all_at(parsed(body), source.names)
    except ValueError as error:
        trouble = f"gave a reply that cannot be read ({error})"
    except LookupError:
        trouble = f"gave a reply that has nothing at {source.names!r}"
    if trouble:  # raised here, so that no chained exception contains the reply
        raise _unknown(source, trouble, "set names to the path of the account names")
    if not all(isinstance(name, (str, int)) and not isinstance(name, bool) for name in names):
        raise _unknown(
            source,
            f"gave a reply with values other than names at {source.names!r}",
            "set names to the path of the account names",
        )
    return tuple(map(str, names))


def _unknown(source: Application, what: str, remedy: str) -> SessionsError:
    return SessionsError(
        f"cannot find out which accounts are expected: {source.endpoint} {what}; {remedy} (option expected_from)"
    )
