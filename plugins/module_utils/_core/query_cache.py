# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Caches queries to the host for the duration of one observation, because its parts ask the same questions.

Must never be open while anything changes the host: the cached answers would be outdated.
"""

from __future__ import annotations

import contextlib
import functools
import typing as t

Question = t.TypeVar("Question", bound=t.Callable[..., t.Any])

_answers: list[dict[t.Any, t.Any]] = []  # of the current observation; empty if there is none


@contextlib.contextmanager
def one_look() -> t.Iterator[None]:
    """Cache the results of all marked functions until the block ends. A nested block shares the cache of the outer one."""
    _answers.append(_answers[-1] if _answers else {})
    try:
        yield
    finally:
        _answers.pop()


def cached_query(question: Question) -> Question:
    """Mark a function whose result depends only on its arguments (all hashable) and on the host. Exceptions are not cached."""

    @functools.wraps(question)
    def ask(*about: t.Any) -> t.Any:
        if not _answers:
            return question(*about)
        known = _answers[-1]
        if (question, about) not in known:
            known[question, about] = question(*about)
        return known[question, about]

    return t.cast("Question", ask)
