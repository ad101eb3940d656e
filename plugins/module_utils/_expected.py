# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Asks the web application behind a backend which accounts it believes in, to be compared with those on disk.

Of its reply only the names at one place are read. They never leave the host but masked, and no message here holds one.
"""

from __future__ import annotations

import typing as t

from ._errors import SessionsError
from ._http import Endpoint, endpoint_of, fetched
from ._reply import all_at, parsed


class Source(t.NamedTuple):
    """Where to ask. ``names``: the path of the account names in the JSON reply; ``timeout`` in seconds."""

    endpoint: Endpoint
    names: str
    timeout: float


def read_source(options: t.Mapping[str, t.Any] | None) -> Source | None:
    """Make the source, None when none is named; raises SessionsError for a URL, header or time that makes no sense."""
    if options is None:
        return None
    if options["timeout"] <= 0:
        raise SessionsError("timeout in expected_from has to be above 0 seconds; give such a number")
    return Source(endpoint_of(options["url"], options["headers"] or {}), options["names"], options["timeout"])


def names_from(source: Source) -> tuple[str, ...]:
    """Ask once for the account names. Raises SessionsError when there is no answer that tells them: none told is not none there."""
    answer = fetched(source.endpoint, source.timeout, with_body=True)
    if answer.status is None:
        raise _unknown(source, f"gave no answer ({answer.trouble})", "see whether the web application runs")
    if answer.status != 200:
        raise _unknown(source, f"answered {answer.status} instead of 200", "see its address and the key in headers")
    if answer.trouble:
        raise _unknown(source, f"gave a reply that cannot be read ({answer.trouble})", "see its address")
    return _names_in(answer.body, source)


def _names_in(body: bytes, source: Source) -> tuple[str, ...]:
    """Read the names out of a reply: text, or numbers as applications count their accounts."""
    trouble = ""
    try:
        names = all_at(parsed(body), source.names)
    except ValueError as error:
        trouble = f"gave a reply that cannot be read ({error})"
    except LookupError:
        trouble = f"gave a reply that has nothing at {source.names!r}"
    if trouble:  # raised here, with no exception pending that knows the reply
        raise _unknown(source, trouble, "name the place of the account names in names")
    if not all(isinstance(name, (str, int)) and not isinstance(name, bool) for name in names):
        raise _unknown(
            source, f"gave a reply with something else than names at {source.names!r}", "name their place in names"
        )
    return tuple(map(str, names))


def _unknown(source: Source, what: str, remedy: str) -> SessionsError:
    return SessionsError(
        f"cannot learn which accounts are expected: {source.endpoint} {what}; {remedy} (option expected_from)"
    )
