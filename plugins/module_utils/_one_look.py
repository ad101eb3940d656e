# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to the collection whatsapp_ops.sessions.
"""Looks that belong together ask the same questions: within one look each is asked once.

Never to be held open around anything that changes the host: what was before would be told.
"""

from __future__ import annotations

import contextlib
import functools
import typing as t

Question = t.TypeVar("Question", bound=t.Callable[..., t.Any])

_answers: list[dict[t.Any, t.Any]] = []  # of the look that is going on, if any


@contextlib.contextmanager
def one_look() -> t.Iterator[None]:
    """Keep the answers to all questions until the block ends. A look within another one is a part of it."""
    _answers.append(_answers[-1] if _answers else {})
    try:
        yield
    finally:
        _answers.pop()


def asked_once(question: Question) -> Question:
    """Mark a function whose answer depends on its arguments (all hashable) and on the host alone. What it raises is not kept."""

    @functools.wraps(question)
    def ask(*about: t.Any) -> t.Any:
        if not _answers:
            return question(*about)
        known = _answers[-1]
        if (question, about) not in known:
            known[question, about] = question(*about)
        return known[question, about]

    return t.cast("Question", ask)
