# SPDX-License-Identifier: GPL-3.0-or-later
"""Modes: every way in which ansible.builtin.file takes them, and what becomes of a file below a directory."""

from __future__ import annotations

import types
import typing as t

import pytest
from ansible.module_utils.basic import AnsibleModule
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._core.errors import SessionsError
from ansible_collections.whatsapp_ops.sessions.plugins.module_utils._fs.modes import (
    directory_bits,
    file_bits,
    octal,
    read_mode,
)


@pytest.mark.parametrize(
    ("given_mode", "bits"),
    [
        ("0750", 0o750),
        ("750", 0o750),
        ("0o750", 0o750),
        (488, 0o750),
        (0o700, 0o700),
        ("2770", 0o2770),
        (" 0700 ", 0o700),
        (0, 0),
    ],
)
def test_octal_text_and_numbers(given_mode: t.Any, bits: int) -> None:
    assert directory_bits(read_mode(given_mode), 0o123) == bits


@pytest.mark.parametrize(
    "given_mode",
    ["", "rwx", "0980", "u=rwx,", "u+rw;x", "+x", "u=z", True, None, "08000", 4096, -1, "u", 7.5, ["0750"]],
)
def test_what_is_no_mode_is_refused_in_one_sentence(given_mode: t.Any) -> None:
    with pytest.raises(SessionsError, match="which is not a mode; give"):
        read_mode(given_mode)


CLAUSE = st.builds(
    lambda users, actions: users + "".join(actions),
    st.sampled_from(["u", "g", "o", "a", "ug", "go", "ugo"]),
    st.lists(
        st.builds(
            str.__add__,
            st.sampled_from("+-="),
            st.sampled_from(["", "r", "w", "x", "X", "rw", "rx", "rwx", "s", "t", "rws", "u", "g", "o"]),
        ),
        min_size=1,
        max_size=1,
    ),
)


@given(st.lists(CLAUSE, min_size=1, max_size=4).map(",".join), st.integers(0, 0o7777))
def test_symbolic_clauses_mean_what_ansible_means(clauses: str, current: int) -> None:
    status = types.SimpleNamespace(st_mode=0o040000 | current)
    assert directory_bits(read_mode(clauses), current) == AnsibleModule._symbolic_mode_to_octal(status, clauses)


@pytest.mark.parametrize(
    ("mode", "current", "bits"),
    [
        ("0750", 0o644, 0o640),
        ("0700", 0o6777, 0o600),
        ("2770", 0o600, 0o660),
        ("u=rwX,g=rX,o=", 0o4755, 0o640),
        ("g-w", 0o2777, 0o646),
    ],
)
def test_files_get_the_mode_without_execute_and_set_id(mode: str, current: int, bits: int) -> None:
    assert file_bits(read_mode(mode), current) == bits


def test_modes_are_shown_with_four_digits() -> None:
    assert octal(0o50) == "0050"
