# SPDX-License-Identifier: GPL-3.0-or-later
"""Masked names tell accounts apart, and nothing else."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core import masking
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.masking import masked

NAMES = st.binary(min_size=1, max_size=30).filter(lambda name: not set(name) & {0}).map(os.fsdecode)


@given(NAMES)
def test_a_masked_name_is_plain_short_and_always_the_same(name: str) -> None:
    shown = masked(name)
    assert shown.isprintable()
    assert len(shown) == 10
    assert shown == masked(name)
    assert len(name) < 3 or name not in shown


def test_names_are_told_apart() -> None:
    """As many as a large host has, all of which begin and end alike."""
    assert len({masked(f"session-49151{number:05}7") for number in range(1000)}) > 998


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("4915112345678", "4", "8"), ("a", "a", "a"), ("\nx\t", "?", "?"), ("é1", "?", "1"), ("", "", "")],
)
def test_what_is_shown(name: str, first: str, last: str) -> None:
    assert masked(name).rpartition("-")[0] == f"{first}…{last}"


def test_another_host_shows_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a list of phone numbers could be tried against what a report says."""
    here = masked("4915112345678")
    monkeypatch.setattr(masking, "_host_key", lambda: b"another machine")
    assert masked("4915112345678") != here
