# SPDX-License-Identifier: GPL-3.0-or-later
"""What users of a host can choose (names, mostly) does nothing to the terminal of whoever reads a message."""

from __future__ import annotations

import json
import typing as t
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import module as core_module
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.job import Outcome, Report
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.printable import (
    is_plain,
    printable,
    printable_diff,
)
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.fdopen import normal_path

ANY = st.text(st.characters(), max_size=30)
JSON = st.recursive(
    st.none() | st.integers() | ANY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY, inner, max_size=3),
    max_leaves=8,
)
CLEAR = "\x1b[2J\x9b31m\u202egnp.exe\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("loja do zé/اختبار 4…7-9c1f2e", "loja do zé/اختبار 4…7-9c1f2e"),
        ("a\x1b[2Jb\n", "a\\x1b[2Jb\\x0a"),
        ("\x9b31m", "\\x9b31m"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        (b"caf\xe9".decode("utf-8", "surrogateescape"), "caf\\xe9"),
        ("\ud800", "\\ud800"),
        ({"a\n": ["b\r", ("c\0", 1, None, True)]}, {"a\\x0a": ["b\\x0d", ["c\\x00", 1, None, True]]}),
    ],
)
def test_what_is_shown(text: t.Any, shown: t.Any) -> None:
    assert printable(text) == shown


def test_a_diff_keeps_its_lines() -> None:
    assert printable_diff({"before": "a\n\tb\x1b", "after": ""}) == {"before": "a\n\tb\\x1b", "after": ""}


@given(ANY)
def test_no_text_reaches_a_terminal_with_anything_but_characters(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cs", "Zl", "Zp"}
    assert not [character for character in shown if unicodedata.bidirectional(character) in
                ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")]  # fmt: skip
    shown.encode()
    assert is_plain(shown)
    assert (shown == text) == is_plain(text)


@given(ANY)
def test_a_path_that_is_accepted_is_shown_as_it_is(text: str) -> None:
    try:
        path = normal_path(f"/{text}", "src")
    except SessionsError as error:
        printable(str(error)).encode()
        return
    assert printable(path) == path


class _Job:
    """A job whose every word is what an attacker chose."""

    def __init__(self, values: t.Mapping[str, t.Any], refused: str) -> None:
        self.outcome = Outcome(False, {"before": CLEAR, "after": ""}, Report(values, (CLEAR,)))
        self.refused = refused

    def read_params(self, options: t.Mapping[str, t.Any]) -> None:
        if self.refused:
            raise SessionsError(self.refused, accounts=[{"id": self.refused}])

    def observe(self, params: None) -> None:
        """Look at nothing."""

    def plan(self, state: None, params: None) -> tuple[t.Any, ...]:
        return ()

    def diff(self, state: None, steps: t.Any, params: None) -> t.Any:
        return self.outcome.diff

    def apply(self, steps: t.Any, state: None, params: None) -> None:
        """Change nothing."""

    def verify(self, state: None, params: None) -> None:
        """Check nothing."""

    def report(self, params: None, state: None, steps: t.Any, evidence: None) -> Report:
        return self.outcome.report


class _Module:
    """A job as run_module runs it."""

    def __init__(self, job: _Job) -> None:
        self.job = job

    def main(self) -> None:
        core_module.run_module(self.job, {})


@pytest.mark.parametrize("refused", ["", CLEAR])
def test_whatever_leaves_a_module_is_plain(run_module: t.Any, refused: str) -> None:
    result = run_module(_Module(_Job({"src": [CLEAR], CLEAR: CLEAR}, refused)), {}, diff=True)
    words = json.dumps({key: value for key, value in result.items() if key != "diff"}, ensure_ascii=False)
    words = words.replace("\\\\", "")
    assert not any(sign in words for sign in ("\x1b", "\x9b", "\u202e", "\\u00", "\\n")), words
    assert "x1b[2J" in words
    assert "x1b" in str(result.get("diff", "x1b"))
