# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ansible-core a gate runs on is always said, and the oldest is the one that is promised."""

from __future__ import annotations

import pytest
import yaml

import say_core
from tree import ROOT


@pytest.mark.parametrize(
    ("which", "installed", "said"),
    [
        ("", "2.19.14", "core: ansible-core 2.19.14 on Python 3.11.2"),
        ("oldest", "2.16.19", "core: oldest: ansible-core 2.16.19 on Python 3.11.2"),
        ("newest", "2.21.5", "core: newest: ansible-core 2.21.5 on Python 3.11.2"),
        (
            "newest",
            "2.19.14",
            "core: newest: ansible-core 2.19.14 on Python 3.11.2 instead of 2.21.5, for which this machine has no Python",
        ),
        (
            "oldest",
            "2.18.19",
            "core: oldest: ansible-core 2.18.19 on Python 3.11.2 instead of 2.16.19, for which this machine has no Python",
        ),
    ],
)
def test_another_core_than_was_asked_for_is_said(
    monkeypatch: pytest.MonkeyPatch, which: str, installed: str, said: str
) -> None:
    pins = {"-oldest": ["2.16.19", "2.18.19", "2.20.10"], "": ["2.19.14", "2.21.5"]}
    monkeypatch.setattr(say_core, "pinned", pins.__getitem__)
    assert say_core.sentence(which, installed, "3.11.2") == said


def test_the_oldest_core_of_the_gates_is_the_oldest_that_is_promised() -> None:
    promised = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["requires_ansible"]
    release = say_core.wanted("oldest").rpartition(".")[0]
    assert promised == f">={release}.0"
    assert say_core.pinned("")[-1] == say_core.wanted("newest")
