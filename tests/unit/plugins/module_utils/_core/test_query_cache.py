# SPDX-License-Identifier: GPL-3.0-or-later
"""Within one look a question is asked once; outside of one, and in the next one, it is asked anew."""

from __future__ import annotations

import pytest

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.query_cache import cached_query, one_look


class Systemd:
    """Answers with how often it was asked about a unit."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @property
    def question(self):
        @cached_query
        def ask(name: str) -> int:
            self.asked.append(name)
            if name == "unknown":
                raise LookupError(name)
            return len(self.asked)

        return ask


def test_a_question_is_asked_once_within_a_look_and_anew_in_the_next():
    systemd = Systemd()
    ask = systemd.question
    with one_look():
        assert [ask("a"), ask("b"), ask("a")] == [1, 2, 1]
    with one_look():
        assert ask("a") == 3


def test_outside_of_a_look_every_question_is_asked():
    ask = Systemd().question
    assert [ask("a"), ask("a")] == [1, 2]
    with pytest.raises(ZeroDivisionError), one_look():
        assert ask("a") == 3
        raise ZeroDivisionError
    assert ask("a") == 4


def test_different_questions_about_the_same_do_not_mix():
    one, other = Systemd(), Systemd()
    ask_one, ask_other = one.question, other.question
    with one_look():
        assert (ask_one("a"), ask_one("b"), ask_other("b")) == (1, 2, 1)


def test_what_fails_is_asked_again():
    systemd = Systemd()
    ask = systemd.question
    with one_look():
        for _attempt in range(2):
            with pytest.raises(LookupError):
                ask("unknown")
    assert systemd.asked == ["unknown", "unknown"]
